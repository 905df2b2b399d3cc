"""The report for programs: the form that docs/report.md describes."""

from typing import Any, Final

from spiceproxy.protocol.migration.model import (
    ChannelMigration,
    Closing,
    Diagnosis,
    Evidence,
    Link,
    Migration,
    Offer,
    Payload,
    Violation,
    Waiting,
)
from spiceproxy.protocol.migration.rules import CHECKED
from spiceproxy.report.faults import InjectedFault
from spiceproxy.report.verdict import Report, judge, sentence
from spiceproxy.report.words import leg

VERSION: Final = 1


def report_object(report: Report) -> dict[str, Any]:
    """The whole report."""
    return {
        "v": VERSION,
        "file": report.file,
        "start_ns": str(report.clock.start_ns),
        "status": int(report.status),
        "expected": report.expected,
        "damaged": list(report.problems),
        "rules": list(CHECKED),
        "migrations": [_migration(each, report) for each in report.migrations],
        "violations": [Maker(None, report.clock.start_ns).violation(each) for each in report.violations],
        "faults": [_fault(each) for each in report.faults],
        "faults_left_out": report.faults_left_out,
        "faults_never_fired": list(report.faults_never_fired),
    }


def _fault(fault: InjectedFault) -> dict[str, Any]:
    return {
        "fault": fault.fault,
        "actions": fault.actions,
        "name": fault.name,
        "firing": fault.firing,
        "time_ns": str(fault.time_ns),
        "session": fault.session,
        "migration": fault.migration,
        "connection": fault.connection,
        "channel": fault.channel,
        "hop": fault.hop,
        "failed": fault.failed,
    }


def _migration(migration: Migration, report: Report) -> dict[str, Any]:
    made = Maker(migration, migration.started_ns)
    handshake, ending = migration.handshake, migration.ending
    return {
        "session": migration.session,
        "number": migration.number,
        "source_hop": migration.source_hop,
        "destination_hop": migration.destination_hop,
        "source_address": migration.source_address,
        "destination_address": migration.destination_address,
        "session_id": migration.session_id,
        "started_ns": str(migration.started_ns),
        "ended_ns": str(migration.ended_ns) if migration.ended_ns is not None else None,
        "status": int(judge(migration, report.expected, damaged=bool(report.problems))),
        "verdict": sentence(migration, report).text,
        "offered": migration.offered.kind if migration.offered is not None else None,
        "offer": made.offer(migration.offered),
        "agreed": migration.agreed,
        "agreed_reason": migration.agreed_reason,
        "performed": migration.performed,
        "outcome": migration.outcome,
        "reason": migration.reason,
        "phase": migration.phase,
        "phases": [{"phase": phase, "time_ms": made.ms(since)} for phase, since in migration.phases],
        "handshake": {
            "do_seamless": made.evidence(handshake.do_seamless),
            "version": handshake.version,
            "verdict": handshake.verdict,
            "verdict_message": made.evidence(handshake.verdict_evidence),
            "reply": handshake.reply,
            "reply_message": made.evidence(handshake.reply_evidence),
            "late": handshake.late,
        },
        "ending": {
            "migrate": made.evidence(ending.migrate),
            "end": made.evidence(ending.end),
            "cancel": made.evidence(ending.cancel),
            "switch_host": made.evidence(ending.switch_host),
            "client_end": made.evidence(ending.client_end),
            "init": made.evidence(ending.init),
        },
        "times_ms": dict(migration.times_ms),
        "channels": [made.channel(each) for each in migration.channels.values()],
        "waiting": [made.waiting(each) for each in migration.waiting],
        "blocking": migration.blocking,
        "violations": [made.violation(each) for each in migration.violations],
        "diagnoses": [made.diagnosis(each) for each in migration.diagnoses],
        "losses": list(migration.losses),
        "damaged": list(migration.damaged),
        "messages": [made.evidence(each) for each in migration.messages],
        "messages_left_out": migration.left_out,
    }


