"""Follow the migrations of one session: facts in, changes and `Migration`s out. For live connections and for files."""

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from typing import Final

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Main, MainC, MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.attempt import Attempt
from spiceproxy.protocol.migration.books import is_kept
from spiceproxy.protocol.migration.changes import (
    Change,
)
from spiceproxy.protocol.migration.conclusion import settle
from spiceproxy.protocol.migration.connections import Judge, Step
from spiceproxy.protocol.migration.course import Course
from spiceproxy.protocol.migration.facts import (
    DirectionClosed,
    Fact,
    InputEnded,
    Linked,
    LinkFailed,
    Missing,
    Opened,
    Passed,
    Said,
    Touched,
    is_migration_message,
)
from spiceproxy.protocol.migration.hearing import hear, hear_unread, see
from spiceproxy.protocol.migration.model import Closing, Migration, Outcome, Violation
from spiceproxy.protocol.migration.settings import Settings
from spiceproxy.protocol.migration.tables import STARTS, can_be_seen, is_visible
from spiceproxy.protocol.migration.tracked import Tracked, damage_of, session_id_of

_NOTHING: Final[Sequence[Change]] = ()
_MAX_DAMAGES: Final = 16
_MAX_KINDS: Final = 65536
_DRAW_COPY: Final = int(Display.DRAW_COPY)
_JUDGED_MESSAGES: Final = 24  # of a display that has arrived: rules are about how it begins

# What only a client that arrives in a migration says, and its destination.
_ARRIVING: Final[dict[Side, frozenset[int]]] = {
    Side.CLIENT: frozenset({MainC.MIGRATE_DST_DO_SEAMLESS, MainC.MIGRATE_END, MsgC.MIGRATE_DATA}),
    Side.SERVER: frozenset({Main.MIGRATE_DST_SEAMLESS_ACK, Main.MIGRATE_DST_SEAMLESS_NACK}),
}


class _Kind(Enum):
    """What a message is while no channel changes over."""

    PLAIN = auto()
    VISIBLE = auto()
    KEPT = auto()  # in the books of its connection
    WATCHED = auto()  # by the judge
    MAY_BEGIN = auto()


