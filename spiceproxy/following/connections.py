"""One connection of a session, as it tells what passes: its words become facts. What comes of them: `session.py`.

While nothing goes on, connections are only asked for what `protocol/interest.py` names; from the first word of a migration
to its end, and as long as the destination's first words are awaited, every message of its connections is noted. A failure
in here costs an event and the account of one session, never the session.
"""

import functools
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec

from dissectors.channels import ChannelType, channel_name
from dissectors.link import LinkMessage
from dissectors.side import Side
from spiceproxy.faults.comments import firings
from spiceproxy.following.session import NEITHER, FollowedSession, Following
from spiceproxy.protocol.framer import Framer, Message, Note
from spiceproxy.protocol.interest import Interest
from spiceproxy.protocol.link import LinkPhase
from spiceproxy.protocol.migration.facts import (
    Capabilities,
    DirectionClosed,
    Linked,
    LinkFailed,
    Missing,
    Opened,
    Passed,
    Said,
    Touched,
    wants_body,
)
from spiceproxy.protocol.migration.model import Touch
from spiceproxy.protocol.migration.tables import STARTS, can_be_seen

_BOTH: Final = (Side.CLIENT, Side.SERVER)
_SERVER: Final = (Side.SERVER,)

_P = ParamSpec("_P")
_Guarded = Callable[Concatenate["FollowedConnection", _P], None]


def _guarded(method: _Guarded[_P]) -> _Guarded[_P]:
    """Whatever goes wrong in the method ends the account of the session, and nothing else."""

    @functools.wraps(method)
    def call(self: "FollowedConnection", /, *args: _P.args, **kwargs: _P.kwargs) -> None:
        if not self.session.lost:
            try:
                method(self, *args, **kwargs)
            except Exception as error:  # noqa: BLE001  ours, and not the session's
                self.session.lose(error)

    return call


