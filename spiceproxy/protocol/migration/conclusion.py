"""Write down how an attempt ended."""

from spiceproxy.protocol.migration.agreement import agreement, offer_reason
from spiceproxy.protocol.migration.attempt import Attempt
from spiceproxy.protocol.migration.model import Outcome
from spiceproxy.protocol.migration.tables import Event
from spiceproxy.protocol.migration.times import times
from spiceproxy.protocol.migration.waiting import waiting


def conclude(attempt: Attempt, now: int, outcome: Outcome, reason: str) -> None:
    """The migration is over."""
    m = attempt.m
    m.outcome, m.reason = outcome, reason
    unknown = outcome is Outcome.INCOMPLETE and (m.offered is None or bool(m.damaged))
    m.waiting = [] if unknown or outcome in {Outcome.COMPLETED, Outcome.CANCELLED} else waiting(attempt)
    describe(attempt)
    m.ended_ns = now
    attempt.move(Event.CONCLUDED, now)
    settle(attempt)


def describe(attempt: Attempt) -> None:
    """Say why things are as they are so far."""
    m = attempt.m
    if m.offered is not None and not m.offered.reason:
        m.offered.reason = offer_reason(m.offered.kind, attempt.main, attempt.owed)
    m.agreed_reason = agreement(attempt)


def settle(attempt: Attempt) -> None:
    """Fill in what is known of channels and times. May be called again when more is known."""
    m = attempt.m
    if m.performed is not None:
        for name, connection in attempt.source.items():
            channel, last = m.channels[name], connection.last
            from_server = next((said for side, said in last.items() if side.value == "server"), None)
            if from_server is not None:
                channel.last_from_source = connection.evidence(from_server)
            if connection.last_visible is not None:
                channel.last_seen_from_source = connection.evidence(connection.last_visible)
    m.times_ms = times(attempt)
