"""The recordings of one proxy: one for all sessions, one for each, or the last seconds in memory."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from spiceproxy.errors import RecordingError, UsageError
from spiceproxy.eventlog import EventLog
from spiceproxy.recording.conversations import Conversations
from spiceproxy.recording.options import RecordingOptions
from spiceproxy.recording.recorder import open_recorder
from spiceproxy.recording.ring import Ring

DUMP_PAUSE_S: Final = 5.0
"""What asks for dumps may do so again and again; each is a file."""


class Recordings:
    """Where connections are recorded. `open_recordings` makes one.

    Attributes:
        on_lost: Called with the session whose recording has ended early, or with None if that was everybody's.
    """

    def __init__(self, path: Path, options: RecordingOptions, log: EventLog, nursery: trio.Nursery) -> None:
        self._path, self.options, self._log, self._nursery = path, options, log, nursery
        self.on_lost: Callable[[str | None], None] = lambda _session: None
        self.common: Conversations | None = None
        """For all sessions; None if each has one of its own."""
        self._own: dict[str, tuple[Conversations | None, trio.Event]] = {}
        self._starting = trio.Lock()
        self._dump_reason: str | None = None
        self._dump_wanted = trio.Event()

    async def of(self, session: str) -> Conversations | None:
        """Where a session is recorded; None if it cannot be."""
        if self.common is not None:
            return self.common
        async with self._starting:
            if session not in self._own:
                await self._nursery.start(self._record_one, session)
            return self._own[session][0]

    def over(self, session: str) -> None:
        """A session is over, and so is a recording of its own."""
        if (own := self._own.pop(session, None)) is not None:
            own[1].set()

    async def _record_one(self, session: str, task_status: trio.TaskStatus[None]) -> None:
        over = trio.Event()
        try:
            async with open_recorder(
                self._path, self.options, part=session, on_file=self._tell_file(session)
            ) as recorder:
                recorder.on_error = partial(self.failed, session)
                self._own[session] = recorder, over
                self._tell_file(session)(recorder.path)
                task_status.started()
                await over.wait()
        except (RecordingError, UsageError) as error:
            self.failed(session, error)
            if session not in self._own:  # the file could not be made
                self._own[session] = None, over
                task_status.started()

    def failed(self, session: str | None, error: RecordingError | UsageError) -> None:
        """A recording has ended early."""
        fields = {"session": session} if session is not None else {}
        self._log.error("recording_failed", reason=str(error), **fields)
        self.on_lost(session if self.common is None else None)

    def _tell_file(self, session: str | None) -> Callable[[Path], None]:
        log = self._log if session is None else self._log.bind(session=session)
        return lambda path: log.info("recording_file", record=str(path))

    def dump(self, reason: str) -> bool:
        """Have the last seconds written to a file; False if nobody keeps them. Does not wait."""
        if not isinstance(self.common, Ring):
            return False
        if self._dump_reason is None:
            self._dump_reason = reason
        self._dump_wanted.set()
        return True

    async def _dump_when_asked(self, ring: Ring) -> None:
        while True:
            await self._dump_wanted.wait()
            self._dump_wanted = trio.Event()
            reason, self._dump_reason = self._dump_reason, None
            try:
                path = await ring.dump()
            except RecordingError as error:
                self._log.error("recording_failed", reason=str(error))
            else:
                self._log.info("recording_dumped", record=str(path), reason=reason)
            await trio.sleep(DUMP_PAUSE_S)


@asynccontextmanager
async def open_recordings(path: Path, options: RecordingOptions, log: EventLog) -> AsyncIterator[Recordings]:
    """Record for as long as the block runs.

    Raises:
        UsageError: The file cannot be made.
    """
    if options.per_session or options.ring_s is not None:
        async with trio.open_nursery() as nursery:
            made = Recordings(path, options, log, nursery)
            if not options.per_session:
                made.common = ring = Ring(path, options)
                nursery.start_soon(ring.run)
                nursery.start_soon(made._dump_when_asked, ring)  # noqa: SLF001  both halves of one thing
            yield made
            nursery.cancel_scope.cancel()
        return
    tell: list[Callable[[Path], None]] = []

    def further(file: Path) -> None:
        tell[0](file)

    try:
        # The recorder outside of the nursery, so that what the user did wrong arrives as it was raised, in no group.
        async with (
            open_recorder(path, options, on_file=further) as recorder,
            trio.open_nursery() as nursery,
        ):
            made = Recordings(path, options, log, nursery)
            made.common = recorder
            recorder.on_error = partial(made.failed, None)
            tell.append(made._tell_file(None))  # noqa: SLF001
            if options.rotates:
                tell[0](recorder.path)
            yield made
            nursery.cancel_scope.cancel()
    except RecordingError as error:
        log.error("recording_failed", reason=str(error))
