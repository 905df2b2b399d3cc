"""Who gets how much of the one processor that a proxy runs on, so that whoever sends much makes nobody else wait.

One event loop serves all. A megabyte of empty messages takes it twenty milliseconds, and a peer can send them without end;
so turns are short (`TURN_S`), and sessions that use much of the time take turns with longer pauses, as long as there are
sessions that use little. A pause is what helps those: with turns alone, however short, each of their messages would meet one.
"""

import time
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, Final, TypeVar, cast

_T = TypeVar("_T")

# Less is not worth a wait: others come between two turns anyway.
GIVE_WAY_S: Final = 0.01
# For how long one direction may have the processor at once, about.
TURN_S: Final = 0.001

# While somebody is there who uses little, all who use much may use this share of the time together, and each of them
# this much at once. Large messages pass at 500 MB/s then, on the machine of docs/performance.md.
HEAVY_SHARE: Final = 0.3
HEAVY_BURST_S: Final = 0.01
# However many there are, each gets this share: who sends a little more than others must not starve.
LEAST_SHARE: Final = 0.005
# What is used while there is enough for all is not held against anybody beyond so much.
DEBT_S: Final = 0.1
# Somebody is there who has said something so lately.
THERE_S: Final = 10.0
# Who uses much counts as one who does for so long afterwards; who does not any more is forgotten now and then.
USING_S: Final = 1.0
FORGET_S: Final = 0.1

# What a read costs, as measured: a floor for each, moving bytes, and walking over headers.
READ_S: Final = 15e-6
BYTE_S: Final = 0.5e-9
MESSAGE_S: Final = 0.12e-6
# With TLS towards a client each message is a record of its own; bytes are ciphered.
TLS_MESSAGE_S: Final = 8e-6
TLS_BYTE_S: Final = 2e-9
# A read of less is that of a peer who keeps up with himself: moves of a mouse, one picture of a small window.
LIGHT_BYTES: Final = 4096
LIGHT_MESSAGES: Final = 4


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
        self._used_until = max(self._used_until, now) + seconds / self._share
        return max(0.0, self._used_until - now - self._burst_s / self._share)


class _Metered(Awaitable[_T]):
    def __init__(self, awaited: Awaitable[_T], allowance: Allowance) -> None:
        self._awaited, self._allowance = awaited, allowance

    def __await__(self) -> Generator[Any, Any, _T]:
        steps = self._awaited.__await__()
        resume: Callable[[], Any] = partial(next, steps)
        while True:
            began = time.thread_time()
            try:
                trap = resume()
            except StopIteration as done:
                return cast("_T", done.value)
            finally:
                self._allowance.use(time.thread_time() - began)
            try:
                resume = partial(steps.send, (yield trap))
            except BaseException as error:  # noqa: BLE001  cancelled, say: it is told
                resume = partial(steps.throw, error)


async def metered(awaited: Awaitable[_T], allowance: Allowance) -> _T:
    """Await it; what its steps take of the processor is used of the allowance. Nobody is made to wait."""
    return await _Metered(awaited, allowance)


class Fairness:
    """Of one proxy. `share` gives each session what it may use.

    Args:
        clock: Seconds, steady.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        # Of those who use little: the latest, and when somebody else than that one was.
        self.latest: Share | None = None
        self.latest_at = self.another_at = float("-inf")
        self.together = Allowance(HEAVY_BURST_S, HEAVY_SHARE, clock)
        self._users: dict[Share, float] = {}  # when they last used much
        self._counted_at = float("-inf")

    def share(self) -> "Share":
        """What somebody new may use."""
        return Share(self)

    def count(self, user: "Share", now: float) -> int:
        """How many use much, and this is one of them."""
        self._users[user] = now
        if now - self._counted_at > FORGET_S:
            self._counted_at = now
            for each in [each for each, at in self._users.items() if now - at > USING_S]:
                del self._users[each]
        return len(self._users)


class Share:
    """What one session may use. All its connections use it together."""

    __slots__ = ("_fairness", "_used_until")

    def __init__(self, fairness: Fairness) -> None:
        self._fairness = fairness
        self._used_until = float("-inf")  # as of an Allowance, whose share changes

    def light(self) -> None:
        """Something small was done: it costs nothing, and says that somebody is there."""
        fairness = self._fairness
        if fairness.latest is not self:
            fairness.latest, fairness.another_at = self, fairness.latest_at
        fairness.latest_at = fairness.clock()

    def use(self, seconds: float) -> float:
        """Use so much of the processor; return for how many seconds to wait before any more is used."""
        fairness = self._fairness
        now = fairness.clock()
        others_at = fairness.another_at if fairness.latest is self else fairness.latest_at
        if now - others_at > THERE_S:  # nobody is there who would notice
            return 0.0
        share = max(LEAST_SHARE, HEAVY_SHARE / fairness.count(self, now))
        burst_s = HEAVY_BURST_S / share
        self._used_until = min(max(self._used_until, now), now + burst_s + DEBT_S) + seconds / share
        if not fairness.together.use(seconds):  # there is enough for all
            return 0.0
        return max(0.0, self._used_until - now - burst_s)
