"""Play the peers that never stop, in turns with nothing, and see what a witness notices: the second table of `make hostile`.

What a witness notices is the proxy's doing and the machine's: who floods takes a processor himself, and two processors are soon
taken. So the same abuse is also played at another proxy, beside the witness's one: what is noticed then is the machine's.
"""

import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from statistics import median
from typing import Final

import trio

from tests.hostile.abuse import MEMORY_LIMIT_BYTES, Abuse
from tests.hostile.endless import ENDLESS, ENDLESS_AT_DOORS
from tests.hostile.stage import DOORS, Stage, stage

QUIET_S: Final = 0.4
QUIET_TRIPS: Final = 50
BEGIN_S: Final = 0.2  # links are made, and what may be used at once is used up
FLOOD_S: Final = 0.6
# Until all that it opened is closed again. Twenty sessions that were cut in the middle are many messages to be read still.
OVER_S: Final = 6.0


@dataclass
class Noticed:
    """What came of one abuse.

    Attributes:
        name: Of the abuse.
        abuse: It.
        quiet: Round trips of the witness without it, in seconds.
        during: With it.
        elsewhere_quiet: The same for the abuse of another proxy.
        elsewhere: With it.
        grown_bytes: Resident memory at its peak, above what it was before.
        left_over: Descriptors that were open at the end.
        heard: The documented event has come.
        happened: Events, for whoever has to find out.
    """

    name: str
    abuse: Abuse
    quiet: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    elsewhere_quiet: list[float] = field(default_factory=list)
    elsewhere: list[float] = field(default_factory=list)
    grown_bytes: int = 0
    left_over: int = 0
    heard: bool = False
    happened: set[str] = field(default_factory=set)

    @property
    def ratio(self) -> float:
        """The median round trip with the abuse, in multiples of that without."""
        return median(self.during or [inf]) / median(self.quiet)

    @property
    def ratio_elsewhere(self) -> float | None:
        """The same for another proxy; None if that was not played."""
        return median(self.elsewhere) / median(self.elsewhere_quiet) if self.elsewhere else None

    @property
    def unnoticed(self) -> bool:
        """Under twice the normal median, or what the machine makes of that in any case."""
        return self.ratio < 2 * max(1.0, self.ratio_elsewhere or 1.0)


async def _round(
    it: Stage, at: Stage, noticed: Noticed, quiet: list[float], during: list[float], open_before: int
) -> None:
    start = time.monotonic()
    while len(trips := it.round_trips_between(start, time.monotonic())) < QUIET_TRIPS:  # noqa: ASYNC110
        await trio.sleep(QUIET_S)
    quiet += trips
    before = len(at.events)
    with at.peak_memory() as grown:
        async with at.peers() as raw, trio.open_nursery() as nursery:
            nursery.start_soon(noticed.abuse.act, raw)
            await trio.sleep(BEGIN_S)
            start = time.monotonic()
            await trio.sleep(FLOOD_S)
            during += it.round_trips_between(start, time.monotonic())
            nursery.cancel_scope.cancel()
    noticed.grown_bytes = max(noticed.grown_bytes, grown[0])
    with trio.move_on_after(OVER_S):
        while True:
            new = at.events[before:]
            noticed.heard = noticed.heard or not noticed.abuse.event or noticed.abuse.heard(new)
            noticed.left_over = at.descriptors() - open_before
            if noticed.heard and noticed.left_over <= 0:
                break
            await trio.sleep(0.01)
    noticed.happened |= {f"{e['event']} {e.get('reason', '')}" for e in at.events[before:]}


async def play(
    directory: Path, abuses: tuple[Abuse, ...], *options: str, rounds: int = 1, elsewhere: bool = False
) -> list[Noticed]:
    """Play these abuses, so many rounds each."""
    results: list[Noticed] = []
    async with AsyncExitStack() as stack:
        for name in ("here", "there"):
            (directory / name).mkdir()
        it = await stack.enter_async_context(stage(directory / "here", *options))
        other = None
        if elsewhere:
            other = await stack.enter_async_context(stage(directory / "there", *options, witness=False))
        await trio.sleep(0.5)
        open_here, lingering = it.descriptors(), 0
        for abuse in abuses:
            noticed = Noticed(abuse.name, abuse)
            lingering += abuse.lingers
            for _ in range(rounds):
                await _round(it, it, noticed, noticed.quiet, noticed.during, open_here + lingering)
                if other is not None:
                    there = Noticed(abuse.name, abuse)
                    many = other.descriptors() + abuse.lingers
                    await _round(it, other, there, noticed.elsewhere_quiet, noticed.elsewhere, many)
            results.append(noticed)
    return results


async def play_all(directory: Path, *, rounds: int, elsewhere: bool) -> list[Noticed]:
    """Play all there are, at a proxy with plain options and at one with every door there is."""
    results = []
    for name, abuses, options in (("plain", ENDLESS, ()), ("doors", ENDLESS_AT_DOORS, DOORS)):
        (directory / name).mkdir()
        results += await play(directory / name, abuses, *options, rounds=rounds, elsewhere=elsewhere)
    return results


def table(results: list[Noticed]) -> str:
    """As Markdown."""
    lines = [
        "| over and over | the proxy says | memory | witness | elsewhere |",
        "|---|---|---|---|---|",
    ]
    for each in results:
        said = (f"`{each.abuse.event}`" if each.abuse.event else "") if each.heard else "NOT THE EVENT"
        if each.left_over > 0:
            said += f", {each.left_over} descriptors left"
        beside = each.ratio_elsewhere
        lines.append(
            f"| {each.name} | {said} | {each.grown_bytes / 2**20:+.1f} MiB | {each.ratio:.2f} |"
            f" {'' if beside is None else f'{beside:.2f}'} |"
        )
    return "\n".join(lines)


def bad(results: list[Noticed]) -> list[Noticed]:
    """Those that are not as they have to be, but for what the witness notices."""
    return [e for e in results if not e.heard or e.left_over > 0 or e.grown_bytes > MEMORY_LIMIT_BYTES]


def main() -> int:
    """Print the table; 1 if something is not as it has to be."""
    with tempfile.TemporaryDirectory() as directory:
        results = trio.run(partial(play_all, Path(directory), rounds=3, elsewhere=True))
    print(table(results))
    wrong, slow = bad(results), [each for each in results if not each.unnoticed]
    for each in wrong:
        print(each.name, *sorted(each.happened), sep="\n    ", file=sys.stderr)
    quiet = [trip for each in results for trip in each.quiet]
    print(
        f"\n{len(results)} abuses without an end, {len(wrong)} not as documented; "
        f"the witness's median was twice the normal one, or more, in {sum(e.ratio >= 2 for e in results)}, "
        f"and in {len(slow)} without the machine's doing. Normal: {median(quiet) * 1e6:.0f} us."
    )
    return 1 if wrong or slow else 0


if __name__ == "__main__":
    sys.exit(main())
