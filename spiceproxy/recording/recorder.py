"""The recorder: a pcapng file that many connections write into, without ever stalling the event loop for a disk."""

import errno
import platform
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import trio

from spiceproxy import clock
from spiceproxy.capture.pcapng import RECORDING_ENDED
from spiceproxy.errors import RecordingError
from spiceproxy.recording import pcapng
from spiceproxy.recording.beginning import Beginning
from spiceproxy.recording.conversation import Conversation
from spiceproxy.recording.conversations import Conversations
from spiceproxy.recording.names import Names
from spiceproxy.recording.options import RecordingOptions
from spiceproxy.recording.writer import NextFile, WriterThread, create_file, payload_in

CHUNK_BYTES: Final = 256 * 1024
"""A buffer this full goes to the writer thread at once; smaller writes cost more than they bring."""

FLUSH_INTERVAL_S: Final = 0.2
"""So often the buffer goes to the writer, however little is in it. A unit cut short is written by the second time,
0.4 s after its last byte at the latest."""

BACKLOG_BYTES: Final = 1 * 2**20
"""checkpoint() waits while the disk is this far behind."""

ROTATION_PATIENCE_S: Final = 1.0
"""So long a file is continued until no connection is in the middle of a long message."""

CLOSE_TIMEOUT_S: Final = 10.0
"""For a disk that hangs at the end."""


