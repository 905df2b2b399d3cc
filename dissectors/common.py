"""Messages 1 to 100: the same on every channel. Source: spice-common spice.proto, BaseChannel."""

from enum import IntEnum, IntFlag
from typing import Any, Final

from dissectors import migrate_data
from dissectors.channels import ChannelType
from dissectors.fields import (
    U8,
    U16,
    U32,
    U64,
    Choice,
    Count,
    CountedText,
    Flags,
    Items,
    OptionalBulkRest,
    OptionalRest,
    Record,
    whole,
)
from dissectors.headers import MAX_SUB_MESSAGES, sub_messages
from dissectors.link import LinkError
from dissectors.message import MessageSpec, table


class MigrateFlags(IntFlag):
    """SPICE_MIGRATE_*: what the client has to do before it switches this channel over."""

    NEED_FLUSH = 1
    NEED_DATA_TRANSFER = 2


class NotifySeverity(IntEnum):
    """SPICE_NOTIFY_SEVERITY_*."""

    INFO = 0
    WARN = 1
    ERROR = 2


class NotifyVisibility(IntEnum):
    """SPICE_NOTIFY_VISIBILITY_*."""

    LOW = 0
    MEDIUM = 1
    HIGH = 2


Disconnecting: Final = Record(
    "time_stamp" / U64 * "nanoseconds of the sender's clock", "reason" / Choice(U32, LinkError)
)
WaitForChannel: Final = Record(
    "channel_type" / Choice(U8, ChannelType),
    "channel_id" / U8,
    "message_serial" / U64 * "of that channel's message, from 1",
)


class _SubMessages(Record):
    """A SubMessageList and what it points into; `dissectors.headers.sub_messages(body, 0)` takes them out."""

    def __init__(self) -> None:
        super().__init__(
            "size" / Count(U16, "sub_messages"),
            "sub_messages" / Items("size", U32, limit=MAX_SUB_MESSAGES) * "offsets from body start",
            "data" / OptionalRest * "the sub-messages, in any order: type, size, body",
        )

    def _parse(self, stream: Any, context: Any, path: str) -> dict[str, Any]:
        fields = super()._parse(stream, context, path)
        sub_messages(whole(stream), 0)  # each of them has to lie inside
        return fields


SERVER_MESSAGES: Final = table(
    MessageSpec(
        1,
        "SPICE_MSG_MIGRATE",
        "Seamless migration: switch this channel to the destination now; the flags say whether to send FLUSH_MARK "
        "first and whether MIGRATE_DATA follows.",
        Record("flags" / Flags(U32, MigrateFlags)),
    ),
    migrate_data.from_server(migrate_data.Opaque),  # a channel that has a layout for it has the message too
    MessageSpec(
        3,
        "SPICE_MSG_SET_ACK",
        "Opens a new acknowledgement window: confirm the generation, then send an ACK after every `window` messages.",
        Record("generation" / U32 * "counts the windows of this connection", "window" / U32 * "messages"),
    ),
    MessageSpec(
        4,
        "SPICE_MSG_PING",
        "Asks for a PONG with the same id and timestamp, to measure the round trip (with a long tail: bandwidth).",
        Record(
            "id" / U32 * "1, 2 and 3 belong to the network test of the main channel",
            "timestamp"
            / U64
            * "of the server's clock: microseconds in the network test, nanoseconds otherwise",
            "data" / OptionalBulkRest * "zeros, to measure bandwidth",
        ),
    ),
    MessageSpec(
        5,
        "SPICE_MSG_WAIT_FOR_CHANNELS",
        "Stop this channel until the channels named here have handled the messages with the given serials.",
        Record(
            "wait_count" / Count(U8, "wait_list"),
            "wait_list" / Items("wait_count", WaitForChannel, limit=255),
        ),
    ),
    MessageSpec(
        6,
        "SPICE_MSG_DISCONNECTING",
        "The server is about to disconnect, for this reason.",
        Disconnecting,
        obsolete=True,
    ),
    MessageSpec(
        7,
        "SPICE_MSG_NOTIFY",
        "A text for the user or the log, with no effect on the session.",
        Record(
            "time_stamp" / U64 * "nanoseconds of the server's clock",
            "severity" / Choice(U32, NotifySeverity),
            "visibilty" / Choice(U32, NotifyVisibility) * "spelt so in spice.proto",
            "what" / U32 * "a warning or info code; 0 = general",
            "message_len" / Count(U32, "message") * "bytes",
            "message" / CountedText("message_len", nul=False),
            # Source: spice-server main-channel-client.cpp, main_channel_marshall_notify().
            "uncounted"
            / OptionalRest
            * "not in spice.proto: the NUL that spice-server sends and does not count",
        ),
    ),
    MessageSpec(
        8,
        "SPICE_MSG_LIST",
        "Several messages in one, handled in the order of the list; used where the mini header has no room for them.",
        _SubMessages(),
    ),
    MessageSpec(
        100,
        "SPICE_MSG_BASE_LAST",
        "Marks the end of the ids that all channels share; never sent.",
        obsolete=True,
    ),
)

CLIENT_MESSAGES: Final = table(
    MessageSpec(
        1,
        "SPICE_MSGC_ACK_SYNC",
        "Confirms SET_ACK: from here on ACKs count for this generation.",
        Record("generation" / U32 * "as in SET_ACK"),
    ),
    MessageSpec(2, "SPICE_MSGC_ACK", "The client has received another window of messages."),
    MessageSpec(
        3,
        "SPICE_MSGC_PONG",
        "Answers a PING with its id and timestamp.",
        Record("id" / U32, "timestamp" / U64 * "as in the PING"),
    ),
    MessageSpec(
        4,
        "SPICE_MSGC_MIGRATE_FLUSH_MARK",
        "Answers MIGRATE: nothing more will come from the client on this connection.",
    ),
    migrate_data.from_client(migrate_data.Opaque),
    MessageSpec(
        6,
        "SPICE_MSGC_DISCONNECTING",
        "The client is about to disconnect, for this reason.",
        Disconnecting,
        obsolete=True,
    ),
)
