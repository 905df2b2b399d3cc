"""An event log for what a peer can bring about as often as it likes."""

import time
from collections.abc import Callable
from typing import Any, Final

from spiceproxy.eventlog import EventLog

# A migration of twelve channels is told in less. Who goes on gets this many a second, and a number for the others.
AT_ONCE: Final = 200
A_SECOND: Final = 20.0
TELL_S: Final = 1.0


class SparingLog(EventLog):
    """Passes events on until there are too many of them, and then says how many it has kept back (`events_withheld`).

    Args:
        log: Where they go.
        clock: Seconds, steady.
    """

    def __init__(self, log: EventLog, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._sinks, self._log, self._clock = log._sinks, log._log, clock  # noqa: SLF001  as `bind` does
        self._left, self._asked_at = float(AT_ONCE), clock()
        self._withheld, self._told_at = 0, float("-inf")

    def debug(self, event: str, **fields: Any) -> None:
        """As of the log."""
        if self._may():
            super().debug(event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        """As of the log."""
        if self._may():
            super().info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """As of the log."""
        if self._may():
            super().warning(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """As of the log."""
        if self._may():
            super().error(event, **fields)

    def _may(self) -> bool:
        now = self._clock()
        self._left = min(float(AT_ONCE), self._left + (now - self._asked_at) * A_SECOND)
        self._asked_at = now
        if self._left >= 1.0:
            self._left -= 1.0
            self.tell()
            return True
        self._withheld += 1
        if now - self._told_at >= TELL_S:
            self.tell()
        return False

    def tell(self) -> None:
        """Say how many have been kept back, if any have."""
        if self._withheld:
            self._told_at = self._clock()
            super().warning("events_withheld", events=self._withheld)
            self._withheld = 0
