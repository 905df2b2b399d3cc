"""`spiceproxy redact`: a copy of a capture without its secrets, for somebody else to look at."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table

from spiceproxy.capture.files import open_capture
from spiceproxy.capture.newfile import new_file
from spiceproxy.cli.capture_options import ports_option
from spiceproxy.cli.progress import progress
from spiceproxy.errors import UsageError
from spiceproxy.redaction.kinds import KEEPABLE, MEANINGS, Account, Kind
from spiceproxy.redaction.redact import Options, Outcome, redact

EXIT_DAMAGED: Final = 5
EXIT_NO_SPICE: Final = 1
EXIT_INTERRUPTED: Final = 130
VERSION: Final = 1
MAX_PROBLEMS: Final = 10

EPILOG: Final = """\b
Examples:
  spiceproxy redact session.pcapng vendor.pcapng
  spiceproxy redact --addresses dump.pcap.gz vendor.pcapng
  spiceproxy redact --dry-run session.pcapng
  spiceproxy redact --keep pixels --keep pointer session.pcapng vendor.pcapng

\b
Kinds for --keep: {kinds}.

\b
Exit status: 0 if the copy is written; 1 if nothing is written: no SPICE in the capture, or no room on the disk; 2 for
wrong options or a file that is no capture; 5 if the capture is damaged: the copy ends where it does.
""".format(kinds=", ".join(KEEPABLE))


@click.command("redact", epilog=EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.argument("out", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--keep",
    metavar="KIND",
    multiple=True,
    type=click.Choice([str(kind) for kind in KEEPABLE]),
    help="Leave this in. May be given again.",
)
@click.option(
    "--addresses",
    is_flag=True,
    help="Also put stand-ins for addresses, host names and certificate subjects, and remove public keys.",
)
@click.option("--keep-others", is_flag=True, help="Leave packets that are not SPICE as they are.")
@click.option("--keep-comments", is_flag=True, help="Leave comments of packets as they are.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Say it as JSON (docs/recording.md).")
@ports_option
@click.pass_context
def redact_command(context: click.Context, /, **arguments: Any) -> None:
    """Copy a capture without what was typed, seen, heard, copied, plugged in and sent as a password.

    FILE is a recording of this program, or a pcap or pcapng file; it may end in .gz or .zst; - is standard input. OUT is a
    new pcapng file. Sizes, times, numbers and the order of messages stay, so that `spiceproxy read` and `report` say of
    the copy what they say of FILE. What cannot be decoded is removed as a whole.
    """
    out: Path | None = arguments["out"]
    if (out is None) != arguments["dry_run"]:
        raise click.UsageError(
            "give OUT, or --dry-run to write nothing" if out is None else "--dry-run writes no OUT"
        )
    if arguments["addresses"] and (arguments["keep_others"] or arguments["keep_comments"]):
        raise click.UsageError(
            "--addresses excludes --keep-others and --keep-comments: what they leave as it is names addresses, too"
        )
    options = Options(
        keep=frozenset(Kind(kind) for kind in arguments["keep"]),
        addresses=arguments["addresses"],
        keep_others=arguments["keep_others"],
        keep_comments=arguments["keep_comments"],
        ports=arguments["ports"],
    )
    try:
        with (
            _again_and_again(arguments["file"]) as source,
            progress(arguments["file"], 3 - (out is None)) as seen,
        ):
            outcome = _redact(arguments["file"], lambda: seen(source()), out, options)
    except KeyboardInterrupt:
        context.exit(EXIT_INTERRUPTED)
    except OSError as error:
        raise UsageError(f"cannot write {out or 'temporary file'}: {error.strerror or error}") from error
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    _tell(arguments, out, outcome, as_json=arguments["as_json"])
    if not outcome.summary.spice_connections:
        context.exit(EXIT_NO_SPICE)
    context.exit(EXIT_DAMAGED if outcome.damage is not None or outcome.summary.problems else 0)


def _redact(name: str, open_source: Callable[[], BinaryIO], out: Path | None, options: Options) -> Outcome:
    """Write the copy, if there is something to copy.

    Raises:
        UsageError: OUT is the capture itself, or cannot be made.
    """
    if out is None:
        return redact(open_source, None, options)
    if name != "-" and out.exists() and out.samefile(name):
        raise UsageError(f"{out} is the capture itself; give another name for the copy")
    with new_file(out) as new:
        outcome = redact(open_source, new.file, options)
        if outcome.summary.spice_connections:
            new.keep()
    return outcome


@contextlib.contextmanager
def _again_and_again(name: str) -> Iterator[Callable[[], BinaryIO]]:
    """Gives what opens the capture as often as needed; standard input is kept in a file without a name meanwhile."""
    if name != "-":
        yield lambda: open_capture(name)
        return
    with tempfile.TemporaryFile(prefix="spiceproxy-redact-") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)

        def again() -> BinaryIO:
            file.seek(0)
            return open(file.fileno(), "rb", closefd=False)

        yield again


def _tell(arguments: dict[str, Any], out: Path | None, outcome: Outcome, *, as_json: bool) -> None:
    """Say what was removed, and what was wrong."""
    account, summary = outcome.account, outcome.summary
    problems = [
        *summary.problems,
        *([str(outcome.damage)] if outcome.damage is not None else []),
        *account.notes,
    ]
    for line in problems[:MAX_PROBLEMS]:
        click.echo(f"spiceproxy: {line}", err=True)
    if len(problems) > MAX_PROBLEMS:
        click.echo(f"spiceproxy: and {len(problems) - MAX_PROBLEMS} more", err=True)
    if not summary.spice_connections:
        click.echo(
            f"spiceproxy: no SPICE in {arguments['file']}: nothing is written; if a connection's start is not in the "
            "capture, name its port with --port",
            err=True,
        )
        if as_json:
            click.echo(msgspec.json.encode(_object(arguments, None, outcome)).decode())
        return
    if as_json:
        click.echo(msgspec.json.encode(_object(arguments, out, outcome)).decode())
        return
    verb = "would be removed" if out is None else "removed"
    _print_table(account, verb)
    for line in _sentences(account):
        click.echo(line)
    click.echo(
        "Who has the copy still sees when and how much: times and sizes of messages, and so how often and when keys were\n"
        "pressed. docs/recording.md says what else stays."
    )
    if out is not None:
        click.echo(f"{account.packets} packets, {account.messages} messages written to {out}")


def _print_table(account: Account, verb: str) -> None:
    table = Table(box=None, pad_edge=False, title=None)
    for heading, side in ((verb, "left"), ("times", "right"), ("bytes", "right"), ("what it is", "left")):
        table.add_column(heading, justify="right" if side == "right" else "left")
    for kind, removed in account.rows():
        table.add_row(str(kind), str(removed.count), str(removed.bytes), MEANINGS[kind])
    if not account.kinds:
        click.echo("There was nothing secret in it.")
        return
    Console(file=sys.stdout, highlight=False, width=max(100, shutil.get_terminal_size().columns)).print(table)


def _sentences(account: Account) -> Iterator[str]:
    if account.dropped:
        yield f"{account.dropped} packets that are not SPICE are left out (--keep-others keeps them as they are)."
    if account.unread_packets:
        yield f"{account.unread_packets} packets that could not be read, or belong to connections without a beginning, are zero."
    if account.undecoded:
        yield f"{account.undecoded} messages could not be decoded; nothing of their bodies is left."
    if account.comments:
        yield f"{account.comments} lines of packet comments are left out, or quote nothing any more (--keep-comments keeps them)."


def _object(arguments: dict[str, Any], out: Path | None, outcome: Outcome) -> dict[str, Any]:
    account = outcome.account
    return {
        "v": VERSION,
        "file": arguments["file"],
        "out": str(out) if out is not None else None,
        "removed": {
            str(kind): {"count": removed.count, "bytes": removed.bytes} for kind, removed in account.rows()
        },
        "kept": sorted(arguments["keep"]),
        "addresses": arguments["addresses"],
        "messages": account.messages,
        "undecoded": account.undecoded,
        "packets": account.packets,
        "packets_dropped": account.dropped,
        "packets_unread": account.unread_packets,
        "comments_dropped": account.comments,
        "problems": [*outcome.summary.problems, *account.notes],
        "damage": str(outcome.damage) if outcome.damage is not None else None,
    }
