"""The report for people: verdicts first, then what they rest on."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from spiceproxy.protocol.migration.model import (
    Diagnosis,
    Evidence,
    Kind,
    Migration,
    Severity,
    Violation,
)
from spiceproxy.protocol.migration.rules import CHECKED
from spiceproxy.reading.style import (
    BOLD,
    BOLD_RED,
    CYAN,
    DIM,
    RED,
    YELLOW,
    Look,
    fit,
    printable,
)
from spiceproxy.report.channeltable import channel_table, last_word
from spiceproxy.report.faults import rows
from spiceproxy.report.layout import columns_of, paragraph
from spiceproxy.report.textchart import text_chart
from spiceproxy.report.verdict import Report, Status, broken, sentence
from spiceproxy.report.words import ARROWS, Clock, accused, duration, leg, short_name, times, title, way

JUDGED_BY: Final = "peers are judged by what each of them got; rules say which fault came before"
# What a screen holds; JSON has all.
MAX_EVIDENCE: Final = 6
MAX_FINDINGS: Final = 40
FACT_COLUMNS: Final = 80  # where the places of messages end, also on wider terminals

_MARKS: Final = {
    Status.GOOD: ("✔", "\x1b[1;32m"),
    Status.OTHERWISE: ("✘", BOLD_RED),
    Status.VIOLATIONS: ("✘", BOLD_RED),
    Status.DAMAGED: ("?", YELLOW),
}
_SEVERITIES: Final = {Severity.ERROR: BOLD_RED, Severity.WARNING: YELLOW, Severity.NOTE: CYAN}
TIMES_IN_SHORT: Final = {
    "handshake": "BEGIN to the client's reply",
    "reply_to_end": "reply to MIGRATE, END, CANCEL or SWITCH_HOST",
    "migrate_to_flush": "MIGRATE to FLUSH_MARK, slowest channel",
    "data_transit": "MIGRATE_DATA out to in, slowest channel",
    "switch": "source's last word to the last channel's change",
    "pause": "longest pause of one channel that was in use",
    "unseen": "nothing new on any channel",
    "source_left": "source's last word to its last connection's end",
    "total": "BEGIN, or SWITCH_HOST without one, to the end",
}
"""Keys of `Migration.times_ms`, as `model.TIMES` explains them."""
_ORDER: Final = (Severity.ERROR, Severity.WARNING, Severity.NOTE)
_REPLIES: Final = {
    "connected": "CONNECTED",
    "connected-seamless": "CONNECTED_SEAMLESS",
    "connect-error": "CONNECT_ERROR",
}


def report_lines(report: Report, look: Look, *, chart: bool = True) -> Iterator[str]:
    """The whole report.

    Args:
        report: What it is about.
        look: Colours and width.
        chart: With a sequence chart of each migration.
    """
    yield from verdict_lines(report.migrations, look, report=report)
    for problem in report.problems:
        yield from paragraph(look, f"capture: {printable(problem)}", rest="  ", style=YELLOW)
    yield from _outside(report.violations, look, report.clock)
    yield from fault_lines(report, look)
    for migration in report.migrations:
        yield ""
        yield from migration_lines(migration, look, report.clock, chart=chart)


def fault_lines(report: Report, look: Look) -> Iterator[str]:
    """What was broken on purpose; nothing if nothing was."""
    if report.faults:
        yield ""
        yield f"{look.paint('Faults that were injected', BOLD)}  {look.paint(JUDGED_BY, DIM)}"
        found = list(rows(report.faults, report.clock))
        for where, what in found[:MAX_FINDINGS]:
            yield from paragraph(look, f"{where:<36} {what}", first="  ", rest="    ", style=YELLOW)
        if len(found) > MAX_FINDINGS or report.faults_left_out:
            left = len(found[MAX_FINDINGS:])
            yield f"  and {times(left, 'more row', 'more rows')}, {report.faults_left_out} more not kept"
    if report.faults_never_fired:
        yield ""
        names = ", ".join(map(printable, report.faults_never_fired))
        yield from paragraph(look, f"Faults that never fired: {names}", rest="  ", style=YELLOW)


def _outside(violations: Sequence[Violation], look: Look, clock: Clock) -> Iterator[str]:
    """Rules that were broken where no migration went on."""
    for session in dict.fromkeys(each.session for each in violations):
        found = [each for each in violations if each.session == session]
        bad = any(each.counts for each in found)
        mark, style = ("✘", BOLD_RED) if bad else ("!", YELLOW)
        name = f"{printable(session or '')} outside of migrations"
        yield f"{look.paint(mark, style)} {look.paint(name, BOLD)}: {', '.join(broken(found))}"
        yield from _violations(found, None, look, clock)


def verdict_lines(
    migrations: Sequence[Migration], look: Look, *, report: Report | None = None, expected: Kind | None = None
) -> Iterator[str]:
    """The verdicts alone, one sentence a migration: what `run`, `demo` and `lab` end with.

    Args:
        migrations: In the order in which they are told.
        look: Colours and width.
        report: What they are a part of; without it moments count from the start of the first one.
        expected: As which each was to be performed, if there is no report that says so.
    """
    report = report or Report(migrations, expected=expected)
    for migration in migrations:
        found = sentence(migration, report)
        mark, style = _MARKS[found.status]
        if found.status is Status.GOOD and found.doubts:
            mark, style = "!", YELLOW
        head, *rest = paragraph(look, f"{found.name}: {found.text}", first="  ")
        named = head[2:].removeprefix(found.name)
        yield f"{look.paint(mark, style)} {look.paint(found.name, BOLD)}{named}"
        yield from rest


def migration_lines(migration: Migration, look: Look, clock: Clock, *, chart: bool) -> Iterator[str]:
    """Everything about one migration."""
    width = columns_of(look)
    head = f"── {title(migration)}, {way(migration)} "
    yield look.paint(fit(head + "─" * max(0, width - len(head)), width), BOLD)
    yield from _course(migration, look, clock)
    yield ""
    yield from channel_table(migration, look, clock)
    if migration.times_ms:
        yield ""
        yield from _times(migration, look)
    if migration.waiting:
        yield ""
        yield from _waiting(migration, look, clock)
    yield ""
    yield from _rules(migration, look, clock)
    if migration.diagnoses:
        yield ""
        yield from _diagnoses(migration, look, clock)
    if migration.losses:
        yield ""
        yield look.paint("Lost", BOLD)
        for loss in migration.losses:
            yield from paragraph(look, printable(loss), first="  ", rest="    ")
    if migration.damaged:
        yield ""
        yield look.paint("Missing in the capture", BOLD)
        for text in migration.damaged:
            yield from paragraph(look, printable(text), first="  ", rest="    ", style=YELLOW)
    if chart:
        yield ""
        yield from text_chart(migration, look, clock)


def _course(migration: Migration, look: Look, clock: Clock) -> Iterator[str]:
    """Offer, answers, agreement and end, with where to find them."""
    offer, handshake, word = migration.offered, migration.handshake, last_word(migration)
    if offer is not None:
        text = str(offer.kind) + (f" version {offer.version}" if offer.version is not None else "")
        if offer.host is not None:
            ports = [
                f"{name} {port}" if port not in {0, 0xFFFF} else ""
                for name, port in (("port", offer.port), ("TLS port", offer.sport))
            ]
            text += f", {printable(offer.host)} {', '.join(filter(None, ports)) or 'without a port'}"
        if offer.reason:
            text += f"; {printable(offer.reason)}"
        yield from _fact(look, clock, "offered", text, offer.evidence)
    if handshake.do_seamless is not None:
        asked = f"{short_name(handshake.do_seamless.name, 'main:0')}"
        if handshake.version is not None:
            asked += f" version {handshake.version}"
        yield from _fact(look, clock, "asked", asked, handshake.do_seamless)
    if handshake.verdict is not None:
        yield from _fact(
            look,
            clock,
            "answered",
            f"{handshake.verdict.upper()} of the destination",
            handshake.verdict_evidence,
        )
    if handshake.reply is not None:
        text = _REPLIES.get(handshake.reply, handshake.reply) + " of the client"
        if handshake.late:
            text += ", too late"
        yield from _fact(look, clock, "replied", text, handshake.reply_evidence)
    unknown = "not known" if offer is None else "nothing"
    agreed = str(migration.agreed) if migration.agreed is not None else unknown
    because = f": {printable(migration.agreed_reason)}" if migration.agreed_reason else ""
    yield from _fact(look, clock, "agreed", agreed + because, None)
    if word is not None:
        text = short_name(word.name, word.channel)
        if word is migration.ending.migrate:
            moved = sum(each.migrate is not None for each in migration.channels.values())
            open_there = sum(each.source_linked for each in migration.channels.values())
            text += f" on {moved} of {times(open_there, 'channel', 'channels')}"
        yield from _fact(look, clock, "ended by", text, word)
    performed = str(migration.performed) if migration.performed is not None else "nothing"
    outcome = f", {migration.outcome}" if migration.outcome is not None else f", still {migration.phase}"
    reason = f": {printable(migration.reason)}" if migration.reason else ""
    yield from _fact(look, clock, "performed", performed + outcome + reason, None)


def _fact(look: Look, clock: Clock, name: str, text: str, evidence: Evidence | None) -> Iterator[str]:
    """A name, what it was, and at the right where to find it."""
    place = clock.place(evidence) if evidence is not None else ""
    edge = min(columns_of(look), FACT_COLUMNS)
    narrower = look._replace(width=edge - len(place) - 2) if place else look
    head, *rest = paragraph(narrower, text, first=" " * 12)
    first = f"  {look.paint(f'{name:<10}', DIM)}{head[12:]}"
    yield first + " " * (edge - len(head) - len(place)) + look.paint(place, DIM) if place else first
    yield from rest


def _times(migration: Migration, look: Look) -> Iterator[str]:
    yield look.paint("Times", BOLD)
    for key, meaning in TIMES_IN_SHORT.items():
        if key in migration.times_ms:
            text = duration(migration.times_ms[key])
            yield f"  {key.replace('_', ' '):<17} {text:>10}  {look.paint(meaning, DIM)}"


def _waiting(migration: Migration, look: Look, clock: Clock) -> Iterator[str]:
    yield look.paint("Who waits", BOLD)
    for each in migration.waiting:
        text = f"{printable(each.text)} (since {clock.moment(each.since_ns)}"
        text += (
            f", until {clock.moment(each.deadline_ns)})" if each.deadline_ns is not None else ", without end)"
        )
        yield from paragraph(look, text, first="  ", rest="    ", style=RED)


def _rules(migration: Migration, look: Look, clock: Clock) -> Iterator[str]:
    if not migration.violations:
        limit = ", as far as the capture shows" if migration.damaged or migration.offered is None else ""
        yield f"{look.paint('Rules', BOLD)}  {len(CHECKED)} checked, none broken{limit}"
        return
    yield look.paint("Rules", BOLD)
    yield from _violations(migration.violations, migration, look, clock)


def _violations(
    found: Sequence[Violation], migration: Migration | None, look: Look, clock: Clock
) -> Iterator[str]:
    violations = sorted(found, key=lambda each: _ORDER.index(each.severity))
    for violation in violations[:MAX_FINDINGS]:
        yield from _violation(violation, migration, look, clock)
    if len(violations) > MAX_FINDINGS:
        yield f"  and {len(violations) - MAX_FINDINGS} more"


def _violation(violation: Violation, migration: Migration | None, look: Look, clock: Clock) -> Iterator[str]:
    where = (
        f" on {violation.channel}" if violation.channel and violation.channel not in violation.message else ""
    )
    label = f"{violation.severity} {printable(violation.rule)}"
    text = f"{label} {accused(violation)}{where}: {printable(violation.message)}"
    head, *rest = paragraph(look, text, first="  ", rest="    ")
    yield f"  {look.paint(label, _SEVERITIES[violation.severity])}{head[2 + len(label) :]}"
    yield from rest
    yield from _evidence(violation.evidence, migration, look, clock)


def _diagnoses(migration: Migration, look: Look, clock: Clock) -> Iterator[str]:
    yield look.paint("Diagnoses", BOLD)
    for diagnosis in migration.diagnoses[:MAX_FINDINGS]:
        yield from _diagnosis(diagnosis, migration, look, clock)


def _diagnosis(diagnosis: Diagnosis, migration: Migration, look: Look, clock: Clock) -> Iterator[str]:
    head, *rest = paragraph(
        look, f"{printable(diagnosis.code)}: {printable(diagnosis.text)}", first="  ", rest="    "
    )
    code = printable(diagnosis.code)
    yield f"  {look.paint(code, YELLOW)}{head[2 + len(code) :]}"
    yield from rest
    yield from _evidence(diagnosis.evidence, migration, look, clock)
    if diagnosis.next:
        head, *rest = paragraph(look, f"look at: {printable(diagnosis.next)}", first="    ", rest="      ")
        yield f"    {look.paint('look at', BOLD)}{head[11:]}"
        yield from rest


def _evidence(
    found: Iterable[Evidence], migration: Migration | None, look: Look, clock: Clock
) -> Iterator[str]:
    everything = list(found)
    for each in everything[:MAX_EVIDENCE]:
        where = leg(migration, each.hop)
        text = (
            f"{clock.moment(each.time_ns):>10} {f'#{each.number}' if each.number is not None else '':<7} "
            f"{each.connection:<4} {each.channel:<11} {where:<11} {ARROWS[each.side]} {short_name(each.name, each.channel)}"
        )
        yield look.paint(fit(f"    {text}", columns_of(look)), DIM)
    if len(everything) > MAX_EVIDENCE:
        yield look.paint(f"    and {len(everything) - MAX_EVIDENCE} more", DIM)
