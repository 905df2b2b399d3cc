"""What charts say of channels over the time of the change, and what phases are called."""

from typing import Final, NamedTuple

from spiceproxy.protocol.migration.model import ChannelMigration, Kind, Migration, Outcome, Phase
from spiceproxy.report.channeltable import idle
from spiceproxy.report.words import duration

_LOST: Final = frozenset({Outcome.FAILED, Outcome.WEDGED})
PHASES: Final = {
    Phase.CONNECTING: "the client connects to the destination",
    Phase.WAITING: "the guest moves",
    Phase.SWITCHING: "the channels change over",
    Phase.SETTLING: "the destination takes over",
    Phase.OVER: "over",
}


class Lane(NamedTuple):
    """When a channel changes over, or shows nothing new."""

    name: str
    begin_ns: int | None  # None: it stays on the source
    end_ns: int | None  # None: never
    pause: bool  # the user could see it
    text: str


def lane_of(channel: ChannelMigration, migration: Migration, word_ns: int) -> Lane:
    """What one channel did over the time of the change.

    Args:
        channel: Of this migration.
        migration: It takes part in.
        word_ns: When the source said its last word.
    """
    last, first = channel.last_seen_from_source, channel.first_seen_from_destination
    pause = channel.pause_ms
    unused = idle(channel, word_ns)
    if last is not None and first is not None and pause is not None and not unused:
        return Lane(channel.channel, last.time_ns, first.time_ns, True, duration(pause))
    waits = any(each.channel == channel.channel for each in migration.waiting)
    if last is not None and first is None and not unused and (waits or migration.outcome in _LOST):
        return Lane(channel.channel, last.time_ns, None, True, "waits" if waits else "never")
    if waits:
        since = min(each.since_ns for each in migration.waiting if each.channel == channel.channel)
        return Lane(channel.channel, max(word_ns, since), None, False, "waits")
    begin, moved = change_of(channel, migration, word_ns)
    if begin is None:
        return Lane(channel.channel, None, None, False, "")
    if moved is None:
        return Lane(channel.channel, begin, None, False, "never")
    return Lane(channel.channel, begin, max(begin, moved), False, "")


def change_of(channel: ChannelMigration, migration: Migration, word_ns: int) -> tuple[int | None, int | None]:
    """From when to when a channel changes over: it begins never (None) if it stays, and may never end.

    Args:
        channel: Of this migration.
        migration: It takes part in.
        word_ns: When the source said its last word.
    """
    moved: int | None
    if migration.performed is Kind.SEAMLESS:
        begin = channel.migrate.time_ns if channel.migrate is not None else None
        into = channel.data_to_destination
        done = into.evidence if into is not None else channel.first_from_destination
        moved = done.time_ns if done is not None else begin if channel.flags == 0 else None
    else:
        begin = word_ns if channel.source_linked else None
        moved = channel.first_from_destination.time_ns if channel.first_from_destination is not None else None
        if moved is None and channel.destination is not None and channel.destination.linked_ns is not None:
            moved = max(word_ns, channel.destination.linked_ns)
    return begin, moved
