"""A long series of good migrations with mixed parameters: is each reported as what it was, and is nobody accused?

    make series                             # 50 migrations, some minutes
    python -m tests.lab.series --migrations 200 --seed 7 --keep /tmp/series

Exit status: 0 if every migration went as asked, and its report says so, from the live tracker and from the recording,
without a violation of severity error; 1 if not. Recordings of runs that are not good stay in the folder of --keep.
"""

import random
import sys
import tempfile
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

import trio

from spiceproxy.capture.reports import read_report
from spiceproxy.lab.client_traffic import conflict
from spiceproxy.lab.result import ClientKind, LabOptions, LabResult, MigrationKind, Traffic
from spiceproxy.lab.run import run_lab
from spiceproxy.protocol.migration.model import Migration, Outcome, Severity

T = TypeVar("T")
_COMPRESSIONS: Final = (None, "off", "quic", "glz", "lz", "auto_glz", "auto_lz")
_STREAMING: Final = (None, "off", "all", "filter")
# How often: most sessions are seen by a real client and move seamlessly.
_KINDS: Final = {MigrationKind.SEAMLESS: 6, MigrationKind.SEMI_SEAMLESS: 2, MigrationKind.SWITCH_HOST: 1}
_CLIENTS: Final = {ClientKind.SPICY: 6, ClientKind.REMOTE_VIEWER: 3, ClientKind.SIMULATED: 1}
_HOPS: Final = {1: 5, 2: 3, 3: 2}
_MAX_TRAFFIC: Final = 3


@dataclass
class Figures:
    """What the series has come to."""

    runs: int = 0
    migrations: Counter[str] = field(default_factory=Counter)
    unseen_ms: list[float] = field(default_factory=list)
    violations: Counter[tuple[str, Severity]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Migrations that took place."""
        return sum(self.migrations.values())


def mixed_options(chance: random.Random) -> LabOptions:
    """Draw the parameters of a run that a client can take."""
    while True:
        spice = {
            "image-compression": chance.choice(_COMPRESSIONS),
            "streaming-video": chance.choice(_STREAMING),
        }
        heads = chance.choice((1, 1, 1, 2, 2, 3))
        options = LabOptions(
            migration=_weighed(chance, _KINDS),
            hops=_weighed(chance, _HOPS),
            client=_weighed(chance, _CLIENTS),
            traffic=frozenset(chance.sample(list(Traffic), chance.randint(0, _MAX_TRAFFIC))),
            seconds=chance.choice((0, 0.3, 1)),
            heads=heads,
            one_adapter=heads > 1 and chance.random() < 0.3,
            back=chance.random() < 0.3,
            ticket=chance.random() < 0.3,
            spice={name: value for name, value in spice.items() if value is not None},
            accelerators=("tcg",),
        )
        if conflict(options) is None:
            return options


def _weighed(chance: random.Random, weights: dict[T, int]) -> T:
    return chance.choices(list(weights), list(weights.values()))[0]


def described(options: LabOptions) -> str:
    """The options that are not as always, in the words of the command line."""
    words = [f"--migration {options.migration}", f"--client {options.client}", f"--hops {options.hops}"]
    words += [f"--heads {options.heads}"] if options.heads > 1 else []
    flags = {"one-adapter": options.one_adapter, "back": options.back, "ticket": options.ticket}
    words += [f"--{name}" for name, given in flags.items() if given]
    words += [f"--traffic {kind}" for kind in sorted(options.traffic)]
    words += [f"--{name} {value}" for name, value in sorted(options.spice.items())]
    return " ".join([*words, f"--seconds {options.seconds:g}"])


def wrong_with(migrations: Sequence[Migration], options: LabOptions) -> Iterator[str]:
    """Say what a report has to say otherwise of a run in which all went well."""
    if len(migrations) != options.hops:
        yield f"{len(migrations)} migrations, not {options.hops}"
    for each in migrations:
        if each.outcome is not Outcome.COMPLETED:
            yield f"migration {each.number} {each.outcome or 'goes on'}: {each.reason}"
        if each.performed is None or each.performed.value != options.migration.value:
            yield f"migration {each.number} performed as {each.performed}"
        for violation in each.violations:
            if violation.severity is Severity.ERROR:
                yield f"migration {each.number}: {violation.rule} by the {violation.by}: {violation.message}"


async def play(options: LabOptions, recording: Path, figures: Figures) -> tuple[LabResult, list[str]]:
    """Play one run; return it and what is wrong with it."""
    result = await run_lab(options)
    problems = list(result.problems)
    if not problems:
        told = {"live": result.report, "recorded": await trio.to_thread.run_sync(read_report, str(recording))}
        for where, report in told.items():
            if report is None:
                problems.append(f"{where}: no report")
                continue
            problems += [
                f"{where}: {text}" for text in (*report.problems, *wrong_with(report.migrations, options))
            ]
        recorded = told["recorded"]
        for each in recorded.migrations if recorded is not None else ():
            figures.migrations[options.migration] += 1
            if (unseen := each.times_ms.get("unseen")) is not None:
                figures.unseen_ms.append(unseen)
            figures.violations.update((violation.rule, violation.severity) for violation in each.violations)
    figures.runs += 1
    return result, problems


async def series(migrations: int, chance: random.Random, keep: Path) -> Figures:
    """Play runs until so many migrations have taken place, or as many runs."""
    figures = Figures()
    while figures.count < migrations and figures.runs < migrations:
        number, options = figures.runs + 1, mixed_options(chance)
        recording = keep / f"run-{number}.pcapng"
        result, problems = await play(replace(options, record=recording), recording, figures)
        state = "FAILED" if problems else "ok"
        print(
            f"{number:4} {figures.count:4}/{migrations} {state:6} {result.duration_s:5.1f} s  {described(options)}"
        )
        for problem in problems:
            print(f"                {problem}")
        sys.stdout.flush()
        figures.problems += [f"run {number}: {problem}" for problem in problems]
        if not problems:
            recording.unlink()
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line; return the exit status."""
    parser = ArgumentParser(
        prog="python -m tests.lab.series", description=__doc__.partition("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--migrations", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--keep", type=Path, help="where recordings of bad runs stay; default: a new folder in /tmp"
    )
    given = parser.parse_args(arguments)
    keep: Path = given.keep or Path(tempfile.mkdtemp(prefix="spiceproxy-series-"))
    keep.mkdir(parents=True, exist_ok=True)
    figures = trio.run(series, given.migrations, random.Random(given.seed), keep)
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(figures.migrations.items()))
    print(f"\n{figures.count} migrations in {figures.runs} runs: {kinds}")
    if figures.unseen_ms:
        print(
            f"nothing new to see for {median(figures.unseen_ms):.0f} ms (median), {max(figures.unseen_ms):.0f} ms (longest)"
        )
    found = [f"{rule} {severity} {count}" for (rule, severity), count in sorted(figures.violations.items())]
    print(f"violations: {', '.join(found) or 'none'}")
    print(f"{len(figures.problems)} problems" + (f"; recordings are in {keep}" if figures.problems else ""))
    if not figures.problems and given.keep is None:
        keep.rmdir()
    return 1 if figures.problems or figures.count < given.migrations else 0


if __name__ == "__main__":
    sys.exit(main())
