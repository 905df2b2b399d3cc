"""Results as JUnit XML: a suite for each column, a case for each run of a scenario."""

from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as ET

from spiceproxy.matrix.results import Cell, Column, Verdict
from spiceproxy.reading.style import printable

_TAGS: Final = {
    Verdict.UNEXPECTED: "failure",
    Verdict.SILENT: "failure",
    Verdict.BROKEN: "error",
    Verdict.NOT_RUN: "skipped",
}


def render_junit(cells: Sequence[Cell]) -> str:
    """An XML document. What was not run is skipped, what did not fire has failed: neither has shown anything."""
    root = ET.Element("testsuites", name="spiceproxy matrix")
    for column in Column:
        found = [each for each in cells if each.column is column]
        if found:
            root.append(_suite(column, found))
    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in root)))
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _suite(column: Column, cells: Sequence[Cell]) -> ET.Element:
    suite = ET.Element("testsuite", name=str(column))
    for key, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(key, str(sum(_TAGS.get(each.verdict) == tag for each in cells)))
    suite.set("tests", str(len(cells)))
    suite.set("time", f"{sum(each.duration_s for each in cells):.1f}")
    suite.extend(_case(each) for each in cells)
    return suite


def _case(cell: Cell) -> ET.Element:
    name = cell.scenario if cell.run == 1 else f"{cell.scenario} #{cell.run}"
    case = ET.Element(
        "testcase", classname=f"spiceproxy.matrix.{cell.column}", name=name, time=f"{cell.duration_s:.1f}"
    )
    said = printable(f"{cell.outcome}: {cell.detail}" if cell.outcome else cell.detail)
    tag = _TAGS.get(cell.verdict)
    if tag is None:
        ET.SubElement(case, "system-out").text = said
        return case
    message = (
        f"{cell.verdict}: {cell.outcome}, not {' or '.join(cell.expect)}"
        if cell.outcome
        else str(cell.verdict)
    )
    ET.SubElement(case, tag, message=message, type=str(cell.outcome or cell.verdict)).text = said
    return case
