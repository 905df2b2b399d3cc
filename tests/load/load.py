"""Many sessions at once in one proxy, or sessions that come and go for long: what it takes, and whether anything is left.

python -m tests.load.load [--sessions 300] [--migrations 100] [--seconds 60]      # all at once
python -m tests.load.load --soak [--seconds 1200] [--sessions 20]                 # coming and going
"""

import argparse
import random
import resource
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import trio

from tests.load.proxy_process import ProxyProcess, Sample, proxy_process
from tests.load.sessions import Front, Session, Tally

# What Python may keep beyond what it had in the third quarter of the time: fragments, the latest 200 migrations.
FLAT_BYTES = 8 * 2**20
SAMPLE_S = 0.5
TASKS_EVERY = 6  # samples
CONNECTING = 16  # sessions that connect at the same time


@dataclass
class Outcome:
    """What came of a run."""

    tally: Tally
    samples: list[Sample]
    before: Sample  # no session yet
    peak: Sample
    after: Sample  # no session any more
    bad_events: list[str]
    events: dict[str, int]
    cpu_seconds: float
    tasks: tuple[int, int, int]  # before, at most, after
    reasons: list[str] = field(default_factory=list)

    def judge(self) -> "Outcome":
        """Say what is not as it has to be."""
        reasons = self.reasons
        reasons += self.tally.errors[:5]
        reasons += [f"event {each}" for each in self.bad_events[:5]]
        if self.after.descriptors > self.before.descriptors:
            reasons.append(f"{self.after.descriptors - self.before.descriptors} descriptors left")
        if self.tasks[2] > self.tasks[0]:
            reasons.append(f"{self.tasks[2] - self.tasks[0]} tasks left")
        if self.after.threads > self.before.threads:
            reasons.append(f"{self.after.threads - self.before.threads} threads left")
        third, last = self.quarters()
        if last - third > FLAT_BYTES:
            reasons.append(
                f"memory grew from {third / 2**20:.1f} to {last / 2**20:.1f} MiB in the second half"
            )
        return self

    def quarters(self) -> tuple[float, float]:
        """Resident memory in the third and in the last quarter: medians."""
        sizes = [each.resident_bytes for each in self.samples]
        half = len(sizes) // 2
        middle = half + (len(sizes) - half) // 2
        return median(sizes[half:middle] or sizes), median(sizes[middle:] or sizes)


async def play(directory: Path, *, sessions: int, migrations: int, seconds: float, soak: bool) -> Outcome:
    """Play it."""
    front, tally = Front(), Tally()
    samples: list[Sample] = []
    async with (
        front.open() as server,
        proxy_process(directory, server, "--max-connections-per-address", "100000") as proxy,
    ):
        await trio.sleep(0.5)
        before, tasks_before, tasks = proxy.sample(), await proxy.tasks(), [0]
        async with trio.open_nursery() as watching:
            watching.start_soon(_watch, proxy, samples, tasks)
            if soak:
                await _soak(front, proxy, tally, samples, sessions, seconds)
            else:
                await _all_at_once(front, proxy, tally, samples, sessions, migrations, seconds)
            watching.cancel_scope.cancel()
        with trio.move_on_after(40):  # the last of them may have been told to switch hosts: 30 s of grace
            while proxy.sample().descriptors > before.descriptors:  # noqa: ASYNC110
                await trio.sleep(0.1)
        after, cpu = proxy.sample(), proxy.cpu_seconds()
        counts = (tasks_before, max(tasks), await proxy.tasks())
        events, bad = proxy.events()
    peak = max(samples, key=lambda each: each.descriptors)
    if front.strangers:
        tally.errors.append(f"{front.strangers} connections of no session")
    return Outcome(tally, samples, before, peak, after, bad, dict(events), cpu, counts).judge()


async def _watch(proxy: ProxyProcess, samples: list[Sample], tasks: list[int]) -> None:
    while True:
        samples.append(proxy.sample())
        if len(samples) % TASKS_EVERY == 0:
            tasks.append(await proxy.tasks())
        await trio.sleep(SAMPLE_S)


