"""Whether migrations went as they should: the exit status, and one sentence for each migration."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from spiceproxy.protocol.migration.model import Kind, Migration, Outcome, Severity, Violation
from spiceproxy.reading.style import printable
from spiceproxy.report.faults import InjectedFault
from spiceproxy.report.words import Clock, accused, duration, times, title


class Status(IntEnum):
    """Exit status of `spiceproxy report`. Where several fit: the first of OTHERWISE, VIOLATIONS, DAMAGED."""

    GOOD = 0
    NO_MIGRATION = 1
    USAGE = 2
    OTHERWISE = 3  # otherwise than expected, or not completed
    VIOLATIONS = 4  # of severity error, by a peer
    DAMAGED = 5  # of the capture


@dataclass(frozen=True, slots=True)
class Report:
    """What is reported on."""

    migrations: Sequence[Migration]
    expected: Kind | None = None  # as which each was to be performed
    problems: Sequence[str] = ()  # what is wrong with the capture itself, one line each
    start_ns: int | None = None  # of the capture; None: moments count from the first migration's start
    file: str | None = None
    violations: Sequence[Violation] = ()  # outside of migrations
    faults: Sequence[InjectedFault] = ()  # that were injected, in order
    faults_left_out: int = 0  # how many there was no room for
    faults_never_fired: Sequence[str] = ()  # names

    @property
    def clock(self) -> Clock:
        """What moments count from."""
        if self.start_ns is not None:
            return Clock(self.start_ns)
        starts = [each.started_ns for each in self.migrations]
        starts += [said.time_ns for each in self.violations for said in each.evidence]
        starts += [each.time_ns for each in self.faults]
        return Clock(min(starts, default=0))

    @property
    def damaged(self) -> bool:
        """Whether anything is missing in the capture."""
        return bool(self.problems) or any(
            judge(each) is Status.DAMAGED or each.damaged for each in self.migrations
        )

    @property
    def status(self) -> Status:
        """The exit status."""
        found = {judge(each, self.expected, damaged=self.damaged) for each in self.migrations}
        if any(each.counts for each in self.violations):
            found.add(Status.VIOLATIONS)
        for status in (Status.OTHERWISE, Status.VIOLATIONS):
            if status in found:
                return status
        if self.damaged:
            return Status.DAMAGED
        return Status.GOOD if self.migrations else Status.NO_MIGRATION


def judge(migration: Migration, expected: Kind | None = None, *, damaged: bool = False) -> Status:
    """The exit status of one migration.

    Args:
        migration: What happened.
        expected: As which it was to be performed, if that matters.
        damaged: Parts of the capture are missing: then that its end is not seen is nobody's fault.
    """
    damaged = damaged or bool(migration.damaged)
    if migration.outcome is not Outcome.COMPLETED:
        # Where the capture lacks the beginning, it lacks as much as where it lacks the middle.
        unseen = migration.outcome in {None, Outcome.INCOMPLETE} and (damaged or migration.offered is None)
        return Status.DAMAGED if unseen else Status.OTHERWISE
    if expected is not None and migration.performed is not expected:
        return Status.OTHERWISE
    if errors(migration):
        return Status.VIOLATIONS
    return Status.DAMAGED if damaged else Status.GOOD


def errors(migration: Migration) -> list[Violation]:
    """The violations that count."""
    return [each for each in migration.violations if each.counts]


class Sentence(NamedTuple):
    """A migration in one line."""

    status: Status
    doubts: bool  # it is well, but there is something to look at
    name: str  # which migration
    text: str


def sentence(migration: Migration, report: Report) -> Sentence:
    """What was offered, what came of it, how long the user saw nothing new, and what is wrong."""
    status = judge(migration, report.expected, damaged=bool(report.problems))
    parts = [_course(migration, report.expected)]
    if frozen := _frozen(migration, report.clock):
        parts.append(frozen)
    if wrong := _wrong(migration):
        parts.append(wrong)
    if migration.damaged:
        parts.append("parts of it are missing in the capture")
    doubts = bool(migration.violations or migration.diagnoses or migration.losses or migration.damaged)
    return Sentence(status, doubts, title(migration), printable("; ".join(parts)))


def _course(migration: Migration, expected: Kind | None) -> str:
    offered = migration.offered.kind if migration.offered is not None else None
    performed, outcome = migration.performed, migration.outcome
    words = []
    if expected is not None and performed is not expected:
        words.append(f"expected {expected}")
    if offered is not None and offered is performed and outcome is Outcome.COMPLETED:
        words.append(f"{performed} as offered")
    else:
        words.append(f"offered {offered}" if offered is not None else "the offer is not in the capture")
        if (
            migration.agreed is not None
            and migration.agreed is not offered
            and migration.agreed is not performed
        ):
            words.append(f"agreed {migration.agreed}")
        if performed is not None:
            words.append(f"performed {performed}")
    text = ", ".join([*words, str(outcome) if outcome is not None else f"still {migration.phase}"])
    if outcome is not Outcome.COMPLETED and migration.reason:
        text += f": {migration.reason}"
    return text


def _frozen(migration: Migration, clock: Clock) -> str:
    """How long the user waited."""
    for key, where in (("unseen", ""), ("pause", " on a channel")):
        if key in migration.times_ms:
            return f"the user saw nothing new{where} for {duration(migration.times_ms[key])}"
    if migration.performed is None:
        return ""
    shown = [
        each.last_seen_from_source.time_ns
        for each in migration.channels.values()
        if each.last_seen_from_source is not None
    ]
    if migration.outcome is Outcome.COMPLETED or not shown:
        return "how long the user saw nothing new is not known, as nothing was shown"
    last = max(shown)
    text = f"the user has seen nothing new since {(last - clock.start_ns) / 1e9:.3f} s"
    if migration.ended_ns is not None and migration.ended_ns > last:
        text += f", for {duration((migration.ended_ns - last) / 1e6)} and longer"
    return text


def broken(violations: Sequence[Violation]) -> list[str]:
    """Which rules were broken by whom, and how many lesser findings there are, in words."""
    bad = [each for each in violations if each.severity is Severity.ERROR]
    words = []
    if bad:
        names = list(dict.fromkeys(f"{each.rule} {accused(each)}" for each in bad))
        words.append(f"broken: {', '.join(names)}")
    if lesser := len(violations) - len(bad):
        words.append(times(lesser, "lesser finding", "lesser findings"))
    return words


def _wrong(migration: Migration) -> str:
    words = broken(migration.violations)
    codes = list(dict.fromkeys(each.code for each in migration.diagnoses))
    if codes:
        words.append(f"see {', '.join(codes)}")
    return ", ".join(words)


def why(report: Report) -> str | None:
    """The exit status in one line; None if it is 0."""
    migrations = report.migrations
    match report.status:
        case Status.NO_MIGRATION:
            return "no migration in it"
        case Status.OTHERWISE:
            bad = [each for each in migrations if judge(each, report.expected) is Status.OTHERWISE]
            told = [f"{title(each)} {_short(each, report.expected)}" for each in bad]
            return "; ".join(told[:4]) + (f"; and {len(told) - 4} more" if len(told) > 4 else "")
        case Status.VIOLATIONS:
            found = [*report.violations, *(each for migration in migrations for each in errors(migration))]
            rules = {each.rule for each in found if each.counts}
            return f"{times(len(rules), 'rule was', 'rules were')} broken"
        case Status.DAMAGED:
            return "the capture is damaged; what could be read is reported"
        case _:
            return None


def _short(migration: Migration, expected: Kind | None) -> str:
    if migration.outcome is not Outcome.COMPLETED:
        return f"was not completed: {migration.outcome or migration.phase}"
    return f"was {migration.performed}, not {expected}"
