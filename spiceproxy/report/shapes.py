"""Shapes that charts are made of."""

import textwrap
from xml.etree.ElementTree import Element

from spiceproxy.protocol.migration.model import Severity
from spiceproxy.reading.style import fit, printable
from spiceproxy.report.markup import el
from spiceproxy.report.picture import Broken

_GRAVEST_FIRST = list(Severity)


def wrapped(text: str, columns: int, most: int) -> list[str]:
    """Lines of a text, not more than `most`."""
    columns = max(20, columns)
    lines = textwrap.wrap(printable(text), columns, break_on_hyphens=False)
    return [*lines[: most - 1], fit(" ".join(lines[most - 1 :]), columns)] if len(lines) > most else lines


def span(duration_ns: int) -> str:
    """A time in few letters."""
    ms = duration_ns / 1e6
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.1f} ms"


def gravest(broken: tuple[Broken, ...]) -> Severity:
    """The worst of them."""
    return min((each.severity for each in broken), key=_GRAVEST_FIRST.index)


def rule_pill(broken: tuple[Broken, ...], x: float, y: float) -> Element:
    """The rules that a message breaks, to the right of a place."""
    names = list(dict.fromkeys(each.rule for each in broken))
    text = fit(printable(" ".join(names)), 14)
    wide = 6.4 * len(text) + 9
    return el(
        "g",
        el("rect", x=x, y=y - 8, width=wide, height=15.0, rx=7.5),
        el("text", text, x=x + wide / 2, y=y + 3.5, text_anchor="middle"),
        class_=f"rule {gravest(broken)}",
    )


def open_bar(x: float, top: float, bottom: float, detail: str, text: str) -> Element:
    """Somebody waits: a bar without an end."""
    label = fit(printable(text), max(4, int((bottom - top - 12) / 6.4)))
    return el(
        "g",
        el("title", detail),
        el("rect", x=x - 9, y=top, width=18.0, height=bottom - top),
        el("path", d=f"M{x - 9:.1f} {bottom:.1f}V{top:.1f}H{x + 9:.1f}V{bottom:.1f}"),
        el("path", class_="point", d=f"M{x - 9:.1f} {bottom:.1f}h18l-9 9z"),
        el("text", label, class_="halo", transform=f"translate({x + 4:.1f} {bottom - 6:.1f}) rotate(-90)"),
        class_="wait tip",
        tabindex=0,
    )
