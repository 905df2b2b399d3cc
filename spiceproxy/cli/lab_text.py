"""What `spiceproxy lab` prints for people."""

import sys
from collections.abc import Sequence

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spiceproxy.cli.reporting import report_text
from spiceproxy.lab.result import Course, HopResult, LabResult, Picture


def print_runs(results: Sequence[LabResult], repeat: int) -> None:
    """Print what every run found out.

    Args:
        results: A run each.
        repeat: How many were asked for.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    for result in results:
        for hop in result.migrations:
            console.print(_table(hop, result.channels))
            console.print(_said(hop, result.direct), soft_wrap=True)
        for name, path in _files(result):
            console.print(f"{name}: {escape(path)}", soft_wrap=True)
        if result.report is not None and result.report.migrations:
            click.echo("\n".join(report_text(result.report, encoding=sys.stdout.encoding or "utf-8")) + "\n")
        _print_verdict(console, result)
    if repeat > 1:
        passed = sum(result.ok for result in results)
        colour = "green" if passed == repeat else "red"
        console.print(f"[{colour}]{passed} of {repeat} runs as asked[/{colour}]")


def _table(hop: HopResult, channels: Sequence[str]) -> Table:
    source, destination = hop.source, hop.destination
    table = Table(
        title=f"Migration {hop.hop}: {source.name} {source.address} to {destination.name} {destination.address}",
        title_justify="left",
    )
    for heading in (
        "channel",
        "before",
        f"peer on {destination.name}",
        "through the proxy",
        "hop",
        "server, by the proxy",
        "messages c/s",
    ):
        table.add_column(heading)
    for place in hop.channels:
        through = {None: "-", True: "yes", False: "[red]no[/red]"}[
            place.through_proxy if place.peer else None
        ]
        table.add_row(
            place.channel,
            "open" if place.channel in channels else "-",
            place.peer or "[red]not connected[/red]",
            through,
            "-" if place.hop is None else str(place.hop),
            place.server or "-",
            "-" if place.messages is None else "{client}/{server}".format_map(place.messages),
        )
    return table


def _said(hop: HopResult, direct: bool) -> str:
    """What everybody says about one migration, a line each."""
    source, destination = hop.source, hop.destination
    times = f", {hop.total_ms} ms, guest stopped for {hop.downtime_ms} ms" if hop.total_ms is not None else ""
    migrated = "migrated" if source.migrated else "not migrated"
    sent = "sent" if hop.completed_event else "did not send"
    qemu = [
        f"migration {hop.qmp_status}{times}",
        f"{source.name} {sent} SPICE_MIGRATE_COMPLETED, {migrated}, {len(source.channels)} channels",
        f"{destination.name} {destination.guest}, {len(destination.channels)} channels",
    ]
    lines = [f"QEMU:    {'; '.join(qemu)}"]
    if not direct:
        lines.append(f"proxy:   {hop.kind or 'no finished migration'}")
        lines += [f"         rewrote {escape(text)}" for text in hop.rewritten]
    if hop.picture is not Picture.UNSEEN:
        lines.append(f"client:  the guest's picture is {hop.picture}")
    return "\n".join(lines)


def _files(result: LabResult) -> list[tuple[str, str]]:
    files = (("recording", result.recording), ("events", result.events), ("screenshot", result.screenshot))
    return [(name, path) for name, path in files if path is not None]


def _print_verdict(console: Console, result: LabResult) -> None:
    what = f"{result.migration if result.hops else 'no migration'} with {result.client}"
    what += f", course {result.course}" if result.course is not Course.PLAIN else ""
    what += ", without the proxy" if result.direct else ""
    if result.ok:
        moves = sum(hop.client_on == "the destination" for hop in result.migrations)
        moved = f" moved {moves} time{'s' if moves > 1 else ''}" if moves else ""
        if result.hops and not moves:
            moved = f", client on {result.migrations[-1].client_on}"
        took = f"({result.accelerator}, {result.duration_s} s)"
        console.print(f"[green]ok[/green]: {what}: {len(result.channels)} channels{moved} {took}")
        return
    console.print(f"[red]failed[/red]: {what}")
    for problem in result.problems:
        console.print(f"  - {escape(problem)}", soft_wrap=True)
