"""`spice_servers`: what is behind the proxy, and moves its guest."""

import contextlib
import shlex
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from spiceproxy.address import Address, parse_server
from spiceproxy.demo.result import MORE_CHANNELS
from spiceproxy.demo.run import CHANNELS
from spiceproxy.errors import UsageError
from spiceproxy.faults.errors import unknown
from spiceproxy.lab.watch import EventWatch
from spiceproxy.pytest_plugin.background import Background
from spiceproxy.pytest_plugin.settings import KINDS, QEMU, SIMULATED, Settings
from spiceproxy.simulate import Outcome, ServerOptions, SimulatedServer, SimulationError
from spiceproxy.simulate.cast import Cast
from spiceproxy.simulate.move import move_guest

# What a source says to a client that is to come along.
_FOLLOWED: Final = frozenset({Outcome.MIGRATE, Outcome.MIGRATE_END, Outcome.SWITCH_HOST})
_START_S: Final = 60.0  # QEMU without KVM, on a machine with other work


@dataclass(frozen=True, slots=True)
class Move:
    """A migration as those see it who move the guest.

    Attributes:
        source, destination: Names: s1, s2 ...
        told: What the source told the client in the end ("MIGRATE", "MIGRATE_END", "SWITCH_HOST", "CANCEL"), or what QEMU's
            `query-migrate` says; "" if it did not come to that.
        problems: What went wrong, in words. No error: with faults this is what a test looks for.
    """

    source: str
    destination: str
    told: str = ""
    problems: list[str] = field(default_factory=list)


class Stage(Protocol):
    """Servers of one kind, where trio runs."""

    address: Address
    """Of the first one."""

    async def migrate(self, kind: str, limit_s: float) -> Move:
        """Move the guest, and the client with it."""

    def findings(self) -> list[str]:
        """What the servers hold against their client."""


class SimulatedStage:
    """Servers of `spiceproxy.simulate`: s1, s2 ..."""

    def __init__(self, nursery: trio.Nursery, settings: Settings) -> None:
        self._settings, self._kind = settings, settings.kind
        self.cast = Cast(nursery, self._make)

    async def start(self) -> None:
        """Begin with s1."""
        self.current = await self.cast.start()
        self.address = self.cast.addresses[self.current.name]

    def _make(self, number: int, port: int) -> SimulatedServer:
        more = tuple(each for each in self._settings.channels if each in MORE_CHANNELS)
        options = ServerOptions(
            name=f"s{number}",
            port=port,
            password=self._settings.ticket,
            channels=(*CHANNELS, *more),
            seamless=self._kind != "semi-seamless",
            incoming=number > 1,
        )
        return SimulatedServer(options)

    async def migrate(self, kind: str, limit_s: float) -> Move:
        """Move the guest to the next one."""
        source, course, self._kind = self.current, self._settings.course, kind
        source.options = replace(source.options, seamless=kind != "semi-seamless")
        destination = await self.cast.destination(source, refuse=kind == "switch-host")
        problems: list[str] = []

        async def attempt(step: Callable[[], Awaitable[object]]) -> bool:
            try:
                await step()
            except SimulationError as error:
                problems.append(str(error))
                return False
            return True

        outcome = None
        with trio.move_on_after(limit_s) as scope:
            outcome = await move_guest(self.cast, source, destination, course, attempt)
            if outcome in _FOLLOWED and destination.has_guest:
                await attempt(lambda: destination.wait_client_arrived(outcome))
        if scope.cancelled_caught:
            problems.append(f"not done within {limit_s:g} s")
        if destination.has_guest:
            self.current = destination
        return Move(source.name, destination.name, outcome.name if outcome is not None else "", problems)

    def findings(self) -> list[str]:
        """Rules that the client broke."""
        return [str(broken) for server in self.cast.servers for broken in server.broken_rules]


