"""One run of the lab, from an empty machine to a verdict."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import trio

from spiceproxy.address import Address
from spiceproxy.capture.reports import read_report
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import EventLog, Sink, jsonl_file, only
from spiceproxy.lab.capture import Capture, start_capture
from spiceproxy.lab.courses import Place, Ticket, expected, plan
from spiceproxy.lab.errors import LabError, QmpError, single_error
from spiceproxy.lab.hop import Observer, Table, channel_names, migrate, until
from spiceproxy.lab.judge import judge_report
from spiceproxy.lab.programs import QEMU, require_programs
from spiceproxy.lab.qemu import HOST, Qemu, QemuConfig, free_port, start_qemu
from spiceproxy.lab.result import Course, LabOptions, LabResult, MigrationKind, Picture, Traffic
from spiceproxy.lab.sasl import SASLPASSWD
from spiceproxy.lab.sasl import prepare as prepare_sasl
from spiceproxy.lab.secured import Certificates, Secured, subject_of
from spiceproxy.lab.traffic import guest_disk
from spiceproxy.lab.viewer import Viewer, needed_programs, start_viewer
from spiceproxy.lab.watch import EventWatch
from spiceproxy.proxy import Proxy, ProxyConfig, open_proxy
from spiceproxy.report.verdict import Report
from spiceproxy.tls.authority import Authority
from spiceproxy.tls.settings import TlsConfig

_CONNECT_S: Final = 30.0
# A client opens its channels one after the other; none has been seen to take half of this between two of them.
_QUIET_S: Final = 1.0
_BASE_CHANNELS: Final = frozenset({"main:0", "display:0", "inputs:0", "cursor:0"})
_LAST_WORDS_S: Final = 0.5
_FIRST_PICTURE_S: Final = 60.0  # under nested KVM SeaBIOS needs 4 s, and a guest with many pictures 20 s more
_PICTURE_S: Final = 10.0

Progress = Callable[[str], None]


async def run_lab(options: LabOptions, progress: Progress = lambda _: None) -> LabResult:
    """Start everything, migrate as asked, look, stop everything.

    What goes wrong on the way, with the programs or with the migration, is among the `problems` of the result.

    Args:
        options: What to do.
        progress: Called with a line of text at every step.

    Raises:
        UsageError: A program is missing, or a file cannot be written.
    """
    captured = ["dumpcap"] if options.direct and options.record else []
    sasl = [SASLPASSWD] if options.sasl else []
    require_programs([QEMU, *needed_programs(options.client, options.traffic), *captured, *sasl])
    _check_writable(options)
    started = trio.current_time()
    result = LabResult(options.migration, options.course, options.hops, options.client, options.direct)
    run: _Run | None = None
    try:
        with private_directory(options.keep_logs) as directory, single_error():
            async with trio.open_nursery() as nursery:
                run = _Run(options, nursery, directory, progress, result)
                try:
                    await run.play()
                except QmpError:
                    await trio.sleep(_LAST_WORDS_S)  # a QEMU that has died says how; that comes first
                    raise
                nursery.cancel_scope.cancel()
    except LabError as error:
        result.problems.append(str(error))
    result.report = await _report(options, run.proxy if run is not None else None)
    result.duration_s = round(trio.current_time() - started, 1)
    result.problems += [
        f"hop {hop.hop}: {problem}" if options.hops > 1 else problem
        for hop in result.migrations
        for problem in hop.problems
    ]
    if result.report is not None and not result.problems:
        outcomes = [each.outcome or "going on" for each in result.report.migrations]
        result.problems += judge_report(result.migrations, outcomes)
    lost = bool(result.migrations) and result.migrations[-1].client_on is Place.NOWHERE
    result.ok = not result.problems and (lost or len(result.migrations) == options.hops)
    return result


class _Run:
    """The state of one run. Its programs are tasks of `nursery`, so all of them end with it."""

    def __init__(
        self,
        options: LabOptions,
        nursery: trio.Nursery,
        directory: Path,
        progress: Progress,
        result: LabResult,
    ) -> None:
        self._options, self._nursery, self._directory = options, nursery, directory
        self._progress, self._result = progress, result
        self._plan = plan(options.course, options.migration)
        asks = options.ticket or self._plan.ticket or options.sasl
        self._password = secrets.token_hex(8) if asks else None
        self._sasl: Mapping[str, str] = {}
        self._certificates = Certificates(directory) if options.tls else None
        self._disk = directory / "guest.img"
        # For each server, and for each place where the client is sent otherwise: a capture has to know them beforehand.
        self._ports = [free_port() for _ in range(2 if options.back else options.hops + 1)]
        self._forwarder_ports = [free_port() for _ in range(options.hops)]
        self._watch = EventWatch()
        self._table: Table = tuple
        self.proxy: Proxy | None = None

    async def play(self) -> None:
        options = self._options
        driven = 1 if self._plan.idle_head else options.heads
        disk = partial(guest_disk, options.traffic, driven, one_adapter=options.one_adapter)
        if options.sasl is not None and self._password is not None:
            self._sasl = await trio.to_thread.run_sync(
                prepare_sasl, self._directory, options.sasl, self._password
            )
        self._disk.write_bytes(await trio.to_thread.run_sync(disk))
        async with AsyncExitStack() as stack:
            capture = await self._start_capture()
            server = await self._start_qemu(1)
            self._result.accelerator = server.accelerator
            address = server.spice if options.direct else await self._open_proxy(stack, server)
            self._progress(
                f"{options.client}: connecting to {'s1' if options.direct else 'the proxy'} at {address}"
            )
            ways = expected(options.course, options.migration, 1)
            viewer = await start_viewer(
                self._nursery,
                options,
                self._directory,
                address,
                password=self._password,
                secured=self._secured(),
                may_be_lost=any(way.client is Place.NOWHERE for way in ways),
            )
            try:
                await self._watch_migrations(server, viewer)
            finally:
                if options.screenshot is not None and viewer.write_screenshot(options.screenshot):
                    self._result.screenshot = str(options.screenshot)
            await viewer.stop()
            if capture is not None:
                await capture.stop()

    async def _start_capture(self) -> Capture | None:
        """In a run without the proxy, which records by itself."""
        if not (self._options.direct and self._options.record):
            return None
        self._result.recording = str(self._options.record)
        ports = {*self._ports, *self._forwarder_ports}
        return await start_capture(self._nursery, self._options.record, ports, self._directory)

    async def _watch_migrations(self, server: Qemu, viewer: Viewer) -> None:
        options = self._options
        channels = self._result.channels = await self._channels_of(server)
        self._progress(f"{options.client}: {', '.join(channels)}")
        if Traffic.USB in options.traffic:
            # Redirection takes a client, and then it is the BIOS that reads from the drive: it looks for one to boot from.
            await server.qmp.execute("system_reset")
        if await viewer.look(_FIRST_PICTURE_S) is not Picture.MOVING:
            raise LabError(f"the guest's picture did not come to {options.client} in {_FIRST_PICTURE_S:g} s")
        await self._let_traffic_flow(viewer)
        for hop in range(1, options.hops + 1):
            server = await self._hop(hop, server, viewer)
            last = self._result.migrations[-1]
            if last.problems or last.client_on is Place.NOWHERE:
                break  # from a client that is not where it should be, the next hop would prove nothing
            await self._let_traffic_flow(viewer)

    async def _let_traffic_flow(self, viewer: Viewer) -> None:
        if self._options.traffic:
            self._progress(f"traffic: {', '.join(sorted(self._options.traffic))}")
        await viewer.act()
        await trio.sleep(self._options.seconds)

    async def _hop(self, hop: int, source: Qemu, viewer: Viewer) -> Qemu:
        """Migrate once more; return the server that has the client then, all others are stopped."""
        options = self._options
        moves = sum(each.client_on == Place.DESTINATION for each in self._result.migrations)
        destination = await self._start_qemu(hop + 1, incoming=True)
        observer = Observer(
            options,
            self._plan if hop == 1 else plan(Course.PLAIN, options.migration),
            expected(options.course, options.migration, hop),
            moves + 1,
            self._result.channels,
            self._watch,
            self._table,
            partial(viewer.look, _PICTURE_S),
            self._progress,
            viewer.kill,
        )
        result = await migrate(
            self._nursery, hop, source, destination, observer, self._forwarder_ports[hop - 1]
        )
        self._result.migrations.append(result)
        stays = result.client_on is Place.SOURCE
        await (destination if stays else source).stop()
        return source if stays else destination

    async def _start_qemu(self, number: int, *, incoming: bool = False) -> Qemu:
        course, options = self._plan, self._options
        webdav = options.client.opens_webdav if course.webdav is None else course.webdav
        config = QemuConfig(
            name=f"s{number}",
            directory=self._directory,
            disk=self._disk,
            spice_port=self._ports[(number - 1) % len(self._ports)],
            incoming=incoming,
            seamless=self._options.migration is not MigrationKind.SEMI_SEAMLESS,
            webdav=webdav,
            more=course.more_on_destination if incoming else course.more_on_source,
            ticket=self._password is not None and options.sasl is None,
            environment=self._sasl,
            sasl=options.sasl is not None,
            x509=self._certificates.make(f"s{number}") if self._certificates is not None else None,
            traffic=self._options.traffic,
            heads=max(options.heads, 2) if course.idle_head else options.heads,
            one_adapter=self._options.one_adapter,
            spice=self._options.spice,
            accelerators=self._options.accelerators,
        )
        qemu = await start_qemu(self._nursery, config)
        if config.ticket:
            await self._set_password(qemu, course.ticket if number == 2 else None)
        self._progress(f"{qemu.name}: QEMU with {qemu.accelerator}, SPICE on {qemu.spice}")
        return qemu

    async def _set_password(self, qemu: Qemu, ticket: Ticket | None) -> None:
        assert self._password is not None  # noqa: S101  made for it
        password = secrets.token_hex(8) if ticket is Ticket.OTHER else self._password
        await qemu.qmp.execute("set_password", protocol="spice", password=password)
        if ticket is Ticket.EXPIRED:
            await qemu.qmp.execute("expire_password", protocol="spice", time="now")

    async def _open_proxy(self, stack: AsyncExitStack, server: Qemu) -> Address:
        options = self._options
        sinks: list[Sink] = [self._watch]
        if options.events is not None:
            sinks.append(only(options.events_filter, stack.enter_context(jsonl_file(options.events))))
            self._result.events = str(options.events)
        if options.record is not None:
            self._result.recording = str(options.record)
        tls = None
        if self._certificates is not None:
            tls = TlsConfig(
                listen=Address(HOST, 0),
                server=server.spice,
                server_ca=self._certificates.ca,
                server_subject=subject_of(server.name),
                certificate=Authority.new(),
            )
        config = ProxyConfig(
            listen=None if tls else Address(HOST, 0),
            server=None if tls else server.spice,
            tls=tls,
            record=options.record,
            events=EventLog(sinks),
            faults=options.faults,
            control=options.control,
        )
        proxy = self.proxy = await stack.enter_async_context(open_proxy(config))
        self._table = lambda: [entry for session in proxy.sessions for entry in session.connections]
        return proxy.address

    def _secured(self) -> Secured | None:
        """What the client has to trust: the servers' CA, or that of the proxy."""
        if self._certificates is None:
            return None
        ca = self._certificates.ca
        if self.proxy is not None and self.proxy.config.tls is not None:
            authority = self.proxy.config.tls.certificate
            assert isinstance(authority, Authority)  # noqa: S101  see _open_proxy
            ca = self._directory / "proxy-ca.pem"
            ca.write_bytes(authority.pem)
        return Secured(ca, subject_of("s1"))

    async def _channels_of(self, server: Qemu) -> list[str]:
        """The client's channels, once it has the four that every client has and has opened no more for a while."""
        seen: list[str] = []
        quiet_since = trio.current_time()

        async def complete() -> list[str] | None:
            nonlocal seen, quiet_since
            now = channel_names(await server.query_spice())
            if now != seen:
                seen, quiet_since = now, trio.current_time()
            return (
                seen if set(seen) >= _BASE_CHANNELS and trio.current_time() - quiet_since > _QUIET_S else None
            )

        channels = await until(complete, _CONNECT_S)
        if channels is None:
            raise LabError(
                f"{self._options.client} did not connect in {_CONNECT_S:g} s; it has {', '.join(seen) or 'no channel'}"
            )
        return channels