async def _all_at_once(
    front: Front,
    proxy: ProxyProcess,
    tally: Tally,
    samples: list[Sample],
    sessions: int,
    migrations: int,
    seconds: float,
) -> None:
    """All connect; when the last one has, they migrate in turn while all of them have traffic; then all leave."""
    connecting, everybody = trio.CapacityLimiter(CONNECTING), trio.Event()
    turns = trio.CapacityLimiter(8)
    left = migrations

    async def one(number: int) -> None:
        nonlocal left
        try:
            await connecting.acquire()
            try:
                opened = Session(number, tally).open(front, proxy.address, seamless=number % 5 != 0)
                it = await opened.__aenter__()
            finally:
                connecting.release()
            try:
                if tally.open == sessions:
                    everybody.set()
                    samples.clear()  # what is judged begins when all are there
                with trio.fail_after(600):
                    await everybody.wait()
                deadline = trio.current_time() + seconds
                await trio.sleep(random.random())
                while trio.current_time() < deadline or left > 0:
                    await it.traffic()
                    if left > 0:
                        left -= 1
                        async with turns:
                            await it.migrate()
                    await trio.sleep(1 + random.random())
            finally:
                await opened.__aexit__(None, None, None)
        except Exception as error:  # noqa: BLE001  it is told
            tally.errors.append(f"session {number}: {error!r}")
            everybody.set()

    async with trio.open_nursery() as nursery:
        for number in range(sessions):
            nursery.start_soon(one, number)


async def _soak(
    front: Front, proxy: ProxyProcess, tally: Tally, samples: list[Sample], sessions: int, seconds: float
) -> None:
    """So many places; in each a session follows the other, of some 20 s, with a migration or a few."""
    end = trio.current_time() + seconds
    numbers = iter(range(10**9))

    async def place() -> None:
        while trio.current_time() < end:
            number = next(numbers)
            try:
                async with Session(number, tally).open(front, proxy.address, seamless=number % 5 != 0) as it:
                    for _ in range(random.randrange(1, 5)):
                        await it.traffic()
                        await trio.sleep(random.uniform(1, 4))
                        await it.migrate()
                        await it.traffic()
                        await trio.sleep(random.uniform(1, 4))
            except Exception as error:  # noqa: BLE001  it is told
                tally.errors.append(f"session {number}: {error!r}")
                return

    async with trio.open_nursery() as nursery:
        for _ in range(sessions):
            nursery.start_soon(place)
            await trio.sleep(0.3)


def text_of(outcome: Outcome) -> str:
    """As a few lines of Markdown."""
    tally, third_last = outcome.tally, outcome.quarters()
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(tally.migrations.items()))
    rows = {
        "sessions": f"{tally.sessions}",
        "migrations": f"{sum(tally.migrations.values())} ({kinds})",
        "drawing messages seen by clients": f"{tally.drawn}",
        "time": f"{outcome.samples[-1].seconds:.0f} s, {outcome.cpu_seconds:.0f} s of processor",
        "descriptors": f"{outcome.before.descriptors} before, {outcome.peak.descriptors} at most, {outcome.after.descriptors} after",
        "tasks": f"{outcome.tasks[0]} before, {outcome.tasks[1]} at most, {outcome.tasks[2]} after",
        "threads": f"{outcome.before.threads} before, {outcome.after.threads} after",
        "resident memory": f"{outcome.before.resident_bytes / 2**20:.1f} MiB before, {max(s.resident_bytes for s in outcome.samples) / 2**20:.1f} at most, {outcome.after.resident_bytes / 2**20:.1f} after",
        "memory in the third and the last quarter": " and ".join(
            f"{each / 2**20:.1f} MiB" for each in third_last
        ),
        "errors, warnings": f"{len(tally.errors)}, {len(outcome.bad_events)}",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def main() -> int:
    """Run it and print what came of it; 1 if something is not as it has to be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--soak", action="store_true")
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--migrations", type=int, default=100)
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args()
    sessions = options.sessions or (20 if options.soak else 300)
    seconds = options.seconds or (1200 if options.soak else 60)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as directory:
        outcome = trio.run(
            lambda: play(
                Path(directory),
                sessions=sessions,
                migrations=options.migrations,
                seconds=seconds,
                soak=options.soak,
            )
        )
    print(text_of(outcome))
    print(*(f"- {reason}" for reason in outcome.reasons), sep="\n", file=sys.stderr)
    return 1 if outcome.reasons else 0


if __name__ == "__main__":
    sys.exit(main())
