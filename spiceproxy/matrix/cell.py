"""One scenario with real servers and a real client: started, migrated, watched until it is clear what has become of it."""

import secrets
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from spiceproxy.address import Address, parse_address
from spiceproxy.eventlog import EventLog, jsonl_file
from spiceproxy.faults.scenarios import Scenario
from spiceproxy.injection.loading import load_faults
from spiceproxy.lab.client_traffic import User, client_options
from spiceproxy.lab.display import Display
from spiceproxy.lab.errors import LabError, QmpError, single_error
from spiceproxy.lab.forwarder import start_forwarder
from spiceproxy.lab.hop import until
from spiceproxy.lab.qemu import HOST, Qemu, start_qemu
from spiceproxy.lab.result import ClientKind, LabOptions, Traffic
from spiceproxy.lab.watch import EventWatch
from spiceproxy.matrix.downgrade import serve_plain
from spiceproxy.matrix.guests import Guests
from spiceproxy.matrix.results import Observation
from spiceproxy.matrix.secure import CellTls
from spiceproxy.matrix.setups import Setup
from spiceproxy.matrix.sight import Sight, attempts_of, with_outcomes
from spiceproxy.proxy import Proxy, ProxyConfig, open_proxy
from spiceproxy.report.jsonform import report_object
from spiceproxy.report.verdict import Report

CELL_S: Final = 120.0  # for all of it; none has been seen to take half of it
_CONNECT_S: Final = 12.0
_COMPLETE_S: Final = 0.3  # the client has had all its channels for so long
_RESTORED_S: Final = 15.0
_REPLY_S: Final = 11.0  # spice-server waits for 10 s, and so do clients
_MIGRATION_S: Final = 15.0
_QUIET_S: Final = 4.0  # what scenarios do to a session without a migration begins when it is 2 s old
_GIVEN_UP_S: Final = 10.7  # spice-server drops a client that has not left the source 10 s after the end
_LATE_S: Final = 2.0  # what comes of that which comes late
_LAST_WORDS_S: Final = 0.6  # a program that dies may take others along
_FAST: Final = {"max_bandwidth": 2**33, "downtime_limit": 2000}
_SLOW: Final = {"max_bandwidth": 2**18}

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """What cells share: the guests, and for each job a screen.

    Attributes:
        guests: That have booted.
        screen: The number of the job's X display.
        client: Which client.
    """

    guests: Guests
    screen: int
    client: ClientKind = ClientKind.SPICY


async def play(
    scenario: Scenario, setup: Setup, stage: Stage, artefacts: Path, progress: Progress = lambda _: None
) -> Observation:
    """Play it once.

    Args:
        scenario: Which.
        setup: What it takes.
        stage: What is there already.
        artefacts: An empty directory: recording, events, report and logs go there.
        progress: Called with a line at every step.

    Raises:
        LabError: The lab could not even begin: a QEMU did not come up, or the client had no session before the fault.
    """
    state = await stage.guests.state(setup.guest)
    play = _Play(scenario, setup, stage, artefacts, state, progress)
    with _directory(artefacts) as directory, single_error():
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(CELL_S):
                    seen = await play.run(nursery, directory)
            except trio.TooSlowError:
                raise LabError(f"not done within {CELL_S:g} s: {play.step}") from None
            finally:
                with trio.CancelScope(shield=True):
                    await play.end()
            nursery.cancel_scope.cancel()
    return seen


