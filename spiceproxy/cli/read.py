"""`spiceproxy read`: what was said in a capture."""

import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import click

from spiceproxy.capture.events import StreamEvent, Summary
from spiceproxy.capture.files import open_capture
from spiceproxy.capture.streams import stream_events
from spiceproxy.cli.capture_options import color_option, ports_option
from spiceproxy.cli.progress import progress
from spiceproxy.errors import CaptureError, UsageError
from spiceproxy.filter import Filter, FilterError, compile_filter
from spiceproxy.reading.decode import NAMES
from spiceproxy.reading.output import GoneError, Output
from spiceproxy.reading.problems import Problems
from spiceproxy.reading.reader import Reader, ReadOptions
from spiceproxy.reading.style import Look, wants_colour

EXIT_READ: Final = 0
EXIT_NO_SPICE: Final = 1
EXIT_DAMAGED: Final = 5
EXIT_INTERRUPTED: Final = 130

FOLLOW_INTERVAL_S: Final = (
    0.2  # how often a recording is written: spiceproxy.recording.recorder, FLUSH_INTERVAL_S
)

EPILOG = """\b
Examples:
  spiceproxy read session.pcapng
  spiceproxy read -v session.pcapng --filter 'channel == "main:0" and name =~ "*MIGRATE*"'
  spiceproxy read --json dump.pcap.gz | jq -c 'select(.error)'
  tcpdump -i any -w - port 5900 | spiceproxy read -
  spiceproxy read --stats session.pcapng

\b
Exit status: 0 if the capture was read; 1 if it holds no SPICE; 2 for wrong options or a file that is no capture;
5 if the capture is damaged (what could be read is shown).
"""


@click.command("read", epilog=EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line (docs/reading.md).")
@click.option("--events", is_flag=True, help="With --json: also connections, gaps and the like.")
@click.option("--filter", "expression", metavar="EXPR", help="Show only what this fits (docs/filter.md).")
@click.option("--session", metavar="ID", help="Short for --filter 'session == \"ID\"': s1, s2 ...")
@click.option("--channel", metavar="NAME", help="Short for a filter: display:0, or display for all of them.")
@click.option("-v", "detail", flag_value=1, type=int, default=0, help="Show all fields of every message.")
@click.option("-x", "detail", flag_value=2, type=int, help="And the bytes of every message.")
@click.option("--bulk", is_flag=True, help="Leave nothing out: images, sound and long lists in full.")
@click.option(
    "--stats", "-c", is_flag=True, help="Count messages per channel and name instead of showing them."
)
@ports_option
@click.option("--follow", "-f", is_flag=True, help="Go on while the file grows; Ctrl-C ends that.")
@click.option("--absolute", is_flag=True, help="Show local times instead of seconds since the first packet.")
@color_option
@click.pass_context
def read_command(context: click.Context, /, **arguments: Any) -> None:
    """Read a capture: a recording of this program, or a pcap or pcapng file of tcpdump, dumpcap or Wireshark.

    FILE may end in .gz or .zst; - is standard input. SPICE is found by its first bytes, whatever the port. Shows one
    line a message: time, session and connection, leg (the source or the destination of a migration), channel, who sent
    it, name, size, and the fields that matter.
    """
    if arguments["events"] and not arguments["as_json"]:
        raise click.UsageError("--events goes with --json; lines have them anyway")
    if arguments["follow"] and (arguments["file"] == "-" or arguments["stats"]):
        raise click.UsageError("--follow needs a file, and goes without --stats")
    reader = Reader(_options(arguments), Output(sys.stdout.buffer))
    summary = Summary()
    status = EXIT_READ
    try:
        with (
            open_capture(arguments["file"]) as source,
            progress(arguments["file"], wanted=not sys.stdout.isatty()) as seen,
        ):
            follow = _waiter(reader.output) if arguments["follow"] else None
            events = stream_events(seen(source), ports=arguments["ports"], follow=follow, summary=summary)
            status = _read(reader, events, summary, follow=follow is not None)
        reader.finish()
    except GoneError:
        return
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    _report(arguments["file"], reader, summary)
    if status == EXIT_READ and summary.problems:
        status = EXIT_DAMAGED
    elif status == EXIT_READ and not summary.spice_connections:
        status = EXIT_NO_SPICE
    context.exit(status)


def _options(arguments: dict[str, Any]) -> ReadOptions:
    """What was asked for."""
    terminal = sys.stdout.isatty()
    return ReadOptions(
        as_json=arguments["as_json"],
        events=arguments["events"] or not arguments["as_json"],
        filters=tuple(_filters(arguments)),
        detail=arguments["detail"],
        bulk=arguments["bulk"],
        absolute=arguments["absolute"],
        stats=arguments["stats"],
        look=Look(
            colour=wants_colour(arguments["color"], terminal=terminal),
            width=shutil.get_terminal_size().columns if terminal else None,
        ),
        encoding=sys.stdout.encoding or "utf-8",
    )


def _filters(arguments: dict[str, Any]) -> Iterator[Filter]:
    """The filter and its short forms; all of them have to fit.

    Raises:
        click.BadParameter: One is no filter.
    """
    if session := arguments["session"]:
        yield compile_filter(f"session == {_quoted(session)}")
    if channel := arguments["channel"]:
        yield compile_filter(f"channel == {_quoted(channel)}")
    if (expression := arguments["expression"]) is not None:
        try:
            yield compile_filter(expression, names=NAMES)
        except FilterError as error:
            raise click.BadParameter(str(error), param_hint="--filter") from error


def _quoted(text: str) -> str:
    if not text.isprintable() or '"' in text or "\\" in text:
        raise click.BadParameter(f"{text!r} is not a name", param_hint="--session or --channel")
    return f'"{text}"'


def _read(reader: Reader, events: Iterable[StreamEvent], summary: Summary, *, follow: bool) -> int:
    """Show everything; the exit status as far as it is known.

    Raises:
        UsageError: The file is no capture.
    """
    try:
        reader.read(events)
    except CaptureError as error:
        if not summary.packets:
            raise
        reader.problems.add(str(error))
        return EXIT_DAMAGED
    except KeyboardInterrupt:
        return EXIT_READ if follow else EXIT_INTERRUPTED
    return EXIT_READ


def _waiter(output: Output) -> Callable[[], bool]:
    """At the end of a file that grows: show what there is, and wait for more."""

    def wait() -> bool:
        output.flush()
        time.sleep(FOLLOW_INTERVAL_S)
        return True

    return wait


def _report(name: str, reader: Reader, summary: Summary) -> None:
    """Problems, on standard error: first those of the file, then those of what is in it."""
    problems = Problems()
    for line in summary.problems:
        problems.add(line)
    problems.take(reader.problems)
    for line in problems.report():
        click.echo(f"spiceproxy: {line}", err=True)
    if not summary.spice_connections:
        hint = (
            "; if a connection's start is not in the capture, name its port with --port"
            if summary.tcp_connections
            else ""
        )
        click.echo(
            f"spiceproxy: no SPICE in {name}: {summary.packets} packets, {summary.tcp_connections} TCP connections{hint}",
            err=True,
        )