class Recorder(Conversations):
    """A recording in progress; open_recorder() makes it.

    Its methods, and those of its conversations, belong to the thread of the event loop.
    """

    def __init__(
        self,
        path: Path,
        fd: int,
        options: RecordingOptions | None = None,
        names: Names | None = None,
        on_file: Callable[[Path], None] | None = None,
    ) -> None:
        super().__init__()
        self.path = path
        """The file that is written now."""
        self.on_error: Callable[[RecordingError], None] | None = None
        """Told why the recording has ended early, where no checkpoint() comes to say so: nothing may be passing any more."""
        self._options, self._names, self._on_file = options or RecordingOptions(), names, on_file
        self._token = trio.lowlevel.current_trio_token()
        self._progress = trio.Event()
        self._writer = WriterThread(fd, self._on_writer_progress, lambda error: _mark(error.strerror))
        self._buffer = bytearray()
        self._open = True
        self._last_ns = 0
        self._close_error: OSError | None = None
        self._full: OSError | None = None
        self._error_told = False
        self._files = deque([path])
        self._file_bytes = self._bytes = 0
        self._file_began = trio.current_time()
        self._rotation_due: float | None = None
        self._behind: set[Conversation] = set()  # in the middle of a unit when the file began

    @property
    def error(self) -> OSError | None:
        """Why the recording ended early, if it did. Then nothing more is recorded."""
        return self._writer.error or self._full or self._close_error

    @property
    def lost_bytes(self) -> int:
        """Bytes given to data() that are not in the file: after an error, or after the recorder was closed."""
        return self._lost_bytes + self._writer.lost_bytes

    @property
    def ended(self) -> bool:
        """Whether nothing more is recorded: after an error, or after the end."""
        return not self._open or self._writer.error is not None or self._full is not None

    def packet(
        self, time_ns: int, header: bytes, payload: bytes | bytearray | memoryview, comment: str | None
    ) -> None:
        """Take one packet from a conversation. Its time is moved up if it lies before the last packet's.

        Should callers never await checkpoint(), this blocks the event loop rather than let the buffer grow.
        """
        if self.ended:
            self.lose(len(payload))
            return
        self._last_ns = max(self._last_ns, time_ns)  # the clock may be set back
        before = len(self._buffer)
        pcapng.append_packet(self._buffer, self._last_ns, header, payload, comment)
        self._count(len(self._buffer) - before)
        if len(self._buffer) >= CHUNK_BYTES:
            self._submit()

    async def checkpoint(self) -> None:
        """Wait while the disk is far behind. Otherwise returns at once, without a trio checkpoint.

        Raises:
            RecordingError: The recording has ended early. Raised once, in one of the tasks that call this, unless
                `on_error` was told.
        """
        while self._writer.backlog_bytes > BACKLOG_BYTES and self._writer.error is None:
            await self._progress.wait()
        if self._rotation_due is not None or self._behind:
            self._rotate_if_possible()
        if (error := self._untold_error()) is not None:
            raise error

    def _untold_error(self) -> RecordingError | None:
        """Why the recording has ended early, for whoever asks first."""
        if self.error is None or self._error_told:
            return None
        self._error_told = True
        error = RecordingError(f"recording to {self.path} ended: {self.error.strerror or self.error}")
        error.__cause__ = self.error
        return error

    def _count(self, size: int) -> None:
        options = self._options
        self._file_bytes += size
        self._bytes += size
        if options.limit_bytes is not None and self._bytes >= options.limit_bytes:
            reason = f"the limit of {options.limit_bytes} bytes is reached"
            self._full = OSError(errno.EFBIG, reason)
            self._buffer += _mark(reason)
            self._submit()
        elif options.rotate_bytes is not None and self._file_bytes >= options.rotate_bytes:
            self._rotate_soon()

    # Rotation -------------------------------------------------------------------------------------

    def _rotate_soon(self) -> None:
        if self._rotation_due is None:
            self._rotation_due = trio.current_time()

    def _rotate_if_possible(self) -> None:
        """Begin another file when no connection is in the middle of a unit; or after some time anyway.

        Called between two calls of data().
        """
        for conversation in [each for each in self._behind if each.between_units or each.closed]:
            self._behind.remove(conversation)
            if not conversation.closed:
                Beginning.of(conversation).repeat(self, self._last_ns)
        if self._rotation_due is None or self.ended or self._names is None:
            return
        overdue = trio.current_time() - self._rotation_due >= ROTATION_PATIENCE_S
        live = [each for each in self._conversations.values() if not each.closed]
        if not overdue and not all(each.between_units for each in live):
            return
        self._rotation_due = None
        self._submit()
        self.path = self._names.next()
        self._files.append(self.path)
        keep = self._options.keep
        forget = self._files.popleft() if keep is not None and len(self._files) > keep else None
        self._writer.next_file(NextFile(self.path, file_head(), forget))
        self._file_bytes, self._file_began = 0, trio.current_time()
        for conversation in live:
            if conversation.between_units:
                Beginning.of(conversation).repeat(self, self._last_ns)
            else:
                self._behind.add(conversation)
        if self._on_file is not None:
            self._on_file(self.path)

    def _submit(self) -> None:
        if self._buffer:
            chunk, self._buffer = self._buffer, bytearray()
            self._writer.submit(chunk)

    def _on_writer_progress(self) -> None:
        """In the writer's thread."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._wake_waiters, idempotent=True)

    def _wake_waiters(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    async def _flush_regularly(self) -> None:
        while True:
            await trio.sleep(FLUSH_INTERVAL_S)
            for ends, conversation in list(self._conversations.items()):
                conversation.release_stale()
                if conversation.closed:
                    del self._conversations[ends]
            limit_s = self._options.rotate_s
            if limit_s is not None and trio.current_time() - self._file_began >= limit_s:
                self._rotate_soon()
            self._rotate_if_possible()
            self._submit()
            if self.on_error is not None and (error := self._untold_error()) is not None:
                self.on_error(error)

    async def _close(self) -> None:
        for conversation in self._conversations.values():
            conversation.release_stale()
            conversation.release_stale()  # what was held a moment ago is stale now
        self._open = False
        deadline = trio.current_time() + CLOSE_TIMEOUT_S
        with trio.CancelScope(shield=True):
            with trio.move_on_at(deadline):
                while self._writer.backlog_bytes > BACKLOG_BYTES:
                    await self._progress.wait()
                self._submit()
            self.lose(payload_in(self._buffer))
            try:
                await trio.to_thread.run_sync(self._writer.close, max(0.0, deadline - trio.current_time()))
            except TimeoutError as error:
                self._close_error = error


@asynccontextmanager
async def open_recorder(
    path: str | Path,
    options: RecordingOptions | None = None,
    *,
    part: str = "",
    on_file: Callable[[Path], None] | None = None,
) -> AsyncIterator[Recorder]:
    """Record to `path`: a new pcapng file of mode 0600, which takes the place of an older one.

    Leaving the context writes what is buffered and closes the file. Conversations that are still open stay without an
    end.

    Args:
        path: The file. A symbolic link is refused, and so is what exists and is not a regular file.
        options: How it is kept. With rotation, `path` is what the names of files are made from.
        part: Of these names: tells this recording from others.
        on_file: Called with every further file.

    Raises:
        UsageError: The file cannot be created.
        RecordingError: On leaving, if the recording ended early and nobody has been told.
    """
    path, names = Path(path), None
    if options is not None and (options.rotates or part):
        names = Names(path, part)
        path = names.next()
    fd = await trio.to_thread.run_sync(create_file, path, file_head())
    recorder = Recorder(path, fd, options, names, on_file)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(recorder._flush_regularly)  # noqa: SLF001 - both halves of one thing
            yield recorder
            nursery.cancel_scope.cancel()
    finally:
        await recorder._close()  # noqa: SLF001
    if (error := recorder._untold_error()) is not None:  # noqa: SLF001
        raise error


def _mark(reason: str | None) -> bytes:
    return pcapng.remark(clock.now_ns(), f"{RECORDING_ENDED}{reason}")


def file_head() -> bytes:
    """What a file begins with: who recorded it, and one interface."""
    try:
        release = version("spiceproxy")
    except PackageNotFoundError:  # run from a source tree that was never installed
        release = "(not installed)"
    return pcapng.section_header(
        hardware=platform.machine(),
        operating_system=f"{platform.system()} {platform.release()}",
        application=f"spiceproxy {release}",
    ) + pcapng.interface_description(
        name="spiceproxy", description="SPICE connections as relayed; TCP and IP headers made by spiceproxy"
    )
