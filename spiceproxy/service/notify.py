"""Tell the service manager how we are. Source: sd_notify(3), sd_watchdog_enabled(3)."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

import trio


class Notifier:
    """Sends datagrams to the socket that the service manager named; without one it does nothing.

    Args:
        environment: Of the process.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of the abstract name space.
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self.watchdog_s: float | None = None
        """How often the manager wants to hear of us, if it does."""
        usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        if self._address and usec.isdecimal() and int(usec) > 0 and pid in {"", str(os.getpid())}:
            self.watchdog_s = int(usec) / 1e6

    def tell(self, *lines: str) -> None:
        """Send an assignment each, as `READY=1`. A manager that does not listen is no error of ours."""
        if not self._address:
            return
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), self._address)

    async def run(self) -> None:
        """Say that the event loop turns, twice as often as is wanted."""
        while self.watchdog_s is not None:
            self.tell("WATCHDOG=1")
            await trio.sleep(self.watchdog_s / 2)
