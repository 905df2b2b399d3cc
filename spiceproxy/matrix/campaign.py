"""Many cells, some at once: results are written as they come, and a campaign that was interrupted goes on where it was."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import msgspec
import trio

from spiceproxy.errors import OptionError, UsageError
from spiceproxy.faults.errors import unknown
from spiceproxy.faults.scenarios import Scenario, scenarios
from spiceproxy.lab.display import start_display
from spiceproxy.lab.errors import LabError
from spiceproxy.lab.programs import QEMU, require_programs
from spiceproxy.lab.result import ClientKind
from spiceproxy.lab.viewer import needed_programs
from spiceproxy.matrix import cell, classify, simulated
from spiceproxy.matrix.guests import Guests
from spiceproxy.matrix.results import FILE, Cell, Column, Observation, Verdict, read_cells
from spiceproxy.matrix.setups import setup_of
from spiceproxy.matrix.versions import Versions, versions

_GLOB: Final = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Options:
    """What to play.

    Attributes:
        names: Of scenarios, in order.
        columns: With whom, each.
        repeat: How often, each.
        jobs: How many at once.
        artefacts: Where results, recordings and logs go.
        resume: Leave out what is there already.
        accelerators: QEMU's.
        keep: Keep recordings and logs also of cells that went as expected.
    """

    names: Sequence[str]
    columns: Sequence[Column]
    repeat: int = 1
    jobs: int = 1
    artefacts: Path = Path()
    resume: bool = False
    accelerators: tuple[str, ...] = ("kvm", "tcg")


@dataclass(frozen=True, slots=True)
class Task:
    """One cell that is to be played."""

    scenario: Scenario
    column: Column
    run: int

    @property
    def key(self) -> tuple[str, str, int]:
        """As of `Cell`."""
        return self.scenario.name, self.column.value, self.run

    @property
    def folder(self) -> str:
        """Its own, under the artefacts."""
        return f"{self.scenario.name}/{self.column}-{self.run}"


Told = Callable[[Cell, int, int], None]


def choose(patterns: Sequence[str]) -> list[str]:
    """Return the names of scenarios that names, globs, or "all" stand for, in the catalog's order.

    Raises:
        OptionError: One of them stands for none.
    """
    known = scenarios()
    chosen: set[str] = set()
    for pattern in patterns:
        if pattern == "all":
            chosen |= set(known)
        elif _GLOB & set(pattern):
            found = {name for name in known if fnmatchcase(name, pattern)}
            if not found:
                raise OptionError(f"no scenario fits `{pattern}`; `spiceproxy scenarios` lists them all")
            chosen |= found
        elif pattern in known:
            chosen.add(pattern)
        else:
            raise OptionError(f"{unknown('scenario', pattern, known)}; `spiceproxy scenarios` lists them all")
    return [name for name in known if name in chosen]


async def run_campaign(options: Options, told: Told, results: list[Cell]) -> None:
    """Play all cells.

    Args:
        options: What to play.
        told: Called with each result, how many are done and how many there are.
        results: Filled as they come, those that were there before first; also good when this is cancelled.

    Raises:
        UsageError: A program is missing, or the directory cannot be used.
        LabError: The lab could not begin at all.
    """
    real = [column for column in options.columns if column is not Column.SIMULATED]
    for column in real:
        require_programs([QEMU, *needed_programs(ClientKind(column.value))])
    tasks = list(_tasks(options))
    results += _there(options, tasks)
    done = {each.key for each in results}
    waiting = [task for task in tasks if task.key not in done]
    found = versions(real)
    send, receive = trio.open_memory_channel[Task](len(waiting))
    for task in waiting:
        send.send_nowait(task)
    send.close()
    with _guests_directory() as guests, (options.artefacts / FILE).open("ab") as file:
        campaign = _Campaign(options, found, Guests(guests, options.accelerators))

        def keep(each: Cell) -> None:
            file.write(msgspec.json.encode(each) + b"\n")
            file.flush()
            results.append(each)
            told(each, len(results), len(tasks))

        async with trio.open_nursery() as nursery:
            for _ in range(min(options.jobs, len(waiting))):
                nursery.start_soon(campaign.work, receive, keep, bool(real))


class _Campaign:
    """What jobs share."""

    def __init__(self, options: Options, found: Versions, guests: Guests) -> None:
        self._options, self._versions, self._guests = options, found, guests

    async def work(
        self, tasks: trio.MemoryReceiveChannel[Task], keep: Callable[[Cell], None], screen: bool
    ) -> None:
        """One job: a screen of its own, and cells one after the other."""
        with tempfile.TemporaryDirectory(prefix="spiceproxy-screen-", ignore_cleanup_errors=True) as name:
            async with trio.open_nursery() as nursery:
                number = (await start_display(nursery, Path(name))).number if screen else 0
                while True:
                    try:
                        task = tasks.receive_nowait()
                    except trio.EndOfChannel:
                        break
                    keep(await self._cell(task, number))
                nursery.cancel_scope.cancel()

    async def _cell(self, task: Task, screen: int) -> Cell:
        began, folder = trio.current_time(), self._options.artefacts / task.folder
        setup, scenario = setup_of(task.scenario, ClientKind(task.column.value)), task.scenario
        blank = Cell(
            scenario=scenario.name,
            column=task.column,
            run=task.run,
            verdict=Verdict.NOT_RUN,
            expect=list(scenario.expect),
            server=self._versions.server(task.column),
            client=self._versions.client(task.column),
            date=datetime.now().astimezone().date().isoformat(),
        )
        why_not = simulated.why_not(scenario) if task.column is Column.SIMULATED else setup.why_not
        if why_not is not None:
            return msgspec.structs.replace(blank, detail=why_not)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        seen: Observation | None = None
        try:
            if task.column is Column.SIMULATED:
                judged = await simulated.play(scenario, folder)
            else:
                stage = cell.Stage(self._guests, screen, ClientKind(task.column.value))
                seen = await cell.play(scenario, setup, stage, folder)
                judged = classify.judge(scenario, seen)
        except LabError as error:
            judged = classify.Judged(
                Verdict.BROKEN, "unchanged", str(error), degraded=False, guest_lost=False
            )
        return msgspec.structs.replace(
            blank,
            verdict=judged.verdict,
            outcome=judged.outcome if judged.verdict is not Verdict.BROKEN else None,
            detail=judged.detail,
            degraded=judged.degraded,
            guest_lost=judged.guest_lost,
            duration_s=round(trio.current_time() - began, 1),
            artefacts={path.name: f"{task.folder}/{path.name}" for path in sorted(folder.iterdir())},
            seen=seen,
        )


def _tasks(options: Options) -> Iterator[Task]:
    """All cells: run by run, so that an interrupted campaign has seen each scenario as often as any other."""
    known = scenarios()
    for run in range(1, options.repeat + 1):
        for name in options.names:
            for column in options.columns:
                yield Task(known[name], column, run)


def _there(options: Options, tasks: Sequence[Task]) -> list[Cell]:
    """Results of these cells that need not be played again.

    Raises:
        UsageError: There are results, and they are not to be gone on with; or they cannot be read.
    """
    try:
        options.artefacts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {options.artefacts}: {error.strerror}") from None
    path = options.artefacts / FILE
    if not path.exists():
        return []
    if not options.resume:
        raise UsageError(f"{path} is there already; --resume goes on with it")
    wanted = {task.key for task in tasks}
    found = classify.again(read_cells(options.artefacts))
    _mend(path)
    again = {Verdict.BROKEN, Verdict.NOT_RUN}  # what could not be played may be now
    return [each for each in found if each.key in wanted and each.verdict not in again]


def _mend(path: Path) -> None:
    """Cut off a last line that was not finished."""
    text = path.read_bytes()
    if text and not text.endswith(b"\n"):
        path.write_bytes(text[: text.rfind(b"\n") + 1])


@contextmanager
def _guests_directory() -> Iterator[Path]:
    """Where guests that have booted are kept for the campaign."""
    with tempfile.TemporaryDirectory(prefix="spiceproxy-guests-", ignore_cleanup_errors=True) as name:
        yield Path(name)
