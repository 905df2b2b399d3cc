"""Looks at a client's screen."""

from typing import cast

import pytest
import trio
from trio.testing import MockClock

from spiceproxy.lab.display import Display
from spiceproxy.lab.process import Child
from spiceproxy.lab.result import Picture
from spiceproxy.lab.viewer import ScreenViewer

TICK_S = 0.0549254  # of the BIOS clock: 65536 / 1193182


class Shot:
    """Bands that are in one of four places."""

    def __init__(self, place: int) -> None:
        self.place = place

    def shows_guest(self) -> bool:
        return True

    def moved_since(self, earlier: "Shot") -> bool:
        return self.place != earlier.place


class Screen:
    """A display on which the guest draws with every tick, or has drawn once."""

    def __init__(self, shot_s: float, *, moves: bool) -> None:
        self._shot_s, self._moves = shot_s, moves

    async def screenshot(self) -> Shot:
        await trio.sleep(self._shot_s)
        return Shot(int(trio.current_time() / TICK_S) % 4 if self._moves else 0)


def viewer(shot_s: float, *, moves: bool) -> ScreenViewer:
    async def nothing() -> None: ...

    return ScreenViewer(cast("Display", Screen(shot_s, moves=moves)), cast("Child", None), nothing)


@pytest.fixture
def clock() -> MockClock:
    """Looking takes threads, which such a clock does not know to wait for."""
    return MockClock(autojump_threshold=0.05)


@pytest.mark.parametrize("shot_ms", [20, 59, 60, 100, 139, 140, 141, 280])
async def test_a_moving_picture_is_seen_to_move_however_long_a_screenshot_takes(
    shot_ms: int, clock: MockClock
) -> None:
    """With one interval between looks, all of them came upon the same frame where a look took a multiple of 0.22 s."""
    assert await viewer(shot_ms / 1000, moves=True).look(10) is Picture.MOVING


async def test_a_picture_that_does_not_move_stands_still(clock: MockClock) -> None:
    assert await viewer(0.1, moves=False).look(2) is Picture.STILL
