"""The report as one HTML page that needs nothing else: verdicts, charts with details, tables, findings.

Elements are built, not pasted: what comes from peers is escaped where it is written. Its content security policy allows
the one style and the one script that are in it, by their digests, and nothing from anywhere else.
"""

from collections.abc import Iterator, Sequence
from typing import Final
from xml.etree.ElementTree import Element, tostring

from spiceproxy.protocol.migration.model import Evidence, Migration, Severity, Violation
from spiceproxy.report.channeltable import cells, last_word
from spiceproxy.report.faults import rows
from spiceproxy.report.markup import asset, digest, el
from spiceproxy.report.svg import draw, mark_of, svg
from spiceproxy.report.text import TIMES_IN_SHORT
from spiceproxy.report.verdict import Report, sentence
from spiceproxy.report.words import ARROWS, Clock, accused, duration, leg, short_name, title, way

MAX_FINDINGS: Final = 200
MAX_EVIDENCE: Final = 12
_ORDER: Final = list(Severity)


def render_html(migrations: Sequence[Migration], *, report: Report | None = None) -> str:
    """The page.

    Args:
        migrations: In the order in which they are shown.
        report: What they are a part of: when the capture begins, and what was expected.
    """
    report = report or Report(migrations)
    style, script = asset("page.css") + asset("chart.css"), asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    name = f"Migrations in {report.file}" if report.file else "Migrations of SPICE sessions"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", name),
        el("style", style),
    )
    body = el("body", el("h1", name))
    if not migrations:
        body.append(el("p", "No migration in this capture."))
    body.extend(el("p", f"The capture is damaged: {problem}", class_="warn") for problem in report.problems)
    if report.violations:
        body.append(_outside(report))
    if report.faults or report.faults_never_fired:
        body.append(_faults(report))
    body.extend(_section(migration, report) for migration in migrations)
    body.append(el("div", id="hover", class_="hover", role="tooltip", hidden="hidden"))
    body.append(el("script", script))
    page = tostring(el("html", head, body, lang="en"), encoding="unicode", method="html")
    return f"<!DOCTYPE html>\n{page}\n"


def _faults(report: Report) -> Element:
    """What was broken on purpose."""
    found = list(rows(report.faults, report.clock))
    items = [el("li", el("span", where, class_="soft"), f" {what}") for where, what in found[:MAX_FINDINGS]]
    if (more := len(found) - len(items) + report.faults_left_out) > 0:
        items.append(el("li", f"and {more} more"))
    items += [el("li", f"{name} never fired", class_="warning") for name in report.faults_never_fired]
    return el("section", el("h2", "Faults that were injected"), el("ul", items, class_="findings"))


def _section(migration: Migration, report: Report) -> Element:
    found = sentence(migration, report)
    mark, colour = mark_of(found)
    section = el(
        "section",
        el("h2", el("span", mark, class_=f"mark {colour}"), f" {found.text[:1].upper()}{found.text[1:]}"),
        el("p", f"{title(migration)} · {way(migration)}", class_="soft"),
    )
    section.append(_viewer(migration, report))
    if migration.waiting:
        section.append(el("h3", "Who waits"))
        section.append(el("ul", (_waits(migration)), class_="findings"))
    section.append(el("h3", "Channels"))
    section.append(_channels(migration, report.clock))
    if migration.times_ms:
        section.append(el("h3", "Times"))
        rows = [
            el(
                "tr",
                el("td", key.replace("_", " ")),
                el("td", duration(migration.times_ms[key]), class_="right"),
                el("td", meaning, class_="soft"),
            )
            for key, meaning in TIMES_IN_SHORT.items()
            if key in migration.times_ms
        ]
        section.append(el("div", el("table", el("tbody", rows)), class_="table"))
    for heading, items in (
        ("Rules", list(_rules(migration.violations, migration, report.clock))),
        ("Diagnoses", list(_diagnoses(migration, report.clock))),
        ("Lost", [el("li", loss, class_="warning") for loss in migration.losses]),
        ("Missing in the capture", [el("li", part) for part in migration.damaged]),
    ):
        if items:
            section.append(el("h3", heading))
            section.append(el("ul", items[:MAX_FINDINGS], class_="findings"))
            if len(items) > MAX_FINDINGS:
                section.append(el("p", f"and {len(items) - MAX_FINDINGS} more", class_="soft"))
    return section


