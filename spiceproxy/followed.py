"""One session and its connections, as they tell what passes: their words become facts, and changes become events.

While nothing goes on, connections are only asked for what `protocol/interest.py` names; from the first word of a migration
to its end, and as long as the destination's first words are awaited, every message of its connections is noted. A failure
in here costs an event and the account of one session, never the session.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Concatenate, Final, ParamSpec

from dissectors.channels import ChannelType, channel_name
from dissectors.link import LinkMessage
from dissectors.side import Side
from spiceproxy.eventlog import EventLog
from spiceproxy.migration_events import log_change, log_violation
from spiceproxy.protocol.framer import Framer, Message, Note
from spiceproxy.protocol.interest import Interest, Watches
from spiceproxy.protocol.link import LinkPhase
from spiceproxy.protocol.migration.changes import Change, MigrationEnded
from spiceproxy.protocol.migration.facts import (
    Capabilities,
    DirectionClosed,
    Fact,
    Linked,
    LinkFailed,
    Missing,
    Opened,
    Passed,
    Said,
    wants_body,
)
from spiceproxy.protocol.migration.model import Migration, Outcome
from spiceproxy.protocol.migration.tables import STARTS, can_be_seen
from spiceproxy.protocol.migration.tracker import SessionTracker, Tracker

# How long the end of a migration waits to be told for the first picture of the destination: how long the user saw nothing
# new belongs to its account. A guest that draws nothing for so long has nothing to show.
SEEN_WITHIN_NS: Final = 10**9
UNFOLLOWED: Final = "spiceproxy has stopped following it, because of an error of its own"

_BOTH: Final = (Side.CLIENT, Side.SERVER)
_SERVER: Final = (Side.SERVER,)
_NEITHER: Final[tuple[Side, ...]] = ()

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


@dataclass(frozen=True, slots=True)
class Following:
    """What all sessions of a proxy share."""

    tracker: Tracker
    clock_ns: Callable[[], int]  # nanoseconds since 1970; does not fall
    since_boot_ns: Callable[[int], int]  # a time of `time.monotonic_ns` on that clock
    wake: Callable[[], None]  # a migration goes on: time has to pass for it
    watches: Watches | None  # messages that rules want to see also between migrations
    changed: Callable[[str, Change], None]  # is told of what changes in a session


class FollowedSession:
    """One session, as its connections see it."""

    def __init__(self, following: Following, name: str, log: EventLog) -> None:
        self.lost = False
        """An error of ours has ended the account."""
        self.connections: dict[str, FollowedConnection] = {}
        self._following, self._name, self._log = following, name, log
        self._tracker: SessionTracker | None = None
        self._noting = False
        self._rules: dict[int, int] = {}  # by number of migration: broken rules that have been told
        self._strays = 0  # broken rules outside of migrations that have been told
        self._ended: MigrationEnded | None = None  # not told yet: what the user sees next belongs to it

    @property
    def busy(self) -> bool:
        """Whether a migration goes on."""
        return self._tracker is not None and self._tracker.busy and not self.lost

    @property
    def due(self) -> bool:
        """Whether something has to be told when time passes."""
        return self.busy or self._ended is not None

    @property
    def migrations(self) -> list[Migration]:
        """Those of this session."""
        return self._tracker.migrations if self._tracker is not None else []

    def feed(self, fact: Fact) -> None:
        """Tell the tracker; what it says becomes events."""
        if self._tracker is None:
            changes = self._following.tracker.feed(self._name, fact)
            self._tracker = self._following.tracker.sessions[self._name]
        else:
            changes = self._tracker.feed(fact)
        if changes:
            self.tell(changes)

    def tell(self, changes: Iterable[Change]) -> None:
        """Write events. A rule that was broken is told before the end of the migration in which it was."""
        self._tell_rules()
        for change in changes:
            self._following.changed(self._name, change)
            self._tell_ended()
            if isinstance(change, MigrationEnded) and _will_be_seen(change.migration):
                self._ended = change
                self._following.wake()
            else:
                log_change(self._log, change)

    def _tell_ended(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            self._tell_rules()
            log_change(self._log, ended)

    def settle(self) -> None:
        """After facts: see whether more, or less, is to be noted from now on."""
        busy = self.busy
        if busy:
            self._following.wake()
        if busy is not self._noting:
            self._noting = busy
            self._attend(self.connections.values())
        elif not busy:
            self._attend([each for each in self.connections.values() if each.awaited])
        self._tell_rules()
        if (ended := self._ended) is not None:
            late = self._following.clock_ns() - ended.time_ns >= SEEN_WITHIN_NS
            if late or not _will_be_seen(ended.migration):
                self._tell_ended()

    def _attend(self, connections: Iterable["FollowedConnection"]) -> None:
        for connection in connections:
            connection.attend()

    def _tell_rules(self) -> None:
        strays = self._tracker.violations if self._tracker is not None else []
        for violation in strays[self._strays :]:
            log_violation(self._log, None, violation)
        self._strays = len(strays)
        latest = self.migrations[-2:]  # what is over can still turn out to have broken a rule
        for migration in latest:
            told = self._rules.get(migration.number, 0)
            for violation in migration.violations[told:]:
                log_violation(self._log, migration, violation)
            self._rules[migration.number] = len(migration.violations)
        if len(self._rules) > len(latest):
            self._rules = {each.number: self._rules[each.number] for each in latest}

    def catch_up(self, but: tuple["FollowedConnection", Side] | None) -> None:
        """A migration begins: tell what has passed unread so far, except on the side of a connection that speaks now."""
        for connection in list(self.connections.values()):
            for side in Side:
                if (connection, side) != but:
                    connection.catch_up(side)

    def unread(self, what: str) -> None:
        """Something that may belong to the session cannot be read."""
        if not self.lost and self._tracker is not None:
            self.feed(Missing(self._following.clock_ns(), None, None, 0, what))

    def tick(self) -> None:
        """Time has passed."""
        if self._tracker is None or not self.due:
            return
        try:
            self.tell(self._tracker.tick(self._following.clock_ns()))
            self.settle()
        except Exception as error:  # noqa: BLE001  as in _guarded
            self.lose(error)

    def over(self) -> None:
        """Nothing more will come."""
        if self.lost:
            return
        try:
            self.tell(self._following.tracker.over(self._name, self._following.clock_ns()))
            self._tell_ended()
        except Exception as error:  # noqa: BLE001  as in _guarded
            self.lose(error)

    def lose(self, error: Exception) -> None:
        """Stop following: an error of ours."""
        self.lost = True
        tracker = self._following.tracker
        tracker.sessions.pop(self._name, None)
        for migration in self.migrations:
            if migration.outcome is None:
                migration.damaged.append(UNFOLLOWED)
        tracker.migrations += self.migrations
        for connection in self.connections.values():
            connection.interest.note(_NEITHER)
        self._ended = None
        self._log.error("migration_unfollowed", reason=repr(error), exc_info=error)


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
    def went(self, message: Message) -> None:
        """A message goes out as its receiver gets it, whoever has made it what it is."""
        if self.interest.of(message.side, message.id) is not None:
            if self._starts(message):
                self.session.catch_up(None)
            self._tell(message)
        else:
            self.session.feed(Passed(self._following.clock_ns(), self._name, message.side, 1))

    def _starts(self, message: Message) -> bool:
        """Whether a migration may begin with it."""
        on_main = self._mess.channel_type == ChannelType.MAIN and message.side is Side.SERVER
        return on_main and message.id in STARTS and not self.session.busy

    def _take(self, message: Message) -> None:
        side = message.side
        if self._starts(message):
            self.session.catch_up((self, side))
        number = self._framers[side].messages
        self._passed(side, number - 1, self._following.clock_ns())
        self._told[side] = number

    def _tell(self, message: Message) -> None:
        side, id_ = message.side, message.id
        body = message.body if message.whole and wants_body(self._mess.channel_type, side, id_) else None
        now = self._following.clock_ns()
        self.session.feed(Said(now, self._name, side, id_, message.size, message.serial, body))
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
        self.interest.note(_BOTH if busy else _SERVER if self.awaited else _NEITHER)

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


def _will_be_seen(migration: Migration) -> bool:
    """Whether it went well, and the user has not yet seen anything on a display of the destination."""
    return migration.outcome is Outcome.COMPLETED and any(
        channel.channel_type == ChannelType.DISPLAY
        and channel.destination_linked
        and channel.first_seen_from_destination is None
        for channel in migration.channels.values()
    )
