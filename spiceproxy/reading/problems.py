"""What went wrong, for the end of the output: one line each, and no more than a screen holds."""

from typing import Final

from spiceproxy.capture.messages import Happening
from spiceproxy.reading.decode import MessageView
from spiceproxy.reading.style import printable
from spiceproxy.reading.text import TROUBLE

MAX_LINES: Final = 10


class Problems:
    """Collects problems. Keeps the first ones and counts the others."""

    def __init__(self) -> None:
        self.count = 0
        self.lines: list[str] = []

    def message(self, view: MessageView) -> None:
        """Look whether this message could be read."""
        if (error := view.error) is not None:
            connection = view.captured.connection
            where = f"{connection.session or '-'}/{connection.id} {connection.channel or 'unknown'}"
            self.add(f"{where}: {view.name}, {view.captured.message.size} bytes: {error}")

    def happening(self, happening: Happening) -> None:
        """Look whether this is one."""
        if happening.event in TROUBLE:
            connection = happening.connection
            where = f"{connection.session or '-'}/{connection.id} {connection.channel or 'unknown'}"
            reason = happening.fields.get("reason") or happening.fields.get("error")
            self.add(f"{where}: {happening.event}: {reason}")

    def add(self, line: str) -> None:
        """Note one."""
        self.count += 1
        if len(self.lines) < MAX_LINES:
            self.lines.append(printable(line))

    def take(self, others: "Problems") -> None:
        """Add those of another collection."""
        self.count += others.count
        self.lines += others.lines[: MAX_LINES - len(self.lines)]

    def report(self) -> list[str]:
        """The lines to be shown."""
        more = self.count - len(self.lines)
        return [*self.lines, f"and {more} more"] if more else self.lines
