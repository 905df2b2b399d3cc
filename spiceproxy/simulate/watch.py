"""What both peers have in common: a name, broken rules that somebody has to hear of, and waiting for something."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from spiceproxy.simulate.errors import RuleBroken, SimulationError


class Watched:
    """A peer whose state can be waited for.

    Attributes:
        broken_rules: What the other side did wrong, in order.
        remarks: Oddities that break no session, in words.
    """

    def __init__(self) -> None:
        self.broken_rules: list[RuleBroken] = []
        self.remarks: list[str] = []
        self._heard = 0
        self._failure: SimulationError | None = None
        self._changed = trio.Event()

    def report(self, error: RuleBroken) -> None:
        """Keep a broken rule for the next who waits or checks."""
        self.broken_rules.append(error)
        self.notify()

    def fail(self, error: SimulationError) -> None:
        """Keep an error that is no broken rule for the next who waits or checks."""
        self._failure = error
        self.notify()

    def notify(self) -> None:
        """Wake everybody who waits, to look again."""
        self._changed.set()
        self._changed = trio.Event()

    def check(self) -> None:
        """Raise what went wrong and nobody has heard of yet; once each.

        Raises:
            RuleBroken: The other side broke a rule.
            SimulationError: The session failed otherwise.
        """
        if self._heard < len(self.broken_rules):
            self._heard += 1
            raise self.broken_rules[self._heard - 1]
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def unheard(self) -> list[RuleBroken]:
        """Broken rules that nobody has heard of yet."""
        return self.broken_rules[self._heard :]

    def forget(self) -> None:
        """Take everything that went wrong so far as heard of."""
        self._heard, self._failure = len(self.broken_rules), None

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition over the state of this peer. Put a deadline around it.

        Raises:
            RuleBroken: The other side broke a rule meanwhile, or before without anybody hearing of it.
            SimulationError: The session failed otherwise.
        """
        while True:
            self.check()
            if condition():
                return
            await self._changed.wait()


@asynccontextmanager
async def running(peer: Watched, name: str, run: Callable[..., Awaitable[object]]) -> AsyncIterator[None]:
    """Run a peer's task for as long as the block runs; say what nobody has heard of when it is left.

    An error of the block comes out as it was raised, in no group, with the peer's broken rules as notes.

    Raises:
        RuleBroken: The other side broke a rule.
        SimulationError: The session failed otherwise.
    """
    failure = None
    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        try:
            yield
        except Exception as error:  # noqa: BLE001  raised again outside, where no nursery wraps it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        for broken in peer.unheard():
            failure.add_note(f"{name}: {broken}")
        raise failure
    peer.check()
