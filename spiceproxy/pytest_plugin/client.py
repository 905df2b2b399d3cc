"""`spice_client`: who connects to the proxy."""

import contextlib
import shlex
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import trio

from spiceproxy.errors import UsageError
from spiceproxy.lab.errors import single_error
from spiceproxy.lab.process import Child, start_child
from spiceproxy.pytest_plugin.background import Background, Part
from spiceproxy.pytest_plugin.proxy import SpiceProxy
from spiceproxy.pytest_plugin.servers import SpiceServers
from spiceproxy.pytest_plugin.settings import QEMU, SIMULATED, Settings
from spiceproxy.simulate import ClientOptions, RuleBroken, SimulatedClient, SimulationError
from spiceproxy.simulate.usage import use

_LOOK_S: Final = 5.0
_END_S: Final = 10.0
_BOOT_S: Final = 60.0  # under nested KVM SeaBIOS needs 4 s, on a machine with other work many times that
# The lab's guest draws 18 frames a second.
_BETWEEN_LOOKS_S: Final = 0.2
_MOVING: Final = 4


@contextlib.asynccontextmanager
async def _simulated(settings: Settings) -> AsyncIterator[SimulatedClient]:
    """A simulated client. What the servers do wrong is for the test to judge, and ends nothing here."""
    client = SimulatedClient(ClientOptions(name="c", password=settings.ticket))
    async with trio.open_nursery() as nursery:
        await nursery.start(client.run)
        yield client
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _program(command: list[str], log: Path) -> AsyncIterator[Child]:
    with single_error():
        async with trio.open_nursery() as nursery:
            yield await start_child(nursery, command[0], command, log=log, may_fail=True)
            nursery.cancel_scope.cancel()


class SpiceClient:
    """The client of a test, simulated or a program. Test suites of clients bring their own and need none of this.

    Attributes:
        error: Why it did not connect, if it did not.
        log: What a program writes.
    """

    def __init__(
        self,
        background: Background,
        proxy: SpiceProxy,
        servers: SpiceServers,
        directory: Path,
        settings: Settings,
    ) -> None:
        self._background, self._proxy, self._servers, self._settings = background, proxy, servers, settings
        self.error: str | None = None
        self.log = directory / "client.log"
        self._part: Part[Any] | None = None

    def connect(self, timeout: float | None = None) -> None:
        """Start it if it does not run, and connect.

        Raises:
            AssertionError: It has no session in time; `error` says why as well.
            UsageError: The program cannot be started.
        """
        __tracebackhide__ = True
        limit = self._settings.timeout_s if timeout is None else timeout
        self.error = None
        try:
            if self._settings.client_command is not None:
                self._start_program(self._settings.client_command)
                self._proxy.wait_for_client(limit)
                return
            if self._part is None:
                self._part = self._background.enter(_simulated(self._settings), timeout_s=limit)
            self._background.run(self.simulated.connect, *self._proxy.address, timeout_s=limit)
            self._background.run(self._settled, timeout_s=max(limit, _BOOT_S))
        except (SimulationError, TimeoutError, AssertionError) as error:
            self.error = str(error).partition("\n")[0]
            raise AssertionError(f"no session: {self.error}") from None

    async def _settled(self) -> None:
        """Until servers have seen all of it, so that a migration can begin, and the guest draws."""
        if self._servers.kind == SIMULATED:
            client = self.simulated
            await self._servers.simulated.wait_client_arrived()
            await client.wait_until(lambda: client.received["SPICE_MSG_DISPLAY_MARK"] > 0)
        elif self._servers.kind == QEMU:
            moving = 0
            while moving < _MOVING:  # the BIOS draws as well, now and then
                drawn = self.simulated.drawn
                await trio.sleep(_BETWEEN_LOOKS_S)
                self.simulated.check()
                moving = moving + 1 if self.simulated.drawn > drawn else 0

    def _start_program(self, command: str) -> None:
        self.stop()
        proxy = self._proxy
        try:
            words = [
                word.format(uri=proxy.uri, host=proxy.address.host, port=proxy.address.port, vv=proxy.vv)
                for word in shlex.split(command)
            ]
        except (KeyError, IndexError, ValueError) as error:
            raise UsageError(
                f"client command {command!r}: it may have {{uri}}, {{host}}, {{port}}, {{vv}}"
            ) from error
        self._part = self._background.enter(_program(words, self.log), timeout_s=self._settings.timeout_s)

    @property
    def simulated(self) -> SimulatedClient:
        """The simulated client; use it with `run`, since it lives in another thread.

        Raises:
            UsageError: There is none.
        """
        if self._part is None or not isinstance(self._part.value, SimulatedClient):
            raise UsageError("there is no simulated client: it is a program, or was not connected")
        return self._part.value

    def run(self, function: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
        """Call a function where the client lives, and await it: ``run(spice_client.simulated.send_key)``."""
        limit = self._settings.timeout_s if timeout is None else timeout
        return self._background.call(function, *args, timeout_s=limit)

    @property
    def channels(self) -> list[str]:
        """What is open on the proxy now, "display:0"."""
        return sorted(
            view.channel
            for session in self._proxy.sessions
            for view in session.connections
            if view.state == "open"
        )

    def works(self, timeout: float = _LOOK_S) -> bool:
        """Whether the session is alive: what the guest draws reaches the client.

        With simulated servers also: what the user does reaches the guest.

        Raises:
            UsageError: The client is a program, which shows nothing to us.
        """
        return self._background.run(self._works, self.simulated, timeout, timeout_s=timeout + _END_S)

    async def _works(self, client: SimulatedClient, limit_s: float) -> bool:
        client.forget()
        with trio.move_on_after(limit_s):
            try:
                if not client.is_connected:
                    return False
                if self._servers.kind == SIMULATED:
                    server = self._servers.simulated
                    server.forget()
                    if server.session is None:
                        return False
                    await use(client, server)
                else:
                    drawn = client.drawn
                    await client.wait_until(lambda: client.drawn > drawn)
            except SimulationError:
                return False
            return True
        return False

    @property
    def findings(self) -> list[str]:
        """What a simulated client holds against its servers, in words, with the number of the rule."""
        if self._part is None or not isinstance(self._part.value, SimulatedClient):
            return []
        broken: list[RuleBroken] = self._part.value.broken_rules
        found: list[str] = self.run(lambda: [str(each) for each in broken])
        return found

    def stop(self) -> None:
        """End it; `connect` starts another one."""
        part, self._part = self._part, None
        if part is not None:
            self._background.leave(part, timeout_s=_END_S)
