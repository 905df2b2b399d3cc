"""(channel type, side, message id) -> name, schema, meaning.

A channel is a module with two tables, SERVER_MESSAGES and CLIENT_MESSAGES, and a row in `_CHANNELS`. Ids 1 to 100 mean
the same on every channel; 101 and up belong to one. A message that nobody described keeps its raw body.
"""

from collections.abc import Mapping
from typing import Any, Final

from dissectors import (
    common,
    cursor_channel,
    display_channel,
    inputs_channel,
    main_channel,
    playback_channel,
    port_channel,
    record_channel,
    smartcard_channel,
    tunnel_channel,
    usbredir_channel,
    webdav_channel,
)
from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.fields import Data
from dissectors.message import Dissection, MessageSpec
from dissectors.side import Side

__all__ = [
    "Dissection",
    "MessageSpec",
    "build",
    "build_named",
    "dissect",
    "dissect_plain",
    "find",
    "known_ids",
    "lookup",
    "message_name",
]

MODULES: Final = {
    ChannelType.MAIN: main_channel,
    ChannelType.DISPLAY: display_channel,
    ChannelType.INPUTS: inputs_channel,
    ChannelType.CURSOR: cursor_channel,
    ChannelType.PLAYBACK: playback_channel,
    ChannelType.RECORD: record_channel,
    ChannelType.TUNNEL: tunnel_channel,
    ChannelType.SMARTCARD: smartcard_channel,
    ChannelType.USBREDIR: usbredir_channel,
    ChannelType.PORT: port_channel,
    ChannelType.WEBDAV: webdav_channel,
}
# (channel type, message id) -> what is known; None in the place of the channel type for the common messages. One
# dict for each side, since an enum in a key is hashed by Python code, and this is asked for every message read.
_Specs = Mapping[tuple[int | None, int], MessageSpec]


def _specs(side: Side) -> dict[tuple[int | None, int], MessageSpec]:
    tables: dict[int | None, Any] = {None: common, **{int(each): module for each, module in MODULES.items()}}
    return {
        (channel_type, message_id): spec
        for channel_type, module in tables.items()
        for message_id, spec in (
            module.SERVER_MESSAGES if side is Side.SERVER else module.CLIENT_MESSAGES
        ).items()
    }


_FROM_SERVER: Final[_Specs] = _specs(Side.SERVER)
_FROM_CLIENT: Final[_Specs] = _specs(Side.CLIENT)


def _by_name() -> dict[str, list[tuple[int | None, Side, MessageSpec]]]:
    names: dict[str, list[tuple[int | None, Side, MessageSpec]]] = {}
    for side, specs in ((Side.SERVER, _FROM_SERVER), (Side.CLIENT, _FROM_CLIENT)):
        for (channel_type, _), spec in specs.items():
            names.setdefault(spec.name, []).append((channel_type, side, spec))
    return names


_BY_NAME: Final = _by_name()


def lookup(channel_type: int, side: Side, message_id: int) -> MessageSpec | None:
    """Find what is known of a message; None if nothing is.

    Common messages are known on every channel; a channel may know more of one (MIGRATE_DATA).
    """
    specs = _FROM_SERVER if side is Side.SERVER else _FROM_CLIENT
    return specs.get((channel_type, message_id)) or specs.get((None, message_id))


def known_ids(channel_type: int, side: Side) -> frozenset[int]:
    """The ids of all messages that one side may send on such a channel, as far as they are known."""
    specs = _FROM_SERVER if side is Side.SERVER else _FROM_CLIENT
    return frozenset(id_ for known_type, id_ in specs if known_type in {None, channel_type})


def message_name(channel_type: int, side: Side, message_id: int) -> str:
    """Name a message as enums.h does, or "unknown_123"."""
    spec = lookup(channel_type, side, message_id)
    return spec.name if spec else f"unknown_{message_id}"


def find(name: str) -> list[tuple[int | None, Side, MessageSpec]]:
    """Find messages by C name: channel type (None for the common ones), who sends it, what is known of it."""
    return list(_BY_NAME.get(name, ()))


def dissect(channel_type: int, side: Side, message_id: int, body: Data) -> Dissection:
    """Take a message's body apart.

    Args:
        channel_type: Of the connection.
        side: Who sent it.
        message_id: `type` of its header.
        body: Without the header; with all of it, since offsets count from its start.

    Returns:
        Name, fields and trailing bytes; an unknown message has one field, "raw".

    Raises:
        DissectionError: The message is known, and the body does not fit.
    """
    spec = lookup(channel_type, side, message_id)
    if spec is None:
        return Dissection(f"unknown_{message_id}", {"raw": bytes(body)})
    return spec.dissect(body)


def dissect_plain(
    channel_type: int, side: Side, message_id: int, body: bytes, *, bulk: bool = False
) -> tuple[dict[str, Any], bytes]:
    """Take a message's body apart into what JSON can say; several times as fast as `dissect`, then converting.

    Args:
        channel_type: Of the connection.
        side: Who sent it.
        message_id: `type` of its header.
        body: As for `dissect`.
        bulk: Show images, sound and the like in hexadecimal instead of by their length.

    Returns:
        The fields, with plain numbers and bytes in hexadecimal, and the trailing bytes.

    Raises:
        DissectionError: The message is known, and the body does not fit.
    """
    spec = lookup(channel_type, side, message_id)
    if spec is None:
        return {"raw": bytes(body).hex()}, b""
    return spec.dissect_plain(body, bulk=bulk)


def build(
    channel_type: int, side: Side, message_id: int, fields: Mapping[str, Any], *, trailing: bytes = b""
) -> bytes:
    """Put a message's body together.

    With `d = dissect(...)`, `build(..., d.fields, trailing=d.trailing)` gives back the very bytes.

    Args:
        channel_type: Of the connection.
        side: Who sends it.
        message_id: `type` of its header.
        fields: As `dissect` returns them; counts, sizes and offsets may be left out. {"raw": body} for a message
            that is not known.
        trailing: Bytes after the last field.

    Raises:
        DissectionError: The fields do not fit the message.
    """
    spec = lookup(channel_type, side, message_id)
    if spec is not None:
        return spec.build(fields, trailing)
    if set(fields) != {"raw"} or not isinstance(fields["raw"], bytes | bytearray | memoryview):
        raise DissectionError(f"unknown_{message_id}: wants the field 'raw' with its body, and nothing else")
    return bytes(fields["raw"]) + trailing


def build_named(name: str, /, *, trailing: bytes = b"", **fields: Any) -> bytes:
    """Put a body together by the message's C name: `build_named("SPICE_MSG_SET_ACK", generation=1, window=20)`.

    Raises:
        DissectionError: No message has this name, or the fields do not fit it.
    """
    found = find(name)
    if not found:
        raise DissectionError(f"no message is called {name}")
    return found[0][2].build(fields, trailing)
