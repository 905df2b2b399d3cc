"""Who gets how much of the one processor that a proxy runs on, so that whoever sends much makes nobody else wait.

One event loop serves all. A megabyte of empty messages takes it twenty milliseconds, and a peer can send them without end;
so turns are short (`TURN_S`), and sessions that use much of the time take turns with longer pauses, as long as there are
sessions that use little. A pause is what helps those: with turns alone, however short, each of their messages would meet one.
"""

import contextlib
import math
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from functools import partial
from typing import Any, Final, TypeVar, cast

import trio

_T = TypeVar("_T")

# Nobody has to wait for longer, whatever has been used by those who did not.
FORGIVEN_S: Final = 5.0
# Less is not worth a wait: others come between two turns anyway.
GIVE_WAY_S: Final = 0.01
# Pauses end at multiples of this.
BEAT_S: Final = 0.025
# For how long one direction may have the processor at once, about.
TURN_S: Final = 0.001

# While somebody is there who uses little, all who use much may use this share of the time together, and this much at once. Large messages pass at 300 MB/s then, on the machine of docs/performance.md.
HEAVY_SHARE: Final = 0.3
HEAVY_BURST_S: Final = 0.01
# However many there are, each gets this share: who sends a little more than others must not starve.
LEAST_SHARE: Final = 0.01
# Who would have to wait for no longer than this does not: whatever its share is, so that many do not burst at once.
CREDIT_S: Final = 0.1
# What is used while there is enough for all is not held against anybody beyond so much.
DEBT_S: Final = 0.1
# Somebody is there who has said something so lately.
THERE_S: Final = 10.0
# Who uses much counts as one who does for so long afterwards. Both are counted this often.
USING_S: Final = 1.0
COUNT_S: Final = 0.1

# What trio does for a step of a task.
STEP_S: Final = 20e-6


class Allowance:
    """Time that somebody may use: so much at once, and a share of all time in the long run.

    Args:
        burst_s: Seconds at once.
        share: Of all time, above 0 and up to 1.
        clock: Seconds, steady.
    """

    __slots__ = ("_burst_s", "_clock", "_share", "_used_until")

    def __init__(self, burst_s: float, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst_s, self._share, self._clock = burst_s, share, clock
        self._used_until = float("-inf")  # when all that has been used will have been earned

    def use(self, seconds: float) -> float:
        """Use so much; return for how many seconds to wait before any more is used."""
        now = self._clock()
        at_once_s = self._burst_s / self._share
        self._used_until = min(
            max(self._used_until, now) + seconds / self._share, now + at_once_s + FORGIVEN_S
        )
        return max(0.0, self._used_until - now - at_once_s)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """What the block takes is used; it must not wait for anything."""
        began = self._clock()
        try:
            yield
        finally:
            self.use(self._clock() - began)


class _Metered(Awaitable[_T]):
    def __init__(self, awaited: Awaitable[_T], allowance: Allowance) -> None:
        self._awaited, self._allowance = awaited, allowance

    def __await__(self) -> Generator[Any, Any, _T]:
        steps = self._awaited.__await__()
        resume: Callable[[], Any] = partial(next, steps)
        while True:
            began = time.monotonic()
            try:
                trap = resume()
            except StopIteration as done:
                return cast("_T", done.value)
            finally:
                wait_s = self._allowance.use(time.monotonic() - began + STEP_S)
            try:
                resume = partial(steps.send, (yield trap))
            except BaseException as error:  # noqa: BLE001  cancelled, say: it is told
                resume = partial(steps.throw, error)
            else:
                if wait_s >= GIVE_WAY_S:
                    yield from _paused(wait_s).__await__()


async def metered(awaited: Awaitable[_T], allowance: Allowance) -> _T:
    """Await it; what its steps take of the processor is used of the allowance, and between them it waits for more."""
    return await _Metered(awaited, allowance)


async def pause(wait_s: float) -> None:
    """Wait for so long or a little longer; others come in any case.

    All who wait go on at the same moments. So between these there are times for whoever uses little, as there would not be
    if each of many went on at a moment of its own.
    """
    if wait_s < GIVE_WAY_S:
        await trio.lowlevel.checkpoint()
    else:
        await trio.sleep_until(math.ceil((trio.current_time() + wait_s) / BEAT_S) * BEAT_S)


async def _paused(wait_s: float) -> None:
    with trio.CancelScope(shield=True):  # what the step before has brought must not be lost
        await pause(wait_s)


class Fairness:
    """Of one proxy. `share` gives each session what it may use.

    Args:
        clock: Seconds, steady.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._together = Allowance(HEAVY_BURST_S, HEAVY_SHARE, clock)
        self._shares: set[Share] = set()
        self._there: frozenset[Share] = frozenset()  # use little, and have lately
        self._using = 1  # how many use much
        self._counted_at = float("-inf")

    def share(self) -> "Share":
        """What somebody new may use; `Share.over` follows."""
        share = Share(self, self._clock)
        self._shares.add(share)
        return share

    def left(self, share: "Share") -> None:
        """Somebody is gone."""
        self._shares.discard(share)
        self._there -= {share}

    def wait(self, share: "Share", seconds: float, now: float) -> float:
        """Somebody has used so much; for how many seconds to wait."""
        if now - self._counted_at > COUNT_S:
            self._count(now)
        if not self._there or self._there == {share}:  # nobody is there who would notice
            return 0.0
        wait_s = share.owe(seconds, max(LEAST_SHARE, HEAVY_SHARE / self._using), now)
        # Where there is enough for all, nobody waits.
        return wait_s if self._together.use(seconds) else 0.0

    def _count(self, now: float) -> None:
        self._counted_at = now
        self._there = frozenset(each for each in self._shares if now - each.light_at < THERE_S)
        self._using = max(1, sum(now - each.used_at < USING_S for each in self._shares))


class Share:
    """What one session may use. All its connections use it together.

    Attributes:
        light_at: When something small was done last.
        used_at: When something was used last.
    """

    __slots__ = ("_clock", "_fairness", "_used_until", "light_at", "used_at")

    def __init__(self, fairness: Fairness, clock: Callable[[], float]) -> None:
        self._fairness, self._clock = fairness, clock
        self._used_until = self.light_at = self.used_at = float("-inf")

    def light(self) -> None:
        """Something small was done: it costs nothing, and says that somebody is there."""
        self.light_at = self._clock()

    def use(self, seconds: float) -> float:
        """Use so much of the processor; return for how many seconds to wait before any more is used."""
        now = self.used_at = self._clock()
        return self._fairness.wait(self, seconds, now)

    def owe(self, seconds: float, share: float, now: float) -> float:
        """As `Allowance.use`, with a share that may be another each time."""
        self._used_until = min(max(self._used_until, now), now + CREDIT_S + DEBT_S) + seconds / share
        return max(0.0, self._used_until - now - CREDIT_S)

    def over(self) -> None:
        """Nothing more will be used."""
        self._fairness.left(self)
