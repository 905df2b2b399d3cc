"""The sequence chart as a picture: a self-contained SVG for bug reports, light or dark as its reader likes it."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element, tostring

from spiceproxy.protocol.migration.model import Migration, Severity
from spiceproxy.reading.style import fit, printable
from spiceproxy.report.chart import Chart
from spiceproxy.report.markup import asset, el
from spiceproxy.report.shapes import span, wrapped
from spiceproxy.report.verdict import Report, Sentence, Status, sentence
from spiceproxy.report.words import accused, times, title, way

MARGIN: Final = 24.0
MAX_FINDINGS: Final = 12
LEAST_WIDTH: Final = 1000.0
_LINE: Final = 17.0
_COLUMNS: Final = 0.14  # letters of the running text in a pixel
_TIMES: Final = {
    "unseen": "nothing new to see",
    "pause": "longest pause",
    "handshake": "handshake",
    "switch": "switch",
    "data_transit": "data transit",
    "total": "total",
}


class Drawing(NamedTuple):
    """An element and the room it takes."""

    element: Element
    width: float
    height: float


def render_svg(migrations: Sequence[Migration], *, report: Report | None = None) -> str:
    """One picture of all migrations, below one another.

    Args:
        migrations: In the order in which they are shown.
        report: What they are a part of: when the capture begins, and what was expected.
    """
    report = report or Report(migrations)
    drawings = [draw(migration, report) for migration in migrations] or [_nothing()]
    width = max(each.width for each in drawings)
    height = sum(each.height for each in drawings)
    root = svg(width, height, name="Migrations of a SPICE session")
    root.append(el("style", asset("chart.css")))
    root.append(el("rect", class_="ground", width=width, height=height, rx=6.0))
    top = 0.0
    for each in drawings:
        root.append(el("g", each.element, transform=f"translate(0 {top:.1f})"))
        top += each.height
    return tostring(root, encoding="unicode") + "\n"


def svg(width: float, height: float, *, name: str) -> Element:
    """The outermost element."""
    return el(
        "svg", el("title", name), xmlns="http://www.w3.org/2000/svg", class_="spice-chart", role="img",
        width=width, height=height, viewBox=f"0 0 {width:.1f} {height:.1f}",
    )  # fmt: skip


def draw(migration: Migration, report: Report, *, words: bool = True) -> Drawing:
    """One migration.

    Args:
        migration: What happened.
        report: What it is a part of.
        words: With verdict and findings; else the chart alone.
    """
    chart = Chart(migration, report.clock)
    width = max(LEAST_WIDTH, chart.width + 2 * MARGIN)
    group = el("g")
    top = MARGIN
    if words:
        top = _head(group, migration, report, width)
    group.append(el("g", chart.draw(), transform=f"translate({MARGIN:.0f} {top:.1f})"))
    top += chart.height
    if words:
        top = _findings(group, migration, width, top + 14)
    return Drawing(group, width, top + MARGIN)


def mark_of(found: Sentence) -> tuple[str, str]:
    """A sign for a verdict, and the class of its colour."""
    if found.status is Status.GOOD:
        return ("!", "warn") if found.doubts else ("✓", "good")
    return ("?", "warn") if found.status is Status.DAMAGED else ("✗", "bad")


def _nothing() -> Drawing:
    text = el("text", "No migration in this capture", class_="title", x=MARGIN, y=44.0)
    return Drawing(el("g", text), 420.0, 72.0)


def _head(group: Element, migration: Migration, report: Report, width: float) -> float:
    """Verdict, names and times; where the rest begins."""
    found = sentence(migration, report)
    mark, colour = mark_of(found)
    y = MARGIN + 14
    group.append(el("circle", class_=f"badge {colour}", cx=MARGIN + 11, cy=y - 6, r=11.0))
    group.append(
        el("text", mark, class_="on-mark", x=MARGIN + 11, y=y - 1, font_size=14, text_anchor="middle")
    )
    lines = wrapped(f"{found.text[:1].upper()}{found.text[1:]}", int((width - 2 * MARGIN - 34) * 0.092), 6)
    for line in lines:
        group.append(el("text", line, class_="title", x=MARGIN + 32, y=y))
        y += 23
    y -= 1
    group.append(
        el("text", f"{title(migration)}  ·  {fit(way(migration), 120)}", class_="dim", x=MARGIN + 32, y=y)
    )
    y += 14
    x = MARGIN + 32
    for key, name in _TIMES.items():
        if key in migration.times_ms and (
            key != "pause" or migration.times_ms.get("unseen") != migration.times_ms[key]
        ):
            ms = migration.times_ms[key]
            value = span(round(ms * 1e6))
            wide = 7.6 * len(value) + 6.8 * len(name) + 20
            group.append(el("rect", class_="chip", x=x, y=y, width=wide, height=22.0, rx=11.0))
            group.append(
                el(
                    "text",
                    el("tspan", value, class_="strong"),
                    f" {name}",
                    x=x + wide / 2,
                    y=y + 15,
                    text_anchor="middle",
                )
            )
            x += wide + 8
    return y + (38 if migration.times_ms else 10)


def _findings(group: Element, migration: Migration, width: float, y: float) -> float:
    """Who waits, what was broken, and why, in sentences under the chart."""
    told = list(_told(migration))
    column = max([96.0, *(8.0 * len(label) + 16 for _, label, _ in told[:MAX_FINDINGS])])
    for colour, label, text in told[:MAX_FINDINGS]:
        group.append(el("text", label, class_=f"finding strong {colour}", x=MARGIN, y=y + 12))
        for line in wrapped(text, int((width - 2 * MARGIN - column) * _COLUMNS), 4):
            group.append(el("text", line, class_="finding", x=MARGIN + column, y=y + 12))
            y += _LINE
        y += 4
    if len(told) > MAX_FINDINGS:
        group.append(
            el("text", f"and {len(told) - MAX_FINDINGS} more", class_="dim", x=MARGIN + column, y=y + 12)
        )
        y += _LINE
    return y


def _told(migration: Migration) -> Iterator[tuple[str, str, str]]:
    for waiting in migration.waiting:
        deadline = "" if waiting.deadline_ns is not None else ", without end"
        since = (waiting.since_ns - migration.started_ns) / 1e6
        yield "error", "waits", f"{waiting.text} (since {since:.1f} ms{deadline})"
    order = list(Severity)
    for each in sorted(migration.violations, key=lambda each: order.index(each.severity)):
        colour = "dim" if each.severity is Severity.NOTE else each.severity
        yield colour, fit(f"{printable(each.rule)} {each.severity}", 32), f"{accused(each)}: {each.message}"
    for diagnosis in migration.diagnoses:
        look = f" Look at: {diagnosis.next}" if diagnosis.next else ""
        yield "warning", fit(printable(diagnosis.code), 32), f"{diagnosis.text}{look}"
    for loss in migration.losses:
        yield "warning", "lost", loss
    if migration.damaged:
        count = times(len(migration.damaged), "part is", "parts are")
        yield "dim", "capture", f"{count} missing: {'; '.join(migration.damaged)}"
