"""A time axis on which a second of waiting and six milliseconds in which everything happens are both readable.

Each phase has a scale of its own; long gaps are cut to a break; marks that would stand on one another are moved apart.
Time never runs backwards on it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

PHASE_HEIGHT: Final = 110.0  # that a phase would have if nothing were cut or moved apart
LONGEST_GAP: Final = 50.0


class Mark(NamedTuple):
    """Something at a moment."""

    time_ns: int
    track: str  # marks of one track do not overlap
    room: float  # between it and the one before on its track
    clear: float = 0.0  # between it and whatever is before and after it


class Break(NamedTuple):
    """A gap that is shorter than its time."""

    top: float
    bottom: float
    duration_ns: int


class Axis:
    """Where marks stand.

    Args:
        marks: In any order; of those of the same moment, in the order in which they are to stand.
        phases: When phases begin, in order.
        top: Where the first mark stands.
        tail: What is to be left free under the last one.
    """

    def __init__(self, marks: Sequence[Mark], phases: Sequence[int], top: float, tail: float = 24.0) -> None:
        self.places = [top] * len(marks)
        self.breaks: list[Break] = []
        order = sorted(range(len(marks)), key=lambda index: marks[index].time_ns)
        self._times: list[int] = []
        self._ys: list[float] = []
        edges = sorted({*phases, *(marks[index].time_ns for index in order[:1] + order[-1:])})
        tracks: dict[str, float] = {}
        y, clear, before = top, 0.0, marks[order[0]].time_ns if order else 0
        for index in order:
            mark = marks[index]
            gap = _height(before, mark.time_ns, edges)
            wanted = y + min(gap, LONGEST_GAP)
            placed = max(wanted, y + max(clear, mark.clear)) if self._times else top
            placed = max(placed, tracks.get(mark.track, placed - mark.room) + mark.room)
            if gap > LONGEST_GAP:
                self.breaks.append(Break(y, placed, mark.time_ns - before))
            self.places[index] = tracks[mark.track] = y = placed
            self._times.append(mark.time_ns)
            self._ys.append(placed)
            before, clear = mark.time_ns, mark.clear
        self.top, self.bottom = top, y + tail

    def y(self, time_ns: int, *, after: bool = False) -> float:
        """Where a moment is; `after`: below the marks of this moment, else above them."""
        if not self._times:
            return self.top
        at = bisect_right(self._times, time_ns) - 1 if after else bisect_left(self._times, time_ns)
        if 0 <= at < len(self._times) and self._times[at] == time_ns:
            return self._ys[at]
        above = bisect_right(self._times, time_ns) - 1
        if above < 0:
            return self.top
        if above + 1 >= len(self._times):
            return self.bottom
        start, end = self._times[above], self._times[above + 1]
        return self._ys[above] + (self._ys[above + 1] - self._ys[above]) * (time_ns - start) / (end - start)


def _height(start: int, end: int, edges: Sequence[int]) -> float:
    """How high the time between two moments is, each phase in its scale."""
    height = 0.0
    first = max(0, bisect_right(edges, start) - 1)
    for left, right in zip(edges[first:], edges[first + 1 :], strict=False):
        if left >= end:
            break
        overlap = min(right, end) - max(left, start)
        if overlap > 0:
            height += PHASE_HEIGHT * overlap / (right - left)
    return height