class SessionTracker:
    """The migrations of one session.

    Args:
        session: Its name, "s1".
        judge: Is shown every step.
        settings: Thresholds and bounds.
    """

    def __init__(self, session: str, *, judge: Judge | None = None, settings: Settings | None = None) -> None:
        self.session = session
        self._settings, self._judge = settings or Settings(), judge
        self._course = Course(session, self._settings, judge)
        self._connections: dict[str, Tracked] = {}
        self._session_id: int | None = None
        self._damages: list[str] = []
        self._kinds: dict[int, _Kind] = {}

    @property
    def migrations(self) -> list[Migration]:
        """Those that are remembered, in the order in which they began."""
        return self._course.migrations

    @property
    def violations(self) -> list[Violation]:
        """Breaches of rules that belong to no migration."""
        return self.violations_after(0)

    def violations_after(self, known: int) -> list[Violation]:
        """The same without the first ones: who asks after each of a million messages is not given all of them anew."""
        found = self._judge.violations if self._judge is not None else []
        return [replace(each, session=self.session) for each in found[known:]]

    @property
    def forgotten(self) -> int:
        """How many migrations there was no room for."""
        return self._course.forgotten

    def feed(self, fact: Fact) -> Sequence[Change]:
        """Take a fact, and say what it changed.

        Args:
            fact: The next one; times do not fall.
        """
        if type(fact) is Said:
            return self._said(fact)
        if type(fact) is Touched:
            self._touched(fact)
            return _NOTHING
        now = fact.time_ns
        changes: list[Change] = []
        connection = self._connections.get(getattr(fact, "connection", None) or "")
        step = self._step(fact, connection)
        if step is not None and self._judge is not None:
            self._judge.before(step)  # all of these are few: they are shown in any case
        if isinstance(fact, Opened | Linked | LinkFailed):
            self._linking(fact)
        elif isinstance(fact, Passed):
            self._passed(fact)
        elif isinstance(fact, DirectionClosed):
            self._closed(fact)
        elif isinstance(fact, Missing):
            self._missing(fact)
        elif isinstance(fact, InputEnded):
            self._course.end(now, changes)
        if self._judge is not None:
            step = self._step(
                fact, self._connections.get(getattr(fact, "connection", None) or "", connection)
            )
            if step is not None:
                self._judge.after(step)
        if self._course.active:
            self._course.look(now, changes)
        return changes

    def tick(self, now_ns: int) -> Sequence[Change]:
        """Say what has changed because time has passed. Call it a few times a second while `busy`."""
        if not self._course.active:
            return _NOTHING
        changes: list[Change] = []
        self._course.look(now_ns, changes, always=True)
        return changes

    @property
    def busy(self) -> bool:
        """Whether a migration goes on."""
        return self._course.active

    # Facts ----------------------------------------------------------------------------------------

    def _touched(self, fact: Touched) -> None:
        connection = self._connections.get(fact.connection or "")
        if self._judge is not None:
            self._judge.touched(connection.channel if connection is not None else None, fact.fault)

    def _said(self, fact: Said) -> Sequence[Change]:
        connection = self._connections.get(fact.connection)
        if connection is None or connection.channel_type is None:
            return _NOTHING
        type_, side, now, id_ = connection.channel_type, fact.side, fact.time_ns, fact.id
        active, departure = self._course.active, connection.departure
        idle = not active or (departure is not None and departure.active and departure.word_ns is None)
        if idle and not connection.awaited and not connection.judged:
            # Nothing goes on, or the guest moves and has not got there, which takes as long as it takes. This is nearly every
            # message of a session, so that it has to be quick.
            key = type_ << 17 | id_ << 1 | (side is Side.SERVER)
            kind = self._kinds.get(key)
            if kind is None:
                kind = self._kind(key, type_, side, id_)
            if kind is not _Kind.WATCHED and kind is not _Kind.MAY_BEGIN:
                self._count(connection, fact, visible=kind is _Kind.VISIBLE, kept=kind is _Kind.KEPT)
                return self.tick(now) if active and now >= self._course.check_ns else _NOTHING
            if kind is _Kind.WATCHED and not active:
                self._shown(fact, connection)
                return _NOTHING
        changes: list[Change] = []
        if type_ == ChannelType.MAIN and side is Side.SERVER:
            self._server_speaks_on_main(connection, fact, changes)
        if connection.arrival is None and id_ in _ARRIVING[side]:
            self._arrives_unannounced(connection, fact, changes)
        self._shown(fact, connection)
        if self._course.active:
            self._course.look(now, changes)
        return changes

    def _shown(self, fact: Said, connection: Tracked) -> None:
        """Take a message into account, between the judge's two looks at it."""
        judge = self._judge
        step = self._step(fact, connection) if judge is not None else None
        wanted = judge is not None and step is not None and judge.before(step)
        type_, side, id_ = connection.channel_type, fact.side, fact.id
        seen = side is Side.SERVER and is_visible(type_ or 0, id_)
        self._count(connection, fact, visible=seen, kept=is_kept(type_, side, id_))
        arriving = False
        departure = connection.departure
        if departure is not None and (departure.active or departure.m.outcome is None):
            hear(departure, connection, fact, arriving=False)
        if (arrival := connection.arrival) is not None and (arrival.active or connection.awaited):
            arriving = True
            hear(arrival, connection, fact, arriving=True)
        if fact.side is Side.SERVER:
            if seen and arriving and arrival is not None:
                see(arrival, connection, fact.time_ns, fact)
            if connection.awaited and arrival is not None and not arrival.awaits(connection):
                connection.awaited = False
                if not arrival.active:
                    settle(arrival)
        if connection.judged and connection.said[Side.SERVER] > _JUDGED_MESSAGES:
            connection.judged = False
        if wanted and judge is not None and step is not None:
            judge.after(self._step(fact, connection) or step)

    @staticmethod
    def _count(connection: Tracked, fact: Said, *, visible: bool, kept: bool) -> None:
        side = fact.side
        if kept:
            connection.books.take(connection.channel_type, fact, connection.said[side])
        if connection.full:
            connection.books.serials[side].take(fact)
        if fact.body is not None:
            if (
                side is Side.SERVER
                and fact.id == _DRAW_COPY
                and connection.channel_type == ChannelType.DISPLAY
            ):
                connection.last_copy = fact
            # In captures all that draws has its body; this takes half as long as _replace.
            fact = Said(*fact[:6], None, *fact[7:])
        connection.said[side] += 1
        connection.last_ns[side] = fact.time_ns
        connection.last[side] = fact
        if visible:
            connection.last_visible, connection.last_visible_ns = fact, fact.time_ns

    def _kind(self, key: int, channel_type: int, side: Side, message_id: int) -> "_Kind":
        """What a message is while no migration goes on."""
        if channel_type == ChannelType.MAIN or is_migration_message(channel_type, side, message_id):
            kind = _Kind.MAY_BEGIN
        elif self._judge is not None and self._judge.watches(channel_type, side, message_id):
            kind = _Kind.WATCHED
        else:
            seen = side is Side.SERVER and is_visible(channel_type, message_id)
            kind = _Kind.VISIBLE if seen else _Kind.PLAIN
            if is_kept(channel_type, side, message_id):
                kind = _Kind.KEPT
        if len(self._kinds) < _MAX_KINDS:
            self._kinds[key] = kind
        return kind

    def _server_speaks_on_main(self, connection: Tracked, fact: Said, changes: list[Change]) -> None:
        if fact.id == Main.INIT and connection.init is None:
            connection.init = connection.evidence(fact)
            connection.session_id = session_id_of(fact)
            if connection.session_id is not None:
                self._session_id = connection.session_id
        elif fact.id in STARTS:
            self._may_start(connection, fact, changes)

    def _may_start(self, connection: Tracked, fact: Said, changes: list[Change]) -> None:
        """BEGIN always starts a migration; SWITCH_HOST does unless it ends one."""
        now, departure = fact.time_ns, connection.departure
        if fact.id == Main.MIGRATE_SWITCH_HOST:
            if departure is not None and departure.active:
                return
            if departure is not None and departure.late_success and departure.m.outcome is Outcome.CANCELLED:
                self._course.reopen(departure)
                return
        self._course.conclude_all(now, changes)
        self._start(connection.hop, connection.hop + 1, now, changes, main=connection)

    def _arrives_unannounced(self, connection: Tracked, fact: Said, changes: list[Change]) -> None:
        """A client arrives, and what the source said is not in the capture."""
        linked = connection.linked
        if linked is None or not linked.connection_id or connection.init is not None or connection.departure:
            return
        if connection.channel_type != ChannelType.MAIN and (
            fact.id != MsgC.MIGRATE_DATA or not connection.hop
        ):
            return
        self._course.conclude_all(fact.time_ns, changes)
        attempt = self._start(connection.hop - 1, connection.hop, fact.time_ns, changes, main=None)
        for other in self._connections.values():
            if other.hop == connection.hop and other.arrival is None:
                self._arrive(other, attempt)

    def _start(
        self, source_hop: int, destination_hop: int, now: int, changes: list[Change], *, main: Tracked | None
    ) -> Attempt:
        here = [other for other in self._connections.values() if other.hop == source_hop]
        held = [other for other in here if other.arrival is not None and other.arrival.left_behind(other)]
        leaving = {
            other.channel: other
            for other in here
            if other.open and other.channel is not None and other not in held
        }
        return self._course.begin(
            (source_hop, destination_hop),
            leaving,
            now,
            changes,
            main=main,
            session_id=(main.session_id if main is not None else None) or self._session_id,
            damages=self._damages,
            unfinished=next(
                (o.arrival.m.number for o in here if o.arrival and o.arrival.left_behind(o)), None
            ),
        )

    def _linking(self, fact: Opened | Linked | LinkFailed) -> None:
        connection = self._connections.get(fact.connection)
        if connection is None:
            if len(self._connections) >= self._settings.max_connections:
                self._forget_one()
            connection = self._connections[fact.connection] = Tracked(fact.connection, fact.hop)
        connection.know(fact)
        if connection.channel is None:
            return  # of which channel it will be is not known yet
        for attempt in reversed(self._course.attempts):
            if attempt.active and attempt.m.destination_hop == fact.hop:
                self._arrive(connection, attempt)
                break
            if attempt.active and attempt.m.source_hop == fact.hop:
                connection.departure = attempt
                attempt.depart(connection)
                break

    def _arrive(self, connection: Tracked, attempt: Attempt) -> None:
        connection.arrival, connection.awaited = attempt, True
        connection.judged = self._judge is not None and connection.channel_type == ChannelType.DISPLAY
        attempt.arrive(connection)
        if connection.damaged:
            attempt.note_damage(connection, damage_of(connection))

    def _passed(self, fact: Passed) -> None:
        connection = self._connections.get(fact.connection)
        if connection is None:
            return
        connection.said[fact.side] += fact.messages
        connection.books.passed(fact.side)
        connection.last_ns[fact.side] = fact.time_ns
        if fact.side is not Side.SERVER:
            return
        arrival = connection.arrival
        if arrival is not None and (arrival.active or connection.awaited):
            hear_unread(arrival, connection, fact)
        if can_be_seen(connection.channel_type or 0):
            connection.last_visible_ns = fact.time_ns

    def _closed(self, fact: DirectionClosed) -> None:
        connection = self._connections.get(fact.connection)
        if connection is None:
            return
        sides = [fact.side] if fact.side is not None and not fact.reset else list(Side)
        for side in sides:
            connection.closed.setdefault(side, fact.time_ns)
        if connection.closing is None:
            by = fact.side.value if fact.side is not None else "capture"
            connection.closing = Closing(fact.time_ns, by, fact.reset)
            for attempt in (connection.departure, connection.arrival):
                if attempt is not None:
                    attempt.note_closing(connection)
        if len(connection.closed) == len(Side):
            del self._connections[fact.connection]

    def _missing(self, fact: Missing) -> None:
        connection = self._connections.get(fact.connection or "")
        if connection is None:
            what = fact.reason or "a connection that could not be read"
            if what not in self._damages and len(self._damages) < _MAX_DAMAGES:
                self._damages.append(what)
            for attempt in self._course.attempts:
                if attempt.active:
                    attempt.tear(what)
            if self._judge is not None:
                self._judge.torn()
            return
        connection.damaged = True
        if fact.side is not None:
            connection.missing[fact.side] += fact.size
        for taking_part in (connection.departure, connection.arrival):
            if taking_part is not None and taking_part.active:
                taking_part.note_damage(connection, damage_of(connection))

    # Helpers ------------------------------------------------------------------------------------------

    def _step(self, fact: Fact, connection: Tracked | None) -> Step | None:
        if connection is None:
            return None
        departure, arrival = connection.departure, connection.arrival
        attempt, arriving = None, False
        if departure is not None and departure.m.outcome is not Outcome.CANCELLED:
            attempt = departure
        elif arrival is not None:
            attempt, arriving = arrival, True
        migration = attempt.m if attempt is not None else None
        channel = migration.channels.get(connection.channel or "") if migration is not None else None
        return Step(fact, connection, migration, channel, arriving)

    def _forget_one(self) -> None:
        for name, connection in self._connections.items():
            if connection.linked is None or connection.closing is not None:
                del self._connections[name]
                return
        del self._connections[next(iter(self._connections))]
