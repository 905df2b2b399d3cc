"""What the event log says of migrations: the facts of a report, in its words, as they come (docs/events.md)."""

from typing import Any

from spiceproxy.eventlog import EventLog
from spiceproxy.protocol.migration.changes import (
    Change,
    MigrationEnded,
    MigrationStalled,
    MigrationStarted,
    PhaseEntered,
)
from spiceproxy.protocol.migration.model import ChannelMigration, Migration, Severity, Violation
from spiceproxy.report.jsonform import Maker
from spiceproxy.report.verdict import Report, Status, sentence
from spiceproxy.report.words import duration


def log_change(log: EventLog, change: Change) -> None:
    """Say what has changed.

    Args:
        log: Of the session.
        change: As the tracker reports it.
    """
    migration = change.migration
    made = Maker(migration, migration.started_ns)
    common: dict[str, Any] = {"number": migration.number}
    if isinstance(change, MigrationStarted):
        log.info(
            "migration_started",
            **common,
            offered=migration.offered.kind if migration.offered is not None else None,
            source_hop=migration.source_hop,
            destination_hop=migration.destination_hop,
            source_address=migration.source_address,
            destination_address=migration.destination_address,
        )
    elif isinstance(change, PhaseEntered):
        log.info(
            "migration_phase",
            **common,
            phase=change.phase,
            time_ms=made.ms(change.time_ns),
            agreed=migration.agreed,
            performed=migration.performed,
        )
    elif isinstance(change, MigrationStalled):
        stood_ms = (change.time_ns - change.since_ns) / 1e6
        log.warning(
            "migration_stalled",
            **common,
            phase=migration.phase,
            reason=f"{in_words(migration)}; nothing has moved for {duration(stood_ms)}",
            since_ms=made.ms(change.since_ns),
            stood_ms=round(stood_ms, 3),
            waiting=[made.waiting(each) for each in change.waiting],
            blocking=migration.blocking,
        )
    elif isinstance(change, MigrationEnded):
        _ended(log, migration)


def _ended(log: EventLog, migration: Migration) -> None:
    made = Maker(migration, migration.started_ns)
    found = sentence(migration, Report([migration]))
    level = log.info if found.status is Status.GOOD else log.warning
    level(
        "migration_ended",
        number=migration.number,
        verdict=found.text,
        status=int(found.status),
        offered=migration.offered.kind if migration.offered is not None else None,
        agreed=migration.agreed,
        agreed_reason=migration.agreed_reason,
        performed=migration.performed,
        outcome=migration.outcome,
        reason=migration.reason,
        times_ms=dict(migration.times_ms),
        channels=[_in_short(each) for each in migration.channels.values()],
        waiting=[made.waiting(each) for each in migration.waiting],
        blocking=migration.blocking,
        violations=[made.violation(each) for each in migration.violations],
        diagnoses=[made.diagnosis(each) for each in migration.diagnoses],
        losses=list(migration.losses),
    )


def log_violation(log: EventLog, migration: Migration | None, violation: Violation) -> None:
    """Say which rule was broken, in a migration or outside of any."""
    level = log.info if violation.severity is Severity.NOTE else log.warning
    first = violation.evidence[0].time_ns if violation.evidence else 0
    made = Maker(migration, migration.started_ns if migration is not None else first)
    number = migration.number if migration is not None else None
    level("rule_broken", number=number, **made.violation(violation))


def in_words(migration: Migration) -> str:
    """Who waits for what from whom; channels that wait for the same are put together."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for each in migration.waiting:
        names = groups.setdefault((each.who, each.what, each.whom), [])
        if each.channel is not None:
            names.append(each.channel)
    return "; ".join(
        f"the {who} waits for {what} from the {whom}" + (f" on {', '.join(names)}" if names else "")
        for (who, what, whom), names in groups.items()
    )


def _in_short(channel: ChannelMigration) -> dict[str, Any]:
    return {
        "channel": channel.channel,
        "source_linked": channel.source_linked,
        "destination_linked": channel.destination_linked,
        "step": channel.step,
        "flags": channel.flag_names,
        "data_equal": channel.data_equal,
        "pause_ms": channel.pause_ms,
    }
