"""`spiceproxy run`: the proxy between a client and a server."""

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import trio

from spiceproxy import eventlog
from spiceproxy.address import Address, ServerTarget, parse_address, parse_port_range
from spiceproxy.cli.control_options import control_of, control_options
from spiceproxy.cli.fault_options import fault_options, faults_of
from spiceproxy.cli.limit_options import limit_options, limits_of
from spiceproxy.cli.options import (
    FILE,
    FilterText,
    check_events_filter,
    events_filter_option,
    events_option,
    record_option,
)
from spiceproxy.cli.recording_options import recording_of, recording_options
from spiceproxy.cli.reporting import (
    STATUS_HELP,
    check_writable,
    expected_kind,
    finish,
    live_report_options,
    report_text,
)
from spiceproxy.cli.service_options import Service, service_of, service_options
from spiceproxy.cli.tls_options import tickets_of, tls_of, tls_options, trusted_by_clients, with_vv
from spiceproxy.cli.ways_options import entry_of, ways_options
from spiceproxy.protocol.migration.settings import SECOND_NS, Settings
from spiceproxy.proxy import Proxy, ProxyConfig, open_proxy
from spiceproxy.report.jsonform import report_object
from spiceproxy.report.verdict import Report
from spiceproxy.tls.settings import TlsConfig
from spiceproxy.vvfile import SecurePort, write_vv
from spiceproxy.ways.mode import ANYWHERE, Mode

# Below, every pause of a good migration would be told; above, whoever waits has given up before.
MIN_STALL_S: Final = 0.1
MAX_STALL_S: Final = 15.0
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

EPILOG = f"""\b
Examples:
  spiceproxy run --listen 127.0.0.1:5901 --server 127.0.0.1:5900
  spiceproxy run --listen 0 --server spice://kvm1.example:5900 --vv vm.vv    # remote-viewer vm.vv
  spiceproxy run --listen 0.0.0.0:5901 --server kvm1:5900 --destination-ports 5910-5919 \\
                 --record session.pcapng --events session.jsonl
  spiceproxy run --listen 0 --server kvm1:5900 --log-filter 'name =~ "MIGRATE*" or level != "info"'
  spiceproxy run --mode connect --listen 127.0.0.1:3128      # SPICE_PROXY=http://127.0.0.1:3128 remote-viewer ...
  spiceproxy run --mode transparent --listen '[::]:5999' --tproxy       # rules for the kernel: spiceproxy nft
  spiceproxy run --server-vv proxmox.vv --vv vm.vv           # remote-viewer vm.vv
  spiceproxy run --listen unix:/run/vm1.proxy --server unix:/run/vm1.spice
  spiceproxy run --listen 0 --server kvm1:5900 --html migrations.html --expect seamless --stall-after 1
  spiceproxy run --listen 0 --tls-server kvm1:5901 --server-ca /etc/pki/CA/cacert.pem --vv vm.vv
  spiceproxy run --listen 0 --server kvm1:5900 --control 127.0.0.1:0    # spiceproxy ctl --help
  spiceproxy run --listen 0 --server kvm1:5900 --script hooks.py
  spiceproxy run --listen 0 --server kvm1:5900 --scenario nack-synth --faults more.toml --seed 7

\b
The client connects to the proxy. When the server sends it to another host, in a live migration, the proxy
opens a port for that host and sends the client there instead; see destination_opened in the log. What became of
each migration is in the log when it ends, and in full on standard output when the proxy ends.

\b
Exit status: 0 after SIGINT or SIGTERM; 1 if it could not do what was asked; 2 for wrong options, faults or hooks.

{STATUS_HELP}"""


