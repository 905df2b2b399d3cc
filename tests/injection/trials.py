"""Scenarios of the catalog, played between simulated peers on a clock that jumps."""

from collections.abc import Collection
from pathlib import Path

import trio

from spiceproxy.demo.result import DemoResult, for_scenario
from spiceproxy.demo.run import DemoOptions, run_demo
from spiceproxy.faults.scenarios import scenario
from spiceproxy.injection.loading import load_faults
from spiceproxy.simulate.clock import run_quickly

OUTCOMES = Path(__file__).with_name("outcomes.txt")


def outcomes() -> dict[str, tuple[set[str], bool]]:
    """By scenario: how it may end, and whether it fires."""
    found = {}
    for line in OUTCOMES.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, ends, *never = line.split()
            found[name] = set(ends.split("|")), not never
    return found


def play(name: str, ends: Collection[str]) -> DemoResult:
    """A demo with this scenario; raises what goes wrong in it, and fails if a task is left. It is known to end as one of `ends`."""
    each = scenario(name)
    options = for_scenario(DemoOptions(faults=load_faults([], [name], [])), each)

    async def main() -> DemoResult:
        with trio.fail_after(600):
            result = await run_demo(options, lambda _: None)
        tasks = trio.lowlevel.current_statistics().tasks_living
        assert tasks <= 3, f"{tasks} tasks are left"  # trio's own two, and this one
        return result

    return run_quickly(main, lambda result: result.outcome not in ends)
