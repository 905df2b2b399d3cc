"""The recorder: a pcapng file that many connections write into, without ever stalling the event loop for a disk."""

import platform
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import trio

from spiceproxy.errors import RecordingError
from spiceproxy.recording import pcapng
from spiceproxy.recording.conversation import Conversation
from spiceproxy.recording.writer import WriterThread, create_file, payload_in

CHUNK_BYTES: Final = 256 * 1024
"""A buffer this full goes to the writer thread at once; smaller writes cost more than they bring."""

FLUSH_INTERVAL_S: Final = 0.2
"""So often the buffer goes to the writer, however little is in it. A unit cut short is written by the second time,
0.4 s after its last byte at the latest."""

BACKLOG_BYTES: Final = 1 * 2**20
"""checkpoint() waits while the disk is this far behind."""

CLOSE_TIMEOUT_S: Final = 10.0
"""For a disk that hangs at the end."""


class Recorder:
    """A recording in progress; open_recorder() makes it.

    Its methods, and those of its conversations, belong to the thread of the event loop.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path: Final = path
        """The file."""
        self._token = trio.lowlevel.current_trio_token()
        self._progress = trio.Event()
        self._writer = WriterThread(fd, self._on_writer_progress)
        self._buffer = bytearray()
        self._open = True
        self._last_ns = 0
        self._lost_bytes = 0
        self._close_error: OSError | None = None
        self._error_raised = False
        self._conversations: dict[frozenset[bytes], Conversation] = {}
        self._opened = 0

    @property
    def error(self) -> OSError | None:
        """Why the recording ended early, if it did. Then nothing more is recorded."""
        return self._writer.error or self._close_error

    @property
    def lost_bytes(self) -> int:
        """Bytes given to data() that are not in the file: after an error, or after the recorder was closed."""
        return self._lost_bytes + self._writer.lost_bytes

    @property
    def ended(self) -> bool:
        """Whether nothing more is recorded: after an error, or after the end."""
        return not self._open or self._writer.error is not None

    def lose(self, size: int) -> None:
        """Count `size` bytes that are not recorded."""
        self._lost_bytes += size

    def conversation(
        self,
        client: tuple[str, int],
        server: tuple[str, int],
        *,
        comment: str | None = None,
        time_ns: int | None = None,
    ) -> Conversation:
        """Begin a connection in the file: its handshake.

        Of two connections that are open at once between the same addresses and ports, which a reader could not tell
        apart, the second gets another client port, and a comment that says so.

        Args:
            client: Address and port of the client, as the kernel tells them.
            server: Address and port of the server that the connection really leads to.
            comment: For the first packet.
            time_ns: When, nanoseconds since 1970 (UTC); None is now.

        Raises:
            ValueError: Not an IP address, or no port.
        """
        # Consecutive numbers of the Weyl sequence lie far apart: a later connection between the same addresses and
        # ports is taken for a new one by its SYN's number.
        self._opened += 1
        client_isn = self._opened * 0x9E3779B1
        server_isn = client_isn + 0x5BD1E995
        port = client[1]
        while True:
            made = Conversation(self, (client[0], port), server, client_isn=client_isn, server_isn=server_isn)
            twin = self._conversations.get(made.ends)
            if twin is None or twin.closed:
                break
            port = port + 1 if port < 65535 else 1024
        if port != client[1]:
            note = (
                f"The client's port is {client[1]}, as on another connection to {server[0]} port {server[1]}."
            )
            comment = note if comment is None else f"{comment}\n{note}"
        self._conversations[made.ends] = made
        made.open(time.time_ns() if time_ns is None else time_ns, comment)
        return made

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
        pcapng.append_packet(self._buffer, self._last_ns, header, payload, comment)
        if len(self._buffer) >= CHUNK_BYTES:
            self._submit()

    async def checkpoint(self) -> None:
        """Wait while the disk is far behind. Otherwise returns at once, without a trio checkpoint.

        Raises:
            RecordingError: The recording has ended early. Raised once, in one of the tasks that call this.
        """
        while self._writer.backlog_bytes > BACKLOG_BYTES and self._writer.error is None:
            await self._progress.wait()
        self._raise_error_once()

    def _raise_error_once(self) -> None:
        if self.error is not None and not self._error_raised:
            self._error_raised = True
            reason = self.error.strerror or self.error
            raise RecordingError(f"recording to {self.path} ended: {reason}") from self.error

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
            self._submit()

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
async def open_recorder(path: str | Path) -> AsyncIterator[Recorder]:
    """Record to `path`: a new pcapng file of mode 0600, which takes the place of an older one.

    Leaving the context writes what is buffered and closes the file. Conversations that are still open stay without an
    end.

    Args:
        path: The file. A symbolic link is refused, and so is what exists and is not a regular file.

    Raises:
        UsageError: The file cannot be created.
        RecordingError: On leaving, if the recording ended early and no checkpoint() has said so.
    """
    fd = await trio.to_thread.run_sync(create_file, Path(path), _file_head())
    recorder = Recorder(Path(path), fd)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(recorder._flush_regularly)  # noqa: SLF001 - both halves of one thing
            yield recorder
            nursery.cancel_scope.cancel()
    finally:
        await recorder._close()  # noqa: SLF001
    recorder._raise_error_once()  # noqa: SLF001


def _file_head() -> bytes:
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
