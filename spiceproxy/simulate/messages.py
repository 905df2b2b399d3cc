"""What the simulated peers ask about messages. Their ids are in `dissectors.message_ids`."""

from typing import Any, Final

from dissectors.errors import DissectionError
from dissectors.message_ids import Display
from dissectors.registry import dissect, lookup
from dissectors.side import Side

# Drawing messages open with DisplayBase, whose first field is the surface.
DRAWING: Final = frozenset({Display.COPY_BITS, *(kind for kind in Display if kind.name.startswith("DRAW_"))})

# They have a number and no use: reserved for additions to a server, which a plain one does not know.
_NOT_USED: Final = frozenset(
    {
        "SPICE_MSG_BASE_LAST",
        "SPICE_MSG_DISPLAY_QUALITY_INDICATOR",
        "SPICE_MSGC_MAIN_QUALITY_INDICATOR",
    }
)


def is_known(channel_type: int, side: Side, message_id: int) -> bool:
    """Whether `side` may send a message of this id on a channel of this type at all."""
    spec = lookup(channel_type, side, message_id)
    return spec is not None and spec.name not in _NOT_USED


def fields_of(channel_type: int, side: Side, message_id: int, body: bytes) -> dict[str, Any]:
    """Take a body apart, to its last byte.

    Raises:
        DissectionError: It does not fit, or is longer than the message.
    """
    found = dissect(channel_type, side, message_id, body)
    if found.trailing:
        raise DissectionError(f"{found.name}: {len(found.trailing)} bytes too many")
    return found.fields
