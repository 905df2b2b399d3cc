"""What a sequence chart shows of a migration: arrows of the main channel, lanes of all channels, phases. No drawing yet."""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from dissectors.side import Side
from spiceproxy.protocol.migration.model import (
    ChannelMigration,
    ChannelStep,
    Evidence,
    Migration,
    Severity,
    Violation,
)
from spiceproxy.report.channeltable import idle, last_word
from spiceproxy.report.details import Details
from spiceproxy.report.lanes import change_of, lane_of
from spiceproxy.report.words import short_name

MAX_ROWS: Final = 240
MAX_LANES: Final = 40
LATE_NS: Final = 50_000_000  # after the end of a migration
MAX_MARKS: Final = 24  # in a lane, besides its steps

ArrowKind = Literal["migration", "plain", "link", "failed", "close", "note"]
StepKind = Literal["linked", "failed", "migrate", "flush", "out", "in", "first", "seen", "other"]


class Broken(NamedTuple):
    """A rule that a message breaks."""

    rule: str
    severity: Severity


class Arrow(NamedTuple):
    """A message of main between the client and one of its servers, or something like it."""

    time_ns: int
    there: bool  # the destination's; else the source's
    side: Side
    kind: ArrowKind
    label: str
    detail: str
    broken: tuple[Broken, ...] = ()
    messages: tuple[Evidence, ...] = ()


class Step(NamedTuple):
    """A step of a channel."""

    time_ns: int
    kind: StepKind
    detail: str
    broken: tuple[Broken, ...] = ()
    message: Evidence | None = None


class Rail(NamedTuple):
    """Where a channel is, over time; None: from the start, to the end."""

    begin_ns: int | None
    end_ns: int | None
    state: Literal["source", "moving", "destination", "gone"]


class Track(NamedTuple):
    """A channel as a lane."""

    name: str
    steps: list[Step]
    rails: list[Rail]
    pause: tuple[int, int | None] | None  # from, to; None: it never ends
    pause_text: str
    waits: tuple[int, str] | None  # since when, and for what
    detail: str


class Picture(NamedTuple):
    """Everything that a chart of a migration shows."""

    arrows: list[Arrow]
    tracks: list[Track]
    left_out: int  # channels without a lane
    until_ns: int


def picture_of(migration: Migration, details: Details, *, whole: bool = False) -> Picture:
    """What to draw.

    Args:
        migration: What happened.
        details: Writes what is known of a message.
        whole: With every message as an arrow of its own, and every channel.
    """
    broken = _broken(migration)
    arrows = sorted(_arrows(migration, details, broken), key=lambda arrow: arrow.time_ns)
    names = _lane_names(migration, len(migration.channels) if whole else MAX_LANES)
    tracks = [_track(migration, migration.channels[name], details, broken) for name in names]
    times = [migration.started_ns, *(arrow.time_ns for arrow in arrows)]
    times += [step.time_ns for track in tracks for step in track.steps]
    times += [each.since_ns for each in migration.waiting]
    times += [since for _, since in migration.phases]
    until = max([*times, migration.ended_ns or 0])
    shown = arrows if whole else _limited(_folded(arrows))
    return Picture(shown, tracks, len(migration.channels) - len(names), until)


def mark_key(said: Evidence) -> tuple[int | None, int, str]:
    """What tells a message from all others."""
    return said.number, said.time_ns, said.connection


_Found = dict[tuple[int | None, int, str], list[Violation]]


def _broken(migration: Migration) -> _Found:
    """Rules by the message that breaks them: the last of the evidence."""
    found: _Found = {}
    for violation in migration.violations:
        for said in violation.evidence[-1:]:
            found.setdefault(mark_key(said), []).append(violation)
    return found


def _marks(found: _Found, said: Evidence) -> tuple[Broken, ...]:
    return tuple(dict.fromkeys(Broken(each.rule, each.severity) for each in found.get(mark_key(said), [])))


def _is_main(channel: str) -> bool:
    return channel.startswith("main:")


# Arrows -----------------------------------------------------------------------------------------------


def _arrows(migration: Migration, details: Details, broken: _Found) -> Iterator[Arrow]:
    seen = set()
    for said in migration.messages:
        if _is_main(said.channel):
            seen.add(mark_key(said))
            yield _arrow(migration, said, details, broken)
    for violations in broken.values():
        said = violations[0].evidence[-1]
        if _is_main(said.channel) and mark_key(said) not in seen:
            seen.add(mark_key(said))
            yield _arrow(migration, said, details, broken)
    yield from _connections(migration)


