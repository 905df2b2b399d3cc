"""What waits for a time, or for a word of the engine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from dissectors.side import Side
from spiceproxy.faults.effects import Token, Wait
from spiceproxy.protocol.link import Phase

if TYPE_CHECKING:
    from spiceproxy.injection.faulty import FaultyConnection


@dataclass(eq=False, slots=True)
class Waiting:
    """Something that the engine is to be asked to go on with.

    Attributes:
        connection: On which it waits.
        wait: As the engine said it.
        side: Whose message it is about, if it is about one.
        unit: What that is in the link phase.
        scope: Of the task that waits.
    """

    connection: "FaultyConnection"
    wait: Wait
    side: Side | None
    unit: Phase | None
    scope: trio.CancelScope


class Deadlines:
    """What waits for a time on one connection goes on in the order in which it is due.

    Args:
        wake: Lets what a token names go on.
    """

    def __init__(self, wake: Callable[[Token], None]) -> None:
        self._wake = wake
        self._due: dict[Token, float] = {}

    def add(self, nursery: trio.Nursery, waiting: Waiting, delay_ns: int) -> None:
        """Wake it after so long, unless its scope is cancelled before."""
        self._due[waiting.wait.token] = due = trio.current_time() + delay_ns / 1e9
        nursery.start_soon(self._sleep, waiting.scope, due)

    def forget(self, token: Token) -> None:
        """It does not wait any more."""
        self._due.pop(token, None)

    async def _sleep(self, scope: trio.CancelScope, due: float) -> None:
        with scope:
            await trio.sleep_until(due)
            # Of tasks whose time has come trio takes any first.
            now = trio.current_time()
            for _, token in sorted((at, token) for token, at in self._due.items() if at <= now):
                self._wake(token)