class _Play:
    """The state of one cell."""

    def __init__(
        self, scenario: Scenario, setup: Setup, stage: Stage, artefacts: Path, state: Path, progress: Progress
    ) -> None:
        self._scenario, self._setup, self._stage = scenario, setup, stage
        self._artefacts, self._state, self._progress = artefacts, state, progress
        self._watch = EventWatch()
        self._sight = Sight()
        self._tls: CellTls | None = None
        self._password = secrets.token_hex(8) if scenario.needs.ticket else None
        self.step = "starting"

    async def run(self, nursery: trio.Nursery, directory: Path) -> Observation:
        self._nursery, self._directory = nursery, directory
        if self._scenario.needs.tls:
            self._tls = await trio.to_thread.run_sync(CellTls, directory)
        async with AsyncExitStack() as stack:
            source = await self._start_all(stack)
            began = trio.current_time()
            await self._play(source)
            self._say("looking")
            observation = await self._sight.look()
            watched_s = round(trio.current_time() - began, 2)
        # The proxy has stopped first: what was still going on is told as it then stood.
        report = self._proxy.report(file="recording.pcapng")
        self._keep(report)
        return msgspec.structs.replace(
            observation,
            fired=list(dict.fromkeys(each.fault for each in report.faults)),
            never_fired=list(report.faults_never_fired),
            attempts=with_outcomes(observation.attempts, attempts_of(report)),
            watched_s=watched_s,
        )

    async def end(self) -> None:
        """Kill what still runs: nobody looks at it any more, and the guest's state is a copy."""
        async with trio.open_nursery() as nursery:
            for child in self._sight.children():
                nursery.start_soon(child.kill)

    def _say(self, step: str) -> None:
        self.step = step
        self._progress(step)

    async def _start_all(self, stack: AsyncExitStack) -> Qemu:
        needs, sight = self._scenario.needs, self._sight
        self._say("starting servers")
        variables: dict[str, Any] = {}
        if self._tls is not None:
            variables["plain_port"] = await self._nursery.start(serve_plain, self._secure_port)
        if needs.other_server:
            other = await self._start_source("other")
            sight.add(other, "other")
            variables |= {"other_host": other.spice.host, "other_port": other.spice.port}
        source = await self._start_source("s1")
        sight.add(source, "source")
        faults = load_faults([], [self._scenario.name], [], variables=variables)
        events = stack.enter_context(jsonl_file(self._artefacts / "events.jsonl"))
        config = ProxyConfig(
            listen=Address(HOST, 0) if self._tls is None else None,
            server=source.spice if self._tls is None else None,
            tls=self._tls.proxy(source.name, source.spice) if self._tls is not None else None,
            record=self._artefacts / "recording.pcapng",
            events=EventLog([self._watch, events]),
            faults=faults,
        )
        self._proxy = sight.proxy = await stack.enter_async_context(open_proxy(config))
        await self._start_client(self._proxy)
        return source

    def _secure_port(self) -> Address | None:
        """The proxy's TLS port for the destination, once there is one."""
        for event in reversed(self._watch.events):
            if event["event"] == "destination_opened" and event["tls"]:
                return parse_address(event["listen"])
        return None

    async def _start_source(self, name: str) -> Qemu:
        config = self._config(name)
        qemu = await start_qemu(self._nursery, replace(config, state=self._state))

        async def restored() -> bool | None:
            status = (await qemu.qmp.execute("query-status"))["status"]
            return True if status == "running" else None

        if await until(restored, _RESTORED_S) is None:
            raise LabError(f"{name} did not go on with the saved guest: {qemu.child.tail()}")
        await self._set_password(qemu)
        return qemu

    async def _set_password(self, qemu: Qemu) -> None:
        if self._password is not None:
            await qemu.qmp.execute("set_password", protocol="spice", password=self._password)

    def _config(self, name: str) -> Any:
        lab = self._scenario.lab
        spice: dict[str, str] = {}
        if lab.image_compression is not None:
            spice["image-compression"] = lab.image_compression
        return self._stage.guests.config(
            self._setup.guest,
            name,
            self._directory,
            seamless=self._scenario.needs.migration != "semi-seamless",
            spice=spice,
            x509=self._tls.x509(name) if self._tls is not None else None,
            ticket=self._password is not None,
        )

    async def _start_client(self, proxy: Proxy) -> None:
        self._say("starting the client")
        display = Display(self._stage.screen, self._directory)
        acts = self._setup.acts
        options = LabOptions(client=self._stage.client, traffic=acts)
        words = await trio.to_thread.run_sync(client_options, options, self._directory)
        client = await display.start_client(
            self._nursery,
            self._stage.client,
            proxy.address,
            options=[*words, *await self._stage.guests.card(self._setup.guest)],
            grab=Traffic.INPUT in acts,
            may_fail=True,
            password=self._password,
            secured=self._tls.client("s1") if self._tls is not None else None,
        )
        self._sight.client = client
        self._user = User(self._nursery, display.environment(), self._directory)

    async def _play(self, source: Qemu) -> None:
        scenario, sight = self._scenario, self._sight
        await self._connected(source)
        await self._act()
        if scenario.needs.migration == "none":
            self._say("waiting for what comes")
            await sight.until_over(_QUIET_S + self._setup.patience_s)
            return
        await trio.sleep(max(0.0, self._setup.quiet_s - self._age()))
        for number in range(scenario.lab.migrations):
            destination = await start_qemu(
                self._nursery, replace(self._config(f"s{number + 2}"), incoming=True)
            )
            await self._set_password(destination)
            sight.add(destination, "destination")
            sight.roles[source.name] = "source"
            last = number + 1 == scenario.lab.migrations
            try:
                cancelled = await self._migrate(
                    source, destination, cancel=scenario.lab.cancel and number == 0
                )
            except QmpError as error:  # whoever does not answer any more has ended, or says so below
                sight.notes.append(str(error))
                break
            if last:
                sight.cancelled = cancelled
            elif cancelled:
                sight.forget(destination)
            if not last:
                source = source if cancelled else destination
        await self._settle(source)
        await self._act()

    async def _connected(self, source: Qemu) -> None:
        """Wait for the client's channels. A fault may keep some of them away, or the whole client."""
        wanted = self._setup.channels
        since: float | None = None
        with trio.move_on_after(_CONNECT_S):
            while self._sight.client.returncode is None and source.child.returncode is None:
                now = {name for name, hop in self._sight.open_channels()}
                if {name.partition(":")[0] for name in now} >= wanted:
                    since = since or trio.current_time()
                    if trio.current_time() - since >= _COMPLETE_S:
                        break
                await trio.sleep(0.05)
        self._began = trio.current_time()
        self._sight.channels = sorted(name for name, hop in self._sight.open_channels())
        if not self._sight.channels and not self._proxy.sessions:
            raise LabError(f"the client did not come within {_CONNECT_S:g} s: {self._sight.client.tail()}")
        self._say(f"{len(self._sight.channels)} channels")

    def _age(self) -> float:
        """Of the session, about."""
        return trio.current_time() - self._began

    async def _act(self) -> None:
        if not self._setup.acts:
            return
        try:
            await self._user.act(self._setup.acts)
        except LabError as error:
            self._sight.notes.append(str(error))
        await trio.sleep(1)

    async def _migrate(self, source: Qemu, destination: Qemu, *, cancel: bool) -> bool:
        """Migrate once; return whether it was cancelled."""
        lab, sight = self._scenario.lab, self._sight
        target, forwarder = destination.spice, None
        if self._scenario.needs.migration == "switch-host":
            forwarder = await start_forwarder(self._nursery, HOST, destination.spice)
            target = forwarder.address
            sight.addresses[target] = destination.name
        if lab.kill == "destination" and lab.kill_when == "before":
            await destination.kill()
            sight.killed.add(destination.name)
        await source.qmp.execute("migrate-set-parameters", **(_SLOW if cancel else _FAST))
        since = len(self._watch.events)
        self._say(f"client_migrate_info to {destination.name}")
        ports: dict[str, Any] = {"port": target.port}
        if self._tls is not None:
            ports = self._tls.announcement(destination.name, target.port)
        await source.qmp.execute("client_migrate_info", protocol="spice", hostname=target.host, **ports)
        if lab.migrate_after_s is not None:
            await trio.sleep(lab.migrate_after_s)
        else:
            await self._reply(since)
        if forwarder is not None:
            forwarder.open()
        self._say(f"migrate to {destination.name}")
        await source.qmp.execute("migrate", uri=destination.config.migration_uri)
        if cancel:
            await until(partial(_moving, source), _MIGRATION_S)
            await source.qmp.execute("migrate_cancel")
        status = await until(partial(_finished, source), _MIGRATION_S) or "active"
        sight.qmp.append(status)
        return cancel

    async def _reply(self, since: int) -> None:
        """Wait for the client's answer, as long as there is somebody who could give one."""
        with trio.move_on_after(_REPLY_S):
            async with trio.open_nursery() as nursery:

                async def stop_when(wait: Callable[[], Awaitable[object]]) -> None:
                    await wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(
                    stop_when, partial(self._watch.client_reply, since=since, timeout_s=_REPLY_S)
                )
                nursery.start_soon(stop_when, self._sight.somebody_ended)

    async def _settle(self, source: Qemu) -> None:
        """Watch until it is clear: somebody has died, all has moved, or the source has given up."""
        self._say("waiting for the end")
        sight, began = self._sight, trio.current_time()
        patience_s = self._setup.patience_s + _LATE_S if self._setup.patience_s else 0.0
        limit = _GIVEN_UP_S + patience_s
        moved = bool(sight.qmp) and sight.qmp[-1] == "completed"
        while trio.current_time() - began < limit:
            if sight.ended():
                await trio.sleep(_LAST_WORDS_S)
                break
            left = any(event.name == "SPICE_MIGRATE_COMPLETED" for event in source.qmp.events)
            sight.left_source = left if moved else None
            late = trio.current_time() - began < patience_s
            if not late and (left or not moved) and (sight.migration_over() or sight.wedged()):
                break
            await trio.sleep(0.1)
        sight.left_source = (
            any(event.name == "SPICE_MIGRATE_COMPLETED" for event in source.qmp.events) if moved else None
        )

    def _keep(self, report: Report) -> None:
        made = msgspec.json.format(msgspec.json.encode(report_object(report)), indent=1)
        (self._artefacts / "report.json").write_bytes(made)


async def _moving(source: Qemu) -> bool | None:
    status: dict[str, Any] = await source.qmp.execute("query-migrate")
    return True if status.get("ram", {}).get("transferred", 0) > 0 else None


async def _finished(source: Qemu) -> str | None:
    if source.gone:
        return "gone"
    status = str((await source.qmp.execute("query-migrate")).get("status"))
    return status if status in {"completed", "failed", "cancelled"} else None


@contextmanager
def _directory(artefacts: Path) -> Iterator[Path]:
    """A directory with a short name, for sockets; its logs are kept."""
    with tempfile.TemporaryDirectory(
        prefix="spiceproxy-cell-", dir="/tmp", ignore_cleanup_errors=True
    ) as name:
        directory = Path(name)
        try:
            yield directory
        finally:
            for log in directory.glob("*.log"):
                with suppress(OSError):
                    shutil.copy(log, artefacts)
