"""The thread that writes a recording: takes chunks of whole blocks in order and never leaves half a block behind."""

import errno
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spiceproxy.errors import UsageError
from spiceproxy.recording.flow import payload_bytes
from spiceproxy.recording.pcapng import ENHANCED_PACKET_TYPE, blocks, packet_at

MAX_BACKLOG_BYTES: Final = 4 * 2**20
"""submit() blocks above this. It is the last resort: who may wait properly does so long before."""

_MAX_VECTORS: Final = 1024  # Linux: IOV_MAX


@dataclass(frozen=True, slots=True)
class NextFile:
    """What comes behind this goes into another file."""

    path: Path
    head: bytes
    forget: Path | None = None  # an older file, to be deleted


class WriterThread:
    """Writes chunks to a file descriptor, in a thread of its own. Needs no event loop.

    After an error the file is cut back to the last whole block, a mark is left there, and what comes later is counted
    and thrown away.

    Args:
        fd: Open for reading and writing, at the end of the file. Owned: closed by the thread when it ends.
        on_progress: Called in the thread whenever the backlog has shrunk. Must not block or raise.
        mark: Makes the block that says why a file ends. It takes the place of older blocks where the disk is full.
    """

    def __init__(
        self, fd: int, on_progress: Callable[[], None], mark: Callable[[OSError], bytes] | None = None
    ) -> None:
        self.error: OSError | None = None
        """What ended the recording; set once."""
        self.lost_bytes = 0
        """Payload bytes that came here and are not in the file."""
        self.backlog_bytes = 0
        """Submitted and not written yet, the chunk that is being written included."""
        self._fd, self._on_progress, self._mark = fd, on_progress, mark
        self._chunks: deque[bytearray | NextFile] = deque()
        self._changed = threading.Condition()
        self._closing = False
        # A daemon: a disk that hangs must not keep the program from ending once close() has given up.
        self._thread = threading.Thread(target=self._run, name="spiceproxy recording", daemon=True)
        self._thread.start()

    def submit(self, chunk: bytearray) -> None:
        """Queue whole blocks; the writer owns `chunk` from here on. Blocks while the backlog is at its limit."""
        with self._changed:
            while self.backlog_bytes >= MAX_BACKLOG_BYTES:
                self._changed.wait()
            self.backlog_bytes += len(chunk)
            self._chunks.append(chunk)
            self._changed.notify_all()

    def next_file(self, file: NextFile) -> None:
        """Have all that is submitted from here on written to another file."""
        with self._changed:
            self._chunks.append(file)
            self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Write what is queued, close the file, end the thread. Blocks.

        Raises:
            TimeoutError: That took longer than `timeout_s` seconds. The thread goes on by itself.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError(errno.ETIMEDOUT, "the disk did not take the last blocks in time")

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    while not self._chunks and not self._closing:
                        self._changed.wait()
                    # All there is at once: between two writes this thread has to wait for the interpreter lock, for
                    # 5 ms if the event loop is busy.
                    chunks = list(self._chunks)
                    self._chunks.clear()
                if not chunks:
                    return
                run: list[bytearray] = []
                for each in chunks:
                    if isinstance(each, NextFile):
                        self._take(run)
                        self._go_on_in(each)
                        run = []
                    else:
                        run.append(each)
                self._take(run)
                with self._changed:
                    self.backlog_bytes -= sum(len(each) for each in chunks if not isinstance(each, NextFile))
                    self._changed.notify_all()
                self._on_progress()
        finally:
            os.close(self._fd)

    def _take(self, chunks: list[bytearray]) -> None:
        if self.error is not None:
            self.lost_bytes += sum(payload_in(chunk) for chunk in chunks)
        elif chunks:
            self._write(chunks)

    def _go_on_in(self, file: NextFile) -> None:
        if self.error is not None:
            return
        try:
            new = create_file(file.path, file.head)
        except UsageError as error:
            cause = error.__cause__
            self._end_here(cause if isinstance(cause, OSError) else OSError(errno.EIO, str(error)))
            return
        os.close(self._fd)
        self._fd = new
        if file.forget is not None:
            with suppress(OSError):  # somebody has taken it away
                file.forget.unlink()

    def _end_here(self, error: OSError) -> None:
        """There is no other file to go on in: say so in this one, behind what it has or in the place of the last of it."""
        mark = b"" if self._mark is None else self._mark(error)
        try:
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            try:
                room = os.pwrite(self._fd, mark, end)
            except OSError:
                room = 0
            self._leave_mark(end, end + room, mark)
        except OSError as second:
            error.add_note(f"The file does not say that the recording ended: {second}")
        self.error = error

    def _write(self, chunks: list[bytearray]) -> None:
        views, done = [memoryview(chunk) for chunk in chunks], 0
        try:
            while views:
                written = os.writev(self._fd, views[:_MAX_VECTORS])
                done += written
                while views and written >= len(views[0]):
                    written -= len(views.pop(0))
                if written:
                    views[0] = views[0][written:]
        except OSError as error:
            self._cut_back(b"".join(chunks), done, error)
            self.error = error

    def _cut_back(self, data: bytes, done: int, error: OSError) -> None:
        """After `error` struck `done` bytes into `data`: remove the block that is there in part."""
        whole = max((at + length for at, length in blocks(data) if at + length <= done), default=0)
        self.lost_bytes += payload_in(data, whole)
        try:
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            self._leave_mark(end - (done - whole), end, b"" if self._mark is None else self._mark(error))
        except OSError as second:
            error.add_note(f"The last block of the file may be incomplete: {second}")

    def _leave_mark(self, end: int, room_end: int, mark: bytes) -> None:
        """End the file at `end` with a mark. There is room up to `room_end` only, so blocks may have to go for it."""
        while mark and end + len(mark) > room_end:
            length = int.from_bytes(os.pread(self._fd, 4, end - 4), "little")
            block = os.pread(self._fd, length, end - length)
            if block[:4] != ENHANCED_PACKET_TYPE:  # the head of the file
                mark = b""
            else:
                self.lost_bytes += payload_in(block)
                end -= length
        if mark:  # before the file is cut: nobody else can take the room
            os.pwrite(self._fd, mark, end)
        os.ftruncate(self._fd, end + len(mark))