class GivenStage:
    """A server that is there; somebody else migrates it, with a command if there is one."""

    def __init__(self, settings: Settings, address: Address) -> None:
        self._settings, self.address = settings, address

    async def migrate(self, kind: str, limit_s: float) -> Move:  # noqa: ARG002 - it is migrated as it is
        """Run the command."""
        command = self._settings.migrate_command
        if command is None:
            raise UsageError(
                f"the server at {self.address} is not the plugin's to migrate: do it in the test, or give a command with "
                "--spice-migrate-command"
            )
        words = [word.format(server=self.address) for word in shlex.split(command)]
        move = Move(str(self.address), "")
        with trio.move_on_after(limit_s) as scope:
            try:
                done = await trio.run_process(
                    words, capture_stdout=True, stderr=subprocess.STDOUT, check=False, stdin=b""
                )
            except OSError as error:
                raise UsageError(f"cannot start {words[0]}: {error.strerror or error}") from None
            if done.returncode:
                said = done.stdout.decode(errors="replace").strip()[-500:]
                move.problems.append(f"{words[0]} ended with status {done.returncode}: {said}")
        if scope.cancelled_caught:
            move.problems.append(f"{words[0]} is not done within {limit_s:g} s")
        return move

    def findings(self) -> list[str]:
        """They say nothing."""
        return []


@contextlib.asynccontextmanager
async def servers_for_test(settings: Settings, directory: Path, watch: EventWatch) -> AsyncIterator[Stage]:
    """What the test asks for.

    Raises:
        UsageError: It cannot be had.
    """
    if settings.server == QEMU:
        from spiceproxy.pytest_plugin.qemu import qemu_stage

        async with qemu_stage(settings, directory, watch) as qemus:
            yield qemus
    elif settings.server != SIMULATED:
        yield GivenStage(settings, _given(settings.server))
    else:
        async with trio.open_nursery() as nursery:
            stage = SimulatedStage(nursery, settings)
            try:
                await stage.start()
                yield stage
            finally:
                stage.cast.close()
            nursery.cancel_scope.cancel()


def _given(text: str) -> Address:
    try:
        address = parse_server(text).address
    except UsageError as error:
        raise UsageError(f"{error}; a server may also be `{SIMULATED}` or `{QEMU}`") from None
    if address is None:
        raise UsageError(f"{text}: a server of tests needs a plain port")
    return address


class SpiceServers:
    """The servers of a test. The first one is behind the proxy.

    Attributes:
        address: Of the first one, `host` and `port`.
        kind: "simulated", "qemu" or "given".
    """

    def __init__(self, background: Background, stage: Stage, settings: Settings) -> None:
        self._background, self._stage, self._settings = background, stage, settings
        self.address = stage.address
        self.kind = settings.server if settings.server in {SIMULATED, QEMU} else "given"

    def migrate(self, kind: str | None = None, timeout: float | None = None) -> Move:
        """Move the guest to the next server, as a hypervisor does it, which does not care for what becomes of the client.

        Args:
            kind: "seamless", "semi-seamless" or "switch-host"; without it, what markers say, or seamless.
            timeout: Seconds; what is not done by then is left as it is.

        Raises:
            UsageError: These servers cannot do that.
        """
        wanted = kind or self._settings.kind
        if wanted not in KINDS:
            raise UsageError(unknown("kind of migration", wanted, KINDS))
        limit = self._settings.timeout_s if timeout is None else timeout
        return self._background.run(self._stage.migrate, wanted, limit, timeout_s=limit + _START_S)

    def draw(self, count: int = 60) -> None:
        """Let the guest of a simulated server draw.

        Raises:
            UsageError: They are not simulated.
        """
        self.run(self.simulated.draw, count)

    @property
    def simulated(self) -> SimulatedServer:
        """The simulated server that has the guest; use it with `run`, since it lives in another thread.

        Raises:
            UsageError: They are not simulated.
        """
        if not isinstance(self._stage, SimulatedStage):
            raise UsageError(f"these servers are {self.kind}, not {SIMULATED}")
        return self._stage.current

    def run(self, function: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
        """Call a function where the servers live, and await it: ``run(spice_servers.simulated.move_pointer, 3, 4)``."""
        limit = self._settings.timeout_s if timeout is None else timeout
        return self._background.call(function, *args, timeout_s=limit)

    @property
    def findings(self) -> list[str]:
        """What simulated servers hold against their client, in words, with the number of the rule."""
        found: list[str] = self.run(self._stage.findings)
        return found
