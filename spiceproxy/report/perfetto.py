"""A trace for ui.perfetto.dev: phases and channels as tracks, messages as instants.

Source of the format: "Trace Event Format" (Chromium project): the JSON object form, complete (X), begin (B), instant (i)
and metadata (M) events; times in microseconds.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from spiceproxy.protocol.migration.model import Migration, Phase
from spiceproxy.reading.style import printable
from spiceproxy.report.details import Details
from spiceproxy.report.picture import Picture, picture_of
from spiceproxy.report.verdict import Report, sentence
from spiceproxy.report.words import Clock, title, way

PHASES_TRACK: Final = 1
MAIN_TRACK: Final = 2
FIRST_CHANNEL_TRACK: Final = 10
_STATES: Final = {
    "source": "on the source",
    "moving": "changes over",
    "destination": "on the destination",
    "gone": "closed",
}

Event = dict[str, Any]


def render_perfetto(migrations: Sequence[Migration], *, report: Report | None = None) -> str:
    """The trace: a process for each migration, a thread for each track.

    Args:
        migrations: In any order.
        report: What they are a part of: moments count from the start of its capture.
    """
    report = report or Report(migrations)
    events: list[Event] = []
    for process, migration in enumerate(migrations, 1):
        events += _Trace(process, migration, report).events()
    # Where nobody says when the capture begins, pauses do before the first migration.
    earliest = min([event["ts"] for event in events], default=0)
    for event in events:
        if earliest < 0 and event["ph"] != "M":
            event["ts"] -= earliest
    trace = {
        "displayTimeUnit": "ms",
        "otherData": {"made_by": "spiceproxy", "file": printable(report.file or "")},
        "traceEvents": events,
    }
    return msgspec.json.encode(trace).decode() + "\n"


class _Trace:
    def __init__(self, process: int, migration: Migration, report: Report) -> None:
        self._process, self._migration, self._report = process, migration, report
        self._clock: Clock = report.clock
        self._picture: Picture = picture_of(migration, Details(migration, report.clock), whole=True)

    def events(self) -> Iterator[Event]:
        """All of them."""
        m = self._migration
        yield self._about("process_name", {"name": title(m)})
        yield self._about("process_labels", {"labels": printable(way(m))})
        yield self._about("process_sort_index", {"sort_index": self._process})
        yield from self._track(PHASES_TRACK, "phases")
        yield from self._track(MAIN_TRACK, "main channel, all messages")
        yield from self._phases()
        for arrow in self._picture.arrows:
            args = {"detail": _lines(arrow.detail), "rules": [printable(each.rule) for each in arrow.broken]}
            yield self._instant(MAIN_TRACK, arrow.label, arrow.time_ns, args)
        for index, track in enumerate(self._picture.tracks):
            thread = FIRST_CHANNEL_TRACK + 3 * index
            yield from self._track(thread, track.name)
            for rail in track.rails:
                begin = m.started_ns if rail.begin_ns is None else rail.begin_ns
                end = (
                    self._picture.until_ns
                    if rail.end_ns is None
                    else min(rail.end_ns, self._picture.until_ns)
                )
                if end >= begin:
                    yield self._slice(thread, _STATES[rail.state], begin, end)
            for step in track.steps:
                name = step.message.name if step.message is not None else step.kind
                args = {
                    "detail": _lines(step.detail),
                    "rules": [printable(each.rule) for each in step.broken],
                }
                yield self._instant(thread, name, step.time_ns, args)
            # Slices of one track have to nest, and these do not.
            if track.pause is not None:
                yield from self._track(thread + 1, f"{track.name} shows nothing new")
                yield self._slice(thread + 1, track.pause_text, *track.pause)
            if track.waits is not None:
                yield from self._track(thread + 2, f"{track.name} waits")
                yield self._slice(thread + 2, track.waits[1], track.waits[0], None)

    def _phases(self) -> Iterator[Event]:
        m = self._migration
        text = sentence(m, self._report).text
        yield self._slice(PHASES_TRACK, text, m.started_ns, max(self._end(), m.started_ns))
        ends = [since for _, since in m.phases[1:]]
        for (phase, since), until in zip(m.phases, [*ends, self._end()], strict=False):
            if phase is not Phase.OVER:
                yield self._slice(PHASES_TRACK, str(phase), since, max(since, until))

    def _end(self) -> int:
        ended = self._migration.ended_ns
        return self._picture.until_ns if ended is None else ended

    def _track(self, thread: int, name: str) -> Iterator[Event]:
        yield self._about("thread_name", {"name": printable(name)}, thread)
        yield self._about("thread_sort_index", {"sort_index": thread}, thread)

    def _about(self, name: str, args: Event, thread: int = 0) -> Event:
        return {"ph": "M", "pid": self._process, "tid": thread, "ts": 0, "name": name, "args": args}

    def _slice(self, thread: int, name: str, begin: int, end: int | None) -> Event:
        """From here to there; without an end, a slice that the viewer shows as not finished."""
        event: Event = {
            "ph": "X" if end is not None else "B", "pid": self._process, "tid": thread, "ts": self._us(begin),
            "name": printable(name), "cat": "migration",
        }  # fmt: skip
        if end is not None:
            event["dur"] = max(0, end - begin) / 1000
        return event

    def _instant(self, thread: int, name: str, moment: int, args: Event) -> Event:
        return {
            "ph": "i", "s": "t", "pid": self._process, "tid": thread, "ts": self._us(moment), "name": printable(name),
            "cat": "message", "args": args,
        }  # fmt: skip

    def _us(self, time_ns: int) -> float:
        return (time_ns - self._clock.start_ns) / 1000


def _lines(text: str) -> list[str]:
    """Lines of a text, as a terminal could print them."""
    return [printable(line) for line in text.split("\n")]
