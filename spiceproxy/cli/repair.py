"""`spiceproxy repair`: a capture that was cut off or damaged, made readable again."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from spiceproxy.capture.files import open_capture
from spiceproxy.capture.newfile import new_file
from spiceproxy.cli.progress import progress
from spiceproxy.errors import CaptureError, UsageError
from spiceproxy.repair.losses import Loss
from spiceproxy.repair.repair import Repaired, repair

EXIT_NOTHING: Final = 1
EXIT_DAMAGED: Final = 5
EXIT_INTERRUPTED: Final = 130
VERSION: Final = 1
MAX_LOSSES: Final = 20

EPILOG: Final = """\b
Examples:
  spiceproxy repair session.pcapng               writes session.repaired.pcapng
  spiceproxy repair session.pcapng whole.pcapng
  spiceproxy repair --check *.pcapng.gz

\b
Exit status: 0 if the capture is whole, or was repaired; 1 if nothing of it can be saved; 2 for wrong options or a file
that is no capture; 5 with --check if it is damaged.
"""


@click.command("repair", epilog=EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.argument("out", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--check", is_flag=True, help="Only say what is wrong; write nothing.")
@click.option("--in-place", is_flag=True, help="Put the repaired capture in the place of FILE.")
@click.option("--json", "as_json", is_flag=True, help="Say it as JSON (docs/recording.md).")
@click.pass_context
def repair_command(context: click.Context, /, **arguments: Any) -> None:
    """Make a capture readable again that ends in the middle of a packet, or is damaged somewhere inside.

    FILE is pcap or pcapng, also compressed by gzip or zstd, from whatever program; - is standard input. What is whole is
    copied as it is, to OUT or, without it, to FILE with .repaired before its ending; never over FILE, unless with
    --in-place. Nothing is written if there is nothing to repair and no OUT is given.
    """
    name: str = arguments["file"]
    out: Path | None = arguments["out"]
    if arguments["check"] + arguments["in_place"] + (out is not None) > 1:
        raise click.UsageError("OUT, --check and --in-place exclude each other")
    if name == "-" and (arguments["in_place"] or (out is None and not arguments["check"])):
        raise click.UsageError("standard input needs OUT or --check")
    try:
        target = None if arguments["check"] else _target(name, out, in_place=arguments["in_place"])
        result, written = _repair(name, target, always=out is not None)
    except KeyboardInterrupt:
        context.exit(EXIT_INTERRUPTED)
    except CaptureError as error:
        click.echo(f"spiceproxy: {name}: {error.reason}", err=True)
        context.exit(EXIT_NOTHING if "saved" in error.reason and "begins here" not in error.reason else 2)
    except OSError as error:
        raise UsageError(f"cannot write {out or name}: {error.strerror or error}") from error
    except UsageError as error:
        raise click.UsageError(str(error)) from error
    if arguments["as_json"]:
        click.echo(msgspec.json.encode(_object(name, written, result)).decode())
    else:
        for line in _lines(name, written, result):
            click.echo(line)
    context.exit(EXIT_DAMAGED if arguments["check"] and not result.is_whole else 0)


def _target(name: str, out: Path | None, *, in_place: bool) -> Path:
    """Where the repaired capture goes.

    Raises:
        UsageError: It would go over FILE unasked, or a packed file would be replaced by one that is not packed.
    """
    path = Path(name)
    packed = path.suffix in {".gz", ".zst"}
    if in_place:
        if packed:
            raise UsageError(f"{name} is compressed, and the repaired capture is not: give OUT")
        return path
    if out is None:
        plain = path.with_suffix("") if packed else path
        return plain.with_name(f"{plain.stem}.repaired{plain.suffix}")
    if name != "-" and out.exists() and out.samefile(path):
        raise UsageError(f"{out} is the capture itself; give another name, or --in-place")
    return out


def _repair(name: str, target: Path | None, *, always: bool) -> tuple[Repaired, Path | None]:
    with open_capture(name) as file, progress(name) as seen:
        source = seen(file)
        if target is None:
            return repair(source, None), None
        with new_file(target) as new:
            result = repair(source, new.file)
            if always or not result.is_whole:
                new.keep()
    return result, target if new.kept else None


def _lines(name: str, written: Path | None, result: Repaired) -> list[str]:
    lines = [f"{name}: {note}" for note in result.notes]
    if result.is_whole:
        lines.append(f"{name}: whole, {_count(result.packets, 'packet')}")
    else:
        lines += [f"{name}: {_loss(loss)}" for loss in result.losses[:MAX_LOSSES]]
        if len(result.losses) > MAX_LOSSES:
            lines.append(f"{name}: and {len(result.losses) - MAX_LOSSES} more places")
        lines.append(
            f"{name}: {_count(result.lost_bytes, 'byte')} of {result.size} lost, "
            f"at least {_count(result.lost_packets, 'packet')}; {_count(result.packets, 'packet')} are whole"
        )
    if written is not None:
        lines.append(f"written to {written}")
    return lines


def _loss(loss: Loss) -> str:
    text = f"{_count(loss.size, 'byte')} lost at byte {loss.offset}"
    if loss.to_end:
        text += ", up to the end"
    if loss.after_ns is not None and loss.before_ns is not None:
        text += f": between {_time(loss.after_ns)} and {_time(loss.before_ns)}"
        text += f" ({(loss.before_ns - loss.after_ns) / 1e9:.6f} s)"
    elif loss.after_ns is not None:
        text += f": after {_time(loss.after_ns)}"
    return text


def _time(time_ns: int) -> str:
    try:
        moment = datetime.fromtimestamp(time_ns // 10**9, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{time_ns} ns"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{time_ns % 10**9 // 1000:06d} UTC"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _object(name: str, written: Path | None, result: Repaired) -> dict[str, Any]:
    return {
        "v": VERSION,
        "file": name,
        "out": str(written) if written is not None else None,
        "format": result.format,
        "whole": result.is_whole,
        "size": result.size,
        "packets": result.packets,
        "lost_bytes": result.lost_bytes,
        "lost_packets_at_least": result.lost_packets,
        "losses": [
            {
                "offset": loss.offset,
                "size": loss.size,
                "after_ns": None if loss.after_ns is None else str(loss.after_ns),
                "before_ns": None if loss.before_ns is None else str(loss.before_ns),
                "to_end": loss.to_end,
            }
            for loss in result.losses
        ],
        "notes": result.notes,
    }
