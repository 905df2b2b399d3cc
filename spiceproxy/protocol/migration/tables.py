"""The migration as tables: which message means what, what may follow what, and what a user can see.

Sources: spice-server main-channel-client.cpp (handle_migrate_connected(), migrate_src_complete()), red-channel-client.cpp
(handle_migrate_flush_mark()), spice-gtk spice-channel.c (spice_channel_handle_migrate()) and channel-main.c.
"""

from enum import Enum, auto
from typing import Final

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.model import ChannelStep, Phase

NEED_FLUSH: Final = 1
NEED_DATA: Final = 2


class Happened(Enum):
    """What a message means for the whole migration."""

    BEGIN = auto()
    CANCEL = auto()
    END = auto()
    SWITCH_HOST = auto()
    REPLY = auto()
    DO_SEAMLESS = auto()
    VERDICT = auto()
    CLIENT_END = auto()
    INIT = auto()


# Main messages, by who sends them and whether the connection is one to the destination.
MAIN: Final[dict[tuple[bool, Side, int], Happened]] = {
    (False, Side.SERVER, Main.MIGRATE_BEGIN): Happened.BEGIN,
    (False, Side.SERVER, Main.MIGRATE_BEGIN_SEAMLESS): Happened.BEGIN,
    (False, Side.SERVER, Main.MIGRATE_CANCEL): Happened.CANCEL,
    (False, Side.SERVER, Main.MIGRATE_END): Happened.END,
    (False, Side.SERVER, Main.MIGRATE_SWITCH_HOST): Happened.SWITCH_HOST,
    (False, Side.CLIENT, MainC.MIGRATE_CONNECTED): Happened.REPLY,
    (False, Side.CLIENT, MainC.MIGRATE_CONNECTED_SEAMLESS): Happened.REPLY,
    (False, Side.CLIENT, MainC.MIGRATE_CONNECT_ERROR): Happened.REPLY,
    (True, Side.CLIENT, MainC.MIGRATE_DST_DO_SEAMLESS): Happened.DO_SEAMLESS,
    (True, Side.CLIENT, MainC.MIGRATE_END): Happened.CLIENT_END,
    (True, Side.SERVER, Main.MIGRATE_DST_SEAMLESS_ACK): Happened.VERDICT,
    (True, Side.SERVER, Main.MIGRATE_DST_SEAMLESS_NACK): Happened.VERDICT,
    (True, Side.SERVER, Main.INIT): Happened.INIT,
}

STARTS: Final = frozenset({Main.MIGRATE_BEGIN, Main.MIGRATE_BEGIN_SEAMLESS, Main.MIGRATE_SWITCH_HOST})
"""Messages of a server on main that can begin a migration."""

REPLIES: Final[dict[int, str]] = {
    MainC.MIGRATE_CONNECTED: "connected",
    MainC.MIGRATE_CONNECTED_SEAMLESS: "connected-seamless",
    MainC.MIGRATE_CONNECT_ERROR: "connect-error",
}


class Event(Enum):
    """What moves a migration from phase to phase."""

    REPLIED = auto()
    LAST_WORD = auto()  # MIGRATE, MIGRATE_END or SWITCH_HOST
    CANCELLED = auto()
    MOVED = auto()  # the last channel has changed over
    CONCLUDED = auto()


PHASES: Final[dict[tuple[Phase, Event], Phase]] = {
    (Phase.CONNECTING, Event.REPLIED): Phase.WAITING,
    (Phase.CONNECTING, Event.LAST_WORD): Phase.SWITCHING,  # too early, or the client took too long
    (Phase.WAITING, Event.LAST_WORD): Phase.SWITCHING,
    (Phase.SETTLING, Event.LAST_WORD): Phase.SWITCHING,  # SWITCH_HOST after another word: from the beginning
    (Phase.SWITCHING, Event.MOVED): Phase.SETTLING,
    # After a late reply and its CANCEL the source may still say SWITCH_HOST.
    (Phase.OVER, Event.LAST_WORD): Phase.SWITCHING,
    # A reply that crossed the source's last word draws a CANCEL as well; then that word stands.
    (Phase.CONNECTING, Event.CANCELLED): Phase.OVER,
    (Phase.WAITING, Event.CANCELLED): Phase.OVER,
    **{(phase, Event.CONCLUDED): Phase.OVER for phase in Phase},
}
"""A pair without a row changes nothing."""


