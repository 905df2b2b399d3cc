"""The clock that jumps, and what is made of a result that is doubtful."""

import time

import trio

from spiceproxy.simulate.clock import quick_clock, run_quickly


def test_waiting_takes_no_time() -> None:
    began = time.monotonic()
    trio.run(trio.sleep, 3600, clock=quick_clock())
    assert time.monotonic() - began < 60


def test_a_doubtful_result_is_got_once_more_from_a_clock_that_waits_for_the_slow() -> None:
    runs = []

    async def main() -> str:
        """Somebody whom trio does not know of needs 20 ms."""
        runs.append(1)
        with trio.move_on_after(10):
            await trio.to_thread.run_sync(time.sleep, 0.02, abandon_on_cancel=True)
            return "there"
        return "too late"

    assert run_quickly(main, lambda result: result == "too late") == "there"
    assert len(runs) == 2


def test_a_result_that_is_not_doubtful_is_taken_at_once() -> None:
    runs = []

    async def main() -> int:
        runs.append(1)
        await trio.sleep(100)
        return len(runs)

    assert run_quickly(main, lambda result: result != 1) == 1
    assert runs == [1]
