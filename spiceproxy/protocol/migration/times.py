"""How long things took."""

from typing import Final

from spiceproxy.protocol.migration.attempt import Attempt
from spiceproxy.protocol.migration.model import ChannelStep

LIVELY_NS: Final = 10**9  # a channel that was silent for longer before the switch has no pause


def times(attempt: Attempt) -> dict[str, float]:
    """All times that are known, in milliseconds; see `model.TIMES`."""
    m, found = attempt.m, attempt.m.times_ms
    word, reply = attempt.word_ns, m.handshake.reply_evidence
    cancel = m.ending.cancel

    def put(name: str, start: int | None, end: int | None) -> None:
        if start is not None and end is not None:
            found[name] = round((end - start) / 1e6, 3)

    replied = reply.time_ns if reply else None
    put("handshake", m.started_ns, replied)
    ended = word if word is not None else cancel.time_ns if cancel else None
    if replied is not None and ended is not None and ended >= replied:
        put("reply_to_end", replied, ended)
    channels = list(m.channels.values())
    flushes = [c.flush_mark.time_ns - c.migrate.time_ns for c in channels if c.flush_mark and c.migrate]
    transits = [
        c.data_to_destination.evidence.time_ns - c.data_from_source.evidence.time_ns
        for c in channels
        if c.data_to_destination and c.data_from_source
    ]
    put("migrate_to_flush", 0, max(flushes, default=None))
    put("data_transit", 0, max(transits, default=None))
    moved = [c.step_ns for c in channels if c.step is ChannelStep.MOVED and c.channel in attempt.expected]
    put("switch", word, max(moved, default=None))
    # A pause is one only where something was going on: a channel that was quiet before may stay so.
    pauses = [
        c.pause_ms
        for c in channels
        if c.pause_ms is not None
        and c.last_seen_from_source is not None
        and word is not None
        and word - c.last_seen_from_source.time_ns < LIVELY_NS
    ]
    if pauses:
        found["pause"] = round(max(pauses), 3)
    put("source_left", word, attempt.source_left_ns())
    put("total", m.started_ns, m.ended_ns)
    return found