def _arrow(migration: Migration, said: Evidence, details: Details, broken: _Found) -> Arrow:
    part = "MIGRATE" in said.name or said.name == "SPICE_MSG_MAIN_INIT"
    there = said.hop == migration.destination_hop
    label = short_name(said.name, said.channel)
    marks = _marks(broken, said)
    text = details.message(said, broken.get(mark_key(said), []))
    return Arrow(
        said.time_ns, there, said.side, "migration" if part else "plain", label, text, marks, (said,)
    )


def _connections(migration: Migration) -> Iterator[Arrow]:
    """Links to the destination, and ends of connections."""
    channels = migration.channels.values()
    linked = [
        (each.destination.linked_ns, each.channel)
        for each in channels
        if each.destination is not None and each.destination.linked_ns is not None
    ]
    main = [pair for pair in linked if _is_main(pair[1])]
    others = [pair for pair in linked if pair not in main]
    for found in (main, others):
        if found:
            name = found[0][1] if len(found) == 1 else f"{len(found)} channels"
            text = "\n".join(["linked at the destination", *(each for _, each in found[:MAX_MARKS])])
            yield Arrow(min(found)[0], True, Side.CLIENT, "link", f"links {name}", text)
    for channel in channels:
        link = channel.destination
        if _is_main(channel.channel) and link is not None and link.error and link.linked_ns is None:
            moment, by = link.opened_ns or migration.started_ns, link.error_by or Side.SERVER
            yield Arrow(moment, True, by, "failed", f"✘ {link.error}", f"{channel.channel}: {link.error}")
    for there in (False, True):
        closed: dict[Side, list[tuple[int, str]]] = {}
        for channel in channels:
            closing = channel.destination_closed if there else channel.source_closed
            if closing is not None and closing.by != "capture":
                side = Side.CLIENT if closing.by == "client" else Side.SERVER
                closed.setdefault(side, []).append((closing.time_ns, channel.channel))
        for side, moments in closed.items():
            first = min(moments)[0]
            if there and migration.ended_ns is not None and first > migration.ended_ns:
                continue  # of a later migration, or the session's end
            label = f"closes {len(moments)} connection{'s' if len(moments) > 1 else ''}"
            text = "\n".join([label, *(name for _, name in sorted(moments)[:MAX_MARKS])])
            yield Arrow(first, there, side, "close", label, text)


def _folded(arrows: list[Arrow]) -> list[Arrow]:
    """The same message several times in a row is one arrow."""
    folded: list[Arrow] = []
    for arrow in arrows:
        last = folded[-1] if folded else None
        same = last is not None and last[1:5] == arrow[1:5]
        if last is not None and same and arrow.kind == "plain" and not arrow.broken and not last.broken:
            count = len(last.messages) + len(arrow.messages)
            detail = last.detail if count > MAX_MARKS else f"{last.detail}\n\n{arrow.detail}"
            folded[-1] = last._replace(messages=last.messages + arrow.messages, detail=detail)
        else:
            folded.append(arrow)
    return folded


def _limited(arrows: list[Arrow]) -> list[Arrow]:
    """Where there are too many, messages that are no part of the migration become a number, then the middle does."""
    if len(arrows) > MAX_ROWS:
        shorter: list[Arrow] = []
        for arrow in arrows:
            last = shorter[-1] if shorter else None
            if arrow.kind != "plain" or arrow.broken:
                shorter.append(arrow)
            elif last is not None and last.kind == "note":
                messages = last.messages + arrow.messages
                shorter[-1] = last._replace(
                    label=f"{len(messages)} other messages on main", messages=messages
                )
            else:
                label = f"{len(arrow.messages)} other messages on main"
                shorter.append(arrow._replace(kind="note", label=label, detail=label))
        arrows = shorter
    if len(arrows) > MAX_ROWS:
        half = MAX_ROWS // 2
        label = f"{len(arrows) - 2 * half} more are not shown"
        note = arrows[half]._replace(kind="note", label=label, detail=label, broken=(), messages=())
        arrows = [*arrows[:half], note, *arrows[-half:]]
    return arrows


# Lanes ------------------------------------------------------------------------------------------------


def _lane_names(migration: Migration, most: int) -> list[str]:
    """Main first; if there are too many, those that matter."""
    channels = sorted(migration.channels.values(), key=lambda each: (each.channel_type, each.channel_id))
    names = [each.channel for each in channels]
    if len(names) > most:
        named = {*migration.blocking, *(each.channel for each in migration.violations)}
        kept = set(sorted(names, key=lambda name: (not _is_main(name), name not in named))[:most])
        names = [name for name in names if name in kept]
    return names