@click.command("run", epilog=EPILOG)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Where clients connect, also through a WebSocket; port 0 for any free one. Also unix:/PATH.  "
    "[default: 127.0.0.1:0]",
)
@click.option(
    "--server",
    metavar="HOST:PORT",
    help="The SPICE server, also as spice://HOST:PORT?tls-port=PORT, unix:/PATH or ws[s]://HOST:PORT/.",
)
@click.option(
    "--server-vv",
    metavar="FILE.vv",
    type=FILE,
    help="The server as a file for remote-viewer names it, with password, CA, subject and HTTP proxy: of Proxmox VE, oVirt.",
)
@ways_options
@tls_options
@click.option(
    "--advertise",
    metavar="HOST",
    help="Host that clients are sent to in a migration. [default: the address by which they reached the proxy]",
)
@click.option(
    "--destination-ports", metavar="A-B", help="Ports for migration destinations. [default: any free]"
)
@record_option
@recording_options
@events_option
@events_filter_option
@click.option(
    "--vv",
    metavar="FILE.vv",
    type=FILE,
    help="Write a file for remote-viewer that leads to the proxy.",
)
@click.option(
    "--log-level",
    type=click.Choice(eventlog.LEVELS),
    default="info",
    show_default=True,
    help="What is shown on standard error.",
)
@click.option(
    "--log-filter",
    metavar="EXPR",
    type=FilterText(),
    help="Show only the events that fit on standard error, of those that --log-level lets through.",
)
@click.option(
    "--stall-after",
    metavar="SECONDS",
    type=click.FloatRange(MIN_STALL_S, MAX_STALL_S),
    help="Say that a migration stands still, and who waits for whom, when nothing has moved for so long.  "
    "[default: 3 while the client connects, 2 while channels change over]",
)
@limit_options
@service_options
@fault_options
@control_options
@live_report_options
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print start and end as JSON lines on standard output, the latter with the report.",
)
@click.pass_context
def run_command(context: click.Context, /, **options: Any) -> None:
    """Relay SPICE between clients and a server, and follow sessions through live migrations.

    Ends on SIGINT or SIGTERM, after the recording has been closed, with a report on all migrations.
    """
    options = with_vv(options)
    check_events_filter(options)
    check_writable(options)
    ways, target, listen, tls_listen = entry_of(options)
    rewrites = ways.mode.rewrites
    tls = tls_of(options, tls_listen, target.tls if rewrites else None, shows=not rewrites)
    ports = parse_port_range(options["destination_ports"]) if options["destination_ports"] else None
    faults, limits, recording = faults_of(options, all_known=True), limits_of(options), recording_of(options)
    control, tickets = control_of(options), tickets_of(options)
    if tickets is not None and tickets.client_password is not None:
        target = replace(target, password=tickets.client_password.decode(errors="replace"))
    output = _Output(options, target, tls)
    with contextlib.ExitStack() as stack:
        sinks: list[eventlog.Sink] = [
            output,
            eventlog.only(
                options["log_filter"],
                stack.enter_context(eventlog.console(sys.stderr, options["log_level"])),
            ),
        ]
        if options["events"]:
            file = stack.enter_context(eventlog.jsonl_file(options["events"]))
            sinks.append(eventlog.only(options["events_filter"], file))
        service = stack.enter_context(service_of(options))
        sinks += service.sinks
        config = ProxyConfig(
            server=target.address if rewrites else ANYWHERE,
            listen=listen,
            inherited=service.inherited,
            ways=ways,
            advertise=options["advertise"],
            destination_ports=ports,
            record=options["record"],
            recording=recording,
            events=eventlog.EventLog(sinks),
            patience=_patience(options["stall_after"]),
            faults=service.reloadable(faults),
            connect_timeout_s=options["connect_timeout"],
            link_timeout_s=options["link_timeout"],
            limits=limits,
            tls=tls,
            tickets=tickets,
            control=control,
        )
        _allow_many_files()
        trio.run(_run, config, output, service)
    report = output.report()
    if not options["as_json"] and (report.migrations or report.faults or report.faults_never_fired):
        output.write("\n".join(report_text(report, encoding=sys.stdout.encoding or "utf-8")))
    if output.forgotten:
        click.echo(f"spiceproxy: {output.forgotten} earlier migrations are not in the report", err=True)
    context.exit(finish(report, options, 0))


def _patience(stall_after_s: float | None) -> Settings:
    if stall_after_s is None:
        return Settings()
    limit_ns = round(stall_after_s * SECOND_NS)
    return Settings(connect_stall_ns=limit_ns, switch_stall_ns=limit_ns)


