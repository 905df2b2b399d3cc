"""`spiceproxy report`: what every migration of a capture was, and what was wrong with it."""

import sys
from typing import Any, Final

import click

from spiceproxy.capture.reports import read_report
from spiceproxy.cli.capture_options import color_option, ports_option
from spiceproxy.cli.reporting import (
    encodable,
    expected_kind,
    json_text,
    look_of,
    report_options,
    tell_why,
    write_files,
)
from spiceproxy.errors import UsageError
from spiceproxy.reading.output import GoneError, Output
from spiceproxy.report.text import report_lines
from spiceproxy.report.textchart import fits
from spiceproxy.report.verdict import Report

EXIT_INTERRUPTED: Final = 130

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


@click.command("report", epilog=EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON (docs/report.md).")
@report_options
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
        report = read_report(
            arguments["file"],
            ports=arguments["ports"],
            session=arguments["session"],
            expected=expected_kind(arguments),
        )
        write_files(report, arguments)
    except KeyboardInterrupt:
        context.exit(EXIT_INTERRUPTED)
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    output = Output(sys.stdout.buffer)
    try:
        if arguments["as_json"]:
            output.line(json_text(report).encode())
        else:
            _print(output, report, arguments)
        output.flush()
    except GoneError:
        pass
    tell_why(report, f"no migration in {report.file}")
    context.exit(int(report.status))


def _print(output: Output, report: Report, arguments: dict[str, Any]) -> None:
    """Print it for people.

    Raises:
        GoneError: Nobody reads.
    """
    look = look_of(sys.stdout, arguments["color"])
    chart = fits(look) if arguments["chart"] is None else arguments["chart"]
    encoding = sys.stdout.encoding or "utf-8"
    for line in report_lines(report, look, chart=chart):
        output.line(encodable(line, encoding).encode(encoding, "replace"))
