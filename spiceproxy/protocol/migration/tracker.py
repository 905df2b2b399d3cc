"""Follow the migrations of many sessions, live or out of a file."""

import copy
from collections.abc import Callable, Sequence
from typing import Final

from spiceproxy.protocol.migration.changes import Change
from spiceproxy.protocol.migration.connections import Judge
from spiceproxy.protocol.migration.facts import Fact, InputEnded
from spiceproxy.protocol.migration.model import Migration, Violation
from spiceproxy.protocol.migration.session import SessionTracker
from spiceproxy.protocol.migration.settings import Settings

__all__ = ["SessionTracker", "Tracker"]

_NOTHING: Final[Sequence[Change]] = ()
MAX_VIOLATIONS: Final = 1000  # that are kept of sessions that are over


class Tracker:
    """The migrations of many sessions.

    Args:
        judge: Makes the judge of a session.
        settings: Thresholds and bounds.
    """

    def __init__(self, *, judge: Callable[[], Judge] | None = None, settings: Settings | None = None) -> None:
        self.sessions: dict[str, SessionTracker] = {}
        self.migrations: list[Migration] = []  # of sessions that are over
        self.violations: list[Violation] = []  # likewise, those that belong to no migration
        self._judge, self._settings = judge, settings

    def feed(self, session: str, fact: Fact) -> Sequence[Change]:
        """Take a fact of a session."""
        tracker = self.sessions.get(session)
        if tracker is None:
            judge = self._judge() if self._judge is not None else None
            tracker = self.sessions[session] = SessionTracker(session, judge=judge, settings=self._settings)
        return tracker.feed(fact)

    def tick(self, now_ns: int) -> list[Change]:
        """Say what has changed in any session because time has passed."""
        return [change for tracker in self.sessions.values() for change in tracker.tick(now_ns)]

    def over(self, session: str, time_ns: int) -> Sequence[Change]:
        """A session has ended: keep its migrations, and forget the rest."""
        tracker = self.sessions.pop(session, None)
        if tracker is None:
            return _NOTHING
        changes = tracker.feed(InputEnded(time_ns, complete=True))
        self.migrations += tracker.migrations
        if len(self.violations) < MAX_VIOLATIONS:
            self.violations += tracker.violations
        return changes

    def as_of(self, now_ns: int) -> "Tracker":
        """A tracker for which all sessions end now: what would be said of what goes on. Nothing changes in this one."""
        other = copy.deepcopy(self)
        for session in list(other.sessions):
            other.over(session, now_ns)
        return other

    def all_migrations(self) -> list[Migration]:
        """Those of all sessions, in the order in which they began."""
        running = [each for tracker in self.sessions.values() for each in tracker.migrations]
        return sorted(
            [*self.migrations, *running], key=lambda each: (each.started_ns, each.session, each.number)
        )

    def all_violations(self) -> list[Violation]:
        """Breaches of rules that belong to no migration, in all sessions."""
        running = [each for tracker in self.sessions.values() for each in tracker.violations]
        return [*self.violations, *running]
