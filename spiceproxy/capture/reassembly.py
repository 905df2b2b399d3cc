"""One direction of a TCP connection: from segments in any order to bytes in order, each once. Source: RFC 9293.

What came first wins where segments overlap. Bytes are numbered by plain integers that do not wrap; the lower 32 bits
are TCP's sequence numbers.
"""

from bisect import bisect_right
from operator import itemgetter
from typing import Final

MAX_AHEAD_BYTES: Final = 1 << 30
"""The largest window that RFC 7323 allows. What is further ahead belongs to no stream that we follow."""

PIECE_OVERHEAD_BYTES: Final = 200
"""What a kept piece costs beside its bytes, about."""

_MASK: Final = 0xFFFFFFFF
_HALF_RANGE: Final = 1 << 31
_FIRST_TURN: Final = 1 << 32  # so that numbers before the first byte are not negative

_start_of = itemgetter(0)

Pieces = list[bytes | int]
"""What is in order now: bytes, or the number of bytes that are missing."""


class Half:
    """What one end of a connection sends.

    Attributes:
        next: Number of the byte that comes next; -1 as long as none is known.
        begin: What `next` was at first.
        fin: Number of the byte after the last, if a FIN has told; else -1.
        acked: Number of the byte that the other end waits for, if that was beyond `next` once; else -1.
        kept: Start, end and bytes of what cannot be given yet; in order, without overlap.
        kept_bytes: What `kept` costs.
    """

    __slots__ = ("acked", "begin", "fin", "kept", "kept_bytes", "next")

    def __init__(self) -> None:
        self.next = self.begin = self.fin = self.acked = -1
        self.kept: list[tuple[int, int, bytes]] | None = None
        self.kept_bytes = 0

    def start(self, seq: int) -> None:
        """The first byte has this sequence number."""
        self.next = self.begin = (seq & _MASK) + _FIRST_TURN

    def number(self, seq: int) -> int:
        """Number of the byte with this sequence number: the one nearest to `next`."""
        return self.next + ((seq - self.next + _HALF_RANGE) & _MASK) - _HALF_RANGE

    @property
    def ended(self) -> bool:
        """All that was sent has been given, and a FIN has told so."""
        return 0 <= self.fin <= self.next

    @property
    def lacks(self) -> bool:
        """The other end has received bytes that we have not.

        One number at the very end says nothing: a FIN has one too, and may not be in the capture either.
        """
        return self.acked > self.next + (0 if self.kept else 1) and not self.ended

    def end_at(self, number: int) -> None:
        """A FIN tells that `number` is that of the byte after the last. One that contradicts the bytes is not heard."""
        if self.fin < 0 and number >= (self.kept[-1][1] if self.kept else self.next):
            self.fin = number

    def add(self, start: int, data: bytes, uncaptured: int) -> Pieces:
        """Take a segment.

        Args:
            start: Number of its first byte; at most MAX_AHEAD_BYTES beyond `next`.
            data: Its bytes.
            uncaptured: Bytes after these that it had on the wire and the capture has not.

        Returns:
            What is in order now.
        """
        given: Pieces = []
        end = start + len(data)
        if 0 <= self.fin < end:
            data = data[: max(self.fin - start, 0)]
            end = start + len(data)
        if end > self.next:
            if start < self.next:
                data = data[self.next - start :]
                start = self.next
            if start == self.next and not self.kept:
                given.append(data)
                self.next = end
            else:
                self._keep(start, end, data)
                self._give(given)
        if uncaptured and start <= self.next < end + uncaptured and end <= self.next:
            # Nobody will send them again, most likely. Out of order they are left as a hole.
            self._skip(end + uncaptured, given)
        return given

    def give_up(self, *, everything: bool) -> Pieces:
        """Count as missing what the other end has received and we have not.

        Args:
            everything: Also what is missing before the last kept piece and before the end.
        """
        given: Pieces = []
        while self.kept and (everything or self.acked > self.next):
            self._skip(self.kept[0][0] if everything else self.acked, given)
        if self.lacks:
            self._skip(self.acked, given)
        if everything:
            self._skip(self.fin, given)
        return given

    def skip_hole(self) -> Pieces:
        """Count as missing what is missing before the first kept piece."""
        given: Pieces = []
        if self.kept:
            self._skip(self.kept[0][0], given)
        return given

    def _skip(self, to: int, given: Pieces) -> None:
        """Go on at `to`, or at the first kept piece or the end if that comes before."""
        if self.kept:
            to = min(to, self.kept[0][0])
        if self.fin >= 0:
            to = min(to, self.fin)
        if to > self.next:
            given.append(to - self.next)
            self.next = to
        self._give(given)

    def _keep(self, start: int, end: int, data: bytes) -> None:
        """Put what is new of a segment among what is kept."""
        if self.kept is None:
            self.kept = []
        kept, base = self.kept, start
        at = bisect_right(kept, start, key=_start_of)
        if at and kept[at - 1][1] > start:
            start = kept[at - 1][1]
        while start < end:
            if at == len(kept) or kept[at][0] > start:
                stop = end if at == len(kept) else min(end, kept[at][0])
                kept.insert(at, (start, stop, data[start - base : stop - base]))
                self.kept_bytes += stop - start + PIECE_OVERHEAD_BYTES
                at += 1
                start = stop
            else:
                start = kept[at][1]
                at += 1

    def _give(self, given: Pieces) -> None:
        """Give what has come into order."""
        count = 0
        for start, end, data in self.kept or ():
            if start != self.next:
                break
            given.append(data)
            self.next = end
            self.kept_bytes -= end - start + PIECE_OVERHEAD_BYTES
            count += 1
        if count and self.kept is not None:
            del self.kept[:count]