class _Output:
    """Standard output: where the proxy listens, and what became of migrations. Nobody may be reading."""

    def __init__(self, options: Mapping[str, Any], target: ServerTarget, tls: TlsConfig | None) -> None:
        self._vv: Path | None = options["vv"]
        self._as_json: bool = options["as_json"]
        self._mode, self._subject = Mode(options["mode"]), options["server_subject"]
        self._expected, self._record, self._target = expected_kind(options), options["record"], target
        self._tls = tls
        self._proxy: Proxy | None = None

    def watch(self, proxy: Proxy) -> None:
        """Report on the migrations of this proxy."""
        self._proxy = proxy

    @property
    def forgotten(self) -> int:
        """Migrations that took place and are not in the report."""
        return self._proxy.migrations_forgotten if self._proxy is not None else 0

    def report(self) -> Report:
        """On the migrations so far."""
        file = str(self._record) if self._record is not None else None
        proxy = self._proxy
        if proxy is None:
            return Report([], expected=self._expected, file=file)
        return proxy.report(expected=self._expected, file=file)

    def __call__(self, event: eventlog.Event) -> None:
        """Say what an event says to whoever started the proxy: only start and end."""
        if event["event"] == "proxy_started":
            if self._vv is not None:
                self._write_vv(self._vv, event)
            self.write(eventlog.render_json(event) if self._as_json else self._welcome(event))
        elif event["event"] == "migration_stalled" and self._proxy is not None:
            self._proxy.dump("migration_stalled")
        elif event["event"] == "control_started":
            self.write(eventlog.render_json(event) if self._as_json else f"controlled at {event['listen']}")
        elif event["event"] == "proxy_stopped" and self._as_json:
            self.write(eventlog.render_json(event | {"report": report_object(self.report())}))

    def _welcome(self, event: eventlog.Event) -> str:
        listening = [event["listen"]] if event["plain"] else []
        listening += [f"{event['tls_listen']} (TLS)"] if event["tls_listen"] else []
        leads_to = {
            Mode.LISTEN: f"for {self._target}",
            Mode.CONNECT: "for HTTP CONNECT requests",
            Mode.TRANSPARENT: "for connections that are redirected here",
        }
        text = f"spiceproxy listens on {' and '.join(listening)} {leads_to[self._mode]}"
        return text if self._vv is None else f"{text}\nconnect with: remote-viewer {self._vv}"

    def _write_vv(self, path: Path, event: eventlog.Event) -> None:
        if self._mode is Mode.CONNECT:
            proxy = _reachable(Address(event["host"], event["port"]))
            secure = None
            if self._target.tls is not None:
                ca = trusted_by_clients(self._tls) if self._tls is not None and self._tls.inside else None
                secure = SecurePort(self._target.tls, ca, self._subject)
            password, proxy_tls = self._target.password, not event["plain"]
            write_vv(path, self._target.address, password, secure=secure, proxy=proxy, proxy_tls=proxy_tls)
            return
        plain = _reachable(Address(event["host"], event["port"])) if event["plain"] else None
        secure = None
        if event["tls_listen"] and self._tls is not None:
            address = _reachable(parse_address(event["tls_listen"]))
            secure = SecurePort(address, trusted_by_clients(self._tls), event["host_subject"])
        write_vv(path, plain, self._target.password, secure=secure)

    def write(self, text: str) -> None:
        """Write it, at once."""
        try:
            click.echo(text)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever started the proxy has read enough. Python's documentation, "Note on SIGPIPE": without the
            # second step the flush at the end of the program fails again and spoils its exit status.
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _reachable(address: Address) -> Address:
    """A client on this machine cannot connect to a wildcard address."""
    return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host), address.port)  # noqa: S104


def _allow_many_files() -> None:
    """A session takes two descriptors a channel and server; the usual soft limit of 1024 is 60 sessions."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(config: ProxyConfig, output: _Output, service: Service) -> None:
    stop, token = trio.Event(), trio.lowlevel.current_trio_token()

    def hear(number: int) -> None:
        if not stop.is_set():
            config.events.info("signal_received", signal=signal.Signals(number).name)
        stop.set()

    # Not trio.open_signal_receiver(): what came twice it raises once more when it is left, which spoils the exit status.
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _frame: token.run_sync_soon(hear, number))
    try:
        async with open_proxy(config) as proxy:
            output.watch(proxy)

            def dump() -> None:
                config.events.info("signal_received", signal="SIGUSR1")
                proxy.dump("SIGUSR1")

            def reload() -> None:
                config.events.info("signal_received", signal="SIGHUP")
                service.reload(proxy)

            signal.signal(signal.SIGUSR1, lambda _number, _frame: token.run_sync_soon(dump))
            signal.signal(signal.SIGHUP, lambda _number, _frame: token.run_sync_soon(reload))
            async with service.running(proxy):
                await stop.wait()
    finally:
        for number in (
            *STOP_SIGNALS,
            signal.SIGUSR1,
            signal.SIGHUP,
        ):  # to the end of the process: everything is closed
            signal.signal(number, signal.SIG_IGN)
