"""`spiceproxy demo`: a simulated migration through the real proxy."""

import os
import sys
from dataclasses import replace
from typing import Any, Final

import click
import msgspec
import trio
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from spiceproxy.cli.control_options import control_of, control_options
from spiceproxy.cli.fault_options import fault_options, faults_of
from spiceproxy.cli.options import check_events_filter, events_filter_option, events_option, record_option
from spiceproxy.cli.reporting import (
    STATUS_HELP,
    check_writable,
    expected_kind,
    finish,
    live_report_options,
    report_text,
)
from spiceproxy.demo.result import for_scenario
from spiceproxy.demo.run import KINDS, DemoOptions, DemoResult, Happening, run_demo
from spiceproxy.faults.scenarios import scenario
from spiceproxy.report.jsonform import report_object
from spiceproxy.report.verdict import Report

EPILOG = f"""\b
Examples:
  spiceproxy demo
  spiceproxy demo --migration semi-seamless
  spiceproxy demo --migration switch-host --hops 2
  spiceproxy demo --record demo.pcapng --events demo.jsonl    # then: wireshark demo.pcapng
  spiceproxy demo --migration switch-host --html demo.html --expect switch-host
  spiceproxy demo --scenario lose-ack --time-limit 12
  spiceproxy demo --fault '{{ match = {{ message = "MIGRATE_DATA" }}, do = {{ delay = 1 }} }}'
  spiceproxy demo --json | jq -r 'select(.event == "message") | .message'

\b
Exit status: 0 if every migration ended as asked and every channel moved and stayed on the proxy; 1 if not. With faults 0:
what came of it is the result.

{STATUS_HELP}"""

_STYLES: Final = {"phase": "bold", "message": "", "sum": "dim", "link": "green", "proxy": "cyan"}
_PLAIN_WIDTH: Final = 200  # when nobody looks, lines are as long as they are


@click.command("demo", epilog=EPILOG)
@click.option(
    "--migration",
    type=click.Choice(KINDS),
    help="How the client is to follow the guest.  [default: seamless, or what --scenario needs]",
)
@click.option(
    "--hops",
    type=click.IntRange(1, 50),
    default=1,
    show_default=True,
    help="Migrations in a row: s1 to s2 to s3, and back to s1.",
)
@record_option
@events_option
@events_filter_option
@fault_options
@control_options
@click.option("--tls", is_flag=True, help="With TLS between client, proxy and servers.")
@click.option(
    "--time-limit",
    metavar="SECONDS",
    type=click.FloatRange(1, 600),
    default=20,
    show_default=True,
    help="With faults: whoever has not got on after so long never will.",
)
@live_report_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a line for each event, then the result.")  # fmt: skip
@click.pass_context
def demo_command(context: click.Context, /, **arguments: Any) -> None:
    """Show a live migration: simulated servers and a simulated client, through the real proxy.

    Needs nothing but this package and takes about a second. Everything runs on 127.0.0.1.
    """
    check_events_filter(arguments)
    check_writable(arguments)
    options = DemoOptions(
        arguments["migration"] or "seamless",
        arguments["hops"],
        record=arguments["record"],
        events=arguments["events"],
        events_filter=arguments["events_filter"],
        expected=expected_kind(arguments),
        faults=faults_of(arguments),
        control=control_of(arguments),
        tls=arguments["tls"],
        time_limit_s=arguments["time_limit"],
    )
    for name in arguments["scenario"]:
        options = for_scenario(options, scenario(name), migration=arguments["migration"])
    output = _Output()
    if arguments["as_json"]:
        result = trio.run(
            run_demo, options, lambda happening: output.write(msgspec.json.encode(happening).decode())
        )
        found = report_object(result.report) if result.report is not None else None
        plain = msgspec.to_builtins(replace(result, report=None))
        output.write(msgspec.json.encode({"event": "result", **plain, "report": found}).decode())
    else:
        output.print(
            Text(
                "c is a simulated client, s1, s2 ... are simulated servers; between them is the real spiceproxy"
            )
        )
        result = trio.run(run_demo, options, lambda happening: _tell(output, happening))
        _print_result(output, result)
    if not result.ok:
        click.echo(f"spiceproxy: demo {result.verdict}", err=True)
    context.exit(
        finish(result.report or Report([], expected=options.expected), arguments, 0 if result.ok else 1)
    )


class _Output:
    """Standard output, as long as somebody reads it: `spiceproxy demo | head` is no error."""

    def __init__(self) -> None:
        width = None if sys.stdout.isatty() else _PLAIN_WIDTH
        self._console = Console(highlight=False, soft_wrap=True, width=width)
        self._gone = False

    def print(self, *what: RenderableType) -> None:
        """Print with colours where they show."""
        with self._console.capture() as captured:
            self._console.print(*what)
        self.write(captured.get().removesuffix("\n"))

    def write(self, line: str) -> None:
        """Write a line, at once."""
        if self._gone:
            return
        try:
            print(line, flush=True)  # noqa: T201
        except BrokenPipeError:
            self._gone = True
            # Python would complain when it flushes what is left at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), sys.stdout.fileno())


def _tell(output: _Output, happening: Happening) -> None:
    """Print what happens, a line each; routine messages come later as sums."""
    if happening.event == "routine":
        return
    style = _STYLES[happening.event]
    line = Text(f"{happening.time_s:7.3f}  ", style="dim")
    if happening.event == "phase":
        output.print()
        line.append(happening.meaning, style=style)
    else:
        way = f"{happening.sender} → {happening.receiver}" if happening.receiver else "proxy"
        name = happening.message.removeprefix("SPICE_MSGC_").removeprefix("SPICE_MSG_")
        line.append(f"{way:8} {happening.channel:11} ", style=style)
        line.append(f"{name:32} ", style=f"bold {style}" if "MIGRATE" in name else style)
        line.append(happening.meaning, style=style)
    output.print(line)


def _print_result(output: _Output, result: DemoResult) -> None:
    """The verdict first, then what it rests on."""
    mark, style = ("✔", "bold green") if result.ok else ("✘", "bold red")
    output.print()
    output.print(Text(f"{mark} {result.verdict} ({result.duration_s:.2f} s)", style=style))
    for finding in result.findings:
        output.print(Text(f"  - {finding}", style="yellow"))
    for reason in result.reasons:
        output.print(Text(f"  - {reason}", style="red"))
    for hop in result.hops:
        told, way = hop.told, f"{hop.source} → {hop.destination}"
        output.print(f"  {way}: {hop.outcome} in {hop.duration_s * 1000:.0f} ms; the source said {told}")
    if result.channels:
        table = Table("channel", "was on", "is on", "proxy", "header", "from server", "from client")
        for place in result.channels:
            counts = (str(place.from_server), str(place.from_client))
            now = place.now or Text("lost", style="red")
            table.add_row(place.channel, place.was, now, place.connection or "-", place.header, *counts)
        output.print(table)
    if result.report is not None and (result.report.migrations or result.outcome is not None):
        output.print()
        for line in report_text(result.report, encoding=sys.stdout.encoding or "utf-8"):
            output.write(line)
        output.print()
    if result.recording is not None:
        output.print(f"  recorded in {result.recording}")