def _track(migration: Migration, channel: ChannelMigration, details: Details, broken: _Found) -> Track:
    word = last_word(migration)
    moved = word is not None and word is not migration.ending.cancel
    pause: tuple[int, int | None] | None = None
    text = ""
    if word is not None and moved:
        lane = lane_of(channel, migration, word.time_ns)
        if lane.pause and lane.begin_ns is not None:
            pause, text = (lane.begin_ns, lane.end_ns), lane.text
    waits = [each for each in migration.waiting if each.channel == channel.channel]
    waiting = min((each.since_ns, f"{each.who} waits for {each.what}") for each in waits) if waits else None
    steps = sorted(_steps(migration, channel, details, broken), key=lambda step: step.time_ns)
    return Track(
        channel.channel,
        steps,
        list(_rails(migration, channel, word.time_ns if word is not None and moved else None)),
        pause,
        text,
        waiting,
        details.channel(channel),
    )


def _steps(
    migration: Migration, channel: ChannelMigration, details: Details, broken: _Found
) -> Iterator[Step]:
    out, into, word = channel.data_from_source, channel.data_to_destination, last_word(migration)
    shown = set()
    kinds: tuple[tuple[StepKind, Evidence | None], ...] = (
        ("migrate", channel.migrate),
        ("flush", channel.flush_mark),
        ("out", out.evidence if out else None),
        ("in", into.evidence if into else None),
        ("first", channel.first_from_destination),
        ("other", channel.first_early_from_destination),
    )
    for kind, said in kinds:
        if (
            said is None
            or (kind == "first" and _is_late(migration, said))
            or (kind == "other" and _is_main(said.channel))
        ):
            continue
        shown.add(mark_key(said))
        yield Step(
            said.time_ns,
            kind,
            details.message(said, broken.get(mark_key(said), [])),
            _marks(broken, said),
            said,
        )
    quiet = word is None or idle(channel, word.time_ns)
    for said in (channel.last_seen_from_source, channel.first_seen_from_destination):
        if said is not None and not quiet and mark_key(said) not in shown:
            if said.time_ns < migration.started_ns or _is_late(migration, said, channel):
                continue
            shown.add(mark_key(said))
            yield Step(said.time_ns, "seen", details.message(said, []), _marks(broken, said), said)
    # Whatever else of it is part of the migration, or breaks a rule.
    rest = [said for said in migration.messages if said.channel == channel.channel]
    rest += [
        found[0].evidence[-1] for found in broken.values() if found[0].evidence[-1].channel == channel.channel
    ]
    count = 0
    for said in rest:
        if _is_main(said.channel) or mark_key(said) in shown or count >= MAX_MARKS:
            continue
        count += 1
        shown.add(mark_key(said))
        text = details.message(said, broken.get(mark_key(said), []))
        yield Step(said.time_ns, "other", text, _marks(broken, said), said)
    link = channel.destination
    if link is not None and link.linked_ns is not None:
        yield Step(
            link.linked_ns, "linked", f"{channel.channel} linked at the destination ({link.connection})"
        )
    elif link is not None and link.error:
        moment = link.opened_ns or migration.started_ns
        yield Step(
            moment, "failed", f"{channel.channel} at the destination: {link.error} ({link.connection})"
        )


def _is_late(migration: Migration, said: Evidence, channel: ChannelMigration | None = None) -> bool:
    """Whether it came so long after the end that showing it would only make everything else smaller."""
    if channel is not None and said is channel.first_seen_from_destination and channel.pause_ms is not None:
        return False
    return _is_over(migration, said.time_ns)


def _is_over(migration: Migration, time_ns: int) -> bool:
    return migration.ended_ns is not None and time_ns > migration.ended_ns + LATE_NS


def _rails(migration: Migration, channel: ChannelMigration, word_ns: int | None) -> Iterator[Rail]:
    """Where it is."""
    begin, end = (None, None) if word_ns is None else change_of(channel, migration, word_ns)
    if (
        begin is not None
        and end is not None
        and _is_over(migration, end)
        and channel.step is ChannelStep.MOVED
    ):
        end = max(begin, channel.step_ns)  # it is there, and had nothing to say for long
    gone = channel.source_closed
    lost = gone.time_ns if gone is not None and gone.by != "capture" else None
    if not channel.source_linked and channel.source is None:
        link = channel.destination
        if link is not None and link.linked_ns is not None:
            yield Rail(link.linked_ns, None, "destination")
        return
    if begin is None:
        yield Rail(None, lost, "source")
        if lost is not None:
            yield Rail(lost, None, "gone")
        return
    yield Rail(None, begin, "source")
    if end is not None:
        yield Rail(begin, end, "moving")
        yield Rail(end, None, "destination")
    elif lost is not None and lost >= begin:
        yield Rail(begin, lost, "moving")
        yield Rail(lost, None, "gone")
    else:
        yield Rail(begin, None, "moving")
