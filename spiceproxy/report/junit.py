"""The report as JUnit XML: a suite for each migration, in it a case for the migration and one for each rule."""

from collections.abc import Mapping, Sequence
from typing import Final
from xml.etree import ElementTree as ET

from spiceproxy.protocol.migration.model import Migration, Violation
from spiceproxy.protocol.migration.rules import CHECKED, RULES
from spiceproxy.reading.style import Look, printable
from spiceproxy.report.text import migration_lines
from spiceproxy.report.verdict import Report, Status, judge, sentence
from spiceproxy.report.words import accused, title

CLASS: Final = "spiceproxy"
_PLAIN: Final = Look(colour=False, width=100)


_LOOKED_AT: Final = {rule.id: rule.text for rule in CHECKED.values()}
_ALL: Final = {rule.id: rule.text for rule in RULES.values()}


def render_junit(report: Report, rules: Mapping[str, str] = _LOOKED_AT) -> str:
    """An XML document.

    Args:
        report: What it is about.
        rules: Number ("R28") to text of all rules that were looked at; those that were broken are there in any case.
    """
    suites = [_suite(migration, report, rules) for migration in report.migrations]
    sessions = dict.fromkeys(each.session for each in report.violations)
    suites += [_outside(session, report) for session in sessions]
    if report.problems or not suites:
        suites.append(_capture_suite(report))
    root = ET.Element("testsuites", name="spiceproxy report")
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    root.extend(suites)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(migration: Migration, report: Report, rules: Mapping[str, str]) -> ET.Element:
    name = title(migration)
    suite = ET.Element("testsuite", name=name)
    seconds = ((migration.ended_ns or migration.started_ns) - migration.started_ns) / 1e9
    case = _case(suite, f"{CLASS}.{name}", "migration", seconds)
    found = sentence(migration, report)
    status = judge(migration, report.expected, damaged=bool(report.problems))
    text = "\n".join(migration_lines(migration, _PLAIN, report.clock, chart=False))
    if status is Status.OTHERWISE:
        ET.SubElement(case, "failure", message=found.text, type=str(migration.outcome)).text = text
    elif status is Status.DAMAGED:
        ET.SubElement(case, "error", message=found.text, type="damaged").text = text
    else:
        ET.SubElement(case, "system-out").text = f"{found.text}\n{text}"
    broken: dict[str, list[Violation]] = {rule: [] for rule in rules}
    _rules(suite, f"{CLASS}.{name}.rules", broken, migration.violations, report, rules)
    _count(suite)
    return suite


def _outside(session: str | None, report: Report) -> ET.Element:
    """A suite of rules that were broken in a session where no migration went on."""
    name = f"{printable(session or '')} outside of migrations"
    suite = ET.Element("testsuite", name=name)
    violations = [each for each in report.violations if each.session == session]
    _rules(suite, f"{CLASS}.{name}", {}, violations, report, _ALL)
    _count(suite)
    return suite


def _rules(
    suite: ET.Element,
    class_name: str,
    broken: dict[str, list[Violation]],
    violations: Sequence[Violation],
    report: Report,
    rules: Mapping[str, str],
) -> None:
    """Add a case for each rule, those that were broken behind those that are there in any case."""
    for violation in violations:
        broken.setdefault(violation.rule, []).append(violation)
    for rule, found in broken.items():
        words = f"{rule}: {rules[rule]}" if rule in rules else rule
        _break(_case(suite, class_name, printable(words), 0.0), found, report)


def _break(case: ET.Element, violations: list[Violation], report: Report) -> None:
    """Put violations into the case of their rule: errors fail it, the others are told."""
    lines = []
    for violation in violations:
        places = ", ".join(report.clock.place(each) for each in violation.evidence)
        lines.append(
            printable(
                f"{violation.severity} {accused(violation)}: {violation.message} ({places or 'no message'})"
            )
        )
    if not lines:
        return
    if any(each.counts for each in violations):
        ET.SubElement(case, "failure", message=lines[0], type=printable(violations[0].rule)).text = "\n".join(
            lines
        )
    else:
        ET.SubElement(case, "system-out").text = "\n".join(lines)


def _capture_suite(report: Report) -> ET.Element:
    """What is wrong with the capture, and whether there is a migration in it."""
    suite = ET.Element("testsuite", name="capture")
    case = _case(suite, f"{CLASS}.capture", "is whole", 0.0)
    if report.problems:
        text = "\n".join(map(printable, report.problems))
        ET.SubElement(case, "error", message=printable(report.problems[0]), type="damaged").text = text
    case = _case(suite, f"{CLASS}.capture", "shows a migration", 0.0)
    if not report.migrations:
        ET.SubElement(case, "failure", message="no migration in it", type="none")
    _count(suite)
    return suite


def _case(suite: ET.Element, class_name: str, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=class_name, name=name, time=f"{seconds:.3f}")


def _count(suite: ET.Element) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    suite.set("time", f"{sum(float(case.get('time', '0')) for case in suite.findall('testcase')):.3f}")
