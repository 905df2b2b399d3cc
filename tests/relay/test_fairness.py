"""Who gets how much of the processor."""

import heapq
from collections.abc import Callable

import pytest
import trio
import trio.testing

from spiceproxy.relay.fairness import (
    BEAT_S,
    COUNT_S,
    FORGIVEN_S,
    GIVE_WAY_S,
    HEAVY_SHARE,
    LEAST_SHARE,
    THERE_S,
    Allowance,
    Fairness,
    Share,
    metered,
    pause,
)


class World:
    """A processor for which some contend, in simulated time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.fairness = Fairness(lambda: self.now)

    def share(self) -> Share:
        return self.fairness.share()

    def contend(
        self, turns_s: dict[Share, float], lasting_s: float, meanwhile: Callable[[], None] = lambda: None
    ) -> dict[Share, float]:
        """Let each take turns of so long as often as it may; by share, the part of the time that it has had."""
        names = list(turns_s)
        used = dict.fromkeys(names, 0.0)
        due = [(self.now, number) for number in range(len(names))]
        end = self.now + lasting_s
        while self.now < end:
            at, number = heapq.heappop(due)
            self.now = max(self.now, at)
            meanwhile()
            who = names[number]
            self.now += turns_s[who]
            used[who] += turns_s[who]
            wait_s = who.use(turns_s[who])
            heapq.heappush(due, (self.now + (wait_s if wait_s >= GIVE_WAY_S else 0.0), number))
        return {who: seconds / lasting_s for who, seconds in used.items()}


def test_who_is_alone_has_all_the_time() -> None:
    world = World()
    flood = world.share()
    assert world.contend({flood: 0.001}, 5)[flood] == pytest.approx(1.0, abs=0.01)


def test_who_sends_much_has_a_share_while_somebody_is_there_who_sends_little() -> None:
    world = World()
    flood, witness = world.share(), world.share()
    assert world.contend({flood: 0.001}, 10, witness.light)[flood] == pytest.approx(HEAVY_SHARE, abs=0.02)


def test_somebody_of_the_same_session_who_sends_little_is_nobody_else() -> None:
    world = World()
    flood = world.share()
    assert world.contend({flood: 0.001}, 5, flood.light)[flood] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("count", [2, 10, 25])
@pytest.mark.parametrize("turn_s", [0.0001, 0.001])
def test_many_who_send_much_have_that_share_together_and_equal_parts_of_it(count: int, turn_s: float) -> None:
    world = World()
    witness = world.share()
    floods = {world.share(): turn_s for _ in range(count)}
    parts = world.contend(floods, 20, witness.light)
    assert sum(parts.values()) == pytest.approx(HEAVY_SHARE, abs=0.06)
    assert max(parts.values()) < 2 * min(parts.values())


def test_they_do_not_all_burst_in_the_first_second() -> None:
    world = World()
    witness = world.share()
    floods = {world.share(): 0.001 for _ in range(20)}
    assert sum(world.contend(floods, 1, witness.light).values()) < HEAVY_SHARE + 0.15


def test_who_sends_a_little_more_than_others_does_not_wait_for_those_who_send_much() -> None:
    world = World()
    video, witness = world.share(), world.share()
    floods = {world.share(): 0.001 for _ in range(10)}
    waits = []

    def meanwhile() -> None:
        witness.light()
        if world.now - video.used_at > 0.04:  # 25 pictures a second, 0.1 ms each
            waits.append(video.use(0.0001))

    world.contend(floods, 10, meanwhile)
    assert len(waits) > 200
    assert max(waits) < GIVE_WAY_S


def test_however_many_there_are_each_has_a_little() -> None:
    world = World()
    witness = world.share()
    floods = {world.share(): 0.001 for _ in range(200)}
    parts = world.contend(floods, 60, witness.light)
    assert min(parts.values()) > LEAST_SHARE / 2


def test_who_has_said_nothing_for_long_or_is_gone_slows_nobody_down() -> None:
    world = World()
    flood, quiet, gone = world.share(), world.share(), world.share()
    quiet.light()
    world.now += THERE_S
    gone.light()
    gone.over()
    world.now += COUNT_S
    assert world.contend({flood: 0.001}, 5)[flood] == pytest.approx(1.0, abs=0.01)


def test_what_a_block_takes_is_used() -> None:
    now = [5.0]
    allowance = Allowance(0.0, 0.5, lambda: now[0])
    with allowance.used():
        now[0] += 1.0
    assert allowance.use(0.0) == 2.0


def test_what_was_used_without_waiting_is_forgiven_in_the_end() -> None:
    now = [5.0]
    allowance = Allowance(0.1, 0.1, lambda: now[0])
    for _ in range(100):
        now[0] += 1.0
        allowance.use(1.0)
    assert allowance.use(0.0) == FORGIVEN_S
    now[0] += FORGIVEN_S
    assert allowance.use(0.0) == 0.0


# Tasks ----------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)


def test_pauses_end_together_and_are_not_shorter_than_asked(clock: trio.testing.MockClock) -> None:
    ends = []

    async def one(begins_s: float, wait_s: float) -> None:
        await trio.sleep(begins_s)
        began = trio.current_time()
        await pause(wait_s)
        ends.append(trio.current_time())
        assert wait_s <= ends[-1] - began + 1e-9 <= wait_s + BEAT_S + 2e-9

    async def main() -> None:
        await trio.sleep(0.0013)
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(one, number * 0.0001, GIVE_WAY_S + number * 0.0002)

    trio.run(main, clock=clock)
    assert max(ends) - min(ends) < 1e-9


def test_a_short_pause_is_a_turn_for_the_others(clock: trio.testing.MockClock) -> None:
    said: list[str] = []

    async def other() -> None:
        said.append("other")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            before = trio.current_time()
            await pause(0.0)
            await pause(GIVE_WAY_S / 2)
            said.append("we")
            assert trio.current_time() == before

    trio.run(main, clock=clock)
    assert said == ["other", "we"]


async def _work(steps: int) -> str:
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    return "done"


def test_who_is_metered_waits_when_the_allowance_is_used_up(clock: trio.testing.MockClock) -> None:
    async def main() -> float:
        allowance = Allowance(0.001, 0.01)  # of the real clock: a step takes at least what trio takes for it
        before = trio.current_time()
        assert await metered(_work(100), allowance) == "done"
        return trio.current_time() - before

    assert trio.run(main, clock=clock) > 0.05  # 100 steps of 20 us, of which a hundredth may be used


def test_who_is_metered_and_has_enough_does_not_wait(clock: trio.testing.MockClock) -> None:
    async def main() -> float:
        before = trio.current_time()
        assert await metered(_work(100), Allowance(1000.0, 1.0)) == "done"
        return trio.current_time() - before

    assert trio.run(main, clock=clock) == 0


def test_errors_and_cancellation_pass_through_the_meter(clock: trio.testing.MockClock) -> None:
    cleaned = []

    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("x")

    async def sleeps() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)
            cleaned.append(True)

    async def catches() -> int:
        with trio.move_on_after(1):
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
        return 7

    async def main() -> None:
        allowance = Allowance(0.0, 0.01)
        with pytest.raises(KeyError):
            await metered(fails(), allowance)
        with trio.move_on_after(1) as scope:
            await metered(sleeps(), allowance)
        assert scope.cancelled_caught
        assert await metered(catches(), allowance) == 7

    trio.run(main, clock=clock)
    assert cleaned == [True]


def test_what_a_step_has_brought_is_not_lost_when_it_is_cancelled_while_it_waits_for_its_turn(
    clock: trio.testing.MockClock,
) -> None:
    """A lock that was got must be had, or it is never given back."""
    lock = trio.Lock()

    async def holder() -> None:
        async with lock:
            await trio.sleep(1)

    async def wants() -> None:
        async with lock:
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        allowance = Allowance(0.0, 0.00001)  # one step is two seconds
        async with trio.open_nursery() as nursery:
            nursery.start_soon(holder)
            await trio.sleep(0.5)
            with trio.move_on_after(1.5):
                await metered(wants(), allowance)
        assert not lock.locked()

    trio.run(main, clock=clock)
