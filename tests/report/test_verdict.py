"""Exit statuses, their order, and the sentence for each migration."""

from pathlib import Path

import pytest

from spiceproxy.protocol.migration.model import Kind, Migration, Outcome, Party, Severity, Violation
from spiceproxy.report.verdict import Report, Status, judge, sentence, why
from tests.report.examples import EXAMPLES, cancelled, damaged, incomplete, seamless, switch_host, wedged
from tests.report.golden import report_of

DOCUMENT = Path(__file__).parents[2] / "docs/report.md"
STATUSES = {
    "seamless": Status.GOOD,
    "semi-seamless": Status.GOOD,
    "switch-host": Status.GOOD,
    "wedged": Status.OTHERWISE,
    "cancelled": Status.OTHERWISE,
    "refused": Status.OTHERWISE,
    "damaged": Status.DAMAGED,
    "incomplete": Status.OTHERWISE,
}


def broken(severity: Severity) -> Migration:
    """Completed, but a rule was broken."""
    migration = seamless()
    migration.violations.append(Violation("R28", Party.CLIENT, severity, "twice"))
    return migration


def test_every_example_has_a_status() -> None:
    assert STATUSES.keys() == EXAMPLES.keys()


@pytest.mark.parametrize(("name", "status"), STATUSES.items())
def test_the_status_of_an_example(name: str, status: Status) -> None:
    assert report_of(name).status is status


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("name", ["seamless", "semi-seamless", "switch-host"])
def test_otherwise_than_expected_is_3(name: str, kind: Kind) -> None:
    assert report_of(name, expected=kind).status is (Status.GOOD if name == kind else Status.OTHERWISE)


@pytest.mark.parametrize(
    ("severity", "status"),
    [(Severity.ERROR, Status.VIOLATIONS), (Severity.WARNING, Status.GOOD), (Severity.NOTE, Status.GOOD)],
)
def test_violations_of_severity_error_are_4(severity: Severity, status: Status) -> None:
    assert Report([broken(severity)]).status is status


def test_no_migration_is_1_unless_the_capture_is_damaged() -> None:
    assert Report([]).status is Status.NO_MIGRATION
    assert Report([], problems=["packet 7: cut"]).status is Status.DAMAGED


def test_a_migration_whose_end_a_damaged_capture_does_not_show_is_5() -> None:
    assert Report([incomplete()], problems=["packet 7: cut"]).status is Status.DAMAGED
    migration = incomplete()
    migration.damaged.append("640 bytes")
    assert Report([migration]).status is Status.DAMAGED


def test_a_migration_whose_beginning_is_not_in_the_capture_is_5() -> None:
    migration = incomplete()
    migration.offered = None
    assert Report([migration]).status is Status.DAMAGED


def test_the_capture_does_not_excuse_what_it_shows() -> None:
    assert Report([wedged()], problems=["packet 7: cut"]).status is Status.OTHERWISE
    assert Report([broken(Severity.ERROR)], problems=["packet 7: cut"]).status is Status.VIOLATIONS


def test_the_order_is_3_then_4_then_5() -> None:
    otherwise, violated, hurt, good = cancelled(), broken(Severity.ERROR), damaged(), seamless()
    assert Report([good, hurt, violated, otherwise]).status is Status.OTHERWISE
    assert Report([good, hurt, violated]).status is Status.VIOLATIONS
    assert Report([good, hurt]).status is Status.DAMAGED
    assert Report([good]).status is Status.GOOD


def test_a_migration_that_goes_on_is_not_completed() -> None:
    migration = seamless()
    migration.outcome = None
    assert judge(migration) is Status.OTHERWISE


def test_every_status_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text[text.index("## Exit status") : text.index("## JSON")]
    rows = {int(line.split("|")[1]) for line in table.splitlines() if line[:3].strip("| ").isdigit()}
    assert rows == set(map(int, Status))


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (Report([seamless()]), None),
        (Report([]), "no migration in it"),
        (Report([wedged()]), "s1 migration 1 was not completed: wedged"),
        (Report([seamless()], expected=Kind.SWITCH_HOST), "s1 migration 1 was seamless, not switch-host"),
        (Report([cancelled()] * 6), "s1 migration 1 was not completed: cancelled; " * 4 + "and 2 more"),
        (Report([broken(Severity.ERROR)]), "1 rule was broken"),
        (Report([damaged()]), "the capture is damaged; what could be read is reported"),
    ],
)
def test_the_status_is_explained_in_a_line(report: Report, text: str | None) -> None:
    assert why(report) == text


def test_the_sentence_of_a_migration_that_went_well() -> None:
    found = sentence(seamless(), Report([seamless()]))
    assert found.text == "seamless as offered, completed; the user saw nothing new for 59.0 ms"
    assert (found.status, found.doubts) == (Status.GOOD, False)


def test_the_sentence_says_what_was_offered_performed_and_what_to_see() -> None:
    migration = switch_host()
    found = sentence(migration, Report([migration], expected=Kind.SEAMLESS))
    assert found.text == (
        "expected seamless, offered seamless, performed switch-host, completed; the user saw nothing new for 247.0 ms; "
        "see too-early-migrate"
    )
    assert found.doubts


def test_the_sentence_says_since_when_the_user_sees_nothing() -> None:
    migration = wedged()
    text = sentence(migration, Report([migration])).text
    assert "the user has seen nothing new since 1.061 s, for 10.0 s and longer" in text
    assert "broken: R26 by the source, 1 lesser finding" in text


def test_nobody_is_told_of_a_pause_that_nobody_could_see() -> None:
    migration = seamless()
    migration.times_ms.clear()
    for channel in migration.channels.values():
        channel.last_seen_from_source = None
    text = sentence(migration, Report([migration])).text
    assert "how long the user saw nothing new is not known, as nothing was shown" in text


@pytest.mark.parametrize("outcome", Outcome)
def test_the_outcome_is_in_the_sentence(outcome: Outcome) -> None:
    migration = seamless()
    migration.outcome = outcome
    assert f", {outcome}" in sentence(migration, Report([migration])).text
