"""Text for terminals: colours, widths, and what peers wrote without their escape sequences."""

import os
from typing import Final, NamedTuple

RESET: Final = "\x1b[0m"
DIM: Final = "\x1b[2m"
BOLD: Final = "\x1b[1m"
RED: Final = "\x1b[31m"
BOLD_RED: Final = "\x1b[1;31m"
GREEN: Final = "\x1b[32m"
YELLOW: Final = "\x1b[33m"
BOLD_MAGENTA: Final = "\x1b[1;35m"
CYAN: Final = "\x1b[36m"
BLUE: Final = "\x1b[34m"

WIDE: Final = 140  # from this many columns on, words are written out
NARROW: Final = 100  # below this many, what can be seen elsewhere is left out


class Look(NamedTuple):
    """How text is to look."""

    colour: bool
    width: int | None  # columns to fit in; None where lines may be as long as they are

    def paint(self, text: str, style: str) -> str:
        """The text in this style, if there are colours."""
        return f"{style}{text}{RESET}" if self.colour and style and text else text

    @property
    def wide(self) -> bool:
        """Whether there is room for words in full."""
        return self.width is None or self.width >= WIDE

    @property
    def narrow(self) -> bool:
        """Whether every column counts."""
        return self.width is not None and self.width < NARROW


def wants_colour(choice: str, *, terminal: bool) -> bool:
    """Whether to colour: `always`, `never`, or `auto` (on a terminal, unless NO_COLOR is set; no-color.org)."""
    if choice == "auto":
        return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return choice == "always"


def printable(text: str) -> str:
    """Text of a peer: what would move a cursor or hide something is shown as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def fit(text: str, columns: int) -> str:
    """At most that many columns."""
    return text if len(text) <= columns else text[: max(0, columns - 1)] + "…"
