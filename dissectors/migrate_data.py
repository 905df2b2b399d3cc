"""What is inside MIGRATE_DATA: the source server's state of a channel, on its way to the destination server.

The client hands it on unchanged, so SPICE_MSG_MIGRATE_DATA and SPICE_MSGC_MIGRATE_DATA have the same bodies. Every body
opens with a magic and a version. A pointer counts from the magic and is 0 where its block is empty; blocks follow the
fixed part in the order of their pointers. Nothing here judges: another magic or a later version is read as well,
if its bytes fit. Cursor, playback and record have no state to send.

Source: spice-server migration-protocol.h; char-device.cpp, RedCharDevice::migrate_data_marshall().
"""

# ruff: noqa: ARG002, SLF001 - construct is extended by overriding _parse and _build and calling those of others

from enum import IntEnum
from typing import Any, Final

from construct import Construct, SizeofError, StreamError, ValidationError

from dissectors.fields import (
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    Choice,
    Count,
    CountedBytes,
    FixedBytes,
    FixedItems,
    Items,
    Pointer,
    Record,
    Rest,
)
from dissectors.fields.boundary import Body, found
from dissectors.message import MessageSpec

VERSION: Final = 1
"""Of every body, and of the device inside it."""

# NUM_SURFACES of spice-server: a client has no more.
MAX_SURFACES: Final = 1024


class AgentFilterResult(IntEnum):
    """AGENT_MSG_FILTER_*: what the server does with an agent message that is on its way. Source: agent-msg-filter.h."""

    OK = 0
    DISCARD = 1
    PROTO_ERROR = 2
    MONITORS_CONFIG = 3


class EitherItems(Construct):
    """As many items as the earlier field `count` says, of the first of two kinds that takes all bytes that are left.

    For lists of which nothing on the wire says what is in them. Builds the kind that has the fields that are given.

    Args:
        count: The field that has the number.
        kinds: Records of a fixed size each.
        limit: More than this many are not decoded.
    """

    def __init__(self, count: str, *kinds: Record, limit: int) -> None:
        super().__init__()
        self.count, self.limit = count, limit
        self.kinds: list[Items] = [Items(count, kind, limit=limit) for kind in kinds]

    def _parse(self, stream: Body, context: Any, path: str) -> list[Any]:
        count, left = found(context, self.count), stream.left()
        for items in self.kinds:
            if count * items.least == left:
                value: list[Any] = items._parsereport(stream, context, path)
                return value
        sizes = " or ".join(str(items.least) for items in self.kinds)
        raise StreamError(
            f"{self.count} is {count}, at {sizes} bytes each, but {left} bytes are left", path=path
        )

    def _build(self, obj: Any, stream: Body, context: Any, path: str) -> list[Any]:
        names = set(obj[0]) if obj else set()
        items = next(
            (each for each in self.kinds if not obj or names == {name for name, _ in each.subcon.members}),
            None,
        )
        if items is None:
            raise ValidationError(f"has items of an unknown kind, with the fields {sorted(names)}", path=path)
        value: list[Any] = items._build(obj, stream, context, path)
        return value

    def _sizeof(self, context: Any, path: str) -> int:
        raise SizeofError("a list has no size of its own", path=path)


def _block(size: str, *, bulk: bool = True) -> Pointer:
    return Pointer(CountedBytes(size, bulk=bulk))


_HEADER: Final = (
    "magic" / FixedBytes(4),
    "version" / U32 * "1; a server refuses a later one than its own",
)

CharDevice: Final = Record(
    "version" / U32 * "1",
    "connected" / U8 * "1 = a device is attached; else all that follows is 0",
    "num_client_tokens" / U32 * "messages that the client may still send; 0xFFFFFFFF = no flow control",
    "num_send_tokens" / U32 * "messages that the server may still send; 0xFFFFFFFF = no flow control",
    "write_size" / Count(U32, "write_data_ptr") * "bytes that the device has not taken yet",
    "write_num_client_tokens" / U32 * "client messages that these bytes came in",
    "write_data_ptr" / _block("write_size") * "these bytes, from the middle of the device's stream",
)

