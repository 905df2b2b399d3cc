"""Follow the migrations of all sessions of a proxy while they happen. What one session does is in `session.py`."""

import time
from collections.abc import Callable
from typing import Final

import trio

from dissectors.link import LinkMessage
from spiceproxy import clock
from spiceproxy.eventlog import EventLog
from spiceproxy.following.connections import FollowedConnection
from spiceproxy.following.session import FollowedSession, Following
from spiceproxy.protocol.migration.changes import Change
from spiceproxy.protocol.migration.connections import Judge
from spiceproxy.protocol.migration.model import Migration, Violation
from spiceproxy.protocol.migration.settings import Settings
from spiceproxy.protocol.migration.tracker import Tracker

TICK_S: Final = 0.1  # how often a migration that goes on is looked at while nothing is said
# Of sessions that are over. One with many messages takes 1 MB, an ordinary one 100 kB.
MAX_MIGRATIONS: Final = 200


class MigrationFollower:
    """The migrations of one proxy.

    Args:
        log: The event log.
        judge: Makes the judge of a session.
        settings: Thresholds and bounds of the tracker.
        clock_ns: That of `Framer.time_ns`; it is steady.
        zero_ns: When it began, in nanoseconds since 1970.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        judge: Callable[[], Judge] | None = None,
        settings: Settings | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        zero_ns: int = clock.ZERO_NS,
    ) -> None:
        self.start_ns: int | None = None
        """When the first connection was accepted: moments in reports count from there."""
        self.forgotten = 0
        """Migrations that are not kept any more."""
        self.on_change: Callable[[str, Change], None] | None = None
        """Is given the name of a session and what has changed in its migrations, at once; must not raise."""
        self._log = log
        self._tracker = Tracker(judge=judge, settings=settings)
        self._sessions: dict[str, FollowedSession] = {}
        self._clock_ns, self._zero_ns = clock_ns, zero_ns  # what is told to the tracker never falls
        self._woken = trio.Event()
        watches = judge().watches if judge is not None else None
        self._following = Following(
            self._tracker, self.now, self._since_boot, self._wake, watches, self._changed
        )

    @property
    def migrations(self) -> list[Migration]:
        """All that are kept, in the order in which they began."""
        return self._tracker.all_migrations()

    @property
    def violations(self) -> list[Violation]:
        """Rules that were broken outside of any migration."""
        return self._tracker.all_violations()

    def as_of_now(self) -> Tracker:
        """What would be said if all sessions ended now; a copy of its own."""
        return self._tracker.as_of(self.now())

    def now(self) -> int:
        """The time that facts have: nanoseconds since 1970, of a clock that does not step."""
        return self._zero_ns + self._clock_ns()

    def _since_boot(self, monotonic_ns: int) -> int:
        return self._zero_ns + monotonic_ns

    def connect(
        self, session: str, connection: str, mess: LinkMessage, *, hop: int, server: str, opened_ns: int
    ) -> FollowedConnection:
        """A connection whose link message has been read belongs to this session.

        Args:
            session: The session's name.
            connection: Its own.
            mess: The client's link message.
            hop: Which server of the session it leads to.
            server: The server's address.
            opened_ns: When it was accepted, by `now`.
        """
        followed = self._sessions.get(session)
        if followed is None:
            followed = self._sessions[session] = FollowedSession(
                self._following, session, self._log.bind(session=session)
            )
        if self.start_ns is None or opened_ns < self.start_ns:
            self.start_ns = opened_ns
        made = FollowedConnection(self._following, followed, connection, mess, hop, server)
        made.opened(opened_ns)
        return made

    def unread(self, session: str, what: str) -> None:
        """Something that may belong to this session cannot be read; `what` says what."""
        if (followed := self._sessions.get(session)) is not None:
            followed.unread(what)

    def over(self, session: str) -> None:
        """A session has ended, or the proxy stops."""
        if (followed := self._sessions.pop(session, None)) is not None:
            followed.over()
        kept = self._tracker.migrations
        if len(kept) > MAX_MIGRATIONS:
            self.forgotten += len(kept) - MAX_MIGRATIONS
            del kept[:-MAX_MIGRATIONS]

    def _changed(self, session: str, change: Change) -> None:
        if self.on_change is not None:
            self.on_change(session, change)

    def _wake(self) -> None:
        self._woken.set()

    def tick(self) -> None:
        """Say what has changed because time has passed."""
        for session in list(self._sessions.values()):
            session.tick()

    async def run(self) -> None:
        """Tick while a migration goes on; for as long as the proxy runs."""
        while True:
            await self._woken.wait()
            while any(session.due for session in self._sessions.values()):
                await trio.sleep(TICK_S)
                self.tick()
            self._woken = trio.Event()
