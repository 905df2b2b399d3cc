"""JUnit XML."""

from xml.etree import ElementTree as ET

import pytest

from spiceproxy.protocol.migration.model import Kind
from spiceproxy.report.junit import render_junit
from spiceproxy.report.verdict import Report
from tests.report.examples import CAPTURE_NS, EXAMPLES, seamless, wedged
from tests.report.golden import report_of

RULES = {
    "R25": "nothing but MIGRATE_DATA after MIGRATE",
    "R26": "MIGRATE_DATA once",
    "R28": "FLUSH_MARK <once> & only",
}


def parsed(report: Report, rules: dict[str, str] | None = None) -> ET.Element:
    return ET.fromstring(render_junit(report, rules or {}))


def cases(root: ET.Element) -> dict[str, str]:
    """Name of a case to what came of it."""
    return {
        case.get("name", ""): next(
            (child.tag for child in case if child.tag in {"failure", "error"}), "passed"
        )
        for case in root.iter("testcase")
    }


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_report_is_xml_whose_counts_are_right(name: str) -> None:
    root = parsed(report_of(name), RULES)
    for tag, key in (("testcase", "tests"), ("failure", "failures"), ("error", "errors")):
        assert int(root.get(key, "-1")) == len(list(root.iter(tag)))
        for suite in root.iter("testsuite"):
            assert int(suite.get(key, "-1")) == len(list(suite.iter(tag)))


def test_there_is_a_case_for_the_migration_and_one_for_each_rule() -> None:
    assert cases(parsed(report_of("seamless"), RULES)) == {
        "migration": "passed",
        "R25: nothing but MIGRATE_DATA after MIGRATE": "passed",
        "R26: MIGRATE_DATA once": "passed",
        "R28: FLUSH_MARK <once> & only": "passed",
    }


def test_errors_fail_their_rule_and_lesser_findings_are_told() -> None:
    root = parsed(report_of("wedged"), RULES)
    found = cases(root)
    assert (found["migration"], found["R26: MIGRATE_DATA once"]) == ("failure", "failure")
    warned = next(case for case in root.iter("testcase") if case.get("name", "").startswith("R25"))
    assert [child.tag for child in warned] == ["system-out"]
    assert "5.074300 #118" in (warned[0].text or "")


def test_a_rule_that_was_broken_is_there_even_if_nobody_named_it() -> None:
    assert cases(parsed(report_of("wedged")))["R26"] == "failure"


@pytest.mark.parametrize(
    ("expected", "outcome"), [(Kind.SEAMLESS, "passed"), (Kind.SEMI_SEAMLESS, "failure")]
)
def test_a_migration_fails_if_it_was_not_the_one_that_was_expected(expected: Kind, outcome: str) -> None:
    assert cases(parsed(report_of("seamless", expected=expected)))["migration"] == outcome


def test_what_is_damaged_is_an_error_and_no_failure() -> None:
    assert cases(parsed(report_of("damaged")))["migration"] == "error"
    assert cases(parsed(report_of("seamless", problems=["packet 7: cut"])))["is whole"] == "error"


def test_a_capture_without_a_migration_fails() -> None:
    assert cases(parsed(Report([]))) == {"is whole": "passed", "shows a migration": "failure"}


def test_several_migrations_are_several_suites() -> None:
    root = parsed(Report([seamless(), seamless(number=2)], start_ns=CAPTURE_NS))
    assert [suite.get("name") for suite in root] == ["s1 migration 1", "s1 migration 2"]
    assert root[0].get("time") == "1.120"


def test_what_a_peer_wrote_leaves_the_xml_well_formed() -> None:
    migration = wedged()
    evil = ']]>\x00\x1b\ufffe\udcff<&"'
    migration.reason = migration.violations[0].message = migration.diagnoses[0].text = evil
    migration.session = migration.violations[0].rule = evil
    text = render_junit(Report([migration], problems=[evil]))
    assert ET.fromstring(text.encode())
