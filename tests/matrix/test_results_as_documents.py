"""Results as a page, as JUnit, as the catalog's column and as docs/findings.md."""

import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import msgspec
import pytest

from spiceproxy.faults.errors import FaultFileError
from spiceproxy.faults.rules import parse
from spiceproxy.faults.scenarios import Measured, measured, scenario, scenarios
from spiceproxy.faults.toml import toml_of
from spiceproxy.matrix.findings import (
    Explanation,
    Explanations,
    Remark,
    findings_of,
    read_explanations,
    render,
    words_of,
)
from spiceproxy.matrix.junit import render_junit
from spiceproxy.matrix.measured import encode, measured_of, tidy
from spiceproxy.matrix.page import render_html
from spiceproxy.matrix.results import Column, Verdict
from tests.matrix.cells import cell
from tests.matrix.publish import DOCUMENT, EXPLANATIONS, document
from tests.programs import require_programs

LOST = cell(scenario="drop-switch-host", outcome="session-lost", verdict=Verdict.UNEXPECTED, expect=["wedged"], detail="<i>gone</i>", seen=None, artefacts={}, guest_lost=False)  # fmt: skip
NOT_RUN = cell(scenario="subject-mismatch", outcome=None, verdict=Verdict.NOT_RUN, detail="no TLS", seen=None, artefacts={}, guest_lost=False)  # fmt: skip
SILENT = cell(scenario="migrate-at-once", outcome="seamless", verdict=Verdict.SILENT, detail="", guest_lost=False, seen=None, artefacts={})  # fmt: skip
SIMULATED = cell(column=Column.SIMULATED, outcome="session-lost", seen=None, artefacts={}, guest_lost=False)
CELLS = [cell(), cell(run=2), SIMULATED, LOST, NOT_RUN, SILENT]


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[str | None] = []
        self.links: list[str] = []
        self.cells: list[dict[str, str | None]] = []
        self.buttons: list[dict[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "tr" and "id" in found:
            self.rows.append(found["id"])
        elif tag == "a":
            self.links.append(unquote(found["href"] or ""))
        elif tag == "td" and found.get("class") == "cell":
            self.cells.append(found)
        elif tag == "button":
            self.buttons.append(found)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page(tmp_path: Path, **changes: object) -> Page:
    given = {"artefacts": tmp_path / "kept", "page": tmp_path / "out" / "matrix.html"} | changes
    return Page(render_html(CELLS, **given))  # type: ignore[arg-type]


def test_the_page_has_a_row_for_each_scenario_in_the_order_of_the_catalog(tmp_path: Path) -> None:
    wanted = {each.scenario for each in CELLS}
    assert page(tmp_path).rows == [name for name in scenarios() if name in wanted]


def test_the_page_links_to_what_was_kept_from_where_it_is(tmp_path: Path) -> None:
    assert page(tmp_path).links == ["../kept/nack-rewrite/spicy-1/s2.log"] * 2
    assert page(tmp_path, artefacts=None).links == []


def test_the_page_says_what_happened_and_escapes_what_programs_said(tmp_path: Path) -> None:
    text = render_html(CELLS, artefacts=None, page=tmp_path / "matrix.html")
    assert "<b>unexpected</b>" not in text
    assert "&lt;b&gt;unexpected&lt;/b&gt;" in text
    words = Page(text).words
    assert "destination-aborted 2 of 2" in words
    assert "guest lost" in words
    assert "no TLS" in words
    assert any(word.startswith("s2 (destination) ended: SIGTRAP") for word in words)


def test_each_cell_can_be_found_by_a_filter(tmp_path: Path) -> None:
    found = page(tmp_path)
    verdicts = {each["data-verdict"] for each in found.cells}
    assert verdicts == {"as expected", "not expected", "not run", "did not fire"}
    chips = {each.get("data-verdict") for each in found.buttons} - {None}
    assert chips == verdicts
    outcomes = {word for each in found.cells for word in (each["data-outcomes"] or "").split()}
    assert {each.get("data-outcome") for each in found.buttons} - {None} == outcomes
    assert {each.get("data-column") for each in found.buttons} - {None} == {"spicy", "simulated"}


@pytest.mark.lab
def test_filters_leave_only_what_fits_in_a_browser(tmp_path: Path) -> None:
    require_programs("chromium")
    text = render_html(CELLS, artefacts=None, page=tmp_path / "matrix.html")
    click = "document.querySelector('[data-outcome=\"session-lost\"]').click();"
    made = tmp_path / "matrix.html"
    # The page's own policy lets no other script in, which is as it should be: it goes without it here.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    made.write_text(text.replace("</body>", f"<script>{click}</script></body>"), encoding="utf-8")
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'home'}",
        "--dump-dom",
    ]
    done = subprocess.run([*command, made.as_uri()], capture_output=True, text=True, timeout=90, check=True)
    shown = re.findall(r'<tr id="([^"]+)"(?![^>]*hidden)', done.stdout)
    assert sorted(shown) == ["drop-switch-host", "nack-rewrite"]
    assert "2 of 4 scenarios" in done.stdout


