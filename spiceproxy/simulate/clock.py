"""A clock that jumps over the time in which everybody waits, for peers that talk over real sockets."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio
import trio.testing

# Seconds for which nobody may have had anything to do. What is written to a loopback socket is readable when the kernel's
# softirq has run, which on a busy machine is a thread (ksoftirqd) that waits for its turn. A clock that jumps at once jumps
# meanwhile, over the peers' deadlines: of 300 runs under load 6 ended "not done within 20 s", with this none did.
_QUIET_S: Final = 0.002
# A machine can also stand still as a whole for some milliseconds: one of some 2,000 runs ended so all the same. Every jump
# costs this time, so it is for runs that are worth it.
_PATIENT_S: Final = 0.1

T = TypeVar("T")


def quick_clock(quiet_s: float = _QUIET_S) -> trio.testing.MockClock:
    """A clock for `trio.run`: it stands while somebody works, and jumps to the next deadline when nobody has for `quiet_s`."""
    return trio.testing.MockClock(autojump_threshold=quiet_s)


def run_quickly(main: Callable[[], Awaitable[T]], doubtful: Callable[[T], bool]) -> T:
    """Run `main` on such a clock, and a second time on a patient one if what comes of it is doubtful; that result counts."""
    result = trio.run(main, clock=quick_clock())
    return trio.run(main, clock=quick_clock(_PATIENT_S)) if doubtful(result) else result
