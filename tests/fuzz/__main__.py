"""`python -m tests.fuzz`: look for inputs that break something.

Starts every target from its kept corpus (tests/fuzz/corpus), which an ordinary test replays as well. What is found
stays in the work folder unless --update-corpus is given. Exit status: 0 nothing failed, 1 something did, 2 it cannot run.
"""

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path

from tests.fuzz.runner import ROOT, Fuzzer
from tests.fuzz.seeds import write_seeds
from tests.fuzz.targets import TARGETS


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(TARGETS)} (all of them)"
    )
    parser.add_argument("--seconds", type=int, default=12, help="for each target (%(default)s)")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="try the same inputs in the same order again (0: others each time)",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at once (%(default)s)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "fuzz", help="folder (%(default)s)")
    parser.add_argument("--list", action="store_true", help="say what the targets are, and stop")
    parser.add_argument("--seeds", action="store_true", help="first make inputs out of schemas and captures")
    parser.add_argument(
        "--update-corpus", action="store_true", help="keep what was found, and throw out what adds nothing"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if arguments.seconds < 1 or arguments.jobs < 1:
        parser.error("seconds and jobs are at least 1")
    return arguments


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Do it; returns the exit status."""
    arguments = _arguments()
    if arguments.list:
        for name, target in TARGETS.items():
            _say(f"{name:14} {target.meaning}")
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("fuzzing needs atheris, of which there are wheels for Linux on x86-64 only", file=sys.stderr)
        return 2
    names = arguments.targets or list(TARGETS)
    begun, fuzzer = (
        time.monotonic(),
        Fuzzer(arguments.work.resolve(), arguments.seconds, _say, seed=arguments.seed),
    )
    if arguments.seeds:
        for name in names:
            _say(f"{name}: {write_seeds(name, fuzzer.work / name / 'found')} seeds")
    outcomes = fuzzer.run(names, arguments.jobs)
    if arguments.update_corpus:
        outcomes += [fuzzer.update(name) for name in names]
    failed = [outcome.target for outcome in outcomes if outcome.failed]
    runs, took = sum(outcome.runs for outcome in outcomes), time.monotonic() - begun
    _say(
        f"{len(names)} targets, {runs} runs in {took:.0f} s; "
        + (f"failed: {', '.join(failed)}" if failed else "nothing failed")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
