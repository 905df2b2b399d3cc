"""`spiceproxy report`: what every migration of a capture was, and what was wrong with it."""

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from spiceproxy.capture.events import Opened, StreamEvent, Summary
from spiceproxy.capture.files import open_capture
from spiceproxy.capture.migrations import findings_in
from spiceproxy.capture.streams import stream_events
from spiceproxy.cli.capture_options import color_option, ports_option
from spiceproxy.errors import CaptureError, UsageError
from spiceproxy.protocol.migration.model import Kind, Migration
from spiceproxy.reading.output import GoneError, Output
from spiceproxy.reading.style import Look, printable, wants_colour
from spiceproxy.report.layout import DEFAULT_COLUMNS
from spiceproxy.report.text import report_lines, verdict_lines
from spiceproxy.report.textchart import fits
from spiceproxy.report.verdict import Report, Status, why

EXIT_INTERRUPTED: Final = 130
MAX_PROBLEMS: Final = 10

# Pictures are made by modules of their own, imported when they are asked for.
PICTURES: Final = {
    "html": ("spiceproxy.report.page", "render_html"),
    "svg": ("spiceproxy.report.svg", "render_svg"),
    "perfetto": ("spiceproxy.report.perfetto", "render_perfetto"),
}
# For terminals that cannot show what charts are drawn with.
_PLAIN_SHAPES: Final = str.maketrans("✔✘│├┤─━┄▶◀█▒▲→×…≠", "+x|||-=.><#%^>x~!")

EPILOG = """\b
Examples:
  spiceproxy report session.pcapng
  spiceproxy report session.pcapng --expect seamless && echo fine
  spiceproxy report session.pcapng.gz --junit report.xml
  spiceproxy report dump.pcap --json | jq '.migrations[] | .performed, .times_ms.unseen'

\b
Exit status:
  0  every migration was completed, as --expect says, and no rule was broken
  1  there is no migration in the capture
  2  wrong options, or the file is no capture
  3  a migration was not completed, or not performed as --expect says
  4  a rule was broken (violations of severity error), also outside of migrations
  5  the capture is damaged: what could be read is reported
Where several fit, the first of 3, 4, 5 and 0 is given; a migration whose end a damaged capture does not show is 5, not 3.
"""

