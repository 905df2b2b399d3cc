"""Paragraphs and tables of fixed columns, with colours."""

import textwrap
from collections.abc import Sequence
from typing import Final, NamedTuple

from spiceproxy.reading.style import DIM, Look

# Sentences are not longer than this on the widest terminal: nobody finds the next line.
PROSE_COLUMNS: Final = 110
DEFAULT_COLUMNS: Final = 100  # where nobody says


class Cell(NamedTuple):
    """What stands in one field of a table."""

    text: str
    style: str = ""


class Column(NamedTuple):
    """A column of a table; its title may have several lines."""

    title: str
    right: bool = False


def columns_of(look: Look) -> int:
    """How wide a line may be."""
    return look.width or DEFAULT_COLUMNS


def paragraph(
    look: Look, text: str, *, first: str = "", rest: str | None = None, style: str = ""
) -> list[str]:
    """Text in lines, the first one behind `first`, the others behind as many blanks or `rest`."""
    rest = " " * len(first) if rest is None else rest
    width = max(20, min(columns_of(look), PROSE_COLUMNS))
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
        break_long_words=True,
    )
    if not style:
        return lines
    return [
        (first if not index else rest) + look.paint(line[len(first if not index else rest) :], style)
        for index, line in enumerate(lines)
    ]


def table(
    look: Look, columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, indent: str = "  "
) -> list[str]:
    """Rows under their titles; columns that are empty all the way down are left out."""
    kept = [i for i in range(len(columns)) if any(row[i].text not in {"", "-"} for row in rows)]
    heads = [columns[i].title.split("\n") for i in kept]
    height = max(map(len, heads), default=0)
    heads = [[""] * (height - len(head)) + head for head in heads]
    widths = [
        max(*map(len, head), *(len(row[i].text) for row in rows)) for i, head in zip(kept, heads, strict=True)
    ]
    room = columns_of(look) - len(indent) - sum(widths)
    gap = "  " if room >= 2 * (len(widths) - 1) else " "

    def line(cells: Sequence[Cell]) -> str:
        padded = []
        for i, cell, width in zip(kept, cells, widths, strict=True):
            text = f"{cell.text:>{width}}" if columns[i].right else f"{cell.text:<{width}}"
            padded.append(look.paint(text.rstrip() if i == kept[-1] else text, cell.style))
        return (indent + gap.join(padded)).rstrip()

    titles = [line([Cell(head[level], DIM) for head in heads]) for level in range(height)]
    return [*titles, *(line([row[i] for i in kept]) for row in rows)]
