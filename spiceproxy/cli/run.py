"""`spiceproxy run`: the proxy between a client and a server."""

import contextlib
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, Final

import click
import trio

from spiceproxy import eventlog
from spiceproxy.address import Address, ServerTarget, parse_address, parse_port_range, parse_server
from spiceproxy.cli.options import (
    FILE,
    FilterText,
    check_events_filter,
    events_filter_option,
    events_option,
    record_option,
)
from spiceproxy.proxy import ProxyConfig, open_proxy
from spiceproxy.vvfile import write_vv

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

EPILOG = """\b
Examples:
  spiceproxy run --listen 127.0.0.1:5901 --server 127.0.0.1:5900
  spiceproxy run --listen 0 --server spice://kvm1.example:5900 --vv vm.vv    # remote-viewer vm.vv
  spiceproxy run --listen 0.0.0.0:5901 --server kvm1:5900 --destination-ports 5910-5919 \\
                 --record session.pcapng --events session.jsonl
  spiceproxy run --listen 0 --server kvm1:5900 --log-filter 'name =~ "MIGRATE*" or level != "info"'

\b
The client connects to the proxy. When the server sends it to another host, in a live migration, the proxy
opens a port for that host and sends the client there instead; see destination_opened in the log.
"""


@click.command("run", epilog=EPILOG)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:0",
    show_default=True,
    help="Where clients connect; port 0 for any free one.",
)
@click.option(
    "--server", metavar="HOST:PORT", required=True, help="The SPICE server, also as spice://HOST:PORT."
)
@click.option(
    "--advertise",
    metavar="HOST",
    help="Host that clients are sent to in a migration. [default: the address by which they reached the proxy]",
)
@click.option(
    "--destination-ports", metavar="A-B", help="Ports for migration destinations. [default: any free]"
)
@record_option
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
@click.option("--json", "as_json", is_flag=True, help="Print start and end as JSON lines on standard output.")  # fmt: skip
def run_command(**options: Any) -> None:
    """Relay SPICE between clients and a server, and follow sessions through live migrations.

    Ends on SIGINT or SIGTERM with exit status 0, after the recording has been closed.
    """
    check_events_filter(options)
    target = parse_server(options["server"])
    listen = parse_address(options["listen"], any_port=True)
    ports = parse_port_range(options["destination_ports"]) if options["destination_ports"] else None
    with contextlib.ExitStack() as stack:
        sinks = [
            _announcer(options["vv"], target, as_json=options["as_json"]),
            eventlog.only(
                options["log_filter"],
                stack.enter_context(eventlog.console(sys.stderr, options["log_level"])),
            ),
        ]
        if options["events"]:
            file = stack.enter_context(eventlog.jsonl_file(options["events"]))
            sinks.append(eventlog.only(options["events_filter"], file))
        config = ProxyConfig(
            server=target.address,
            listen=listen,
            advertise=options["advertise"],
            destination_ports=ports,
            record=options["record"],
            events=eventlog.EventLog(sinks),
        )
        _allow_many_files()
        trio.run(_run, config)


def _announcer(vv: Path | None, target: ServerTarget, *, as_json: bool) -> eventlog.Sink:
    """Say on standard output where the proxy listens; only start and end, since nobody may be reading."""

    def announce(event: eventlog.Event) -> None:
        if event["event"] == "proxy_started" and vv is not None:
            write_vv(vv, _reachable(Address(event["host"], event["port"])), target.password)
        try:
            say(event)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever started the proxy has read enough. Python's documentation, "Note on SIGPIPE": without the
            # second step the flush at the end of the program fails again and spoils its exit status.
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), sys.stdout.fileno())

    def say(event: eventlog.Event) -> None:
        if event["event"] == "proxy_started" and not as_json:
            address = Address(event["host"], event["port"])
            click.echo(f"spiceproxy listens on {address} for {target.address}")
            if vv is not None:
                click.echo(f"connect with: remote-viewer {vv}")
        if event["event"] in {"proxy_started", "proxy_stopped"} and as_json:
            click.echo(eventlog.render_json(event))

    return announce


def _reachable(address: Address) -> Address:
    """A client on this machine cannot connect to a wildcard address."""
    return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host), address.port)  # noqa: S104


def _allow_many_files() -> None:
    """A session takes two descriptors a channel and server; the usual soft limit of 1024 is 60 sessions."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(config: ProxyConfig) -> None:
    stop, token = trio.Event(), trio.lowlevel.current_trio_token()

    def hear(number: int) -> None:
        if not stop.is_set():
            config.events.info("signal_received", signal=signal.Signals(number).name)
        stop.set()

    # Not trio.open_signal_receiver(): what came twice it raises once more when it is left, which spoils the exit status.
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _frame: token.run_sync_soon(hear, number))
    try:
        async with open_proxy(config):
            await stop.wait()
    finally:
        for number in STOP_SIGNALS:  # to the end of the process: everything is closed
            signal.signal(number, signal.SIG_IGN)
