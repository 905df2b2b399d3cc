"""Who waits for what from whom, as it follows from where a migration stands."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from dissectors.channels import ChannelType
from spiceproxy.protocol.migration.attempt import Attempt
from spiceproxy.protocol.migration.connections import TIMEOUT_NS
from spiceproxy.protocol.migration.model import ChannelStep, Kind, Party, Phase, Waiting


class _Row(NamedTuple):
    who: Party
    what: str
    whom: Party


_CLIENT, _SOURCE, _DESTINATION = Party.CLIENT, Party.SOURCE, Party.DESTINATION

# A channel that changes over, by where it stands.
CHANNEL_WAITS: Final[dict[ChannelStep, _Row]] = {
    ChannelStep.STAYING: _Row(_CLIENT, "MIGRATE", _SOURCE),
    ChannelStep.FLUSHING: _Row(_SOURCE, "FLUSH_MARK", _CLIENT),
    ChannelStep.UNLOADING: _Row(_CLIENT, "MIGRATE_DATA", _SOURCE),
    ChannelStep.CARRYING: _Row(_DESTINATION, "MIGRATE_DATA", _CLIENT),
}

# Channels on which a destination speaks first after the switch: the client shows nothing until it has. On main that is
# MULTI_MEDIA_TIME, which is not sent while sound is played (spice-server, reds_disable_mm_time()).
SPEAKING: Final = frozenset({ChannelType.MAIN, ChannelType.DISPLAY})


# A client that is ended, or crashes, closes what it has at both ends at once.
AT_ONCE_NS: Final = 500_000_000


def kept_from_reading(attempt: Attempt) -> bool:
    """Whether a client was still waiting for the destination when it lost the source that had said SWITCH_HOST."""
    m, left, main = attempt.m, attempt.source_left_ns(), attempt.tried.get("main:0")
    if m.performed is not Kind.SWITCH_HOST or m.handshake.reply is not None or left is None or main is None:
        return False
    if any(connection.linked is not None for connection in attempt.destination.values()):
        return False
    if not attempt.client_left_first():
        return True
    ended = main.closing  # one that goes to another place keeps what it has at this one
    return ended is not None and ended.by == "client" and left - ended.time_ns <= AT_ONCE_NS


def waiting(attempt: Attempt) -> list[Waiting]:
    """Say who waits, what blocks first."""
    phase = attempt.m.phase
    if phase is Phase.CONNECTING:
        return list(_connecting(attempt))
    if phase is Phase.WAITING:
        reply = attempt.m.handshake.reply_evidence
        since = reply.time_ns if reply else attempt.m.started_ns
        return [_wait(_Row(_CLIENT, "MIGRATE, MIGRATE_END, SWITCH_HOST or CANCEL", _SOURCE), None, since)]
    if phase is Phase.SWITCHING:
        return list(_switching(attempt))
    return list(_settling(attempt))


def silent(attempt: Attempt) -> list[str]:
    """Channels that have changed over and on which the destination would have to speak, but has not."""
    channels = attempt.m.channels
    plays = any(
        channel.channel_type == ChannelType.PLAYBACK and channel.first_seen_from_destination is not None
        for channel in channels.values()
    )
    speaking = SPEAKING - {ChannelType.MAIN} if plays and attempt.m.performed is Kind.SEAMLESS else SPEAKING
    return [
        name
        for name in attempt.expected
        if channels[name].channel_type in speaking
        and channels[name].step is ChannelStep.MOVED
        and channels[name].first_from_destination is None
        and not channels[name].damaged
    ]


def never_at_source(attempt: Attempt) -> list[str]:
    """Channels that the client has linked at the destination though they are not open at the source."""
    return [
        name
        for name, connection in attempt.destination.items()
        if connection.linked is not None and name not in attempt.source
    ]


def unmoved(attempt: Attempt) -> list[str]:
    """Channels that were open at the source when it said its last word, and have not changed over."""
    return [name for name in attempt.expected if not attempt.has_moved(name)]


def _connecting(attempt: Attempt) -> Iterator[Waiting]:
    migration, begin = attempt.m, attempt.m.started_ns
    # SWITCH_HOST makes of links ahead of it links that were tried, but a client that waits there has not read it.
    there = attempt.tried if migration.performed is Kind.SWITCH_HOST else attempt.destination
    main = there.get("main:0")
    handshake = migration.handshake
    if main is None:
        yield _wait(_Row(_CLIENT, "a connection", _DESTINATION), "main:0", begin)
    elif main.failed is not None:
        pass  # the client knows, and will say so
    elif main.linked is None:
        yield _wait(_Row(_CLIENT, "the link result", _DESTINATION), "main:0", main.opened_ns or begin)
    else:
        if handshake.do_seamless is not None and handshake.verdict is None:
            row = _Row(_CLIENT, "ACK or NACK", _DESTINATION)
            yield _wait(row, "main:0", handshake.do_seamless.time_ns)
        for name, connection in attempt.source.items():
            other = there.get(name)
            if connection.open and (other is None or other.linked is None):
                since = (other.opened_ns if other else None) or main.linked.time_ns
                yield _wait(_Row(_CLIENT, "the link result", _DESTINATION), name, since)
    what = "CONNECTED, CONNECTED_SEAMLESS or CONNECT_ERROR"
    yield _wait(_Row(_SOURCE, what, _CLIENT), None, begin, begin + TIMEOUT_NS)


def _switching(attempt: Attempt) -> Iterator[Waiting]:
    migration, since = attempt.m, attempt.word_ns or attempt.m.started_ns
    if migration.performed is Kind.SEAMLESS:
        for name in unmoved(attempt):
            channel = migration.channels[name]
            begun = since if channel.step is ChannelStep.STAYING else channel.step_ns
            to_display = channel.step is ChannelStep.CARRYING and channel.channel_type == ChannelType.DISPLAY
            yield _wait(CHANNEL_WAITS[channel.step], name, begun, begun + TIMEOUT_NS if to_display else None)
        yield from _extra(attempt, since)
        return
    if migration.performed is Kind.SWITCH_HOST and migration.handshake.reply is None:
        # The client does not read what the source says while it connects: SWITCH_HOST may be lying there unread.
        yield from (
            each for each in _connecting(attempt) if each.who is _CLIENT and "main:0" in attempt.tried
        )
    if migration.performed is Kind.SEMI_SEAMLESS and migration.ending.client_end is None:
        yield _wait(_Row(_DESTINATION, "MIGRATE_END", _CLIENT), "main:0", since)
        return
    main = attempt.destination.get("main:0")
    if main is None:
        yield _wait(_Row(_DESTINATION, "a connection", _CLIENT), "main:0", since)
    elif migration.ending.init is None:
        end = migration.ending.client_end
        begun = end.time_ns if end else (main.linked.time_ns if main.linked else since)
        yield _wait(
            _Row(_CLIENT, "MAIN_INIT" if main.linked else "the link result", _DESTINATION), "main:0", begun
        )
    else:
        for name in unmoved(attempt):
            yield _wait(_Row(_CLIENT, "the link result", _DESTINATION), name, migration.ending.init.time_ns)


def _settling(attempt: Attempt) -> Iterator[Waiting]:
    migration, since = attempt.m, attempt.word_ns or attempt.m.started_ns
    for name in silent(attempt):
        channel = migration.channels[name]
        yield _wait(_Row(_CLIENT, "a first message", _DESTINATION), name, channel.step_ns)
    if attempt.source and not (attempt.source_left_ns() is not None and attempt.client_left_first()):
        yield from _extra(attempt, since)
    if attempt.source and attempt.source_left_ns() is None:
        yield _wait(_Row(_SOURCE, "the end of its connections", _CLIENT), None, since, since + TIMEOUT_NS)


def _extra(attempt: Attempt, since: int) -> Iterator[Waiting]:
    """A client that links a channel ahead of the switch waits for its MIGRATE, also if the source never had it."""
    if attempt.m.performed is Kind.SEAMLESS and attempt.m.offered is not None and not attempt.m.damaged:
        for name in never_at_source(attempt):
            yield _wait(CHANNEL_WAITS[ChannelStep.STAYING], name, since, why=", where it was never open")


def _wait(
    row: _Row, channel: str | None, since: int, deadline: int | None = None, *, why: str = ""
) -> Waiting:
    on = f" on {channel}" if channel else ""
    text = f"the {row.who} waits for {row.what} from the {row.whom}{on}{why}"
    return Waiting(row.who, row.what, row.whom, channel, since, deadline, text)
