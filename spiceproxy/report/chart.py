"""The chart of one migration: time runs down; lifelines of source, client and destination, and a lane for each channel."""

from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element

from dissectors.side import Side
from spiceproxy.protocol.migration.model import Migration, Outcome, Party, Phase
from spiceproxy.reading.style import fit, printable
from spiceproxy.report.axis import Axis, Mark
from spiceproxy.report.details import Details
from spiceproxy.report.markup import el
from spiceproxy.report.picture import Arrow, Picture, picture_of
from spiceproxy.report.shapes import open_bar, rule_pill, span
from spiceproxy.report.tracks import Lanes, legend
from spiceproxy.report.words import Clock

PHASE_COLUMN: Final = 88.0
TIME_COLUMN: Final = 62.0
GAP: Final = 208.0  # between lifelines
ROW: Final = 25.0
STEP: Final = 14.0
HEAD: Final = 78.0  # lifelines' names, lanes' names
OVERVIEW: Final = 46.0
WAITING_TAIL: Final = 150.0  # for a bar that stays open
MAX_LABEL: Final = 27
_NAMES: Final = {
    Phase.CONNECTING: "connecting",
    Phase.WAITING: "waiting",
    Phase.SWITCHING: "switching",
    Phase.SETTLING: "settling",
}


class Chart:
    """Lays out one migration, and draws it.

    Args:
        migration: What happened.
        clock: What moments count from.
    """

    def __init__(self, migration: Migration, clock: Clock) -> None:
        self.migration = migration
        self.picture: Picture = picture_of(migration, Details(migration, clock))
        self.lifelines = {
            Party.SOURCE: PHASE_COLUMN + TIME_COLUMN + 36,
            Party.CLIENT: PHASE_COLUMN + TIME_COLUMN + 36 + GAP,
            Party.DESTINATION: PHASE_COLUMN + TIME_COLUMN + 36 + 2 * GAP,
        }
        count = len(self.picture.tracks)
        self.lane_left = self.lifelines[Party.DESTINATION] + 52
        self.lane_width = min(58.0, max(38.0, 400.0 / max(1, count)))
        self.width = self.lane_left + max(count, 1) * self.lane_width + 34
        self._place()
        self.legend, legend_height = legend(self.picture, self.width)
        self.height = self.bottom + 12 + legend_height

    def _place(self) -> None:
        """Find out where everything stands."""
        top = OVERVIEW + HEAD
        marks: list[Mark] = []
        phases = self.migration.phases
        for phase, since in phases[:1]:
            marks.append(Mark(since, f"phase {phase}", 0.0, 8.0))
        marks += [Mark(arrow.time_ns, "main", ROW) for arrow in self.picture.arrows]
        first_step = len(marks)
        marks += [
            Mark(step.time_ns, track.name, STEP) for track in self.picture.tracks for step in track.steps
        ]
        first_edge = len(marks)
        # A message brings the next phase about: its line comes first.
        for _, since in phases[1:]:
            marks.append(Mark(since, "phases", 20.0, 11.0))
        marks += [Mark(each.since_ns, "waits", 0.0) for each in self.migration.waiting]
        if self.migration.ended_ns is not None and not any(p is Phase.OVER for p, _ in phases):
            marks.append(Mark(self.migration.ended_ns, "phases", 20.0, 11.0))
        tail = WAITING_TAIL if self.migration.waiting else 26.0
        axis = Axis(marks, [since for phase, since in phases if phase is not Phase.OVER], top + 8, tail)
        self.axis, self.top, self.bottom = axis, top, axis.bottom
        begin = 1 if phases else 0
        self.rows = axis.places[begin:first_step]
        self.step_rows: list[list[float]] = []
        at = first_step
        for track in self.picture.tracks:
            self.step_rows.append(axis.places[at : at + len(track.steps)])
            at += len(track.steps)
        self.edges = [top, *axis.places[first_edge : first_edge + len(phases) - 1]] if phases else []

    def draw(self) -> Element:
        """All of it."""
        return el(
            "g",
            self._overview(),
            self._bands(),
            self._lifelines(),
            self._breaks(),
            Lanes(self.lane_left, self.lane_width, self.top, self.bottom).draw(
                self.picture, self.step_rows, self.axis, self.migration
            ),
            [self._arrow(arrow, y) for arrow, y in zip(self.picture.arrows, self.rows, strict=True)],
            self._waits(),
            el("g", self.legend, transform=f"translate(0 {self.bottom + 24:.1f})"),
        )

    # Time -----------------------------------------------------------------------------------------

    def _overview(self) -> Element:
        """The phases in proportion to their times, over the whole width."""
        start = self.migration.started_ns
        spans = [(phase, since, until) for phase, since, until in self._spans() if phase is not Phase.OVER]
        end = max([until for _, _, until in spans], default=start)
        group = el("g", el("text", "real time", class_="small", x=0.0, y=20.0))
        if end <= start:
            return el("g")
        left, width = PHASE_COLUMN, self.width - PHASE_COLUMN
        for phase, since, until in spans:
            x, wide = left + width * (since - start) / (end - start), width * (until - since) / (end - start)
            text = f"{_NAMES[phase]} {span(until - since)}"
            group.append(
                el(
                    "rect", el("title", text), class_=f"{phase} tip", x=x, y=6.0, width=max(1.5, wide), height=20.0,
                    stroke="var(--line)", data_phase=str(phase),
                )
            )  # fmt: skip
            if wide > 6.6 * len(text):
                group.append(el("text", text, class_="small", x=x + wide / 2, y=20.0, text_anchor="middle"))
        return group

    def _spans(self) -> Iterator[tuple[Phase, int, int]]:
        phases = self.migration.phases
        end = self.migration.ended_ns if self.migration.ended_ns is not None else self.picture.until_ns
        ends = [since for _, since in phases[1:]]
        for (phase, since), until in zip(phases, [*ends, max(end, *ends, 0)], strict=False):
            yield phase, since, until

    def _bands(self) -> Element:
        group = el("g")
        bottoms = [*self.edges[1:], self.bottom][: len(self.edges)]
        for (phase, since, until), top, bottom in zip(self._spans(), self.edges, bottoms, strict=True):
            text = span(until - since)
            group.append(
                el(
                    "rect",
                    class_=f"band {phase}",
                    x=0.0,
                    y=top,
                    width=self.width,
                    height=max(0.0, bottom - top),
                )
            )
            group.append(el("line", class_="edge", x1=0.0, x2=self.width, y1=top, y2=top))
            if phase is Phase.OVER:
                outcome = str(self.migration.outcome or "over")
                fine = self.migration.outcome is Outcome.COMPLETED
                group.append(
                    el("text", outcome, class_="strong" if fine else "strong error", x=8.0, y=top + 15)
                )
                continue
            name = el("text", _NAMES[phase], class_="strong", x=8.0, y=top + 15)
            group.append(name)
            if bottom - top >= 32:
                group.append(el("text", text, class_="small", x=8.0, y=top + 29))
        if not self.migration.phases or self.migration.phases[-1][0] is not Phase.OVER:
            text = str(self.migration.outcome or f"still {self.migration.phase}")
            group.append(el("text", text, class_="strong", x=8.0, y=self.bottom - 6))
        group.append(el("line", class_="edge", x1=0.0, x2=self.width, y1=self.bottom, y2=self.bottom))
        return group

    def _breaks(self) -> Element:
        group = el("g")
        for each in self.axis.breaks:
            y = each.top + 0.42 * (each.bottom - each.top)
            if not each.bottom - each.top >= 20:
                continue
            left, right = PHASE_COLUMN + 6, self.lane_left - 16
            path = f"M{left:.1f} {y:.1f}" + "".join(
                f"l4 {-3 if i % 2 else 3}" for i in range(int((right - left) // 4))
            )
            text = f"{span(each.duration_ns)} later"
            group.append(
                el(
                    "g", el("path", d=path, opacity=0.35),
                    el("text", text, class_="halo", x=self.lifelines[Party.SOURCE] + GAP / 2, y=y + 4, text_anchor="middle"),
                    class_="break",
                )
            )  # fmt: skip
        return group

    # The main channel -----------------------------------------------------------------------------

    def _lifelines(self) -> Element:
        group = el("g")
        for party, x in self.lifelines.items():
            wide = 8.0 * len(party) + 14
            group.append(el("line", class_="lifeline", x1=x, x2=x, y1=self.top - 6, y2=self.bottom))
            group.append(
                el("rect", class_="head", x=x - wide / 2, y=self.top - 32, width=wide, height=24.0, rx=5.0)
            )
            group.append(el("text", str(party), class_="strong", x=x, y=self.top - 16, text_anchor="middle"))
        group.append(
            el(
                "text",
                "main channel",
                class_="small",
                x=self.lifelines[Party.CLIENT],
                y=self.top - 42,
                text_anchor="middle",
            )
        )
        group.append(
            el(
                "text",
                "ms",
                class_="time",
                x=PHASE_COLUMN + TIME_COLUMN - 6,
                y=self.top - 16,
                text_anchor="end",
            )
        )
        return group

    def _arrow(self, arrow: Arrow, y: float) -> Element:
        client = self.lifelines[Party.CLIENT]
        server = self.lifelines[Party.DESTINATION if arrow.there else Party.SOURCE]
        start, end = (client, server) if arrow.side is Side.CLIENT else (server, client)
        towards = 1.0 if end > start else -1.0
        tip = end - towards * 1.5
        count = f" ×{len(arrow.messages)}" if len(arrow.messages) > 1 and arrow.kind == "plain" else ""
        label = fit(printable(arrow.label), MAX_LABEL - len(count)) + count
        middle = (start + end) / 2
        broken = " broken" if any(each.severity != "note" for each in arrow.broken) else ""
        said = arrow.messages[0] if arrow.messages else None
        moment = f"{(arrow.time_ns - self.migration.started_ns) / 1e6:.2f}"
        numbers = " ".join(str(each.number) for each in arrow.messages[:200] if each.number is not None)
        group = el(
            "g", el("title", arrow.detail),
            el("rect", x=min(start, end), y=y - 15, width=GAP, height=20.0, fill="transparent"),
            class_=f"arrow {arrow.kind}{broken} tip", tabindex=0, data_channel=said.channel if said else None,
            data_name=said.name if said else None, data_numbers=numbers or None,
        )  # fmt: skip
        group.append(
            el("text", moment, class_="time", x=PHASE_COLUMN + TIME_COLUMN - 6, y=y + 3.5, text_anchor="end")
        )
        if arrow.kind != "note":
            group.append(el("line", x1=start, x2=tip - towards * 5, y1=y, y2=y))
            group.append(el("path", d=f"M{tip:.1f} {y:.1f}l{-8 * towards:.0f} -4v8z"))
        group.append(el("text", label, class_="label halo", x=middle, y=y - 4, text_anchor="middle"))
        if arrow.broken:
            group.append(rule_pill(arrow.broken, max(start, end) - 46, y - 7))
        return group

    def _waits(self) -> Element:
        """Those who wait for no channel in particular, at their lifelines."""
        group = el("g")
        for each in self.migration.waiting:
            if each.channel is not None and any(track.name == each.channel for track in self.picture.tracks):
                continue
            x, y = self.lifelines[each.who], self.axis.y(each.since_ns)
            group.append(
                open_bar(
                    x, min(y, self.bottom - 40), self.bottom, each.text, f"{each.who} waits for {each.what}"
                )
            )
        return group
