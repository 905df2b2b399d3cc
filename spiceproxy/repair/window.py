"""The part of a file that is looked at: bytes by their offset in the file, forwards only, in bounded memory."""

from spiceproxy.capture.files import Pieces
from spiceproxy.errors import CaptureError


class Window:
    """A piece of a file that moves on.

    Args:
        pieces: The bytes.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._data = bytearray()
        self._start = 0  # offset in the file of the first byte that is kept
        self._ended = False
        self.broken: str | None = None
        """Why there are no more bytes, if that is not the end of the file."""

    @property
    def end(self) -> int:
        """Offset behind the last byte that has been read."""
        return self._start + len(self._data)

    def reach(self, offset: int) -> bool:
        """Read on until all bytes before this offset are there; False if the file ends before."""
        while self.end < offset and not self._ended:
            try:
                more = self._pieces.read()
            except CaptureError as error:  # what was packed is damaged
                self.broken, more = str(error), b""
            self._ended = not more
            self._data += more
        return self.end >= offset

    def bytes(self, start: int, end: int) -> bytes:
        """Bytes that have been read and not been let go."""
        return bytes(self._data[start - self._start : end - self._start])

    def let_go(self, before: int) -> None:
        """Nobody will ask for what stands before this offset."""
        if before - self._start > max(2**20, len(self._data) // 2):
            del self._data[: before - self._start]
            self._start = before
