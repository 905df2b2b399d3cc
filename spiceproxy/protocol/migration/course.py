"""The migrations of a session from their beginning to their end: which go on, which stand still, and which are over."""

from collections.abc import Sequence
from typing import Final

from spiceproxy.protocol.migration.attempt import Attempt
from spiceproxy.protocol.migration.changes import (
    Change,
    MigrationEnded,
    MigrationStalled,
    MigrationStarted,
    PhaseEntered,
)
from spiceproxy.protocol.migration.conclusion import conclude, describe, settle
from spiceproxy.protocol.migration.connections import Judge
from spiceproxy.protocol.migration.diagnoses import diagnose
from spiceproxy.protocol.migration.model import Kind, Migration, Outcome, Phase
from spiceproxy.protocol.migration.settings import Settings
from spiceproxy.protocol.migration.tables import PLAIN_CHANNELS, Event
from spiceproxy.protocol.migration.tracked import Tracked, damage_of
from spiceproxy.protocol.migration.verdict import at_the_end, reached
from spiceproxy.protocol.migration.waiting import waiting

_CHECK_NS: Final = 100_000_000  # how often an active migration is looked at while nothing of it happens


class Course:
    """The migrations of one session.

    Args:
        session: Its name.
        settings: Thresholds and bounds.
        judge: Is told of beginnings and ends.
    """

    def __init__(self, session: str, settings: Settings, judge: Judge | None) -> None:
        self.migrations: list[Migration] = []
        self.forgotten = 0  # migrations that there was no room for
        self.attempts: list[Attempt] = []  # those that go on, and the last one
        self.active = False  # whether any goes on
        self._session, self._settings, self._judge = session, settings, judge
        self._numbers = 0
        self.check_ns = 0  # when `look` is due, if nothing happens before

    def begin(
        self,
        hops: tuple[int, int],
        leaving: dict[str, Tracked],
        now: int,
        changes: list[Change],
        *,
        main: Tracked | None,
        session_id: int | None,
        damages: Sequence[str],
        unfinished: int | None = None,
    ) -> Attempt:
        """A migration begins.

        Args:
            hops: Of the source and the destination.
            leaving: The connections that are open at the source, by channel.
            now: When.
            changes: Is told of it.
            main: Of the source; None if it is not in the capture.
            session_id: Of the source, if known.
            damages: What is missing in the capture, nobody knows of which channel.
            unfinished: The number of an earlier migration that the client has not finished.
        """
        self._numbers += 1
        source_hop, destination_hop = hops
        migration = Migration(self._session, self._numbers, source_hop, destination_hop, now)
        migration.session_id = session_id
        attempt = Attempt(migration, dict(leaving), now)
        last = self.attempts[-1] if self.attempts else None
        if unfinished is None and last is not None and last.m.handshake.reply == "connect-error":
            unfinished = last.unfinished  # nothing has ended it since
        attempt.unfinished = unfinished
        for what in damages:
            attempt.tear(what)
        for other in leaving.values():
            other.departure, other.awaited = attempt, False
            other.judged = False
            if other.damaged:
                attempt.damage(damage_of(other))
        if main is not None:
            migration.source_address = main.address
            attempt.main = main
            attempt.owed = self._owed(source_hop)
            self._followed(source_hop, now)
        self.attempts = [*[each for each in self.attempts if each.active][-1:], attempt]
        self.migrations.append(migration)
        if len(self.migrations) > self._settings.max_migrations:
            del self.migrations[0]
            self.forgotten += 1
        self.active = True
        changes.append(MigrationStarted(now, migration))
        if self._judge is not None:
            self._judge.started(migration, list(leaving.values()))
        return attempt

    def _owed(self, hop: int) -> list[str]:
        """Channels that linked this server in the last migration to it and never brought it their state."""
        last = next((each for each in reversed(self.migrations) if each.destination_hop == hop), None)
        if last is None or last.performed is not Kind.SEAMLESS:
            return []
        return [
            name
            for name, channel in last.channels.items()
            if channel.destination_linked
            and channel.data_to_destination is None
            and channel.channel_type not in PLAIN_CHANNELS
            and not channel.damaged
        ]

    def _followed(self, source_hop: int, now: int) -> None:
        """A migration that was cancelled because another one begins."""
        last = self.attempts[-1] if self.attempts else None
        if last is not None and last.m.source_hop == source_hop and last.m.outcome is Outcome.CANCELLED:
            last.followed_ns = now
            last.m.diagnoses = diagnose(last, last.m.ended_ns or now)

    def reopen(self, attempt: Attempt) -> None:
        """SWITCH_HOST after a CANCEL: it is not over."""
        attempt.m.outcome, attempt.m.ended_ns = None, None
        attempt.reopened = True
        self.active = True

    def look(self, now: int, changes: list[Change], *, always: bool = False) -> None:
        """See what has become of the migrations that go on."""
        due = always or now >= self.check_ns
        for attempt in self.attempts:
            if attempt.events:
                changes += [PhaseEntered(at, attempt.m, phase) for phase, at in attempt.events]
                attempt.events.clear()
            if not (due or attempt.dirty) or not (attempt.active or attempt.m.outcome is None):
                continue
            if attempt.dirty:
                describe(attempt)
            attempt.dirty = False
            self._settle_phase(attempt, now)
            verdict = reached(attempt, now, self._settings)
            if verdict is not None:
                self._finish(attempt, now, *verdict, changes)
            elif attempt.active:
                self._stall(attempt, now, changes)
        self.active = any(attempt.active for attempt in self.attempts)
        if due:
            self.check_ns = now + _CHECK_NS

    def conclude_all(self, now: int, changes: list[Change]) -> None:
        """Another migration begins."""
        for attempt in self.attempts:
            if attempt.active:
                self._settle_phase(attempt, now)
                self._conclude(attempt, now, changes, superseded=True)

    def end(self, now: int, changes: list[Change]) -> None:
        """Nothing more will come."""
        for attempt in self.attempts:
            if attempt.active:
                self._settle_phase(attempt, now)
                self._conclude(attempt, now, changes)
            else:
                settle(attempt)
                attempt.m.diagnoses = diagnose(attempt, now)

    def _settle_phase(self, attempt: Attempt, now: int) -> None:
        if attempt.m.phase is Phase.SWITCHING and attempt.all_moved(now, self._settings):
            attempt.move(Event.MOVED, now)

    def _stall(self, attempt: Attempt, now: int, changes: list[Change]) -> None:
        m, settings = attempt.m, self._settings
        if m.phase is Phase.WAITING or m.stalled_ns is not None:
            return
        limit = settings.connect_stall_ns if m.phase is Phase.CONNECTING else settings.switch_stall_ns
        if now - attempt.progress_ns < limit:
            return
        m.stalled_ns, m.waiting = attempt.progress_ns, waiting(attempt)
        m.diagnoses = diagnose(attempt, now)
        if m.waiting:
            changes.append(MigrationStalled(now, m, attempt.progress_ns, m.waiting))

    def _conclude(
        self, attempt: Attempt, now: int, changes: list[Change], *, superseded: bool = False
    ) -> None:
        outcome, reason = at_the_end(attempt, now, self._settings, superseded=superseded)
        self._finish(attempt, now, outcome, reason, changes)

    def _finish(
        self, attempt: Attempt, now: int, outcome: Outcome, reason: str, changes: list[Change]
    ) -> None:
        conclude(attempt, now, outcome, reason)
        changes += [PhaseEntered(at, attempt.m, phase) for phase, at in attempt.events]
        attempt.events.clear()
        changes.append(MigrationEnded(now, attempt.m))
        if self._judge is not None:
            self._judge.ended(attempt.m)
        attempt.m.diagnoses = diagnose(attempt, now)
