"""Play all abuses against one proxy and measure: what `make hostile` prints and the test judges."""

import sys
import tempfile
import time
from dataclasses import dataclass
from math import inf
from pathlib import Path
from statistics import median

import trio

from tests.hostile.abuse import MEMORY_LIMIT_BYTES, Abuse
from tests.hostile.client_abuses import CLIENT_ABUSES
from tests.hostile.floods import FLOODS
from tests.hostile.server_abuses import SERVER_ABUSES
from tests.hostile.stage import Stage, stage

ABUSES = (
    *((f"client: {abuse.name}", abuse) for abuse in CLIENT_ABUSES),
    *((f"server: {abuse.name}", abuse) for abuse in SERVER_ABUSES),
    *((f"flood: {abuse.name}", abuse) for abuse in FLOODS),
)
WINDOW_S = 0.1  # each abuse is watched so long at least, for some hundred round trips of the witness
QUIET_S = 0.02
QUIET_TRIPS = 100  # before each abuse: what is normal for the witness changes with what else the machine does
# What a witness notices may be the machine's doing. An abuse that it seems to notice is played again, so often at most.
TRIES = 5


@dataclass(frozen=True)
class Result:
    """What came of one abuse."""

    name: str
    abuse: Abuse
    heard: bool  # the documented event has come
    left_over: int  # descriptors that are still open
    seconds: float  # until both held
    grown_bytes: int  # resident memory at its peak, above what it was before
    round_trips: list[float]  # of the witness meanwhile
    quiet: list[float]  # and just before
    happened: list[str]  # events, for whoever has to find out

    @property
    def ratio(self) -> float:
        """The witness's median round trip, in multiples of what it was just before."""
        return median(self.round_trips or [inf]) / median(self.quiet)

    @property
    def documented(self) -> bool:
        """All but what the witness notices is as it has to be."""
        return self.heard and self.left_over <= 0 and self.grown_bytes < MEMORY_LIMIT_BYTES


@dataclass(frozen=True)
class Run:
    """The whole suite."""

    results: list[Result]
    first_bytes: int  # resident memory after the first abuse
    last_bytes: int  # and after the last

    @property
    def normal_s(self) -> float:
        """The witness's normal round trip: the median."""
        return median(trip for each in self.results for trip in each.quiet)

    @property
    def during_s(self) -> float:
        """The same while abuses go on: the median of all abuses' medians, so that a long one counts once."""
        return median(median(each.round_trips) for each in self.results if each.round_trips)


async def play(directory: Path) -> Run:
    """Play everything."""
    results: list[Result] = []
    lingering = 0
    async with stage(directory) as it:
        await trio.sleep(0.5)
        base = it.descriptors()
        first = it.resident()
        for name, abuse in ABUSES:
            tries: list[Result] = []
            while not tries or (len(tries) < TRIES and tries[-1].documented and tries[-1].ratio >= 2):
                lingering += abuse.lingers
                tries.append(await play_one(it, name, abuse, base + lingering))
            results.append(tries[-1] if not tries[-1].documented else min(tries, key=lambda e: e.ratio))
        last = it.resident()
    return Run(results, first, last)


async def play_one(it: Stage, name: str, abuse: Abuse, descriptors: int) -> Result:
    """Play one; `descriptors` are the proxy's when it is over."""
    start = time.monotonic()
    while len(quiet := it.round_trips_between(start, time.monotonic())) < QUIET_TRIPS:  # noqa: ASYNC110
        await trio.sleep(QUIET_S)
    before, start = len(it.events), time.monotonic()
    heard, left_over, over = False, 0, None
    failure: list[str] = []
    with it.peak_memory() as grown:
        with trio.move_on_after(abuse.time_limit_s):
            try:
                async with it.peers() as raw:
                    await abuse.act(raw)
            except Exception as error:  # noqa: BLE001  told with the result
                failure.append(repr(error))
            while not (heard and left_over <= 0 and time.monotonic() - start >= WINDOW_S):
                heard, left_over = abuse.heard(it.events[before:]), it.descriptors() - descriptors
                if heard and left_over <= 0 and over is None:
                    over = time.monotonic()
                await trio.sleep(0.005)
    end = time.monotonic()
    over_s = (over or end) - start
    happened = [f"{e['event']} {e.get('by', '')} {e.get('reason', '')}" for e in it.events[before:]]
    trips = it.round_trips_between(start, end)
    return Result(
        name,
        abuse,
        heard and not failure,
        left_over,
        over_s,
        grown[0],
        trips,
        quiet,
        [*failure, *happened[:20]],
    )


def table(run: Run) -> str:
    """As Markdown."""
    lines = [
        "| abuse | the proxy says | over after | memory | witness |",
        "|---|---|---|---|---|",
    ]
    for each in run.results:
        said = f"`{each.abuse.event}`" if each.heard else "NOT THE EVENT"
        if each.left_over > 0:
            said += f", {each.left_over} descriptors left"
        lines.append(
            f"| {each.name} | {said} | {each.seconds:.2f} s | {each.grown_bytes / 2**20:+.1f} MiB | {each.ratio:.2f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 if something is not as it has to be."""
    with tempfile.TemporaryDirectory() as directory:
        run = trio.run(play, Path(directory))
    print(table(run))
    bad = [each for each in run.results if not each.documented]
    for each in bad:
        print(each.name, *each.happened, sep="\n    ", file=sys.stderr)
    slow = [each.name for each in run.results if each.ratio >= 2]
    print(*slow, sep="\n", file=sys.stderr)
    print(
        f"\n{len(run.results)} abuses, {len(bad)} not as documented, {len(slow)} noticed by the witness. Its round trip: {run.normal_s * 1e6:.0f} us "
        f"normally, {run.during_s * 1e6:.0f} us meanwhile (medians of {sum(len(e.quiet) for e in run.results)} and "
        f"{sum(len(e.round_trips) for e in run.results)}). Resident memory from {run.first_bytes / 2**20:.1f} to "
        f"{run.last_bytes / 2**20:.1f} MiB."
    )
    return 1 if bad or slow else 0


if __name__ == "__main__":
    sys.exit(main())
