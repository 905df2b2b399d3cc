"""The time that recordings and migrations have: wall time when the program began, steady from then on.

A clock that is set while a session runs would make durations wrong, order packets wrongly and empty a ring. NTP slews the
steady clock as it slews the wall clock, so that they part only where somebody sets the latter, or where the machine sleeps.
"""

import time
from typing import Final

import trio

from spiceproxy.eventlog import EventLog

WATCH_INTERVAL_S: Final = 5.0

ZERO_NS: Final = time.time_ns() - time.monotonic_ns()
"""What has to be added to `time.monotonic_ns`."""

STEP_NS: Final = 500_000_000
"""A wall clock that is further from ours than it was has been set; less is the time between two readings."""


def now_ns() -> int:
    """Nanoseconds since 1970 (UTC) by a clock that does not step."""
    return ZERO_NS + time.monotonic_ns()


def wall_ahead_ns() -> int:
    """How far the wall clock is ahead of `now_ns`; below 0 if it has been set back."""
    return time.time_ns() - now_ns()


async def watch(log: EventLog) -> None:
    """Log when the wall clock has been set: from there on it parts from the times of recordings and migrations."""
    ahead_ns = wall_ahead_ns()
    while True:
        await trio.sleep(WATCH_INTERVAL_S)
        was_ns, ahead_ns = ahead_ns, wall_ahead_ns()
        if abs(ahead_ns - was_ns) >= STEP_NS:
            log.info("clock_set", by_s=round((ahead_ns - was_ns) / 1e9, 3), ahead_s=round(ahead_ns / 1e9, 3))