def payload_in(chunk: bytes | bytearray, start: int = 0) -> int:
    """Payload bytes of the packets in the whole blocks of `chunk`, from the block at `start` on."""
    return sum(payload_bytes(packet_at(chunk, at)) for at, _ in blocks(chunk) if at >= start)


def create_file(path: Path, head: bytes) -> int:
    """Create `path` with mode 0600 and `head` in it; return its descriptor, open for writing.

    The file is always a new one: who holds an older file of that name open, or has another link to it, sees nothing of
    the recording. It takes its name when `head` is in it, so a recording is readable from the first moment and a
    failure leaves the old file alone.

    Raises:
        UsageError: The file cannot be made, or `path` names something that is not a regular file.
    """
    try:
        if path.is_symlink():
            # Following would write where somebody else chose; replacing the link would surprise who made it.
            raise UsageError(
                f"cannot record to {path}: it is a symbolic link; give the name of the file itself"
            )
        if path.exists() and not path.is_file():
            raise UsageError(f"cannot record to {path}: it exists and is not a regular file")
        # If something else takes the name from here on, os.replace() takes the name back; it follows no link.
        new = path.with_name(f".spiceproxy-{secrets.token_hex(8)}.part")
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(fd, 0o600)  # an odd umask may have taken bits away
            if os.write(fd, head) != len(head):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            new.replace(path)
        except BaseException:
            os.close(fd)
            new.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or no name at all
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"cannot record to {path}: {reason}") from error
    return fd
