"""What the worst body costs: every schema, cut at each byte and with each number at its extremes.

Prints the slowest schemas in milliseconds and the hungriest in KiB. Each body counts with the best of three times, since
what else the machine does only ever adds. Exit status: 0 all of them keep the limits, 1 one does not.
"""

import argparse
import gc
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import contextlib

from dissectors.errors import DissectionError
from dissectors.message import MessageSpec
from tests.dissectors.damage import ALL_SPECS, bodies, damaged

LIMIT_MS: Final = 10.0
LIMIT_KIB: Final = 1024.0
TRIES: Final = 3
SHOWN: Final = 5


class Cost(NamedTuple):
    """The most that one body of a schema costs."""

    name: str
    milliseconds: float
    kib: float
    bodies: int


def most(name: str, spec: MessageSpec) -> Cost:
    """Measure a schema: times first, then memory, since watching memory takes time."""
    tried = sorted({each for body in bodies(spec) for each in damaged(spec, body)})
    attempt(spec, b"")  # compiles
    seconds = max((min(timed(spec, body) for _ in range(TRIES)) for body in tried), default=0.0)
    tracemalloc.start()
    try:
        memory = max((peak(spec, body) for body in tried), default=0)
    finally:
        tracemalloc.stop()
    return Cost(name, seconds * 1000, memory / 1024, len(tried))


def attempt(spec: MessageSpec, body: bytes) -> None:
    """Read a body, whatever becomes of it."""
    with contextlib.suppress(DissectionError):
        spec.dissect(body)


def timed(spec: MessageSpec, body: bytes) -> float:
    """Seconds for one body."""
    begun = perf_counter()
    attempt(spec, body)
    return perf_counter() - begun


def peak(spec: MessageSpec, body: bytes) -> int:
    """Bytes that were in use at once for one body."""
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    attempt(spec, body)
    return tracemalloc.get_traced_memory()[1] - before


def show(costs: list[Cost], value: Callable[[Cost], float], unit: str, limit: float) -> bool:
    """Print those that cost the most; whether all of them keep the limit."""
    print(f"{'most ' + unit:60} {unit:>8}  (limit {limit:g})")
    for cost in sorted(costs, key=value, reverse=True)[:SHOWN]:
        print(f"  {cost.name:58} {value(cost):8.2f}")
    return all(value(cost) <= limit for cost in costs)


def main() -> int:
    """Measure all; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("schemas", nargs="*", metavar="TEXT", help="only schemas with this in their names")
    wanted = parser.parse_args().schemas
    chosen = {
        name: spec for name, spec in ALL_SPECS.items() if not wanted or any(text in name for text in wanted)
    }
    gc.disable()  # which comes when it likes
    costs = [most(name, spec) for name, spec in chosen.items()]
    print(
        f"{len(costs)} schemas, {sum(cost.bodies for cost in costs)} damaged bodies, best of {TRIES} times each"
    )
    in_time = show(costs, lambda cost: cost.milliseconds, "ms", LIMIT_MS)
    in_memory = show(costs, lambda cost: cost.kib, "KiB", LIMIT_KIB)
    return 0 if in_time and in_memory else 1


if __name__ == "__main__":
    sys.exit(main())
