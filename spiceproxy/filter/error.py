"""The one error of a filter."""

from typing import Final

from spiceproxy.errors import UsageError

_BEFORE, _AFTER = 60, 30  # characters of the text that are shown around the position
_INDENT: Final = "  "


class FilterError(UsageError):
    """A text is not a filter. Its own text has three lines: what is wrong, the filter, and a mark under the place.

    Attributes:
        message: What is wrong, in one line without the place.
        text: The filter.
        position: Of the first character that is wrong, from 0; the length of the text if something is missing there.
    """

    def __init__(self, message: str, text: str, position: int) -> None:
        self.message, self.text, self.position = message, text, position
        begin = position - _BEFORE if position > _BEFORE else 0
        shown = "".join(letter if letter.isprintable() else "·" for letter in text[begin : position + _AFTER])
        lead = "…" if begin else ""
        trail = "…" if position + _AFTER < len(text) else ""
        mark = " " * (len(lead) + position - begin) + "^"
        super().__init__(
            f"filter, column {position + 1}: {message}\n{_INDENT}{lead}{shown}{trail}\n{_INDENT}{mark}"
        )
