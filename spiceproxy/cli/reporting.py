"""What all commands that report on migrations share: the options, the files, the text, the exit status."""

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from spiceproxy.cli.together import with_options
from spiceproxy.errors import UsageError
from spiceproxy.protocol.migration.model import Kind
from spiceproxy.reading.style import Look, printable, wants_colour
from spiceproxy.report.layout import DEFAULT_COLUMNS
from spiceproxy.report.text import report_lines
from spiceproxy.report.verdict import Report, Status, why

MAX_PROBLEMS: Final = 10

# Pictures are made by modules of their own, imported when they are asked for.
PICTURES: Final = {
    "html": ("spiceproxy.report.page", "render_html"),
    "svg": ("spiceproxy.report.svg", "render_svg"),
    "perfetto": ("spiceproxy.report.perfetto", "render_perfetto"),
}
FILES: Final = ("html", "svg", "perfetto", "junit")
# For terminals that cannot show what charts are drawn with.
_PLAIN_SHAPES: Final = str.maketrans("✔✘│├┤─━┄▶◀█▒▲→×…≠", "+x|||-=.><#%^>x~!")
_FILE: Final = click.Path(dir_okay=False, writable=True, path_type=Path)

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option("--html", metavar="FILE", type=_FILE, help="Write it as one page with a sequence chart."),
    click.option("--svg", metavar="FILE", type=_FILE, help="Write the sequence chart as a picture."),
    click.option("--perfetto", metavar="FILE", type=_FILE, help="Write a trace for ui.perfetto.dev."),
    click.option(
        "--junit", metavar="FILE", type=_FILE, help="Write JUnit XML: a case for each migration and rule."
    ),
    click.option(
        "--expect",
        type=click.Choice([str(kind) for kind in Kind]),
        help="As which each migration was to be performed.",
    ),
)

STATUS_HELP: Final = """\b
With --expect the exit status is that of `spiceproxy report` where it is not 0: 1 no migration, 3 one was not completed or
not performed as --expect says, 4 a rule was broken, 5 parts of one could not be read.
"""


def report_options(command: _Command) -> _Command:
    """The forms in which a report can be had, and what it is held against."""
    return with_options(command, _OPTIONS)


def live_report_options(command: _Command) -> _Command:
    """The same for commands that do something else, and report on it when they end."""
    option = click.option(
        "--report", metavar="FILE.json", type=_FILE, help="Write the report on migrations as JSON."
    )
    return option(report_options(command))


def expected_kind(arguments: Mapping[str, Any]) -> Kind | None:
    """What `--expect` says."""
    return Kind(arguments["expect"]) if arguments["expect"] else None


def check_writable(arguments: Mapping[str, Any]) -> None:
    """Say at the beginning what would be an error at the end.

    Raises:
        UsageError: A file of the report cannot be written.
    """
    for option in ("report", *FILES):
        path: Path | None = arguments[option]
        if path is not None and not os.access(path.parent, os.W_OK | os.X_OK):
            raise UsageError(f"cannot write {path}: no such directory, or not allowed")


def write_files(report: Report, arguments: Mapping[str, Any]) -> None:
    """Write the report in all forms that were asked for.

    Raises:
        UsageError: A file cannot be written.
    """
    makers: dict[str, Callable[[], str]] = {
        "report": partial(json_text, report),
        "junit": partial(_junit, report),
    }
    for option, (module, function) in PICTURES.items():
        makers[option] = partial(_picture, module, function, report)
    for option, make in makers.items():
        path: Path | None = arguments.get(option)
        if path is None:
            continue
        text = make()
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error


def json_text(report: Report) -> str:
    """The report for programs."""
    import msgspec  # late, as what else few reports need: a report on a small capture is mostly imports

    from spiceproxy.report.jsonform import report_object

    return msgspec.json.format(msgspec.json.encode(report_object(report)), indent=2).decode()


def _junit(report: Report) -> str:
    from spiceproxy.report.junit import render_junit

    return render_junit(report)


def _picture(module: str, function: str, report: Report) -> str:
    text: str = getattr(importlib.import_module(module), function)(report.migrations, report=report)
    return text


def look_of(stream: Any, color: str = "auto") -> Look:
    """Colours and width of what is printed there."""
    width = shutil.get_terminal_size((DEFAULT_COLUMNS, 24)).columns
    return Look(colour=wants_colour(color, terminal=stream.isatty()), width=width)


def report_text(report: Report, *, encoding: str) -> list[str]:
    """Verdicts, and the tables under them, as commands end with that have something else to do; no charts."""
    lines = report_lines(report, look_of(sys.stdout), chart=False)
    return [encodable(line, encoding) for line in lines]


def encodable(line: str, encoding: str) -> str:
    """The line with shapes that a terminal of this encoding has."""
    try:
        line.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return line.translate(_PLAIN_SHAPES).encode("ascii", "replace").decode()
    return line


def finish(report: Report, arguments: Mapping[str, Any], status: int) -> int:
    """Write the files, say on standard error what is not as expected, and give the exit status.

    Args:
        report: What is known of the migrations.
        arguments: Of the command.
        status: Its own; a report that was asked for with `--expect` comes first.

    Raises:
        UsageError: A file cannot be written.
    """
    write_files(report, arguments)
    if report.expected is None:
        return status
    tell_why(report, "no migration took place")
    return int(report.status) or status


def tell_why(report: Report, without_migration: str) -> None:
    """Why the exit status is what it is, on standard error."""
    for line in report.problems[:MAX_PROBLEMS]:
        click.echo(f"spiceproxy: {printable(line)}", err=True)
    if len(report.problems) > MAX_PROBLEMS:
        click.echo(f"spiceproxy: and {len(report.problems) - MAX_PROBLEMS} more", err=True)
    reason = why(report)
    if reason is not None:
        text = without_migration if report.status is Status.NO_MIGRATION else reason
        click.echo(f"spiceproxy: {text}", err=True)
