"""Find the way back into a stream of messages after bytes of it were lost.

Only a chain will do: four headers in a row, each plausible for the channel and side, each ending exactly where the
next begins, and all four bodies decoding. Anything less would show messages that nobody ever sent.
"""

import re
import struct
from typing import Final, NamedTuple

from dissectors.errors import DissectionError
from dissectors.registry import dissect, lookup
from dissectors.side import Side

CHAIN: Final = 4
# A chain has to fit in here. What does not is looked for further on.
WINDOW_BYTES: Final = 2**20
# Tries that are worth it for one stream: in hostile bytes every offset may begin a chain.
MAX_TRIES: Final = 200_000

MAX_ID: Final = 1023  # far above the highest message id of any channel

_FULL: Final = struct.Struct("<QHII")
_MINI: Final = struct.Struct("<HI")


class Found(NamedTuple):
    """Where framing goes on."""

    lost: int  # bytes before it, since the search began
    data: bytes  # from the first header on


class Resync:
    """Look for the next message border of one direction.

    Args:
        channel_type: Of the connection.
        side: Who sends.
        mini_header: Which header is in force.
    """

    def __init__(self, channel_type: int, side: Side, *, mini_header: bool) -> None:
        self._channel_type, self._side, self._mini = channel_type, side, mini_header
        ids = [id_ for id_ in range(1, MAX_ID + 1) if _sent(channel_type, side, id_)]
        # A size below 16 MiB: its last byte is 0. In front of a full header there is a serial below 2**40.
        header = b"(?:%s)...\0" % b"|".join(re.escape(struct.pack("<H", id_)) for id_ in ids)
        self._candidates = re.compile(b"(?s)(?=%s)" % (header if mini_header else rb".{5}\0\0\0" + header))
        self._buffer = bytearray()
        self._searched = 0  # offsets in `_buffer` below this begin no chain
        self._dropped = 0
        self._tries = 0
        self.hopeless = not ids

    def feed(self, data: bytes) -> Found | None:
        """Take the next bytes; say where framing goes on, once that is sure."""
        if self.hopeless:
            self._dropped += len(data)
            return None
        self._buffer += data
        whole = bytes(self._buffer)
        waiting = None  # the first offset whose chain may still become whole
        for match in self._candidates.finditer(whole, self._searched):
            at = match.start()
            self._tries += 1
            sure = self._chain(whole, at)
            if sure:
                return Found(self._dropped + at, whole[at:])
            if sure is None and waiting is None:
                waiting = at
            if self._tries > MAX_TRIES:
                self.hopeless = True
                self._dropped += len(whole)
                self._buffer.clear()
                return None
        self._searched = (
            max(0, len(whole) - (_MINI if self._mini else _FULL).size) if waiting is None else waiting
        )
        keep = max(self._searched, len(whole) - WINDOW_BYTES)
        del self._buffer[:keep]
        self._dropped += keep
        self._searched = max(0, self._searched - keep)
        return None

    def gap(self, size: int) -> None:
        """More bytes are missing: no chain leads across."""
        self._dropped += len(self._buffer) + size
        self._buffer.clear()
        self._searched = 0

    @property
    def skipped(self) -> int:
        """Bytes that went by."""
        return self._dropped + len(self._buffer)

    def _chain(self, data: bytes, at: int) -> bool | None:
        """Whether a chain begins at `at`; None if more bytes are needed to know."""
        header = _MINI if self._mini else _FULL
        serial: int | None = None
        bodies = []
        for _ in range(CHAIN):
            if at + header.size > len(data):
                return None
            if self._mini:
                id_, size = header.unpack_from(data, at)
            else:
                number, id_, size, sub_list = header.unpack_from(data, at)
                if (serial is not None and number != serial + 1) or (sub_list and sub_list >= size):
                    return False
                serial = number
            if size >= WINDOW_BYTES or not _sent(self._channel_type, self._side, id_):
                return False
            start, at = at + header.size, at + header.size + size
            if at > len(data):
                return None
            bodies.append((id_, data[start:at]))
        return all(self._decodes(id_, body) for id_, body in bodies)

    def _decodes(self, id_: int, body: bytes) -> bool:
        try:
            return len(dissect(self._channel_type, self._side, id_, body).trailing) <= 1
        except DissectionError:
            return False


def _sent(channel_type: int, side: Side, id_: int) -> bool:
    spec = lookup(channel_type, side, id_)
    return spec is not None and not spec.obsolete