def _viewer(migration: Migration, report: Report) -> Element:
    drawing = draw(migration, report, words=False)
    picture = svg(drawing.width, drawing.height, name=f"Sequence chart of {title(migration)}")
    picture.append(el("rect", class_="ground", width=drawing.width, height=drawing.height))
    picture.append(drawing.element)
    buttons = [
        el("button", sign, type="button", value=value, aria_label=name)
        for sign, value, name in (("+", "1.25", "Larger"), ("−", "0.8", "Smaller"), ("1:1", "0", "As it was"))
    ]
    tools = el(
        "div",
        buttons,
        el("output", "100 %"),
        " Ctrl and wheel, + and −; drag to move; details under the pointer",
        class_="tools",
    )
    return el(
        "div",
        tools,
        el("div", picture, class_="stage", tabindex=0, role="group", aria_label="chart"),
        class_="viewer",
    )


def _waits(migration: Migration) -> Iterator[Element]:
    for each in migration.waiting:
        since = (each.since_ns - migration.started_ns) / 1e6
        until = "without end"
        if each.deadline_ns is not None:
            until = f"until {(each.deadline_ns - migration.started_ns) / 1e6:.1f} ms"
        yield el(
            "li", f"{each.text} ", el("span", f"since {since:.1f} ms, {until}", class_="soft"), class_="error"
        )


def _channels(migration: Migration, clock: Clock) -> Element:
    word = last_word(migration)
    base = word.time_ns if word is not None else migration.started_ns
    after = (
        f"{short_name(word.name, word.channel)} at {clock.place(word)}" if word is not None else "the start"
    )
    columns, rows = cells(migration)
    kept = [i for i in range(len(columns)) if any(row[i].text not in {"", "-"} for row in rows)]
    side = ["right" if column.right else None for column in columns]
    head = el("tr", [el("th", columns[i].title, class_=side[i]) for i in kept])
    body = [
        el(
            "tr",
            [el("td", row[i].text, class_=side[i]) for i in kept],
            class_="blocks" if channel in migration.blocking else None,
            data_channel=channel,
        )
        for channel, row in zip(migration.channels, rows, strict=True)
    ]
    note = el(
        "p",
        f"Times in ms after {after} ({(base - migration.started_ns) / 1e6:.1f} ms in the chart)",
        class_="soft",
    )
    failed = [
        el("p", f"{channel.channel} at the {where}: {link.error} ({link.connection})", class_="bad")
        for channel in migration.channels.values()
        for link, where in ((channel.source, "source"), (channel.destination, "destination"))
        if link is not None and link.error
    ]
    return el("div", note, el("table", el("thead", head), el("tbody", body)), failed, class_="table")


def _outside(report: Report) -> Element:
    """Rules that were broken where no migration went on."""
    items = list(_rules(report.violations, None, report.clock))
    return el("section", el("h2", "Outside of migrations"), el("ul", items[:MAX_FINDINGS], class_="findings"))


def _rules(violations: Sequence[Violation], migration: Migration | None, clock: Clock) -> Iterator[Element]:
    for each in sorted(violations, key=lambda each: _ORDER.index(each.severity)):
        where = f" on {each.channel}" if each.channel and each.channel not in each.message else ""
        label = el("strong", f"{each.rule} {each.severity}", class_=str(each.severity))
        session = f" in {each.session}" if migration is None else ""
        text = f" {accused(each)}{where}{session}: {each.message}"
        yield el("li", label, text, _evidence(each.evidence, migration, clock), class_=str(each.severity))


def _diagnoses(migration: Migration, clock: Clock) -> Iterator[Element]:
    for each in migration.diagnoses:
        look = el("p", el("strong", "Look at: "), each.next) if each.next else None
        label = el("strong", each.code, class_="warn")
        yield el(
            "li", label, f": {each.text}", _evidence(each.evidence, migration, clock), look, class_="warning"
        )


def _evidence(found: Sequence[Evidence], migration: Migration | None, clock: Clock) -> Element | None:
    lines = [
        f"{clock.place(each)}  {each.connection} {each.channel}  {leg(migration, each.hop)} {ARROWS[each.side]} {each.name}"
        for each in found[:MAX_EVIDENCE]
    ]
    if len(found) > MAX_EVIDENCE:
        lines.append(f"and {len(found) - MAX_EVIDENCE} more")
    return el("div", "\n".join(lines), class_="evidence") if lines else None
