"""What may be known of each byte stream, by its place in it: everything else in a stream reads as zeros.

Kept in a temporary file without a name, in blocks; of a block that nothing was put into there is nothing. So memory does
not grow with the capture, and of images and the like not even disk is used. It holds no secret at any time.
"""

import os
import tempfile
from typing import Final, Self

BLOCK_BYTES: Final = 16 * 1024
JOINED_BYTES: Final = 64 * 1024
"""Neighbouring pieces are written together up to this size."""


class Store:
    """Pieces of streams; a context manager, which takes the file away."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="spiceproxy-redact-")  # noqa: SIM115 - closed by __exit__
        self._fd = self._file.fileno()
        self._slots: dict[tuple[int, int], int] = {}  # (stream, number of the block) -> block of the file
        self._joined: dict[
            int, tuple[int, bytearray]
        ] = {}  # by stream: what is not written yet, and its offset

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def put(self, stream: int, at: int, data: bytes) -> None:
        """Say that these bytes of a stream may be known.

        Args:
            stream: Number of the stream.
            at: Offset in it.
            data: The bytes that stand there from now on.
        """
        joined = self._joined.get(stream)
        if joined is not None:
            start, buffer = joined
            if start + len(buffer) == at and len(buffer) < JOINED_BYTES:
                buffer += data
                return
            self._write(stream, start, buffer)
        self._joined[stream] = at, bytearray(data)

    def flush(self, stream: int) -> None:
        """Write what was joined: no more will follow it."""
        joined = self._joined.pop(stream, None)
        if joined is not None:
            self._write(stream, *joined)

    def flush_all(self) -> None:
        """The same for every stream; needed before anything is read."""
        for stream in list(self._joined):
            self.flush(stream)

    def get(self, stream: int, at: int, size: int) -> bytes:
        """These bytes of a stream; zeros where nothing was put."""
        found = bytearray(size)
        done = 0
        while done < size:
            number, inside = divmod(at + done, BLOCK_BYTES)
            take = min(BLOCK_BYTES - inside, size - done)
            slot = self._slots.get((stream, number))
            if slot is not None:
                data = os.pread(self._fd, take, slot * BLOCK_BYTES + inside)
                found[done : done + len(data)] = data
            done += take
        return bytes(found)

    def _write(self, stream: int, at: int, data: bytearray) -> None:
        view, done = memoryview(data), 0
        while done < len(view):
            number, inside = divmod(at + done, BLOCK_BYTES)
            take = min(BLOCK_BYTES - inside, len(view) - done)
            slot = self._slots.setdefault((stream, number), len(self._slots))
            written, place = 0, slot * BLOCK_BYTES + inside
            while written < take:
                written += os.pwrite(self._fd, view[done + written : done + take], place + written)
            done += take
