"""A sequence chart in text: source, client and destination side by side, and below it the channels as lanes.

The client stands in the middle, since every message is from or to it.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from dissectors.side import Side
from spiceproxy.protocol.migration.model import (
    Evidence,
    Migration,
    Phase,
    Severity,
)
from spiceproxy.reading.style import (
    BLUE,
    BOLD,
    BOLD_MAGENTA,
    BOLD_RED,
    DIM,
    GREEN,
    RED,
    YELLOW,
    Look,
    fit,
    printable,
)
from spiceproxy.report.channeltable import last_word
from spiceproxy.report.lanes import PHASES, Lane, lane_of
from spiceproxy.report.layout import columns_of
from spiceproxy.report.words import Clock, duration, milliseconds, short_name

LEAST_COLUMNS: Final = 72
MAX_ROWS: Final = 80
MAX_GAP: Final = 40
_TIME_COLUMNS: Final = 10
_LANE_NAME_COLUMNS: Final = 12
_LANE_TIME_COLUMNS: Final = 11


class _Row(NamedTuple):
    time_ns: int
    there: bool  # between client and destination
    side: Side | None  # who says it; None: a line across
    label: str
    style: str = ""
    times: int = 1
    fold: bool = False  # may be left out if there are too many
    broken: str = ""  # the rule it breaks
    timed: bool = True


def fits(look: Look) -> bool:
    """Whether there is room for a chart."""
    return columns_of(look) >= LEAST_COLUMNS


def text_chart(migration: Migration, look: Look, clock: Clock) -> Iterator[str]:
    """The chart; times are milliseconds after the start of the migration."""
    yield f"{look.paint('Course', BOLD)}  times in ms after {clock.moment(migration.started_ns)}"
    yield from _sequence(migration, look)
    yield ""
    yield from _lanes(migration, look)


# Messages of main -------------------------------------------------------------------------------------


def _sequence(migration: Migration, look: Look) -> Iterator[str]:
    gap = max(24, min(MAX_GAP, (columns_of(look) - _TIME_COLUMNS - 4) // 2))
    left, right = gap + 1, 2 * (gap + 1)
    heads = [" "] * (right + 12)
    for at, word in ((0, "source"), (left - 2, "client"), (right - 10, "destination")):
        heads[at : at + len(word)] = word
    yield " " * (_TIME_COLUMNS + 1) + look.paint("".join(heads).rstrip(), BOLD)
    for row in _limited(_folded(sorted(_rows(migration), key=lambda row: (row.time_ns, row.side is None)))):
        moment = milliseconds((row.time_ns - migration.started_ns) / 1e6) if row.timed else ""
        yield f"{look.paint(f'{moment:>{_TIME_COLUMNS}}', DIM)} {_drawn(row, gap, look)}"


def _drawn(row: _Row, gap: int, look: Look) -> str:
    if row.side is None:
        text = fit(f" {row.label} ", 2 * gap)
        return look.paint(f"├{text:┄^{2 * gap + 1}}┤", row.style)
    label = row.label + (f" ×{row.times}" if row.times > 1 else "")
    broken = f" !{row.broken}" if row.broken else ""
    label = f" {fit(label, gap - 4 - len(broken))}{broken} "
    # Source and destination are servers; the source is on the client's left, the destination on its right.
    rightward = (row.side is Side.CLIENT) is row.there
    arrow = f"{label:─^{gap - 1}}▶" if rightward else f"◀{label:─^{gap - 1}}"
    drawn = look.paint(arrow, BOLD_RED if row.broken else row.style)
    return f"│{' ' * gap}│{drawn}│" if row.there else f"│{drawn}│{' ' * gap}│"


def _rows(migration: Migration) -> Iterator[_Row]:
    broken: dict[tuple[int | None, int, str], str] = {}
    for violation in migration.violations:
        if violation.severity is not Severity.NOTE and violation.evidence:
            broken.setdefault(_key(violation.evidence[-1]), violation.rule)
    grouped: dict[tuple[str, int, Side], list[Evidence]] = {}
    for said in migration.messages:
        there = said.hop == migration.destination_hop
        part = "MIGRATE" in said.name
        if not said.channel.startswith("main:") and part:
            grouped.setdefault((said.name, said.hop, said.side), []).append(said)
            continue
        label, style = short_name(said.name, said.channel), BOLD_MAGENTA if part else ""
        if not said.channel.startswith("main:"):
            label = f"{said.channel} {label}"
        fold = not part and said.name != "SPICE_MSG_MAIN_INIT"
        yield _Row(said.time_ns, there, said.side, label, style, fold=fold, broken=broken.pop(_key(said), ""))
    for (name, hop, side), messages in grouped.items():
        rules = [rule for said in messages if (rule := broken.pop(_key(said), ""))]
        names = list(dict.fromkeys(said.channel for said in messages))
        where = names[0] if len(names) == 1 else f"{len(names)} others"
        label = f"{short_name(name, '')}, {where}"
        yield _Row(
            messages[0].time_ns, hop == migration.destination_hop, side, label, BOLD_MAGENTA,
            broken=",".join(dict.fromkeys(rules)),
        )  # fmt: skip
    # What broke a rule and is no message of main or of a migration.
    for violation in migration.violations:
        for said in violation.evidence[-1:]:
            if broken.pop(_key(said), None) is not None:
                label = f"{said.channel} {short_name(said.name, said.channel)}"
                there = said.hop == migration.destination_hop
                yield _Row(said.time_ns, there, said.side, label, broken=violation.rule)
    yield from _connections(migration)
    ends = [since for _, since in migration.phases[1:]]
    for (phase, since), until in zip(migration.phases, [*ends, migration.ended_ns], strict=False):
        lasts = f", {duration((until - since) / 1e6)}" if until is not None and until > since else ""
        over = phase is Phase.OVER
        label = str(migration.outcome or PHASES[phase]) if over else f"{PHASES[phase]}{lasts}"
        # A message brings the next phase about: its line comes first.
        yield _Row(since, False, None, label, DIM, timed=over)


def _connections(migration: Migration) -> Iterator[_Row]:
    """Links to the destination, and ends of connections."""
    linked = [
        (each.destination.linked_ns, each.channel)
        for each in migration.channels.values()
        if each.destination is not None and each.destination.linked_ns is not None
    ]
    main = [pair for pair in linked if pair[1].startswith("main:")]
    others = [pair for pair in linked if pair not in main]
    for found in (main, others):
        if found:
            name = found[0][1] if len(found) == 1 else f"{len(found)} channels"
            yield _Row(min(found)[0], True, Side.CLIENT, f"links {name}", GREEN)
    for channel in migration.channels.values():
        link = channel.destination
        if link is not None and link.error and link.linked_ns is None and link.opened_ns is not None:
            by = link.error_by or Side.SERVER
            yield _Row(link.opened_ns, True, by, f"✘ {channel.channel}: {printable(link.error)}", RED)
    for there in (False, True):
        closed: dict[str, list[int]] = {}
        for channel in migration.channels.values():
            closing = channel.destination_closed if there else channel.source_closed
            if closing is not None and closing.by != "capture":
                closed.setdefault(closing.by, []).append(closing.time_ns)
        for who, moments in closed.items():
            side = Side.CLIENT if who == "client" else Side.SERVER
            label = f"closes {len(moments)} connection{'s' if len(moments) > 1 else ''}"
            if migration.ended_ns is None or min(moments) <= migration.ended_ns or not there:
                yield _Row(min(moments), there, side, label, BLUE)


def _key(said: Evidence) -> tuple[int | None, int, str]:
    return said.number, said.time_ns, said.connection


def _folded(rows: list[_Row]) -> list[_Row]:
    """The same message several times in a row is one row."""
    folded: list[_Row] = []
    for row in rows:
        last = folded[-1] if folded else None
        same = last is not None and (last.there, last.side, last.label, last.fold) == (
            row.there, row.side, row.label, row.fold,
        )  # fmt: skip
        if last is not None and same and row.fold and not row.broken and not last.broken:
            folded[-1] = last._replace(times=last.times + row.times)
        else:
            folded.append(row)
    return folded


def _limited(rows: list[_Row]) -> list[_Row]:
    """Where there are too many, messages that are no part of the migration become a number."""
    if len(rows) > MAX_ROWS:
        shorter: list[_Row] = []
        for row in rows:
            last = shorter[-1] if shorter else None
            if row.fold and not row.broken:
                if last is not None and last.fold and last.side is None:
                    shorter[-1] = last._replace(times=last.times + row.times)
                else:
                    shorter.append(row._replace(side=None, style=DIM, there=False))
            else:
                shorter.append(row)
        rows = [
            row._replace(label=f"{row.times} other messages on main")
            if row.fold and row.side is None
            else row
            for row in shorter
        ]
    if len(rows) > MAX_ROWS:
        left = len(rows) - MAX_ROWS
        note = rows[MAX_ROWS // 2]._replace(side=None, label=f"{left} more are not shown", style=DIM)
        rows = [*rows[: MAX_ROWS // 2], note, *rows[-(MAX_ROWS // 2) :]]
    return rows


# Channels ---------------------------------------------------------------------------------------------


def _lanes(migration: Migration, look: Look) -> Iterator[str]:
    """The channels over the time of the change, each with its pause as a bar."""
    word = last_word(migration)
    if word is None or word is migration.ending.cancel:
        return
    lanes = [lane_of(channel, migration, word.time_ns) for channel in migration.channels.values()]
    ends = [lane.end_ns for lane in lanes if lane.end_ns is not None]
    begins = [lane.begin_ns for lane in lanes if lane.begin_ns is not None]
    if not begins:
        return
    until = max([word.time_ns + 10**6, *ends])
    frozen = any(lane.pause and lane.end_ns is None for lane in lanes)
    if frozen and migration.ended_ns is not None:
        until = max(until, migration.ended_ns)
    # What began long before would make everything else invisible.
    since = max(min([word.time_ns, *begins]), word.time_ns - (until - word.time_ns))
    margin = max(1, (until - since) // 20)
    since, until = since - margin, until + margin
    columns = min(columns_of(look), 110) - _LANE_NAME_COLUMNS - _LANE_TIME_COLUMNS - 2
    yield (
        f"{look.paint('Lanes', BOLD)}  {look.paint('█', RED)} nothing new to see  "
        f"{look.paint('▒', YELLOW)} changes over  ─ source  {look.paint('━', GREEN)} destination"
    )
    for lane in lanes:
        bar = _bar(lane, since, until, columns, look)
        yield f"  {lane.name:<{_LANE_NAME_COLUMNS - 2}} {bar} {lane.text:>10}".rstrip()
    start, end = (milliseconds((moment - migration.started_ns) / 1e6) for moment in (since, until))
    mark = (word.time_ns - since) * columns // (until - since)
    scale = [*start, *" " * (columns - len(start) - len(end)), *end]
    label = f"▲ {short_name(word.name, word.channel)}"
    if mark < columns - len(end) - len(label) - 1:
        if mark <= len(start):
            scale[: len(start)] = " " * len(start)
        scale[mark : mark + len(label)] = label
    yield look.paint(f"{'ms':>{_LANE_NAME_COLUMNS}} {''.join(scale)}", DIM)


def _bar(lane: Lane, since: int, until: int, columns: int, look: Look) -> str:
    if lane.begin_ns is None:
        return look.paint("─" * columns, DIM)

    def column(moment: int) -> int:
        return min(columns - 1, max(0, (moment - since) * columns // (until - since)))

    begin = column(lane.begin_ns)
    end = columns - 1 if lane.end_ns is None else column(lane.end_ns)
    shape, style = ("█", RED) if lane.pause else ("▒", YELLOW)
    bar = shape * (end - begin + 1)
    if lane.begin_ns < since:
        bar = "◀" + bar[1:]
    if lane.end_ns is None:
        bar = bar[:-1] + "▶"
    before, after = "─" * begin, "━" * (columns - end - 1)
    return look.paint(before, DIM) + look.paint(bar, style) + look.paint(after, GREEN)
