"""Standard output in large pieces, as long as somebody reads it."""

import os
from typing import BinaryIO, Final

PIECE_BYTES: Final = 64 * 2**10


class GoneError(Exception):
    """Nobody reads any more, as with `| head`."""


class Output:
    """Lines on a binary stream.

    Args:
        stream: Where they go.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting = bytearray()

    def line(self, line: bytes) -> None:
        """Take one line, without its end.

        Raises:
            GoneError: Nobody reads.
        """
        self._waiting += line
        self._waiting += b"\n"
        if len(self._waiting) > PIECE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            GoneError: Nobody reads.
        """
        waiting, self._waiting = self._waiting, bytearray()
        try:
            self._stream.write(waiting)
            self._stream.flush()
        except BrokenPipeError:
            # Python would complain when it flushes what is left at exit ("Note on SIGPIPE" in its documentation).
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), self._stream.fileno())
            raise GoneError from None