_FILE: Final = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command("report", epilog=EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON (docs/report.md).")
@click.option("--html", metavar="FILE", type=_FILE, help="Write it as one page with a sequence chart.")
@click.option("--svg", metavar="FILE", type=_FILE, help="Write the sequence chart as a picture.")
@click.option("--perfetto", metavar="FILE", type=_FILE, help="Write a trace for ui.perfetto.dev.")
@click.option(
    "--junit", metavar="FILE", type=_FILE, help="Write JUnit XML: a case for each migration and rule."
)
@click.option(
    "--expect",
    type=click.Choice([str(kind) for kind in Kind]),
    help="As which each migration was to be performed.",
)
@click.option("--session", metavar="N", help="Only this session: s1, s2 ...")
@ports_option
@click.option("--chart/--no-chart", default=None, help="A sequence chart in the text; by default if it fits.")
@color_option
@click.pass_context
def report_command(context: click.Context, /, **arguments: Any) -> None:
    """Report on the migrations in a capture: what was offered and performed, how long the user waited, what is wrong.

    FILE is a recording of this program, or a pcap or pcapng file; it may end in .gz or .zst; - is standard input.
    Verdicts come first, then for each migration its channels, times, broken rules and diagnoses. Numbers of messages
    count all messages of the capture; moments are those that `spiceproxy read` shows.
    """
    try:
        report = _report(arguments)
        _write_files(report, arguments)
    except KeyboardInterrupt:
        context.exit(EXIT_INTERRUPTED)
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    output = Output(sys.stdout.buffer)
    try:
        if arguments["as_json"]:
            output.line(_json(report))
        else:
            _print(output, report, arguments)
        output.flush()
    except GoneError:
        pass
    _tell(report)
    context.exit(int(report.status))


def _report(arguments: dict[str, Any]) -> Report:
    """Read the capture.

    Raises:
        UsageError: The file is no capture.
    """
    summary, begin, broken = Summary(), _Begin(), list[str]()
    with open_capture(arguments["file"]) as source:
        events = stream_events(source, ports=arguments["ports"], summary=summary)
        migrations, violations = findings_in(begin.watch(_whole(events, summary, broken)))
    name = arguments["session"]
    if name is not None:
        migrations = [each for each in migrations if each.session in {name, f"s{name}"}]
        violations = [each for each in violations if each.session in {name, f"s{name}"}]
    return Report(
        migrations,
        expected=Kind(arguments["expect"]) if arguments["expect"] else None,
        problems=[*summary.problems, *broken],
        start_ns=begin.time_ns,
        file=arguments["file"],
        violations=violations,
    )


def echo_verdicts(
    migrations: Sequence[Migration], *, expected: Kind | None = None, err: bool = False
) -> None:
    """Print a sentence for each migration: how `run`, `demo` and `lab` end.

    Args:
        migrations: In the order in which they are told.
        expected: As which each was to be performed.
        err: Print to standard error.
    """
    stream = sys.stderr if err else sys.stdout
    look = Look(colour=wants_colour("auto", terminal=stream.isatty()), width=_width())
    for line in verdict_lines(migrations, look, expected=expected):
        click.echo(_encodable(line, stream.encoding or "utf-8"), err=err, color=look.colour)


class _Begin:
    """Notes when the first connection was opened: `spiceproxy read` counts from there."""

    time_ns: int | None = None

    def watch(self, events: Iterator[StreamEvent]) -> Iterator[StreamEvent]:
        """The same events."""
        for event in events:
            if self.time_ns is None and type(event) is Opened:
                self.time_ns = event.time_ns
            yield event


def _whole(events: Iterator[StreamEvent], summary: Summary, broken: list[str]) -> Iterator[StreamEvent]:
    """The same events, to the place where the file is broken.

    Raises:
        UsageError: It is no capture.
    """
    try:
        yield from events
    except CaptureError as error:
        if not summary.packets:
            raise
        broken.append(str(error))


def _write_files(report: Report, arguments: dict[str, Any]) -> None:
    """Write what was asked for besides standard output.

    Raises:
        UsageError: A file cannot be written.
    """
    makers: dict[str, Callable[[], str]] = {"junit": partial(_junit, report)}
    for option, (module, function) in PICTURES.items():
        makers[option] = partial(_picture, module, function, report)
    for option, make in makers.items():
        path: Path | None = arguments[option]
        if path is None:
            continue
        text = make()
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _json(report: Report) -> bytes:
    import msgspec

    from spiceproxy.report.jsonform import report_object

    return msgspec.json.format(msgspec.json.encode(report_object(report)), indent=2)


def _junit(report: Report) -> str:
    from spiceproxy.report.junit import render_junit

    return render_junit(report)


def _picture(module: str, function: str, report: Report) -> str:
    text: str = getattr(importlib.import_module(module), function)(report.migrations, report=report)
    return text


def _print(output: Output, report: Report, arguments: dict[str, Any]) -> None:
    """Print it for people.

    Raises:
        GoneError: Nobody reads.
    """
    terminal = sys.stdout.isatty()
    look = Look(
        colour=wants_colour(arguments["color"], terminal=terminal),
        width=_width(),
    )
    chart = fits(look) if arguments["chart"] is None else arguments["chart"]
    encoding = sys.stdout.encoding or "utf-8"
    for line in report_lines(report, look, chart=chart):
        output.line(_encodable(line, encoding).encode(encoding, "replace"))


def _width() -> int:
    return shutil.get_terminal_size((DEFAULT_COLUMNS, 24)).columns


def _encodable(line: str, encoding: str) -> str:
    """The line with shapes that a terminal of this encoding has."""
    try:
        line.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return line.translate(_PLAIN_SHAPES).encode("ascii", "replace").decode()
    return line


def _tell(report: Report) -> None:
    """Why the exit status is what it is, on standard error."""
    for line in report.problems[:MAX_PROBLEMS]:
        click.echo(f"spiceproxy: {printable(line)}", err=True)
    if len(report.problems) > MAX_PROBLEMS:
        click.echo(f"spiceproxy: and {len(report.problems) - MAX_PROBLEMS} more", err=True)
    reason = why(report)
    if reason is None:
        return
    text = f"no migration in {report.file}" if report.status is Status.NO_MIGRATION else reason
    click.echo(f"spiceproxy: {text}", err=True)