class Word(Enum):
    """What is said on a channel that changes over."""

    MIGRATE_FLUSH_DATA = auto()
    MIGRATE_FLUSH = auto()
    MIGRATE_DATA_ONLY = auto()
    MIGRATE_PLAIN = auto()
    FLUSH_MARK = auto()
    DATA_OUT = auto()  # MIGRATE_DATA of the source
    DATA_IN = auto()  # MIGRATE_DATA to the destination


MIGRATE_WORDS: Final = (
    Word.MIGRATE_PLAIN,
    Word.MIGRATE_FLUSH,
    Word.MIGRATE_DATA_ONLY,
    Word.MIGRATE_FLUSH_DATA,
)
"""By flags & 3."""

CHANNEL: Final[dict[tuple[ChannelStep, Word], ChannelStep]] = {
    (ChannelStep.STAYING, Word.MIGRATE_PLAIN): ChannelStep.MOVED,
    (ChannelStep.STAYING, Word.MIGRATE_FLUSH): ChannelStep.FLUSHING,
    (ChannelStep.STAYING, Word.MIGRATE_FLUSH_DATA): ChannelStep.FLUSHING,
    (ChannelStep.STAYING, Word.MIGRATE_DATA_ONLY): ChannelStep.UNLOADING,
    (ChannelStep.FLUSHING, Word.FLUSH_MARK): ChannelStep.UNLOADING,  # MOVED if no data is due
    # The source did not wait for the mark, or the mark is not in the capture.
    (ChannelStep.FLUSHING, Word.DATA_OUT): ChannelStep.CARRYING,
    (ChannelStep.UNLOADING, Word.DATA_OUT): ChannelStep.CARRYING,
    (ChannelStep.CARRYING, Word.DATA_IN): ChannelStep.MOVED,
    # The destination got data that nobody saw leave the source.
    (ChannelStep.STAYING, Word.DATA_IN): ChannelStep.MOVED,
    (ChannelStep.FLUSHING, Word.DATA_IN): ChannelStep.MOVED,
    (ChannelStep.UNLOADING, Word.DATA_IN): ChannelStep.MOVED,
}
"""A pair without a row changes nothing: rules judge it."""

PLAIN_CHANNELS: Final = frozenset({ChannelType.CURSOR, ChannelType.PLAYBACK, ChannelType.RECORD})
"""Channels without state: spice-server sends them MIGRATE with flags 0."""

COMMON: Final[dict[tuple[bool, Side, int], Word]] = {
    (False, Side.CLIENT, MsgC.MIGRATE_FLUSH_MARK): Word.FLUSH_MARK,
    (False, Side.SERVER, Msg.MIGRATE_DATA): Word.DATA_OUT,
    (True, Side.CLIENT, MsgC.MIGRATE_DATA): Word.DATA_IN,
}

_INVISIBLE: Final[dict[int, frozenset[int]]] = {
    # What changes caches only: INVAL_LIST, INVAL_ALL_PIXMAPS, INVAL_PALETTE, INVAL_ALL_PALETTES; STREAM_DESTROY_ALL.
    ChannelType.DISPLAY: frozenset({105, 106, 107, 108, 126}),
    ChannelType.CURSOR: frozenset({107, 108}),  # INVAL_ONE, INVAL_ALL
}
_VISIBLE: Final[dict[int, frozenset[int]]] = {
    ChannelType.INPUTS: frozenset({102, 111}),  # KEY_MODIFIERS, MOUSE_MOTION_ACK
    ChannelType.PLAYBACK: frozenset({101, 103, 104}),  # DATA, START, STOP
}


def is_visible(channel_type: int, message_id: int) -> bool:
    """Whether a user can see or hear what this message of a server does."""
    if message_id <= 100:  # the same on every channel: acknowledgements, pings and the like
        return False
    if (hidden := _INVISIBLE.get(channel_type)) is not None:
        return message_id not in hidden
    return message_id in _VISIBLE.get(channel_type, ())


def can_be_seen(channel_type: int) -> bool:
    """Whether a server has anything to say on such a channel that a user can see or hear."""
    return channel_type in _INVISIBLE or channel_type in _VISIBLE
