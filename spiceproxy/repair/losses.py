"""What a damaged file has lost, and which times may follow one another."""

from typing import Final, NamedTuple

BACKWARDS_NS: Final = 10 * 10**9
FORWARDS_NS: Final = 7 * 86400 * 10**9
"""Behind damage, a packet is taken for one if its time is no more than that before or after the last one's."""


class Loss(NamedTuple):
    """Bytes that are not in the repaired file."""

    offset: int  # in the file, or in what it unpacks to
    size: int
    packets: int  # at least so many
    after_ns: int | None  # time of the last packet before
    before_ns: int | None  # and of the first one after; None if none comes
    to_end: bool  # nothing after it could be read


class Times:
    """Keeps the time of the last packet, and fills in what losses do not know yet."""

    def __init__(self) -> None:
        self.last_ns: int | None = None
        self._open = False

    def seen(self, time_ns: int, losses: list[Loss]) -> None:
        """A packet was read."""
        if self._open:
            losses[-1] = losses[-1]._replace(before_ns=time_ns)
            self._open = False
        self.last_ns = time_ns

    def lost(self, offset: int, size: int, *, to_end: bool) -> Loss:
        """Bytes were lost."""
        self._open = True
        return Loss(offset, size, 1, self.last_ns, None, to_end)

    @staticmethod
    def fits(last_ns: int | None, time_ns: int) -> bool:
        """Whether a packet of this time may follow."""
        return last_ns is None or last_ns - BACKWARDS_NS <= time_ns <= last_ns + FORWARDS_NS
