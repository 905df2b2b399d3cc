"""Read a capture and show it: from its packets to lines on standard output."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from spiceproxy.capture.events import StreamEvent
from spiceproxy.capture.messages import CapturedMessage, Happening, read_messages
from spiceproxy.filter import Filter
from spiceproxy.reading.decode import Decoder, HappeningView
from spiceproxy.reading.jsonlines import JsonLines
from spiceproxy.reading.output import Output
from spiceproxy.reading.problems import Problems
from spiceproxy.reading.stats import Stats
from spiceproxy.reading.style import Look
from spiceproxy.reading.text import TextLines


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What is to be shown, and how."""

    as_json: bool = False
    events: bool = True  # what is no message, too
    filters: tuple[Filter, ...] = ()  # all of them have to match
    detail: int = 0  # 1: field trees; 2: and the bytes
    bulk: bool = False
    absolute: bool = False
    stats: bool = False
    look: Look = field(default_factory=lambda: Look(colour=False, width=None))
    encoding: str = "utf-8"


class Reader:
    """Shows messages and what else happened.

    Args:
        options: What and how.
        output: Where lines go.
    """

    def __init__(self, options: ReadOptions, output: Output) -> None:
        self.options, self.output = options, output
        self.problems = Problems()
        self.decoder = Decoder(bulk=options.bulk)
        self.messages = 0
        self.shown = 0
        self._stats = Stats() if options.stats else None
        self._text: TextLines | None = None

    def read(self, events: Iterable[StreamEvent]) -> None:
        """Show what these events mean, to their end.

        Raises:
            GoneError: Nobody reads the output any more.
        """
        show_message, show_happening = self._renderers()
        view_of, filters, problems = self.decoder.view, self.options.filters, self.problems
        for item in self._from_start(read_messages(events)):
            if isinstance(item, CapturedMessage):
                self.messages += 1
                view = view_of(item)
                if all(wanted.matches(view) for wanted in filters):
                    self.shown += 1
                    show_message(view)
                    problems.message(view)
            else:
                problems.happening(item)
                if self.options.events and all(wanted.matches(HappeningView(item)) for wanted in filters):
                    show_happening(item)

    def finish(self) -> None:
        """Show what comes last.

        Raises:
            GoneError: Nobody reads the output any more.
        """
        if self._stats is not None:
            lines: Iterable[Any] = self._stats.json_lines() if self.options.as_json else self._stats.lines()
            for line in lines:
                self.output.line(
                    line if isinstance(line, bytes) else line.encode(self.options.encoding, "replace")
                )
        self.output.flush()

    def _from_start(
        self, items: Iterator[CapturedMessage | Happening]
    ) -> Iterator[CapturedMessage | Happening]:
        """The same; times are shown from the first one on, whether that is shown or not."""
        for first in items:
            if self._text is not None:
                self._text.start_ns = first.time_ns
            yield first
            yield from items

    def _renderers(self) -> tuple[Any, Any]:
        """What is done with a message, and with what happened."""
        options, write = self.options, self.output.line
        if self._stats is not None:
            return self._stats.add, _ignore
        if options.as_json:
            maker = JsonLines(bulk=options.bulk)
            make_message, make_happening = maker.message, maker.happening
            return (lambda view: write(make_message(view))), (lambda item: write(make_happening(item)))
        text = self._text = TextLines(
            options.look, detail=options.detail, absolute=options.absolute, bulk=options.bulk
        )

        def write_all(lines: Iterable[str]) -> None:
            for line in lines:
                write(line.encode(options.encoding, "replace"))

        return (lambda view: write_all(text.message(view))), (lambda item: write_all(text.happening(item)))


def _ignore(_item: object) -> None:
    pass
