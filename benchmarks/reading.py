"""`spiceproxy read --json` beside `tshark -T json`, and `report` beside `tshark -V`: wall clock and peak memory of the process.

    python benchmarks/reading.py [--rounds N] [--megabytes N] [--messages N] [FILE ...]

The two take turns in every round, over the same files; figures are medians. tshark gets what it needs to do its best: SPICE on
the port of the file, and no reassembly across messages where that makes it lose its way. JSON is written to a file, the
others to /dev/null.
Exit status 1 if spiceproxy is slower, except where both do little more than start, or takes more than a quarter of tshark's
memory.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks import captures


class Run(NamedTuple):
    """What one process took."""

    seconds: float
    peak_kib: int
    output_bytes: int


# A process is charged with the memory of the one it was forked from, so a small one starts what is measured.
_LAUNCHER = """
import json, os, sys, time
started = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ), 0)
print(json.dumps([time.perf_counter() - started, usage.ru_maxrss, os.waitstatus_to_exitcode(status)]), file=sys.stderr)
"""


_START_S = 0.3  # in which a process starts, and reads what is quickly read
# Of `report`: a file may have no migration in it, and one that is stuck is no failure to read it.
_GOOD_STATUSES = frozenset({0, 1, 3})


def run(command: list[str], output: Path) -> Run:
    """Run a command with its output in a file."""
    launch = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command]
    with output.open("wb") as file:
        process = subprocess.run(launch, stdout=file, stderr=subprocess.PIPE, text=True, check=True)
    seconds, peak_kib, status = json.loads(process.stderr.splitlines()[-1])
    if status not in (_GOOD_STATUSES if "report" in command else {0}):
        raise SystemExit(f"{command[0]} ended with status {status}: {' '.join(command)}")
    return Run(seconds, peak_kib, output.stat().st_size)


def reading(path: Path) -> dict[str, list[str]]:
    """Every message, as JSON."""
    return {
        "tshark": [*_tshark(path), "-T", "json"],
        "spiceproxy": [sys.executable, "-m", "spiceproxy", "read", "--json", str(path)],
    }


def reporting(path: Path) -> dict[str, list[str]]:
    """What a report needs of a file, and what tshark needs to print it."""
    return {
        "tshark": [*_tshark(path), "-V"],
        "spiceproxy": [sys.executable, "-m", "spiceproxy", "report", str(path)],
    }


def _tshark(path: Path) -> list[str]:
    decode = [f"tcp.port=={captures.SERVER[1]},spice"]
    return ["tshark", "-r", str(path)] + [word for rule in decode for word in ("-d", rule)]


def files(folder: Path, options: argparse.Namespace) -> dict[str, Path]:
    """Make the captures, by name."""
    if options.files:
        return {each.name: each for each in options.files}
    made: dict[str, Path] = {}
    megabytes, thousands = options.megabytes, options.messages // 1000
    for name, kind, amount, segment, migrating in (
        (f"images, {megabytes} MB, 64 KiB packets", "images", megabytes * 10**6, None, False),
        (f"images, {megabytes} MB, 1448-byte packets", "images", megabytes * 10**6, 1448, False),
        (f"{thousands},000 small messages, one a packet", "messages", options.messages, None, False),
        (f"{thousands},000 small messages, 1448-byte packets", "messages", options.messages, 1448, False),
        (f"{thousands},000 small messages, one a packet, in a migration", "messages", options.messages, None, True),
    ):  # fmt: skip
        made[name] = folder / f"{len(made)}.pcapng"
        captures.write(made[name], kind, amount, segment_bytes=segment, migrating=migrating)
    return made


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=30)
    parser.add_argument("--messages", type=int, default=200_000)
    options = parser.parse_args()
    if shutil.which("tshark") is None:
        raise SystemExit("tshark is not installed; on Debian: apt-get install tshark")
    good = True
    with tempfile.TemporaryDirectory() as folder:
        made = files(Path(folder), options)
        for title, commands, output in (
            ("read --json beside tshark -T json", reading, Path(folder, "output")),
            ("report beside tshark -V", reporting, Path("/dev/null")),
        ):
            table = Table(
                "capture", "tshark s", "spiceproxy s", "ratio", "tshark MiB", "spiceproxy MiB", "ratio", title=title
            )  # fmt: skip
            for name, path in made.items():
                row, as_good = compare(commands(path), output, options.rounds)
                table.add_row(name, *row)
                good = good and as_good
            Console().print(table)
    return 0 if good else 1


def compare(commands: dict[str, list[str]], output: Path, rounds: int) -> tuple[list[str], bool]:
    """Let the two take turns; the figures, and whether ours are good."""
    runs: dict[str, list[Run]] = {}
    for _ in range(rounds):
        for program, command in commands.items():
            runs.setdefault(program, []).append(run(command, output))
    seconds = {p: statistics.median(each.seconds for each in rs) for p, rs in runs.items()}
    memory = {p: max(each.peak_kib for each in rs) / 1024 for p, rs in runs.items()}
    ratio = seconds["spiceproxy"] / seconds["tshark"], memory["spiceproxy"] / memory["tshark"]
    row = [
        f"{seconds['tshark']:.2f}", f"{seconds['spiceproxy']:.2f}", f"{ratio[0]:.2f}",
        f"{memory['tshark']:.0f}", f"{memory['spiceproxy']:.0f}", f"{ratio[1]:.2f}",
    ]  # fmt: skip
    return row, (ratio[0] <= 1 or seconds["spiceproxy"] < _START_S) and ratio[1] <= 0.25


if __name__ == "__main__":
    sys.exit(main())
