"""All targets, each for a while, as many at once as there are cores; crashes are told with the way to see them again."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.fuzz.targets import CORPUS, TARGETS

ROOT: Final = Path(__file__).resolve().parents[2]
TIMEOUT_S: Final = 2  # of one input; libFuzzer knows whole seconds only
RSS_LIMIT_MB: Final = 768  # of a worker: Python, what is instrumented, the corpus and one input
PULSE_S: Final = 10
# What a worker may take beyond its time: to start, to read its corpus, and for the input it is at.
GRACE_S: Final = 60
_PROGRESS: Final = re.compile(rb"^#(\d+)\s.*cov: (\d+) ft: (\d+) corp: (\d+)/", re.MULTILINE)
_TAIL_LINES: Final = 25
# Of one target: enough to begin with, and little enough to live in the repository.
MAX_KEPT_INPUTS: Final = 300
MAX_KEPT_BYTES: Final = 64 * 2**10
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one target's run ended.

    Attributes:
        target: Its name.
        runs: Inputs that were tried.
        crash: The input that failed, if one did.
        log: What libFuzzer wrote.
        failed: Whether it ended in any way that was not meant, with or without such an input.
    """

    target: str
    runs: int
    crash: Path | None
    log: Path
    failed: bool


@dataclass(frozen=True, slots=True)
class Fuzzer:
    """Runs targets.

    Args:
        work: Folder for logs, new inputs and crashes.
        seconds: For each target.
        say: Takes progress, a line at a time.
        worker: What Python is to run for each target.
        seed: Of libFuzzer; with the same code, corpus and seed a longer run begins as a shorter one does. 0: any.
    """

    work: Path
    seconds: int
    say: Say
    worker: tuple[str, ...] = ("-m", "tests.fuzz.worker")
    seed: int = 0

    def run(self, targets: list[str], jobs: int) -> list[Outcome]:
        """Fuzz these targets, `jobs` of them at a time, in this order."""
        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(self.fuzz, targets))

    def fuzz(self, target: str) -> Outcome:
        """Fuzz one target; inputs that reach something new are kept in the work folder."""
        found, kept = self.work / target / "found", CORPUS / target
        found.mkdir(parents=True, exist_ok=True)
        kept.mkdir(parents=True, exist_ok=True)
        self.say(f"{target}: {self.seconds} s from {sum(1 for _ in kept.iterdir())} kept inputs")
        options = [f"-max_total_time={self.seconds}", f"-max_len={TARGETS[target].max_bytes}"]
        return self._worker(target, [*options, str(found), str(kept)], self.seconds)

    def update(self, target: str) -> Outcome:
        """Take into the kept corpus what was found, and leave out what reaches nothing that others do not."""
        kept, merged = CORPUS / target, self.work / target / "merged"
        found = self.work / target / "found"
        for folder in (merged, found):
            folder.mkdir(parents=True, exist_ok=True)
        for stale in merged.iterdir():
            stale.unlink()
        options = ["-merge=1", f"-max_len={TARGETS[target].max_bytes}"]
        outcome = self._worker(target, [*options, *map(str, (merged, kept, found))], 600)
        if outcome.failed or not any(merged.iterdir()):
            return replace(outcome, failed=True)
        for old in kept.iterdir():
            old.unlink()
        total = 0
        for new in sorted(merged.iterdir(), key=lambda path: (path.stat().st_size, path.name))[
            :MAX_KEPT_INPUTS
        ]:
            data = new.read_bytes()
            total += len(data)
            if total <= MAX_KEPT_BYTES:
                (kept / new.name[:16]).write_bytes(data)  # 64 of the 160 bits of its SHA-1 tell enough
        self.say(
            f"{target}: {sum(1 for _ in kept.iterdir())} inputs kept, "
            f"{sum(each.stat().st_size for each in kept.iterdir())} bytes"
        )
        return outcome

    def _worker(self, target: str, arguments: list[str], seconds: int) -> Outcome:
        log, crashes = self.work / target / "log", self.work / target / "crashes"
        crashes.mkdir(parents=True, exist_ok=True)
        before = set(crashes.iterdir())
        limits = [
            f"-seed={self.seed}",
            f"-timeout={TIMEOUT_S}",
            f"-rss_limit_mb={RSS_LIMIT_MB}",
            f"-artifact_prefix={crashes}/",
        ]
        command = [sys.executable, *self.worker, target, *limits, *arguments]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
            in_time = self._watch(process, target, log, seconds + GRACE_S)
        new = sorted(set(crashes.iterdir()) - before)
        failed = not in_time or process.returncode != 0
        outcome = Outcome(target, _progress(log)[0], new[0] if new else None, log, failed)
        self.say(self._ending(outcome, in_time=in_time))
        return outcome

    def _watch(self, process: subprocess.Popen[bytes], target: str, log: Path, seconds: float) -> bool:
        """Wait for a worker, telling how it goes; whether it ended by itself."""
        begun = time.monotonic()
        try:
            while True:
                try:
                    process.wait(PULSE_S)
                except subprocess.TimeoutExpired:
                    runs, reached = _progress(log)
                    self.say(f"{target}: {runs} runs, {reached} places and combinations reached")
                else:
                    return True
                if time.monotonic() - begun > seconds:
                    return False
        finally:
            process.kill()  # does nothing to one that has ended
            process.wait()

    def _ending(self, outcome: Outcome, *, in_time: bool) -> str:
        if not outcome.failed:
            return f"{outcome.target}: {outcome.runs} runs, {_progress(outcome.log)[1]} reached, no failure"
        lines = outcome.log.read_text("utf-8", "replace").splitlines()[-_TAIL_LINES:]
        again = (
            f"python -m tests.fuzz.worker {outcome.target} {outcome.crash}" if outcome.crash else "see above"
        )
        why = "" if in_time else " (it did not end and was killed)"
        return "\n".join(
            [
                f"{outcome.target}: FAILED{why}",
                *(f"    {line}" for line in lines),
                f"{outcome.target}: all of it: {outcome.log}",
                f"{outcome.target}: to see it again: {again}",
            ]
        )


def _progress(log: Path) -> tuple[int, int]:
    """Runs so far, and what libFuzzer calls features: places reached, told apart by how often."""
    found = _PROGRESS.findall(log.read_bytes())
    return (int(found[-1][0]), int(found[-1][2])) if found else (0, 0)
