"""The lanes of a chart: where each channel is, its steps, and its pause."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Final, NamedTuple
from xml.etree.ElementTree import Element

from spiceproxy.protocol.migration.model import Migration
from spiceproxy.reading.style import fit, printable
from spiceproxy.report.axis import Axis
from spiceproxy.report.markup import el
from spiceproxy.report.picture import Picture, Step, Track
from spiceproxy.report.shapes import open_bar, rule_pill
from spiceproxy.report.words import times

MAX_NAME: Final = 13
_LETTERS: Final = {"migrate": "M", "flush": "F", "out": "D", "in": "D"}
_STATES: Final = {"source": "on the source", "moving": "changes over", "destination": "on the destination"}
_STEPS: Final = {
    "linked": "links the destination",
    "migrate": "MIGRATE",
    "flush": "FLUSH_MARK",
    "out": "MIGRATE_DATA from the source",
    "in": "to the destination",
    "first": "first message of the destination",
    "seen": "last and first that can be seen",
    "other": "other message",
    "failed": "no link",
}
_PAUSE_HALF: Final = 10.0
_UPRIGHT: Final = 48.0  # the width of a lane in which a pause fits
_TURNED: Final = 60.0  # the height that it needs otherwise


class Lanes(NamedTuple):
    """Where the lanes of a chart stand."""

    left: float
    width: float
    top: float
    bottom: float

    def draw(
        self, picture: Picture, rows: Sequence[Sequence[float]], axis: Axis, migration: Migration
    ) -> Element:
        """All lanes.

        Args:
            picture: Has the tracks.
            rows: For each track, where its steps stand.
            axis: For other moments.
            migration: Who waits on which channel.
        """
        group = el("g")
        right = self.left + self.width * max(1, len(picture.tracks))
        middle = (self.left + right) / 2
        group.append(el("text", "channels", class_="small", x=middle, y=self.top - 66, text_anchor="middle"))
        for index, (track, steps) in enumerate(zip(picture.tracks, rows, strict=True)):
            x = self.left + self.width * (index + 0.5)
            group.append(self._lane(track, steps, x, axis, migration))
        if picture.left_out:
            text = f"and {times(picture.left_out, 'channel', 'channels')} more"
            group.append(el("text", text, class_="small", x=right, y=self.bottom + 14, text_anchor="end"))
        return group

    def _lane(
        self, track: Track, rows: Sequence[float], x: float, axis: Axis, migration: Migration
    ) -> Element:
        group = el("g", class_="channel", data_channel=track.name)
        blocked = track.name in migration.blocking
        group.append(
            el(
                "g",
                el("title", track.detail),
                el(
                    "text",
                    fit(printable(track.name), MAX_NAME),
                    class_=f"label {'error strong' if blocked else 'strong'}",
                    transform=f"translate({x - 3:.1f} {self.top - 8:.1f}) rotate(-38)",
                ),
                class_="tip name",
                tabindex=0,
            )
        )
        own = {step.time_ns: y for step, y in zip(track.steps, rows, strict=True)}

        def place(time_ns: int) -> float:
            return own[time_ns] if time_ns in own else axis.y(time_ns)

        for rail in track.rails:
            begin = self.top if rail.begin_ns is None else max(self.top, place(rail.begin_ns))
            end = self.bottom if rail.end_ns is None else place(rail.end_ns)
            if end > begin:
                group.append(el("line", class_=f"rail {rail.state}", x1=x, x2=x, y1=begin, y2=end))
        if track.pause is not None:
            group.append(self._pause(track, track.pause, rows, x, place))
        if track.waits is not None:
            since, text = track.waits
            top = min(axis.y(since), self.bottom - 60)
            detail = "\n".join(each.text for each in migration.waiting if each.channel == track.name)
            group.append(open_bar(x, top, self.bottom, detail, text))
        for step, y in zip(track.steps, rows, strict=True):
            group.append(_step(track.name, step, x, y))
        return group

    def _pause(
        self,
        track: Track,
        pause: tuple[int, int | None],
        rows: Sequence[float],
        x: float,
        place: Callable[[int], float],
    ) -> Element:
        begin, end = pause
        top = max(self.top, place(begin))
        bottom = self.bottom if end is None else place(end)
        element = el(
            "g",
            el("title", f"{track.name}: nothing new to see or hear, {track.pause_text}"),
            el(
                "rect", x=x - _PAUSE_HALF, y=top, width=2 * _PAUSE_HALF, height=max(2.0, bottom - top), rx=3.0
            ),
            class_="pause tip",
            tabindex=0,
        )
        # Where no step hides it.
        edges = [top, *(row for row in rows if top < row < bottom), bottom]
        wide = max(pairwise(edges), key=lambda pair: pair[1] - pair[0])
        if track.waits is None:
            y = (wide[0] + wide[1]) / 2
            # Lengthwise where the neighbour would be in the way.
            turned = self.width < _UPRIGHT and wide[1] - wide[0] > _TURNED
            place_of = (
                f"translate({x + 4:.1f} {y:.1f}) rotate(-90)" if turned else f"translate({x:.1f} {y + 4:.1f})"
            )
            element.append(
                el("text", track.pause_text, class_="halo", transform=place_of, text_anchor="middle")
            )
        return element


def _step(channel: str, step: Step, x: float, y: float) -> Element:
    broken = " broken" if any(each.severity != "note" for each in step.broken) else ""
    said = step.message
    group = el(
        "g",
        el("title", step.detail),
        class_=f"step {step.kind}{broken} tip",
        tabindex=0,
        data_channel=channel,
        data_name=said.name if said else None,
        data_numbers=said.number if said else None,
    )
    group.extend(_shape(step.kind, x, y=y))
    if step.broken:
        group.append(rule_pill(step.broken, x + 9, y))
    return group


def _shape(kind: str, x: float, *, y: float) -> list[Element]:
    if kind in _LETTERS:
        return [
            el("rect", x=x - 6, y=y - 6, width=12.0, height=12.0, rx=2.5),
            el("text", _LETTERS[kind], x=x, y=y + 3.1, text_anchor="middle"),
        ]
    if kind == "failed":
        return [el("text", "✗", class_="halo", x=x, y=y + 4.5, text_anchor="middle")]
    return [el("circle", cx=x, cy=y, r={"first": 5.0, "linked": 4.0}.get(kind, 3.6))]


def legend(picture: Picture, width: float) -> tuple[Element, float]:
    """What the signs mean, those that are there, in lines of this width; and how high it is."""
    kinds = {step.kind for track in picture.tracks for step in track.steps}
    states = {rail.state for track in picture.tracks for rail in track.rails}
    group, x, y = el("g"), 0.0, 0.0

    def put(shape: Callable[[float], list[Element]], text: str, class_: str) -> None:
        nonlocal x, y
        wide = 32 + 6.6 * len(text)
        if x + wide > width:
            x, y = 0.0, y + 22
        sign = el("g", shape(x + 7), class_=class_)
        group.append(
            el(
                "g",
                sign,
                el("text", text, class_="small", x=x + 20, y=4.0),
                transform=f"translate(0 {y:.0f})",
            )
        )
        x += wide

    for state, text in _STATES.items():
        if state in states:
            put(partial(_key, f"rail {state}"), text, "key")
    if any(track.pause for track in picture.tracks):
        put(
            lambda at: [el("rect", x=at - 6, y=-7.0, width=12.0, height=14.0, rx=2.0)],
            "nothing new to see",
            "pause",
        )
    for kind, text in _STEPS.items():
        if kind in kinds:
            put(partial(_shape, kind, y=0.0), text, f"step {kind}")
    return group, y + 24


def _key(class_: str, x: float) -> list[Element]:
    return [el("line", class_=class_, x1=x, x2=x, y1=-7.0, y2=7.0)]
