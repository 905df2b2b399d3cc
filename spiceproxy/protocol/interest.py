"""Which messages the proxy looks at, and what for. Everything else passes unread.

The table says what is wanted always, `Interest` what is wanted now: whoever wants more, or less, tells it. Ids and names:
spice-protocol spice/enums.h. The three HOLD rows are the messages that tell a client where the next server is; a proxy
that forwards one of them unchanged loses the session.
"""

import functools
from collections.abc import Callable, Container, Mapping
from typing import Final

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Main, MainC, Msg, MsgC
from dissectors.registry import known_ids
from dissectors.side import Side
from spiceproxy.protocol.framer import MAX_KEPT_BYTES, Framer, Want
from spiceproxy.protocol.migration.facts import wants_body

DESTINATION_MESSAGES: Final = frozenset(
    {Main.MIGRATE_BEGIN, Main.MIGRATE_BEGIN_SEAMLESS, Main.MIGRATE_SWITCH_HOST}
)

_COMMON: Final[dict[Side, dict[int, Want]]] = {
    Side.SERVER: {Msg.MIGRATE: Want.SEE, Msg.MIGRATE_DATA: Want.SEE},
    Side.CLIENT: {MsgC.MIGRATE_FLUSH_MARK: Want.SEE, MsgC.MIGRATE_DATA: Want.SEE},
}
_MAIN: Final[dict[Side, dict[int, Want]]] = {
    Side.SERVER: {
        **_COMMON[Side.SERVER],
        Main.INIT: Want.SEE,
        Main.CHANNELS_LIST: Want.SEE,
        Main.MIGRATE_BEGIN: Want.HOLD,
        Main.MIGRATE_BEGIN_SEAMLESS: Want.HOLD,
        Main.MIGRATE_SWITCH_HOST: Want.HOLD,
        Main.MIGRATE_CANCEL: Want.SEE,
        Main.MIGRATE_END: Want.SEE,
        Main.MIGRATE_DST_SEAMLESS_ACK: Want.SEE,
        Main.MIGRATE_DST_SEAMLESS_NACK: Want.SEE,
    },
    Side.CLIENT: {
        **_COMMON[Side.CLIENT],
        MainC.MIGRATE_CONNECTED: Want.SEE,
        MainC.MIGRATE_CONNECT_ERROR: Want.SEE,
        MainC.MIGRATE_END: Want.SEE,
        MainC.MIGRATE_DST_DO_SEAMLESS: Want.SEE,
        MainC.MIGRATE_CONNECTED_SEAMLESS: Want.SEE,
    },
}
# For rules: which surfaces there are when the state of a display moves (R46).
_DISPLAY: Final[dict[Side, dict[int, Want]]] = {
    Side.SERVER: {
        **_COMMON[Side.SERVER],
        Display.SURFACE_CREATE: Want.SEE,
        Display.SURFACE_DESTROY: Want.SEE,
    },
    Side.CLIENT: _COMMON[Side.CLIENT],
}
_TABLES: Final[dict[int, dict[Side, dict[int, Want]]]] = {
    ChannelType.MAIN: _MAIN,
    ChannelType.DISPLAY: _DISPLAY,
}

Watches = Callable[[int, Side, int], bool]
"""Given channel type, sender and message id: whether somebody wants to know of each such message."""

Wanted = tuple[Mapping[int, Want], Want | None]
"""What is wanted of which message id, and of all others."""

NOTHING: Final[Wanted] = ({}, None)
# Whoever wants more gets it, and the other with it.
_ORDER: Final = (None, Want.NOTE, Want.SEE, Want.HOLD)


def wanted_messages(channel_type: int, side: Side) -> Mapping[int, Want]:
    """What the proxy wants of the messages that `side` sends on a channel of this type, whatever happens."""
    return _TABLES.get(channel_type, _COMMON)[side]


@functools.cache
def noted_messages(channel_type: int, side: Side) -> Mapping[int, Want]:
    """The same while every message is noted: with the bodies of all that the tracker of migrations reads."""
    ids = (id_ for id_ in known_ids(channel_type, side) if wants_body(channel_type, side, id_))
    return {**dict.fromkeys(ids, Want.SEE), **wanted_messages(channel_type, side)}


class Interest:
    """What is wanted of the messages of one connection, now. The one place where that is decided.

    Args:
        channel_type: As in the link message.
        watches: Whether a message is to be noted of which nobody wants more.
    """

    def __init__(self, channel_type: int, watches: Watches | None = None) -> None:
        self._tables: dict[Side, Mapping[int, Want]] = {}  # while nothing is noted
        self._noting = {side: noted_messages(channel_type, side) for side in Side}
        for side in Side:
            wanted = wanted_messages(channel_type, side)
            if watches is not None:
                watched = (id_ for id_ in known_ids(channel_type, side) if watches(channel_type, side, id_))
                wanted = {**dict.fromkeys(watched, Want.NOTE), **wanted}
            self._tables[side] = wanted
        self._noted: Container[Side] = ()
        self._held: dict[Side, tuple[Mapping[int, Want], int]] = {}
        self._watched: dict[Side, Wanted] = {}
        self._framers: list[Framer] = []

    def attach(self, framer: Framer) -> None:
        """Tell a framer of this connection now and whenever something changes."""
        self._framers.append(framer)
        self._tell(framer)

    def note(self, sides: Container[Side]) -> None:
        """Note every message of these sides of which nobody wants more; those of the other pass unread."""
        if sides != self._noted:
            self._noted = sides
            for framer in self._framers:
                self._tell(framer)

    def hold(self, side: Side, wanted: Mapping[int, Want], keep: int = MAX_KEPT_BYTES) -> None:
        """Somebody has to decide about these messages of a side, whatever else is wanted of them.

        Args:
            side: Who sends them.
            wanted: By id; empty for none.
            keep: How long a body may be.
        """
        self._held[side] = wanted, keep
        for framer in self._framers:
            self._tell(framer)

    def watch(self, side: Side, wanted: Wanted) -> None:
        """Somebody wants to know of these messages of a side, beside all that is wanted of them anyway.

        It takes the place of what the last call for this side wanted.
        """
        if wanted != self._watched.get(side, NOTHING):
            self._watched[side] = wanted
            for framer in self._framers:
                self._tell(framer)

    def of(self, side: Side, id_: int) -> Want | None:
        """What is wanted of a message now, apart from what `hold` adds."""
        table, rest = self._wanted(side)
        return table.get(id_, rest)

    def _wanted(self, side: Side) -> Wanted:
        noted = side in self._noted
        table, rest = (self._noting[side], Want.NOTE) if noted else (self._tables[side], None)
        watched = self._watched.get(side, NOTHING)
        return (table, rest) if watched == NOTHING else both((table, rest), watched)

    def _tell(self, framer: Framer) -> None:
        table, rest = self._wanted(framer.side)
        held, keep = self._held.get(framer.side, ({}, MAX_KEPT_BYTES))
        if held:
            table = {**table, **held} if isinstance(held, dict) else held  # not a dict: all that there are
        framer.want(table, rest, keep=keep)


def both(one: Wanted, other: Wanted) -> Wanted:
    """What two want together: of each message whatever is more."""
    rest = max(one[1], other[1], key=_ORDER.index)
    table = {
        id_: max(one[0].get(id_, one[1]), other[0].get(id_, other[1]), key=_ORDER.index)
        for id_ in {*one[0], *other[0]}
    }
    return {id_: want for id_, want in table.items() if want is not None}, rest
