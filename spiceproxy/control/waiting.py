"""What has happened lately, and who waits for what is to happen: events of the log, and messages that pass."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
import trio

from dissectors.registry import known_ids, message_name
from dissectors.side import Side
from spiceproxy import clock
from spiceproxy.control.condition import check_condition
from spiceproxy.eventlog import EVENT_NAMES, Event, render_json
from spiceproxy.filter import compile_filter
from spiceproxy.filter.possible import compile_possible
from spiceproxy.following.watching import MESSAGE_NAMES, Passing, Place
from spiceproxy.protocol.interest import Wanted
from spiceproxy.protocol.items import Want

# Of events that are over. An event has 300 bytes or so, the end of a migration some thousand.
MAX_HISTORY: Final = 4096
# Events that wait for somebody who reads them slowly.
MAX_WAITING: Final = 1000

NAMES: Final = EVENT_NAMES | MESSAGE_NAMES
"""What a condition may ask for."""

# What a message has that is not known before it comes.
_TO_COME: Final = ("time", "time_ns", "size", "fields", "error")
_WITHOUT_A_NAME: Final = 2**16 - 1  # stands for all ids that no list has


class History:
    """The events of a proxy: the latest ones are kept, and new ones told to whoever follows."""

    def __init__(self) -> None:
        # With each how far the wall clock was ahead: it may be set, and who asks goes by what it shows now.
        self._kept: deque[tuple[int, Event]] = deque(maxlen=MAX_HISTORY)
        self._dropped: tuple[int, Event] | None = None  # the latest one that is not kept any more
        self._followers: list[Callable[[Event], None]] = []

    @property
    def kept_from_ns(self) -> int:
        """From when on everything is kept, by the wall clock of now; 0: nothing has been dropped."""
        return 0 if self._dropped is None else _time_ns(*self._dropped) + 1

    def __call__(self, event: Event) -> None:
        """A sink of the event log."""
        if len(self._kept) == MAX_HISTORY:
            self._dropped = self._kept[0]
        self._kept.append((clock.wall_ahead_ns(), event))
        for follower in tuple(self._followers):
            follower(event)

    def since(self, time_ns: int) -> Iterator[Event]:
        """Events that are kept, from this time on, by the wall clock of now."""
        return (event for ahead_ns, event in tuple(self._kept) if _time_ns(ahead_ns, event) >= time_ns)

    def follow(self, follower: Callable[[Event], None]) -> None:
        """Tell this one every event."""
        self._followers.append(follower)

    def leave(self, follower: Callable[[Event], None]) -> None:
        """Tell it nothing any more."""
        self._followers.remove(follower)


def _time_ns(ahead_ns: int, event: Event) -> int:
    """What the wall clock of now would have shown."""
    set_by_ns = clock.wall_ahead_ns() - ahead_ns
    time_ns: int = event["time_ns"]
    return time_ns + set_by_ns if abs(set_by_ns) >= clock.STEP_NS else time_ns


class Wait:
    """A condition that somebody waits for. A `Watcher` of messages, and a follower of events.

    Args:
        text: A filter.

    Attributes:
        needs_fields: Messages have to be decoded for it.

    Raises:
        FilterError: The text is none, or asks for what neither messages nor events have, or names what does not exist.
    """

    def __init__(self, text: str) -> None:
        condition = compile_filter(text, names=NAMES)
        check_condition(text)
        self._matches, self.needs_fields = condition.matches, condition.needs_fields
        self._possible = compile_possible(text, _TO_COME)
        self._possible_id = compile_possible(text, (*_TO_COME, "id"))
        self._found: dict[str, Any] | None = None
        self._over = trio.Event()

    def wanted(self, place: Place, side: Side) -> Wanted:
        """Which messages may be it; of those without a name all, if one may be."""
        want = Want.SEE if self.needs_fields else Want.NOTE
        fixed = {
            "session": place.session,
            "connection": place.connection,
            "leg": place.leg,
            "hop": place.hop,
            "channel": place.channel,
            "from": side.value,
        }

        def of(id_: int) -> Mapping[str, Any]:
            return {**fixed, "id": id_, "name": message_name(place.channel_type, side, id_)}

        known = known_ids(place.channel_type, side)
        rest = want if self._possible_id(of(_WITHOUT_A_NAME)) else None
        return {id_: want for id_ in known if self._possible(of(id_))}, rest

    def message(self, seen: Passing) -> None:
        """A message passes."""
        if self._found is None and self._matches(seen):
            self._happened(seen.plain())

    def event(self, event: Event) -> None:
        """An event is logged, or was."""
        if self._found is None and self._matches(event):
            self._happened(msgspec.json.decode(render_json(event)))

    def failed(self, error: Exception) -> None:
        """An error of ours; told as what was waited for, since nothing more comes."""
        self._happened({"event": "control_failed", "reason": repr(error)})

    def _happened(self, what: dict[str, Any]) -> None:
        self._found = what
        self._over.set()

    async def happened(self) -> dict[str, Any]:
        """Wait for it: the event, or what is known of the message without its contents."""
        await self._over.wait()
        assert self._found is not None  # noqa: S101  set together
        return self._found


class Following:
    """Events for somebody who reads them at his own pace; those that he is too slow for are counted and dropped."""

    def __init__(self, matches: Callable[[Event], bool]) -> None:
        self._matches = matches
        self._send, self._receive = trio.open_memory_channel[Event](MAX_WAITING)
        self._dropped = 0

    def event(self, event: Event) -> None:
        """An event is logged."""
        if self._matches(event):
            try:
                self._send.send_nowait(event)
            except trio.WouldBlock:
                self._dropped += 1

    async def next_line(self) -> bytes:
        """The next one, as a line of JSON; before it the number of those that are missing."""
        event = await self._receive.receive()
        line = render_json(event).encode(errors="backslashreplace")
        if self._dropped:
            now = time.time_ns()
            dropped = {
                "time": now / 1e9, "time_ns": now, "event": "events_dropped", "level": "warning", "events": self._dropped,
            }  # fmt: skip
            self._dropped = 0
            line = render_json(dropped).encode() + b"\n" + line
        return line
