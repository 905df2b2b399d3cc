"""The table of channels: what each of them did, and when."""

from typing import Final

from spiceproxy.protocol.migration.model import ChannelMigration, ChannelStep, Evidence, Migration, Outcome
from spiceproxy.reading.style import BOLD, BOLD_RED, DIM, GREEN, RED, YELLOW, Look, printable
from spiceproxy.report.layout import Cell, Column, columns_of, paragraph, table
from spiceproxy.report.words import Clock, milliseconds, short_name

NEED_FLUSH: Final = 1
NEED_DATA: Final = 2

_NONE: Final = Cell("-", DIM)
_EQUAL: Final = {True: Cell("=", GREEN), False: Cell("≠", BOLD_RED), None: Cell("?", DIM)}
_FLAGS: Final = {"NEED_FLUSH": "flush", "NEED_DATA_TRANSFER": "data"}
IN_USE_NS: Final = 10**9  # as `model.TIMES` says of a pause
# A pause from here on is one that people notice.
LONG_PAUSE_MS: Final = 1000.0


def idle(channel: ChannelMigration, word_ns: int) -> bool:
    """Whether the user saw nothing on it in the second before the change: then a pause is nobody's."""
    last = channel.last_seen_from_source
    return last is None or word_ns - last.time_ns > IN_USE_NS


def last_word(migration: Migration) -> Evidence | None:
    """The message by which the source ended it."""
    ending = migration.ending
    return ending.switch_host or ending.migrate or ending.end or ending.cancel


def channel_table(migration: Migration, look: Look, clock: Clock) -> list[str]:
    """The table with its title."""
    word = last_word(migration)
    base_ns = word.time_ns if word is not None else migration.started_ns
    if word is not None:
        what = f"times in ms after {short_name(word.name, word.channel)} at {clock.place(word)}"
    else:
        what = f"times in ms after {clock.moment(base_ns)}, its start"
    if not migration.channels:
        return [f"{look.paint('Channels', BOLD)}  none is known"]
    plain = Look(colour=False, width=look.width)
    for narrow, closings in ((False, True), (True, True), (True, False)):
        columns = _columns(narrow=narrow, closings=closings)
        rows = [_row(migration, channel, base_ns, narrow=narrow) for channel in migration.channels.values()]
        if max(map(len, table(plain, columns, rows))) <= columns_of(look):
            break
    title = look.paint("Channels", BOLD)
    lines = [f"{title}  {what}", *table(look, columns, rows)]
    for channel in migration.channels.values():
        for link, where in ((channel.source, "source"), (channel.destination, "destination")):
            if link is not None and link.error:
                by = f" by the {link.error_by.value}" if link.error_by is not None else ""
                text = f"{channel.channel} at the {where}: {printable(link.error)}{by} ({link.connection})"
                lines += paragraph(look, text, first="  ", rest="    ", style=RED)
    return lines


def cells(migration: Migration) -> tuple[list[Column], list[list[Cell]]]:
    """The table in full, for other forms: its columns, and a row for each channel."""
    word = last_word(migration)
    base_ns = word.time_ns if word is not None else migration.started_ns
    rows = [_row(migration, channel, base_ns, narrow=False) for channel in migration.channels.values()]
    return _columns(narrow=False, closings=True), rows


def _columns(*, narrow: bool, closings: bool) -> list[Column]:
    columns = [
        Column("channel"),
        Column("on\nsrc"),
        Column("on\ndst"),
        Column("flags"),
        Column("MIGR.\nsrc→c" if narrow else "MIGRATE\nsrc→c", right=True),
        Column("FLUSH\nc→src" if narrow else "FLUSH_MARK\nc→src", right=True),
        Column("DATA\nsrc→c" if narrow else "MIGRATE_DATA\nsrc→c", right=True),
        Column(""),
        Column("DATA\nc→dst" if narrow else "MIGRATE_DATA\nc→dst", right=True),
        Column("first\ndst→c", right=True),
        Column("pause\nms", right=True),
    ]
    return [*columns, Column("src\nend" if narrow else "source\nclosed by")] if closings else columns


def _row(migration: Migration, channel: ChannelMigration, base_ns: int, *, narrow: bool) -> list[Cell]:
    def when(evidence: Evidence | None, *, due: bool = False) -> Cell:
        if evidence is not None:
            return Cell(milliseconds((evidence.time_ns - base_ns) / 1e6))
        if not due:
            return _NONE
        over = migration.outcome not in {None, Outcome.INCOMPLETE}
        return Cell("?", DIM) if channel.damaged or not over else Cell("never", BOLD_RED)

    flags = channel.flags or 0
    out, into = channel.data_from_source, channel.data_to_destination
    moving = channel.migrate is not None
    data_due = moving and bool(flags & NEED_DATA)
    closed = channel.source_closed
    return [
        Cell(channel.channel, BOLD if channel.channel in migration.blocking else ""),
        _linked(channel.source_linked, failed=bool(channel.source and channel.source.error)),
        _linked(channel.destination_linked, failed=bool(channel.destination and channel.destination.error)),
        _flags(channel, narrow=narrow),
        when(channel.migrate, due=migration.ending.migrate is not None and channel.source_linked),
        when(channel.flush_mark, due=moving and bool(flags & NEED_FLUSH)),
        when(out.evidence if out else None, due=data_due),
        _EQUAL[channel.data_equal] if out and into else Cell(""),
        when(into.evidence if into else None, due=data_due),
        when(channel.first_from_destination),
        _pause(channel, base_ns),
        _NONE
        if closed is None or closed.by == "capture"
        else _closed(closed.by, (closed.time_ns - base_ns) / 1e6, reset=closed.reset, narrow=narrow),
    ]


def _linked(linked: bool, *, failed: bool) -> Cell:
    return Cell("✔", GREEN) if linked else Cell("✘", BOLD_RED) if failed else _NONE


def _flags(channel: ChannelMigration, *, narrow: bool) -> Cell:
    if channel.flags is None:
        return _NONE
    names = [_FLAGS.get(name, name) for name in channel.flag_names]
    if narrow and not channel.flags & ~3:
        return Cell("".join(name[0].upper() for name in names) or "0")
    return Cell("+".join(names) or "0")


def _pause(channel: ChannelMigration, base_ns: int) -> Cell:
    pause = channel.pause_ms
    if pause is None:
        stuck = (
            channel.step not in {ChannelStep.MOVED, ChannelStep.STAYING}
            and channel.first_from_destination is None
        )
        return Cell("stuck", BOLD_RED) if stuck and not channel.damaged else _NONE
    if idle(channel, base_ns):
        return Cell("idle", DIM)
    return Cell(milliseconds(pause), YELLOW if pause >= LONG_PAUSE_MS else "")


def _closed(by: str, ms: float, *, reset: bool, narrow: bool) -> Cell:
    if narrow:
        return Cell(by)
    return Cell(f"{by} {milliseconds(ms)}{' RST' if reset else ''}")
