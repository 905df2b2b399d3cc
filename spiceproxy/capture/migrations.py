"""The migrations that a capture shows: what its reader says becomes facts for the tracker."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from dissectors.side import Side
from spiceproxy.capture.events import Closed, Commented, Endpoint, Opened, StreamEvent
from spiceproxy.capture.faults import BY_LEDGER, RecordedFaults
from spiceproxy.capture.messages import CapturedMessage, Connection, Happening, read_messages
from spiceproxy.capture.sessions import REPEATED, CapturedSessions
from spiceproxy.protocol.migration.connections import Judge
from spiceproxy.protocol.migration.facts import (
    Capabilities,
    DirectionClosed,
    Fact,
    InputEnded,
    Linked,
    LinkFailed,
    Missing,
    Said,
    takes_body,
)
from spiceproxy.protocol.migration.facts import Opened as OpenedFact
from spiceproxy.protocol.migration.model import Migration, Violation
from spiceproxy.protocol.migration.rules import RuleJudge
from spiceproxy.protocol.migration.settings import Settings
from spiceproxy.protocol.migration.tracker import Tracker
from spiceproxy.protocol.session import Session
from spiceproxy.report.faults import InjectedFault

BEGINS_LATER: Final = "connections that began before the capture"
HOLED_LINK: Final = "what says of a connection which channel it is"
MAX_ENTRIES: Final = 65536  # entries of tables that a capture could fill


class Findings(NamedTuple):
    """What a capture shows of migrations."""

    migrations: list[Migration]  # of all sessions, in the order in which they began
    violations: list[Violation]  # that belong to none of them
    faults: Sequence[InjectedFault] = ()  # that comments of packets tell of
    faults_left_out: int = 0


def findings_in(
    events: Iterable[StreamEvent],
    *,
    judge: Callable[[], Judge] | None = RuleJudge,
    settings: Settings | None = None,
) -> Findings:
    """Find the migrations of all sessions of a capture, and the rules that were broken.

    Args:
        events: From `spiceproxy.capture.streams`.
        judge: Makes the judge of a session.
        settings: Thresholds of the tracker.
    """
    follower = CaptureFollower(Tracker(judge=judge, settings=settings))
    for item in follower.read(events):
        follower.take(item)
    follower.end()
    tracker, faults = follower.tracker, follower.faults
    return Findings(tracker.all_migrations(), tracker.all_violations(), faults.fired, faults.left_out)


def migrations_in(events: Iterable[StreamEvent], *, settings: Settings | None = None) -> list[Migration]:
    """Find the migrations alone; see `findings_in`."""
    return findings_in(events, settings=settings).migrations


class CaptureFollower:
    """Feeds a tracker with what `read_messages` says. Use `read` in its place, and `take` what it gives.

    Args:
        tracker: Is fed.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.sessions = CapturedSessions()
        self.faults = RecordedFaults()
        self._known: dict[int, Connection] = {}  # by number: those that a session is known of, until they end
        self._waiting: list[Closed] = []  # of the packet that is being read
        self._order = 0
        self._numbers: dict[int, int] = {}  # of streams, to the reader's own
        self._told: dict[str, int] = {}  # hop of the connections that the tracker knows
        self._hops: dict[tuple[str, Endpoint], int] = {}  # of servers, by session
        self._wants: dict[int, bool] = {}
        self._now = 0
        self._places: dict[str, Session] = {}  # sessions that go on

    def read(self, events: Iterable[StreamEvent]) -> Iterator[CapturedMessage | Happening]:
        """Do what `read_messages` does, and keep an eye on what it does not say: when each side has closed."""
        return read_messages(self._passing(events), self.sessions)

    def take(self, item: CapturedMessage | Happening) -> None:
        """Tell the tracker of the next item."""
        if type(item) is CapturedMessage:
            if self._waiting:
                self._close()
            number, time_ns, connection, message, _packet, error = item
            session = connection.session
            if session is None or connection.id not in self._told:
                return
            self._now = time_ns
            side, id_, channel_type = message.side, message.id, connection.channel_type or 0
            key = channel_type << 17 | id_ << 1 | (side is Side.SERVER)
            wanted = self._wants.get(key)
            if wanted is None:
                wanted = takes_body(channel_type, side, id_)
                if len(self._wants) < MAX_ENTRIES:
                    self._wants[key] = wanted
            body = message.body if wanted and error is None else None
            touch = None
            if self.faults.touches:
                touch = self.faults.touches.pop((connection.number, side), None)
                if touch == BY_LEDGER:  # it makes up for what nobody was told of
                    return
            fact = Said(time_ns, connection.id, side, id_, message.size, message.serial, body, number, touch)
            self.tracker.feed(session, fact)
            return
        assert isinstance(item, Happening)  # noqa: S101  there is nothing else
        self._happened(item)

    def end(self) -> None:
        """The capture is over."""
        self._close()
        for session in list(self.tracker.sessions):
            self.tracker.feed(session, InputEnded(self._now))

    # What the stream events say themselves --------------------------------------------------------------

    def _passing(self, events: Iterable[StreamEvent]) -> Iterator[StreamEvent]:
        for event in events:
            if type(event) is Opened:
                self._order += 1
                self._numbers[event.connection] = self._order
            elif type(event) is Commented:
                self._commented(event)
                continue
            elif type(event) is Closed:
                self._waiting.append(event)
            elif self._waiting:
                self._close()
            yield event

    def _commented(self, event: Commented) -> None:
        number = self._numbers.get(event.connection, 0)
        self.faults.comment(event, number)
        connection = self._known.get(number)
        if connection is not None and connection.id in self._told:
            self._faults_of(connection)

    def _faults_of(self, connection: Connection) -> None:
        """Tell of faults that have fired on a connection, now that its session is known."""
        session, hop = connection.session, self._told[connection.id]
        tracker = self.tracker.sessions.get(session or "")
        number = tracker.migrations[-1].number if tracker is not None and tracker.migrations else None
        for fault in self.faults.of(connection, session or "", hop, number):
            self._feed(connection, fault)

    def _close(self) -> None:
        for closed in self._waiting:
            connection = self._known.get(self._numbers.get(closed.connection, 0))
            if connection is not None and connection.session is not None:
                self._feed(
                    connection, DirectionClosed(closed.time_ns, connection.id, closed.side, closed.reset)
                )
        self._waiting.clear()

    # Happenings -------------------------------------------------------------------------------------------

    def _happened(self, item: Happening) -> None:
        connection, event = item.connection, item.event
        if event == "connection_opened":
            self._known[connection.number] = connection
        elif event == "channel_linked":
            if (hop := self._opened(connection, item.time_ns)) is not None:
                self.faults.linked(connection.number)
                self._feed(connection, _linked(item, hop))
        elif event in {"link_refused", "link_failed", "connection_opaque"}:
            if (hop := self._opened(connection, item.time_ns)) is not None:
                self._feed(connection, _failed(item, hop))
            if _holed(item):
                self._torn_off(connection, item.time_ns, HOLED_LINK)
        elif event == "link_missing":
            self._torn_off(connection, item.time_ns, BEGINS_LATER)
        elif event == "gap":
            size = int(item.fields["size"])
            fact = Missing(item.time_ns, connection.id, Side(item.fields["from"]), size)
            self._feed(connection, fact)
        elif event in {"framing_lost", "stream_unread"}:
            self._feed(
                connection,
                Missing(
                    item.time_ns, connection.id, Side(item.fields["from"]), 0, str(item.fields["reason"])
                ),
            )
        elif event == "connection_closed":
            self._close()
            self._known.pop(connection.number, None)
            self._told.pop(connection.id, None)
            self.faults.closed(connection.number)

    def _opened(self, connection: Connection, time_ns: int) -> int | None:
        """A connection belongs to a session only once its link message is read; return its hop."""
        place, session = connection.place, connection.session
        if place is None or session is None:
            return None
        new = session not in self._places
        if new:
            self._forget_sessions(time_ns)
            self._places[session] = place.session
        hop = connection.hop if connection.hop is not None else self._guess(connection, session)
        if hop is None:
            what = f"{connection.channel} ({connection.id}): which server of the session it leads to is not known"
            self._feed(connection, Missing(time_ns, None, None, 0, what))
            return None
        if len(self._hops) > MAX_ENTRIES:
            self._hops.clear()
        self._hops[session, connection.server] = hop
        if connection.id not in self._told:
            self._told[connection.id] = hop
            mess = connection.link.mess
            self._feed(
                connection,
                OpenedFact(
                    connection.opened_ns,
                    connection.id,
                    hop,
                    _address(connection),
                    connection.channel_type,
                    connection.channel_id,
                    mess.connection_id if mess else None,
                ),
            )
        self._faults_of(connection)
        if new and place.orphan:
            self._feed(connection, Missing(time_ns, None, None, 0, BEGINS_LATER))
        return hop

    def _guess(self, connection: Connection, session: str) -> int | None:
        """The hop of a connection of which the capture does not say it; None if it might be any."""
        known = self._hops.get((session, connection.server))
        if known is None and not any(name == session for name, _server in self._hops):
            return 0  # all that is known of this session begins here
        return known

    def _feed(self, connection: Connection, fact: Fact) -> None:
        if connection.session is not None:
            self._now = max(self._now, fact.time_ns)
            self.tracker.feed(connection.session, fact)

    def _torn_off(self, connection: Connection, time_ns: int, what: str) -> None:
        """A connection without its beginning may be one of a session that is known."""
        for name, tracker in self.tracker.sessions.items():
            if tracker.busy or (name, connection.server) in self._hops:
                self.tracker.feed(name, Missing(time_ns, None, None, 0, what))

    def _forget_sessions(self, time_ns: int) -> None:
        """Sessions end all the time in a long capture; what is kept must not grow with it."""
        for name, session in list(self._places.items()):
            if not self.sessions.alive(session):
                del self._places[name]
                self.tracker.over(name, time_ns)


