"""`spiceproxy lab --scenario`: scenarios of the catalog with real servers and clients, one or all of them."""

import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import msgspec
import trio
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape

from spiceproxy.cli.together import with_options
from spiceproxy.errors import UsageError
from spiceproxy.lab.errors import single_error
from spiceproxy.lab.result import ClientKind

_Command = TypeVar("_Command", bound=Callable[..., Any])

# What a scenario says by itself, or what belongs to one run that is looked at by itself.
_OTHER_WAY: Final = (
    "migration", "course", "hops", "back", "ticket", "traffic", "seconds", "heads", "one_adapter", "image_compression",
    "streaming_video", "jpeg_wan_compression", "zlib_glz_wan_compression", "events_filter", "faults", "fault", "seed",
    "fault_variable", "svg", "perfetto", "expect", "screenshot", "direct", "keep_logs",
)  # fmt: skip
_OF_ONE: Final = {"record": "recording.pcapng", "events": "events.jsonl", "report": "report.json"}
_COLOURS: Final = {"as expected": "green", "not run": "dim", "did not fire": "yellow"}

_OPTIONS: Final = (
    click.option(
        "--jobs",
        type=click.IntRange(1, 32),
        default=1,
        show_default=True,
        help="With --scenario: so many cells at once.",
    ),
    click.option(
        "--artefacts",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        help="With --scenario: keep results, recordings, reports and logs there.",
    ),
    click.option("--resume", is_flag=True, help="With --artefacts: go on with the results that are there."),
)


def matrix_options(command: _Command) -> _Command:
    """The options."""
    return with_options(command, _OPTIONS)


def play_scenarios(
    context: click.Context, arguments: Mapping[str, Any], accelerators: tuple[str, ...]
) -> int:
    """Play them; return the exit status.

    Raises:
        UsageError: Options that do not go together.
    """
    from spiceproxy.matrix.campaign import Options, choose
    from spiceproxy.matrix.results import Cell, Column

    _check(context, arguments)
    names = choose(arguments["scenario"])
    client = Column(ClientKind(arguments["client"]).value)
    alone = len(names) == 1 and arguments["repeat"] == 1
    columns = [client] if client is Column.SIMULATED or len(names) == 1 else [client, Column.SIMULATED]
    single = [name for name in _OF_ONE if arguments[name]]
    if single and not alone:
        raise click.UsageError(
            f"--{single[0]} is for one scenario; with several, --artefacts has a file for each"
        )
    with ExitStack() as stack:
        artefacts = arguments["artefacts"]
        if artefacts is None:
            artefacts = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spiceproxy-matrix-")))
        options = Options(
            names,
            columns,
            arguments["repeat"],
            arguments["jobs"],
            artefacts,
            arguments["resume"],
            accelerators,
        )
        cells: list[Cell] = []
        with single_error():
            received = trio.run(_run, options, cells)
        for name in single:
            _copy(cells[0].artefacts.get(_OF_ONE[name]) if cells else None, artefacts, arguments[name])
        _write(cells, arguments, artefacts)
    return _finish(
        cells, len(names) * len(columns) * arguments["repeat"], received, as_json=arguments["as_json"]
    )


def _check(context: click.Context, arguments: Mapping[str, Any]) -> None:
    for name in _OTHER_WAY:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = name.replace("_", "-")
            raise click.UsageError(
                f"--{option} does not go with --scenario, which says by itself what is played"
            )
    if arguments["resume"] and arguments["artefacts"] is None:
        raise click.UsageError("--resume takes --artefacts, where the results are")


async def _run(options: Any, cells: list[Any]) -> signal.Signals | None:
    """Fill `cells`; return the signal that ended this early, if one did."""
    from spiceproxy.matrix.campaign import run_campaign

    received: signal.Signals | None = None
    console = Console(stderr=True, highlight=False)

    def told(cell: Any, done: int, of: int) -> None:
        console.print(f"[dim]{done:4} of {of}[/dim]  {line(cell)}", soft_wrap=True)

    async def watch_signals(*, task_status: trio.TaskStatus[None]) -> None:
        nonlocal received
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                received = signal.Signals(number)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(watch_signals)
        await run_campaign(options, told, cells)
        nursery.cancel_scope.cancel()
    return received


def line(cell: Any) -> str:
    """A cell in one line."""
    colour = _COLOURS.get(cell.verdict.value, "red")
    outcome = f" {cell.outcome}" if cell.outcome else ""
    run = f" #{cell.run}" if cell.run > 1 else ""
    expected = (
        ""
        if cell.verdict.value == "as expected" or not cell.outcome
        else f" (not {' or '.join(cell.expect)})"
    )
    if cell.verdict.value == "did not fire":
        expected = ""
    detail = f": {escape(cell.detail[:300])}" if cell.detail else ""
    verdict = f"[{colour}]{cell.verdict.value}[/{colour}]"
    return f"{cell.scenario} ({cell.column}){run} {verdict}{outcome}{expected}{detail} [dim]{cell.duration_s:g} s[/dim]"


def _copy(artefact: str | None, artefacts: Path, to: Path) -> None:
    if artefact is None:
        return
    try:
        shutil.copy(artefacts / artefact, to)
    except OSError as error:
        raise UsageError(f"cannot write {to}: {error.strerror}") from None


def _write(cells: Sequence[Any], arguments: Mapping[str, Any], artefacts: Path) -> None:
    html, junit = arguments["html"], arguments["junit"]
    texts: list[tuple[Path, str]] = []
    if html is not None:
        from spiceproxy.matrix.page import render_html

        kept = artefacts if arguments["artefacts"] is not None else None
        texts.append((html, render_html(cells, artefacts=kept, page=html)))
    if junit is not None:
        from spiceproxy.matrix.junit import render_junit

        texts.append((junit, render_junit(cells)))
    for path, text in texts:
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from None


def status(cells: Sequence[Any], wanted: int) -> int:
    """The exit status: 0 if all went as expected; 1 if one did not, did not fire or failed; 3 if some could not be run.

    What simulated peers do not have is known beforehand, and no lack of the machine: it counts only if nothing else was played.
    """
    verdicts = Counter(each.verdict.value for each in cells)
    if len(cells) < wanted or any(verdicts[bad] for bad in ("not expected", "did not fire", "lab failed")):
        return 1
    lacking = [each for each in cells if each.verdict.value == "not run"]
    by_design = all(each.column.value == "simulated" for each in lacking) and len(lacking) < len(cells)
    return 3 if lacking and not by_design else 0


def _finish(cells: Sequence[Any], wanted: int, received: signal.Signals | None, *, as_json: bool) -> int:
    found = status(cells, wanted)
    verdicts = Counter(each.verdict.value for each in cells)
    if as_json:
        made = {
            "ok": found == 0,
            "wanted": wanted,
            "verdicts": dict(verdicts),
            "cells": msgspec.to_builtins(list(cells)),
        }
        click.echo(msgspec.json.encode(made))
    elif wanted == 1 and cells:
        word = {0: "[green]ok[/green]", 3: "not run"}.get(found, "[red]failed[/red]")
        Console(highlight=False).print(f"{word}: {line(cells[0])}", soft_wrap=True)
    else:
        words = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
        click.echo(f"{len(cells)} of {wanted} cells: {words or 'none'}")
    if received is not None:
        click.echo(f"spiceproxy: lab interrupted by {received.name}; everything is stopped", err=True)
        return 128 + received
    return found
