"""The matrix as one HTML page: a row for each scenario, a cell for each column, filters, and links to what was kept.

Built as `report.page` is: elements, so that all text is escaped, and a content security policy for the one style and the
one script in it.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote
from xml.etree.ElementTree import Element, tostring

from spiceproxy.faults.scenarios import Scenario, scenarios
from spiceproxy.faults.toml import toml_of
from spiceproxy.matrix.results import Cell, Column, Verdict
from spiceproxy.matrix.table import OUTCOMES, VERDICTS, Group, Row, rows
from spiceproxy.reading.style import printable
from spiceproxy.report.markup import asset, digest, el

# By how bad it is for whoever sits there.
_TONES: Final = {
    "seamless": "good", "unchanged": "good", "cancelled": "good",
    "semi-seamless": "fair", "switch-host": "fair",
    "wedged": "poor", "session-lost": "poor",
    "client-crashed": "bad", "source-aborted": "bad", "destination-aborted": "bad",
}  # fmt: skip
_MARKS: Final = {
    Verdict.EXPECTED: "✔", Verdict.UNEXPECTED: "≠", Verdict.SILENT: "○", Verdict.NOT_RUN: "–", Verdict.BROKEN: "!",
}  # fmt: skip
_MEANINGS: Final = {
    Verdict.EXPECTED: "as the catalog expects",
    Verdict.UNEXPECTED: "not as the catalog expects",
    Verdict.SILENT: "no rule of it fired",
    Verdict.NOT_RUN: "the lab cannot give what it needs",
    Verdict.BROKEN: "the lab could not play it",
}
_SHOWN_RUNS: Final = 20
_PACKAGE: Final = "spiceproxy.matrix"


def render_html(cells: Sequence[Cell], *, artefacts: Path | None, page: Path) -> str:
    """The page.

    Args:
        cells: Results.
        artefacts: The directory that the results' paths are in; None: nothing was kept, so there are no links.
        page: Where the page will be: links are relative to it.
    """
    style, script = asset("page.css", _PACKAGE), asset("page.js", _PACKAGE)
    policy = (
        f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", "Scenarios of SPICE migrations"),
        el("style", style),
    )
    found = rows(cells)
    columns = [column for column in Column if any(column in row.groups for row in found)]
    base = None if artefacts is None else _Links(os.path.relpath(artefacts.resolve(), page.resolve().parent))
    body = el(
        "body",
        el(
            "header",
            el("h1", "Scenarios of SPICE migrations"),
            el("button", "◐", type="button", id="theme", title="Light or dark", aria_label="Light or dark"),
        ),
        _versions(cells, columns),
        _summary(found, columns),
        _filters(found, columns),
        el("p", "", id="count", class_="soft", role="status"),
        el(
            "div",
            el(
                "table",
                el(
                    "thead",
                    el(
                        "tr",
                        el("th", "scenario"),
                        el("th", "expected"),
                        [el("th", str(each)) for each in columns],
                    ),
                ),
                el("tbody", [_row(row, columns, base) for row in found]),
            ),
            class_="table",
        ),
        el("script", script),
    )
    text = tostring(el("html", head, body, lang="en"), encoding="unicode", method="html")
    return f"<!DOCTYPE html>\n{text}\n"


class _Links:
    def __init__(self, base: str) -> None:
        self._base = Path(base)

    def to(self, path: str) -> str:
        return quote((self._base / path).as_posix())


def _versions(cells: Sequence[Cell], columns: Sequence[Column]) -> Element:
    words = []
    for column in columns:
        own = [each for each in cells if each.column is column]
        with_whom = " and ".join(dict.fromkeys(text for text in (own[0].server, own[0].client) if text))
        dates = sorted({each.date for each in own})
        when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        words.append(el("li", el("strong", str(column)), f": {with_whom}, {when}, {len(own)} runs"))
    return el("ul", words, class_="versions")


def _summary(found: Sequence[Row], columns: Sequence[Column]) -> Element:
    """For each column a bar: how many scenarios came to what."""
    bars = []
    for column in columns:
        groups = [row.groups[column] for row in found if column in row.groups]
        counts = Counter(_word(group) for group in groups)
        parts = [
            el(
                "span",
                str(counts[word]) if counts[word] * 30 >= len(groups) else "",
                class_=f"part {_TONES.get(word, 'none')}",
                style=None,
                data_share=str(counts[word]),
                title=f"{word}: {counts[word]} of {len(groups)}",
            )
            for word in (*OUTCOMES, *(str(each) for each in VERDICTS))
            if counts[word]
        ]
        bars.append(
            el("div", el("span", str(column), class_="name"), el("div", parts, class_="bar"), class_="line")
        )
    return el("section", bars, class_="summary", aria_label="Summary")


def _word(group: Group) -> str:
    """What a group counts as: its most frequent outcome, or why there is none."""
    if group.verdict in {Verdict.SILENT, Verdict.NOT_RUN, Verdict.BROKEN} or not group.outcomes:
        return str(group.verdict)
    return group.outcomes[0][0]


def _filters(found: Sequence[Row], columns: Sequence[Column]) -> Element:
    groups = [group for row in found for group in row.groups.values()]
    verdicts = Counter(str(group.verdict) for group in groups)
    outcomes = Counter(outcome for group in groups for outcome, _ in group.outcomes)
    chips = [
        el("button", f"{_MARKS[each]} {each} ", el("b", str(verdicts[str(each)])), type="button", class_="chip",
           data_verdict=str(each), aria_pressed="false", title=_MEANINGS[each])
        for each in VERDICTS if verdicts[str(each)]
    ]  # fmt: skip
    more = [
        el("button", el("i", "", class_=f"dot {_TONES[each]}"), f"{each} ", el("b", str(outcomes[each])), type="button",
           class_="chip", data_outcome=each, aria_pressed="false")
        for each in OUTCOMES if outcomes[each]
    ]  # fmt: skip
    special = [
        el("button", word, type="button", class_="chip", data_flag=flag, aria_pressed="false", title=title)
        for flag, word, title in (
            ("degraded", "degraded", "the session goes on by a lesser kind of migration than was tried"),
            ("guest", "guest lost", "no server runs the guest"),
            ("mixed", "mixed", "runs that ended differently"),
        )
    ]
    of = [
        el("button", str(column), type="button", class_="chip", data_column=str(column), aria_pressed="false")
        for column in columns
    ]
    return el(
        "section",
        el(
            "input",
            type="search",
            id="search",
            placeholder="scenario, message, channel …",
            aria_label="Search",
        ),
        el("div", chips, class_="chips"),
        el("div", more, special, class_="chips"),
        el("div", el("span", "only what the filters find with", class_="soft"), of, class_="chips")
        if len(of) > 1
        else "",
        class_="filters",
        aria_label="Filters",
    )


def _row(row: Row, columns: Sequence[Column], links: _Links | None) -> Element:
    known = scenarios().get(row.name)
    first = next(iter(row.groups.values())).cells[0]
    about = [el("code", row.name, class_="scenario")]
    if known is not None:
        about += [el("div", known.wire, class_="soft"), _more(known)]
    return el(
        "tr",
        el("td", about),
        el("td", [el("div", word, class_="expect") for word in _expected(first.expect)]),
        [_cell(row.groups.get(column), column, links) for column in columns],
        id=row.name,
    )


def _expected(words: Sequence[str]) -> list[str]:
    """Where half of all outcomes are expected, the list says no more than its length."""
    return list(words) if len(words) <= 4 else [f"any of {len(words)}"]


def _more(known: Scenario) -> Element:
    return el(
        "details",
        el("summary", "what it is"),
        el("p", el("strong", "imitates "), known.imitates),
        el("p", el("strong", "should "), known.protocol),
        el("p", el("strong", "does "), f"{known.reaction} ({known.basis})"),
        el("pre", toml_of(known).rstrip()),
    )


def _cell(group: Group | None, column: Column, links: _Links | None) -> Element:
    if group is None:
        return el("td", "")
    typical, runs = group.typical, len(group.cells)
    badges: list[Element] = [
        el(
            "span",
            _MARKS[group.verdict],
            class_=f"verdict v{VERDICTS.index(group.verdict)}",
            title=str(group.verdict),
        )
    ]
    for outcome, count in group.outcomes:
        times = f" {count} of {runs}" if runs > 1 else ""
        badges.append(el("span", f"{outcome}{times}", class_=f"badge {_TONES[outcome]}"))
    if group.verdict in {Verdict.SILENT, Verdict.NOT_RUN, Verdict.BROKEN}:
        badges.append(el("span", str(group.verdict), class_="badge none"))
    badges += [
        el("span", word, class_="flag")
        for word, shown in (
            ("degraded", any(each.degraded for each in group.cells)),
            ("guest lost", any(each.guest_lost for each in group.cells)),
        )
        if shown
    ]
    return el(
        "td",
        el("div", badges, class_="badges"),
        el("p", printable(typical.detail)) if typical.detail else "",
        list(_seen(typical)),
        [_kept(each, runs, links) for each in group.cells[:_SHOWN_RUNS]] if links is not None else "",
        class_="cell",
        data_column=str(column),
        data_verdict=str(group.verdict),
        data_outcomes=" ".join(outcome for outcome, _ in group.outcomes),
        data_flags=" ".join(_flags(group)),
    )


def _flags(group: Group) -> Iterator[str]:
    if any(each.degraded for each in group.cells):
        yield "degraded"
    if any(each.guest_lost for each in group.cells):
        yield "guest"
    if len(group.outcomes) > 1:
        yield "mixed"


def _seen(cell: Cell) -> Iterator[Element]:
    """Who waits for what, and what programs said that ended."""
    if cell.seen is None:
        return
    waits = [text for each in cell.seen.attempts for text in each.waiting if text not in cell.detail]
    if waits:
        yield el("ul", [el("li", printable(text)) for text in dict.fromkeys(waits)], class_="waits")
    for each in cell.seen.endings:
        how = each.signal or f"exit status {each.returncode}"
        yield el(
            "details",
            el("summary", f"{each.name} ({each.party}) ended: {how}"),
            el("pre", printable("\n".join(each.said)[-4000:])),
        )


def _kept(cell: Cell, runs: int, links: _Links) -> Element:
    label = el("span", f"run {cell.run} " if runs > 1 else "", class_="soft")
    anchors = [
        el("a", name.removesuffix(".log"), href=links.to(path))
        for name, path in sorted(cell.artefacts.items())
    ]
    return el("div", label, anchors, el("span", f"{cell.duration_s:g} s", class_="soft"), class_="files")