def _linked(item: Happening, hop: int) -> Linked:
    connection = item.connection
    link, mess, reply = connection.link, connection.link.mess, connection.link.reply
    assert mess is not None and reply is not None  # noqa: S101, PT018  it is linked
    return Linked(
        item.time_ns,
        connection.id,
        hop,
        mess.channel_type,
        mess.channel_id,
        mess.connection_id,
        Capabilities(tuple(mess.common_caps), tuple(mess.channel_caps)),
        Capabilities(tuple(reply.common_caps), tuple(reply.channel_caps)),
        link.mini_header,
        _address(connection),
        REPEATED in (connection.comment or ""),
    )


def _failed(item: Happening, hop: int) -> LinkFailed:
    connection, fields = item.connection, item.fields
    mess = connection.link.mess
    opaque = item.event == "connection_opaque"
    by = fields.get("by", "server" if item.event == "link_refused" else "")
    return LinkFailed(
        item.time_ns,
        connection.id,
        hop,
        mess.channel_type if mess else None,
        mess.channel_id if mess else None,
        mess.connection_id if mess else None,
        None if _holed(item) or opaque or by not in {"client", "server"} else Side(by),
        fields.get("code"),
        str(fields.get("reason") or fields.get("error") or ""),
        opaque,
        _address(connection),
    )


def _holed(item: Happening) -> bool:
    """Whether a link failed only because parts of it are not in the capture."""
    return item.event == "link_failed" and "are missing where" in str(item.fields["reason"])


def _address(connection: Connection) -> str:
    host, port = connection.server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