MainState: Final = Record(
    *_HEADER,
    "char_device" / CharDevice * "the guest's agent",
    "client_agent_started" / U8 * "1 = the client has sent AGENT_START",
    "chunk_header_size" / U32 * "bytes already read of the agent's chunk header, 0 to 8",
    "chunk_header"
    / Record("port" / U32 * "1 = client, 2 = server", "size" / U32 * "bytes of the chunk still to be read"),
    "msg_header_done" / U8 * "1 = the agent's message header has gone to the client",
    "msg_header_partial_len" / Count(U32, "msg_header_ptr") * "bytes read of the message header, 0 to 19",
    "msg_header_ptr" / _block("msg_header_partial_len", bulk=False) * "these bytes",
    "a2c_msg_remaining" / U32 * "bytes left of the message from the agent",
    "a2c_msg_filter_result" / Choice(U8, AgentFilterResult),
    "c2a_msg_remaining" / U32 * "bytes left of the message to the agent",
    "c2a_msg_filter_result" / Choice(U8, AgentFilterResult),
)
"""MNMD. Source: SpiceMigrateDataMain."""

_LosslessSurface: Final = Record("id" / U32)
_LossySurface: Final = Record(
    "id" / U32,
    "left" / I32 * "of the area that was sent with loss, pixels",
    "top" / I32,
    "right" / I32 * "first column outside",
    "bottom" / I32 * "first row outside",
)

DisplayState: Final = Record(
    *_HEADER,
    "message_serial" / U64 * "of this MIGRATE_DATA; the destination's first message repeats it",
    "low_bandwidth_setting" / U8 * "1 = the link was found to be slow",
    "pixmap_cache_id" / U8 * "from DISPLAY_INIT",
    "pixmap_cache_size" / I64 * "pixels",
    "pixmap_cache_freezer" / U8 * "1 = this display was the first to freeze the cache that it shares",
    "pixmap_cache_clients"
    / FixedItems(4, U64)
    * "serial of the last message, by display, that touched the cache",
    "glz_dict_id" / U8 * "from DISPLAY_INIT",
    "glz_dict"
    / Record(
        "size" / U32 * "pixels",
        "max_encoders" / U32,
        "last_image_id" / U64 * "of the last image in the dictionary",
    ),
    "surfaces_at_client_ptr"
    / Pointer(
        Record(
            "num_surfaces" / Count(U32, "surfaces"),
            # Lossy if the writer's display compresses to JPEG at that moment: nothing but the length tells.
            "surfaces"
            / EitherItems("num_surfaces", _LosslessSurface, _LossySurface, limit=MAX_SURFACES)
            * "4 bytes each, or 20 with the area that was sent with loss: all of one kind",
        )
    ),
)
"""DCMD. Source: SpiceMigrateDataDisplay, MigrateDisplaySurfacesAtClientLossless and ...Lossy."""

InputsState: Final = Record(*_HEADER, "motion_count" / U16 * "mouse messages not yet acknowledged")
"""ICMD. Source: SpiceMigrateDataInputs."""

SpicevmcState: Final = Record(*_HEADER, "char_device" / CharDevice)
"""SVMD: usbredir, port and webdav. Source: SpiceMigrateDataSpiceVmc."""

SmartcardState: Final = Record(
    *_HEADER,
    "char_device" / CharDevice,
    "reader_added" / U8 * "1 = the guest's device knows of the reader",
    "read_size" / Count(U32, "read_data_ptr") * "bytes of a message that the device has begun to send",
    "read_data_ptr" / _block("read_size") * "these bytes, a VSCMsgHeader in network order first",
)
"""SCMD. Source: SpiceMigrateDataSmartcard."""

Opaque: Final = Record("data" / Rest * "opaque to the client, which hands it on unchanged")
"""Of any other channel: no server sends one."""


def from_server(state: Construct) -> MessageSpec:
    """The message with which the source hands this state to the client."""
    return MessageSpec(
        2,
        "SPICE_MSG_MIGRATE_DATA",
        "The source server's state of this channel, for the client to carry to the destination unchanged.",
        state,
    )


def from_client(state: Construct) -> MessageSpec:
    """The message with which the client hands this state to the destination."""
    return MessageSpec(
        5,
        "SPICE_MSGC_MIGRATE_DATA",
        "Hands the source server's state of this channel to the destination, byte for byte.",
        state,
    )
