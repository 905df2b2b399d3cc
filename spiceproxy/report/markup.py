"""Elements of SVG and HTML. Text is escaped where it is written, since it may come from peers."""

import base64
import hashlib
from collections.abc import Iterable
from importlib.resources import files
from typing import TypeAlias
from xml.etree.ElementTree import Element

from spiceproxy.reading.style import printable

Child: TypeAlias = Element | str | None


def el(tag: str, /, *children: Child | Iterable[Child], **attributes: object) -> Element:
    """An element with its children; `class_` and `data_x` become `class` and `data-x`, None is left out.

    Args:
        tag: Its name.
        children: Elements and texts, or lists of them; what a terminal could not print is shown as an escape.
        attributes: Numbers are cut to tenths.
    """
    element = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            element.set(
                name.rstrip("_").replace("_", "-"),
                number(value) if isinstance(value, float) else text_of(value),
            )
    for child in children:
        if child is None or isinstance(child, str | Element):
            _append(element, child)
        else:
            for each in child:
                _append(element, each)
    return element


def text_of(value: object) -> str:
    """As text that XML may hold; line ends stay."""
    return "\n".join(printable(line) for line in str(value).split("\n"))


def number(value: float) -> str:
    """A coordinate, in tenths."""
    return f"{value:.1f}".removesuffix(".0")


def asset(name: str, package: str = "spiceproxy.report") -> str:
    """A file of ours, beside this one or in another package: styles and scripts."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """A style or a script as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _append(element: Element, child: Child) -> None:
    if isinstance(child, Element):
        element.append(child)
    elif child:
        text = text_of(child)
        if len(element):
            element[-1].tail = (element[-1].tail or "") + text
        else:
            element.text = (element.text or "") + text
