"""One session that is followed: the tracker is told what its connections tell, and what changes becomes events."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.eventlog import EventLog
from spiceproxy.following.migration_events import log_change, log_violation
from spiceproxy.protocol.interest import Watches
from spiceproxy.protocol.migration.changes import Change, MigrationEnded
from spiceproxy.protocol.migration.facts import Fact, Missing
from spiceproxy.protocol.migration.model import Migration, Outcome
from spiceproxy.protocol.migration.tracker import SessionTracker, Tracker
from spiceproxy.sparing import SparingLog

if TYPE_CHECKING:
    from spiceproxy.following.connections import FollowedConnection

# How long the end of a migration waits to be told for the first picture of the destination: how long the user saw nothing
# new belongs to its account. A guest that draws nothing for so long has nothing to show.
SEEN_WITHIN_NS: Final = 10**9
UNFOLLOWED: Final = "spiceproxy has stopped following it, because of an error of its own"
NEITHER: Final[tuple[Side, ...]] = ()


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
        self._following, self._name, self._log = following, name, SparingLog(log)
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
        strays = self._tracker.violations_after(self._strays) if self._tracker is not None else []
        for violation in strays:
            log_violation(self._log, None, violation)
        self._strays += len(strays)
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
            for side in (Side.SERVER, Side.CLIENT):  # answers are told after what they may answer
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
            self._log.tell()
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
            connection.interest.note(NEITHER)
        self._ended = None
        self._log.error("migration_unfollowed", reason=repr(error), exc_info=error)


def _will_be_seen(migration: Migration) -> bool:
    """Whether it went well, and the user has not yet seen anything on a display of the destination."""
    return migration.outcome is Outcome.COMPLETED and any(
        channel.channel_type == ChannelType.DISPLAY
        and channel.destination_linked
        and channel.first_seen_from_destination is None
        for channel in migration.channels.values()
    )
