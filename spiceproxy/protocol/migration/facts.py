"""What the tracker is told: small records of what passed on the connections of one session, with times.

Who reads a file and who relays live bytes make the same facts. Times are integer nanoseconds of one clock and do not fall,
except in `Opened`, which may be told late: a connection belongs to a session only once its link message is read. Every
`Linked` or `LinkFailed` may stand alone, without the `Opened` before it. Of most messages only id and time are needed;
`wants_body` says which bodies are.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from dissectors.capabilities import MainCap, has_capability
from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.model import Touch


class Capabilities(NamedTuple):
    """What one side announced in its link message or reply: 32-bit words, lowest bits first."""

    common: Sequence[int] = ()
    channel: Sequence[int] = ()

    def has_main(self, bit: MainCap) -> bool:
        """Whether a bit of the main channel is set; ask for links of main only."""
        return has_capability(self.channel, bit)


class Opened(NamedTuple):
    """A client has connected, over TCP, to a server of the session."""

    time_ns: int
    connection: str  # "c5", as `spiceproxy read` and the event log name it
    hop: int  # which server of the session: 0 is the first, 1 the one after its first migration
    server: str  # "127.0.0.1:5901"
    channel_type: int | None = None  # these three as in the link message, if that has been read
    channel_id: int | None = None
    connection_id: int | None = None


class Linked(NamedTuple):
    """The link phase ended well: messages follow."""

    time_ns: int
    connection: str
    hop: int
    channel_type: int
    channel_id: int
    connection_id: int  # 0 on the first main link of a session, and after SWITCH_HOST
    client: Capabilities
    server: Capabilities
    mini_header: bool
    address: str = ""  # of the server, "127.0.0.1:5901"
    midway: bool = False  # it was linked before the capture began: what was said until then is not there


class LinkFailed(NamedTuple):
    """The link phase ended badly, or what follows it cannot be read."""

    time_ns: int
    connection: str
    hop: int
    channel_type: int | None  # None if no link message was read
    channel_id: int | None
    connection_id: int | None
    by: Side | None  # who refused, or broke it off; None: the capture does not show it
    code: int | None  # a SPICE_LINK_ERR_* that the server sent
    reason: str  # in words
    opaque: bool = False  # the link is well, but encrypted from here on: nothing can be said of it
    address: str = ""


class Said(NamedTuple):
    """One whole message, at the time of its last byte."""

    time_ns: int
    connection: str
    side: Side  # who sent it
    id: int
    size: int  # bytes of body
    serial: int  # of the full header; counted from 1 under mini headers
    body: bytes | None = None  # None if nobody kept it, or parts of it are missing
    number: int | None = None  # of the message, as `spiceproxy read` counts; None live
    touch: Touch | None = None  # by a fault that was injected


class Touched(NamedTuple):
    """A fault that was injected has fired on a connection: what is wrong from here on may follow from it."""

    time_ns: int
    connection: str | None  # None: on one that is not known
    fault: str  # its name


class Passed(NamedTuple):
    """Messages that passed unread since the last fact of this connection and side; only how many is known."""

    time_ns: int  # of the last one
    connection: str
    side: Side
    messages: int


class DirectionClosed(NamedTuple):
    """One side has closed its direction; with `reset`, both are gone."""

    time_ns: int
    connection: str
    side: (
        Side | None
    )  # None: nobody did, but nothing more is known of it (an end of the capture, the proxy stopped)
    reset: bool = False


class Missing(NamedTuple):
    """Bytes that are not in the capture, or could not be read. Verdicts that would need them are not given."""

    time_ns: int
    connection: str | None  # None: a whole connection that could not be read, and may be of this session
    side: Side | None
    size: int  # bytes, 0 if not known
    reason: str = ""


class InputEnded(NamedTuple):
    """Nothing more will come: the file is over, or the session is."""

    time_ns: int
    complete: bool = (
        False  # the session is known to be over; else the capture stopped while it may have gone on
    )


Fact = Opened | Linked | LinkFailed | Said | Touched | Passed | DirectionClosed | Missing | InputEnded


# Messages that are part of a migration, by channel type (None: every channel) and sender.
MIGRATION_IDS: Final[dict[tuple[bool, Side], frozenset[int]]] = {
    (False, Side.SERVER): frozenset({Msg.MIGRATE, Msg.MIGRATE_DATA}),
    (False, Side.CLIENT): frozenset({MsgC.MIGRATE_FLUSH_MARK, MsgC.MIGRATE_DATA}),
    (True, Side.SERVER): frozenset({
        Msg.MIGRATE, Msg.MIGRATE_DATA, Main.MIGRATE_BEGIN, Main.MIGRATE_BEGIN_SEAMLESS, Main.MIGRATE_CANCEL,
        Main.MIGRATE_END, Main.MIGRATE_SWITCH_HOST, Main.MIGRATE_DST_SEAMLESS_ACK, Main.MIGRATE_DST_SEAMLESS_NACK,
    }),
    (True, Side.CLIENT): frozenset({
        MsgC.MIGRATE_FLUSH_MARK, MsgC.MIGRATE_DATA, MainC.MIGRATE_CONNECTED, MainC.MIGRATE_CONNECT_ERROR,
        MainC.MIGRATE_CONNECTED_SEAMLESS, MainC.MIGRATE_END, MainC.MIGRATE_DST_DO_SEAMLESS,
    }),
}  # fmt: skip

# Other messages whose bodies tell the tracker or a rule something. MAIN_INIT: the session id. Surfaces: R46. What the
# agent says: only the sizes of its messages.
_DISPLAY_SURFACES: Final = frozenset({314, 315})  # SURFACE_CREATE, SURFACE_DESTROY
_MAIN: Final = frozenset({Main.INIT, Main.AGENT_DATA, Main.AGENT_TOKEN, Main.AGENT_CONNECTED_TOKENS})


# The same for look-ups that are quick: Python hashes enums in Python. By whether it is main.
_OF_SERVER: Final = (MIGRATION_IDS[False, Side.SERVER], MIGRATION_IDS[True, Side.SERVER])
_OF_CLIENT: Final = (MIGRATION_IDS[False, Side.CLIENT], MIGRATION_IDS[True, Side.CLIENT])


def is_migration_message(channel_type: int | None, side: Side, message_id: int) -> bool:
    """Whether a message is part of a migration."""
    return message_id in (_OF_SERVER if side is Side.SERVER else _OF_CLIENT)[channel_type == ChannelType.MAIN]


def wants_body(channel_type: int | None, side: Side, message_id: int) -> bool:
    """Whether a `Said` of this message should have its body."""
    if is_migration_message(channel_type, side, message_id):
        return True
    if side is Side.SERVER:
        if message_id == Msg.SET_ACK:
            return True
        if channel_type == ChannelType.MAIN:
            return message_id in _MAIN
        return channel_type == ChannelType.DISPLAY and message_id in _DISPLAY_SURFACES
    if message_id == MsgC.ACK_SYNC:
        return True
    return channel_type == ChannelType.MAIN and message_id == MainC.AGENT_DATA


# What draws on a surface, or makes a stream that does.
_DRAWING: Final = frozenset({
    Display.COPY_BITS, Display.STREAM_CREATE, Display.DRAW_FILL, Display.DRAW_OPAQUE, Display.DRAW_COPY,
    Display.DRAW_BLEND, Display.DRAW_BLACKNESS, Display.DRAW_WHITENESS, Display.DRAW_INVERS, Display.DRAW_ROP3,
    Display.DRAW_STROKE, Display.DRAW_TEXT, Display.DRAW_TRANSPARENT, Display.DRAW_ALPHA_BLEND,
    Display.DRAW_COMPOSITE,
})  # fmt: skip


def is_drawing(channel_type: int | None, side: Side, message_id: int) -> bool:
    """Whether a message draws; its body begins with the id of the surface."""
    return channel_type == ChannelType.DISPLAY and side is Side.SERVER and message_id in _DRAWING


def takes_body(channel_type: int | None, side: Side, message_id: int) -> bool:
    """Whether rules look at the body of this message where it costs nothing to have it: in a capture, not live."""
    return wants_body(channel_type, side, message_id) or is_drawing(channel_type, side, message_id)
