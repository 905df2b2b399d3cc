"""Find the way back into a stream of messages after bytes of it were lost.

Only a chain will do: four headers in a row, each plausible for the channel and side, each ending exactly where the
next begins, and all four bodies decoding. Anything less would show messages that nobody ever sent.
"""

import re
import struct
from functools import cache
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


@cache
def _candidates(channel_type: int, side: Side, mini_header: bool) -> re.Pattern[bytes]:
    """What a header looks like."""
    ids = [id_ for id_ in range(1, MAX_ID + 1) if _sent(channel_type, side, id_)]
    # A size below 16 MiB: its last byte is 0. In front of a full header there is a serial below 2**40.
    header = b"(?:%s)...\0" % b"|".join(re.escape(struct.pack("<H", id_)) for id_ in ids)
    return re.compile(b"(?s)(?=%s)" % (header if mini_header else rb".{5}\0\0\0" + header))


class Resync:
    """Look for the next message border of one direction.

    Args:
        channel_type: Of the connection.
        side: Who sends.
        mini_header: Which header is in force.
    """

    def __init__(self, channel_type: int, side: Side, *, mini_header: bool) -> None:
        self._channel_type, self._side, self._mini = channel_type, side, mini_header
        self._candidates = _candidates(channel_type, side, mini_header)
        self._header = _MINI if mini_header else _FULL
        self._buffer = bytearray()
        self._searched = 0  # offsets in `_buffer` below this begin no chain, unless they wait
        self._waiting: list[tuple[int, int]] = []  # offsets, and how many bytes it takes to judge them
        self._dropped = 0  # bytes that were in `_buffer` earlier
        self._tries = 0
        self.hopeless = False  # too many tries: the search is over

    def feed(self, data: bytes) -> Found | None:
        """Take the next bytes; say where framing goes on, once that is sure."""
        if self.hopeless:
            self._dropped += len(data)
            return None
        self._buffer += data
        total = len(self._buffer)
        waiting, self._waiting = self._waiting, []
        for at, needed in waiting:
            if needed > total:
                self._waiting.append((at, needed))
            elif self._judge(at):
                return self._found(at)
        for match in self._candidates.finditer(self._buffer, self._searched):
            if self._judge(match.start()):
                return self._found(match.start())
        self._searched = max(self._searched, total - self._header.size + 1)
        if self._tries > MAX_TRIES:
            self.gap(0)
            self.hopeless = True
        else:
            self._shorten(min(self._searched, *(at for at, _ in self._waiting), total))
        return None

    def gap(self, size: int) -> None:
        """More bytes are missing: no chain leads across."""
        self._dropped += len(self._buffer) + size
        self._buffer.clear()
        self._waiting.clear()
        self._searched = 0

    @property
    def skipped(self) -> int:
        """Bytes that went by."""
        return self._dropped + len(self._buffer)

    def _shorten(self, useless: int) -> None:
        """Let go of bytes that begin no chain, and of what does not fit into the window."""
        drop = max(useless, len(self._buffer) - WINDOW_BYTES)
        if drop < WINDOW_BYTES // 4 and drop < len(self._buffer):  # not at every packet
            return
        del self._buffer[:drop]
        self._dropped += drop
        self._searched = max(0, self._searched - drop)
        self._waiting = [(at - drop, needed - drop) for at, needed in self._waiting if at >= drop]

    def _found(self, at: int) -> Found:
        return Found(self._dropped + at, bytes(self._buffer[at:]))

    def _judge(self, at: int) -> bool:
        """Whether a chain begins at `at`; what cannot be said yet waits."""
        self._tries += 1
        data, header, begin = self._buffer, self._header, at
        serial: int | None = None
        bodies = []
        for _ in range(CHAIN):
            if at + header.size > len(data):
                self._waiting.append((begin, at + header.size))
                return False
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
                self._waiting.append((begin, at))
                return False
            bodies.append((id_, bytes(data[start:at])))
        return all(self._decodes(id_, body) for id_, body in bodies)

    def _decodes(self, id_: int, body: bytes) -> bool:
        try:
            return len(dissect(self._channel_type, self._side, id_, body).trailing) <= 1
        except DissectionError:
            return False


def _sent(channel_type: int, side: Side, id_: int) -> bool:
    spec = lookup(channel_type, side, id_)
    return spec is not None and not spec.obsolete