class Maker:
    """Objects of a migration, or of none.

    Args:
        migration: To which they belong.
        start_ns: Times count from here.
    """

    def __init__(self, migration: Migration | None, start_ns: int) -> None:
        self._migration, self._start_ns = migration, start_ns

    def ms(self, time_ns: int | None) -> float | None:
        """Milliseconds after the start."""
        return None if time_ns is None else round((time_ns - self._start_ns) / 1e6, 6)

    def evidence(self, said: Evidence | None) -> dict[str, Any] | None:
        """A message; None for none."""
        if said is None:
            return None
        return {
            "number": said.number,
            "time_ms": self.ms(said.time_ns),
            "time_ns": str(said.time_ns),
            "connection": said.connection,
            "channel": said.channel,
            "hop": said.hop,
            "leg": leg(self._migration, said.hop) if self._migration is not None else None,
            "from": said.side.value,
            "name": said.name,
            "size": said.size,
        }

    def all_evidence(self, found: list[Evidence]) -> list[dict[str, Any] | None]:
        """Messages."""
        return [self.evidence(each) for each in found]

    def payload(self, payload: Payload | None) -> dict[str, Any] | None:
        """A MIGRATE_DATA."""
        made = self.evidence(payload.evidence) if payload is not None else None
        if payload is None or made is None:
            return None
        digest = payload.digest.hex() if payload.digest is not None else None
        return {**made, "magic": payload.magic, "serial": payload.serial, "sha256": digest}

    def link(self, link: Link | None) -> dict[str, Any] | None:
        """A connection."""
        if link is None:
            return None
        return {
            "connection": link.connection,
            "address": link.address,
            "opened_ms": self.ms(link.opened_ns),
            "linked_ms": self.ms(link.linked_ns),
            "connection_id": link.connection_id,
            "header": link.header,
            "error": link.error,
            "error_code": link.error_code,
            "error_by": link.error_by.value if link.error_by is not None else None,
        }

    def closing(self, closing: Closing | None) -> dict[str, Any] | None:
        """The end of one."""
        if closing is None:
            return None
        return {"by": closing.by, "time_ms": self.ms(closing.time_ns), "reset": closing.reset}

    def offer(self, offer: Offer | None) -> dict[str, Any] | None:
        """What the source proposed."""
        if offer is None:
            return None
        return {
            "message": self.evidence(offer.evidence),
            "version": offer.version,
            "host": offer.host,
            "port": offer.port,
            "sport": offer.sport,
            "subject": offer.subject,
            "reason": offer.reason,
        }

    def channel(self, channel: ChannelMigration) -> dict[str, Any]:
        """What a channel did."""
        return {
            "channel": channel.channel,
            "source_linked": channel.source_linked,
            "destination_linked": channel.destination_linked,
            "source": self.link(channel.source),
            "destination": self.link(channel.destination),
            "step": channel.step,
            "flags": channel.flag_names,
            "migrate": self.evidence(channel.migrate),
            "flush_mark": self.evidence(channel.flush_mark),
            "data_from_source": self.payload(channel.data_from_source),
            "data_to_destination": self.payload(channel.data_to_destination),
            "data_equal": channel.data_equal,
            "early_from_destination": channel.early_from_destination,
            "last_from_source": self.evidence(channel.last_from_source),
            "first_from_destination": self.evidence(channel.first_from_destination),
            "last_seen_from_source": self.evidence(channel.last_seen_from_source),
            "first_seen_from_destination": self.evidence(channel.first_seen_from_destination),
            "pause_ms": channel.pause_ms,
            "source_closed": self.closing(channel.source_closed),
            "destination_closed": self.closing(channel.destination_closed),
            "damaged": channel.damaged,
        }

    def waiting(self, waiting: Waiting) -> dict[str, Any]:
        """Who waits for whom."""
        return {
            "who": waiting.who,
            "what": waiting.what,
            "whom": waiting.whom,
            "channel": waiting.channel,
            "since_ms": self.ms(waiting.since_ns),
            "deadline_ms": self.ms(waiting.deadline_ns),
            "text": waiting.text,
        }

    def violation(self, violation: Violation) -> dict[str, Any]:
        """A rule that was broken."""
        return {
            "session": violation.session
            or (self._migration.session if self._migration is not None else None),
            "rule": violation.rule,
            "by": violation.by,
            "fault": None
            if (cause := violation.cause) is None
            else {"name": cause.fault, "share": cause.share},
            "severity": violation.severity,
            "channel": violation.channel,
            "message": violation.message,
            "evidence": self.all_evidence(violation.evidence),
        }

    def diagnosis(self, diagnosis: Diagnosis) -> dict[str, Any]:
        """What went wrong."""
        return {
            "code": diagnosis.code,
            "channels": list(diagnosis.channels),
            "text": diagnosis.text,
            "evidence": self.all_evidence(diagnosis.evidence),
            "next": diagnosis.next,
        }