async def _report(options: LabOptions, proxy: Proxy | None) -> Report | None:
    """On the migrations of the run: as the proxy saw them, or else as the capture shows them, if there is one."""
    file = str(options.record) if options.record is not None else None
    if proxy is not None:
        return proxy.report(file=file)
    return await trio.to_thread.run_sync(_read_capture, file) if options.direct and file is not None else None


def _read_capture(file: str) -> Report | None:
    """The same from a capture; None if it was never begun."""
    if not Path(file).exists():
        return None
    try:
        return read_report(file)
    except UsageError as error:
        return Report([], file=file, problems=[str(error)])


def _check_writable(options: LabOptions) -> None:
    """Say now what would be an error at the end of the run; the proxy does that for its own files.

    Raises:
        UsageError: The screenshot or the logs cannot be written.
    """
    try:
        if options.keep_logs is not None:
            options.keep_logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {options.keep_logs}: {error.strerror}") from None
    if options.screenshot is not None and not os.access(options.screenshot.parent, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {options.screenshot}: no such directory, or not allowed")


@contextmanager
def private_directory(keep_logs: Path | None) -> Iterator[Path]:
    """A directory for one run alone, with a short path; its logs are copied to `keep_logs` on every way out."""
    # The path of a unix socket has 107 bytes; a directory for temporary files may be deep.
    parent = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"  # noqa: S108 - mkdtemp makes it safe
    with tempfile.TemporaryDirectory(
        prefix="spiceproxy-lab-", dir=parent, ignore_cleanup_errors=True
    ) as name:
        directory = Path(name)
        try:
            yield directory
        finally:
            if keep_logs is not None:
                for log in directory.glob("*.log"):
                    shutil.copy(log, keep_logs)