def test_junit_has_a_suite_for_each_column_and_nothing_that_was_not_shown_passes() -> None:
    root = ET.fromstring(render_junit(CELLS).removeprefix('<?xml version="1.0" encoding="UTF-8"?>\n'))
    assert [suite.get("name") for suite in root] == ["spicy", "simulated"]
    assert (root.get("tests"), root.get("failures"), root.get("errors"), root.get("skipped")) == (
        "6",
        "2",
        "0",
        "1",
    )
    cases = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert cases == {
        "nack-rewrite": ["system-out"],
        "nack-rewrite #2": ["system-out"],
        "drop-switch-host": ["failure"],
        "subject-mismatch": ["skipped"],
        "migrate-at-once": ["failure"],
    }
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "not expected: session-lost, not wedged"


def test_the_measured_column_has_what_most_runs_came_to_and_only_what_was_shown() -> None:
    other = cell(run=3, outcome="seamless", verdict=Verdict.UNEXPECTED, guest_lost=False)
    found = measured_of([*CELLS, other])
    assert set(found) == {"nack-rewrite", "drop-switch-host"}
    each = found["nack-rewrite"]
    assert (each.outcome, each.runs, each.of, each.others) == ("destination-aborted", 2, 3, ["seamless"])
    assert each.guest_lost
    assert each.detail == "SIGTRAP: Spice: ../server/red-client.cpp:192:f: unexpected"
    assert msgspec.json.decode(encode(found), type=dict[str, Measured]) == found


def test_what_is_different_in_each_run_is_left_out_of_a_detail() -> None:
    said = "SIGSEGV: (spicy:5599): GSpice-WARNING **: 14:35:38.292: no | (spicy:5599): GSpice-WARNING **: 14:35:38.293: no"
    assert tidy(said) == "SIGSEGV: spicy: GSpice-WARNING **: no"
    assert (
        tidy("cannot connect to 127.0.0.1:26682: dev 0x55ff61c1bc80")
        == "cannot connect to 127.0.0.1: dev 0x…"
    )
    assert len(tidy("x" * 1000)) == 400


def test_what_was_measured_is_of_scenarios_that_there_are() -> None:
    assert set(measured()) <= set(scenarios())
    for each in measured().values():
        assert 0 < each.runs <= each.of
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", each.date)


def column(**details: str) -> dict[str, Measured]:
    return {
        name.replace("_", "-"): Measured("wedged", detail, "S", "C", "2026-11-25", 1, 1)
        for name, detail in details.items()
    }


def test_measurements_with_the_same_words_are_one_finding_and_the_shortest_reproduces_it() -> None:
    waits = "the source waits for FLUSH_MARK from the client on {}:0"
    found = findings_of(
        column(
            drop_flush=waits.format("display"), lose_flush_mark_main=waits.format("main"), stall_dst="other"
        ),
        scenarios(),
        [],
    )
    assert [len(each.names) for each in found] == [2, 1]
    lengths = [len(toml_of(scenario(name))) for name in found[0].names]
    assert lengths == sorted(lengths)
    assert words_of("main:0, display:0 after 12.5 s") == words_of("cursor:1 after 3 s")


def test_an_explanation_makes_one_finding_of_all_that_fits_it() -> None:
    one = Explanation("Nobody answers", "waits for|stands", "Because.", outcome="wedged")
    measurements = column(drop_flush="a waits for b", stall_dst="c stands still")
    (found,) = findings_of(measurements, scenarios(), [one])
    assert (found.title, found.text, len(found.names)) == ("Nobody answers", "Because.", 2)
    remark = Remark("One ticket is short", "page 1.0, 2026-11-25", "Zeros.")
    text = render(measurements, scenarios(), Explanations([one], [remark]))
    assert "### 1. Nobody answers\n\nBecause.\n" in text
    assert text.endswith("### One ticket is short\n\nZeros.\n\npage 1.0, 2026-11-25\n")
    toml = re.search(r"```toml\n(.*?)\n```", text, re.DOTALL)
    assert toml is not None
    assert parse(toml[1], file="findings").rules


def test_explanations_with_a_slip_are_errors() -> None:
    with pytest.raises(FaultFileError):
        read_explanations("[[finding", file="findings.toml")
    with pytest.raises(msgspec.ValidationError):
        read_explanations('[[finding]]\ntitle = "x"\npatern = "y"\ntext = "z"', file="findings.toml")


def test_every_explanation_explains_something_that_was_measured() -> None:
    written = read_explanations(EXPLANATIONS.read_text(encoding="utf-8"), file=EXPLANATIONS.name)
    for each in written.finding:
        assert any(re.search(each.pattern, one.detail) for one in measured().values()), each.title


def test_the_document_is_what_the_measured_column_makes_of_it() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(dict(sorted(measured().items())))