class FollowedConnection:
    """One connection of a session. It tells everything through here, in the order in which it happens."""

    def __init__(
        self,
        following: Following,
        session: FollowedSession,
        name: str,
        mess: LinkMessage,
        hop: int,
        server: str,
    ) -> None:
        self.session = session
        self.awaited = False
        """Nothing goes on, but the destination's first words are still to be noted."""
        self._following, self._name, self._mess, self._hop, self._server = following, name, mess, hop, server
        self.interest = Interest(mess.channel_type)
        self._channel = f"{channel_name(mess.channel_type)}:{mess.channel_id}"
        self._framers: dict[Side, Framer] = {}
        self._told = dict.fromkeys(Side, 0)  # messages
        self._ended: set[Side] = set()
        session.connections[name] = self

    # The link phase ---------------------------------------------------------------------------------

    @_guarded
    def opened(self, time_ns: int) -> None:
        """The client has connected, some time ago."""
        mess = self._mess
        self.interest = Interest(mess.channel_type, self._following.watches)
        self.session.feed(
            Opened(
                time_ns,
                self._name,
                self._hop,
                self._server,
                mess.channel_type,
                mess.channel_id,
                mess.connection_id,
            )
        )

    @_guarded
    def linked(self, link: LinkPhase, framers: dict[Side, Framer]) -> None:
        """Messages follow, through these framers."""
        mess, reply = (
            link.mess_told or self._mess,
            link.reply_told or link.reply,
        )  # as the other peer has read them
        assert reply is not None  # noqa: S101  it is linked
        self._framers = framers
        self.session.feed(
            Linked(
                self._following.clock_ns(),
                self._name,
                self._hop,
                mess.channel_type,
                mess.channel_id,
                mess.connection_id,
                Capabilities(tuple(mess.common_caps), tuple(mess.channel_caps)),
                Capabilities(tuple(reply.common_caps), tuple(reply.channel_caps)),
                link.mini_header,
                self._server,
            )
        )
        self.attend()
        self.session.settle()

    @_guarded
    def link_failed(
        self, by: Side | None, reason: str, *, code: int | None = None, opaque: bool = False
    ) -> None:
        """There will be no messages, or none that can be read.

        Args:
            by: Who refused or broke it off; None if that is not known.
            reason: In words.
            code: SPICE_LINK_ERR_* of the server.
            opaque: The link is well, but encrypted.
        """
        mess = self._mess
        self.session.feed(
            LinkFailed(
                self._following.clock_ns(),
                self._name,
                self._hop,
                mess.channel_type,
                mess.channel_id,
                mess.connection_id,
                by,
                code,
                reason,
                opaque,
                self._server,
            )
        )
        self.session.settle()

    # Messages ---------------------------------------------------------------------------------------

    @_guarded
    def said(self, message: Message) -> None:
        """A message that was wanted; its bytes go out next."""
        self._take(message)
        self._tell(message)

    @_guarded
    def taken(self, message: Message) -> None:
        """A message that is held. What goes out in its place, now or later, is told by `went`."""
        self._take(message)

    @_guarded
    def touched(self, comment: str) -> None:
        """Faults that were injected have fired on this connection; the comment says which."""
        for each in firings(comment):
            if each.touches:
                self.session.feed(Touched(self._following.clock_ns(), self._name, each.fault))

    @_guarded
    def went(self, message: Message, touch: Touch | None = None) -> None:
        """A message goes out as its receiver gets it, whoever has made it what it is.

        Args:
            message: As it goes out.
            touch: By the fault that has.
        """
        if self.interest.of(message.side, message.id) is not None:
            if self._starts(message):
                self.session.catch_up(None)
            self._tell(message, touch)
        else:
            self.session.feed(Passed(self._following.clock_ns(), self._name, message.side, 1))

    def _starts(self, message: Message) -> bool:
        """Whether a migration may begin with it."""
        on_main = self._mess.channel_type == ChannelType.MAIN and message.side is Side.SERVER
        return on_main and message.id in STARTS and not self.session.busy

    def _take(self, message: Message) -> None:
        side = message.side
        number = self._framers[side].messages
        starts = self._starts(message)
        self._passed(side, number - 1, self._following.clock_ns())
        if starts:
            self.session.catch_up((self, side))
        self._told[side] = number

    def _tell(self, message: Message, touch: Touch | None = None) -> None:
        side, id_ = message.side, message.id
        body = message.body if message.whole and wants_body(self._mess.channel_type, side, id_) else None
        now = self._following.clock_ns()
        said = Said(now, self._name, side, id_, message.size, message.serial, body, touch=touch)
        self.session.feed(said)
        self.session.settle()

    @_guarded
    def noted(self, side: Side, notes: list[Note]) -> None:
        """Messages that passed, of which nobody wants more."""
        now, name, feed = self._following.clock_ns(), self._name, self.session.feed
        for id_, size, serial, number in notes:
            if number - 1 > self._told[side]:
                self._passed(side, number - 1, now)
            self._told[side] = number
            feed(Said(now, name, side, id_, size, serial))
        self.session.settle()

    def _passed(self, side: Side, number: int, time_ns: int) -> None:
        """Tell that messages up to this one have passed unread, if any have."""
        if (unread := number - self._told[side]) > 0:
            self.session.feed(Passed(time_ns, self._name, side, unread))
            self._told[side] = number

    def catch_up(self, side: Side) -> None:
        """Tell what has passed unread; of the last message more is known, if it is whole."""
        framer = self._framers.get(side)
        if framer is None or framer.messages == self._told[side]:
            return
        time_ns, number = self._following.since_boot_ns(framer.time_ns), framer.messages
        whole = not framer.left
        self._passed(side, number - whole, time_ns)
        if whole:
            self._told[side] = number
            id_, size, serial = framer.last_id, framer.last_size, framer.last_serial
            self.session.feed(Said(time_ns, self._name, side, id_, size, serial))

    def attend(self) -> None:
        """Have noted what matters now."""
        busy = self.session.busy
        self.awaited = not busy and self._is_awaited()
        self.interest.note(_BOTH if busy else _SERVER if self.awaited else NEITHER)

    def _is_awaited(self) -> bool:
        """Whether a migration is over, but what the destination says first here is still to come."""
        latest = self.session.migrations[-1:]
        channel = latest[0].channels.get(self._channel) if latest else None
        if channel is None or channel.destination is None or channel.destination.connection != self._name:
            return False
        return channel.first_from_destination is None or (
            channel.first_seen_from_destination is None and can_be_seen(channel.channel_type)
        )

    # The end ----------------------------------------------------------------------------------------

    @_guarded
    def direction_ended(
        self, side: Side | None, *, reset: bool = False, unreadable: str | None = None
    ) -> None:
        """Nothing more comes from this side; see `relay.Observer`."""
        now = self._following.clock_ns()
        if unreadable is not None:
            self.session.feed(Missing(now, self._name, side, 0, unreadable))
        self._ended |= set(Side) if side is None or reset else {side}
        self.session.feed(DirectionClosed(now, self._name, side, reset))
        self.session.settle()

    def over(self, by: Side | None, *, reset: bool = False) -> None:
        """The connection is over.

        Args:
            by: Who began with it; None: the proxy stops.
            reset: With RST.
        """
        for side in sorted(Side, key=lambda side: side is not by):
            if side not in self._ended:
                self.direction_ended(side if by is not None else None, reset=reset)
        self.session.connections.pop(self._name, None)
