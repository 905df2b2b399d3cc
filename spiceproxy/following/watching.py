"""Messages that somebody waits for while they pass. What nobody waits for is not looked at.

A `Watcher` says which messages of a connection it may want; the framers of all open connections are told of it as long as
it is there (`Interest.watch`), and those of connections that come. So a wait for one message of main costs a display
nothing, and no wait costs nobody anything.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dissectors.channels import channel_name
from dissectors.errors import DissectionError
from dissectors.registry import dissect_plain, message_name
from dissectors.side import Side
from spiceproxy.protocol.interest import NOTHING, Interest, Wanted, both
from spiceproxy.protocol.items import Message, Note

MESSAGE_NAMES: Final = frozenset(
    {
        "time", "time_ns", "session", "connection", "leg", "hop", "channel", "from", "id", "name", "size", "fields", "error",
    }
)  # fmt: skip
"""What a filter may ask of a message that passes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a message passes."""

    session: str
    connection: str
    channel_type: int
    channel_id: int
    hop: int

    @property
    def channel(self) -> str:
        """As "display:0"."""
        return f"{channel_name(self.channel_type)}:{self.channel_id}"

    @property
    def leg(self) -> str:
        """As the reader of captures has it."""
        return "destination" if self.hop else "source"


class Passing:
    """A message that passes, as a filter asks for it.

    Args:
        place: Where.
        side: Who sent it.
        id_: Of the message.
        size: Bytes of its body.
        body: That, if it was kept.
    """

    def __init__(self, place: Place, side: Side, id_: int, size: int, body: bytes | None = None) -> None:
        self.place, self.side, self.id, self.size, self.body = place, side, id_, size, body
        self.time_ns = time.time_ns()
        self._decoded: tuple[dict[str, Any] | None, str | None] | None = None

    def get(self, name: str) -> Any:
        """The value of this name, or None."""
        asked = _ASKED.get(name)
        return None if asked is None else asked(self)

    def decoded(self) -> tuple[dict[str, Any] | None, str | None]:
        """Fields, and why there are none."""
        if self._decoded is None:
            self._decoded = self._decode()
        return self._decoded

    def _decode(self) -> tuple[dict[str, Any] | None, str | None]:
        if self.body is None:
            return None, None
        if len(self.body) != self.size:
            return None, f"{self.size} bytes are too many to be kept"
        try:
            return dissect_plain(self.place.channel_type, self.side, self.id, self.body)[0], None
        except DissectionError as error:
            return None, str(error)

    def plain(self) -> dict[str, Any]:
        """What it is, for JSON, without what is in it: that may be what somebody typed."""
        return {
            "time": self.time_ns / 1e9,
            "time_ns": str(self.time_ns),
            "session": self.place.session,
            "connection": self.place.connection,
            "leg": self.place.leg,
            "hop": self.place.hop,
            "channel": self.place.channel,
            "from": self.side.value,
            "id": self.id,
            "name": self.get("name"),
            "size": self.size,
        }


_ASKED: Final[dict[str, Callable[[Passing], Any]]] = {
    "time": lambda seen: seen.time_ns / 1e9,
    "time_ns": lambda seen: str(seen.time_ns),
    "session": lambda seen: seen.place.session,
    "connection": lambda seen: seen.place.connection,
    "leg": lambda seen: seen.place.leg,
    "hop": lambda seen: seen.place.hop,
    "channel": lambda seen: seen.place.channel,
    "from": lambda seen: seen.side.value,
    "id": lambda seen: seen.id,
    "name": lambda seen: message_name(seen.place.channel_type, seen.side, seen.id),
    "size": lambda seen: seen.size,
    "fields": lambda seen: seen.decoded()[0],
    "error": lambda seen: seen.decoded()[1],
}


class Watcher(Protocol):
    """Who waits for messages."""

    def wanted(self, place: Place, side: Side) -> Wanted:
        """Which messages of a side it may want."""

    def message(self, seen: Passing) -> None:
        """A message passes; not all of them are among those that it wanted."""

    def failed(self, error: Exception) -> None:
        """An error of ours in `message`: it is told nothing any more."""


class WatchedConnection:
    """One connection, which tells what passes. Nothing of it is to be told where `active` is false."""

    def __init__(self, watching: "Watching", place: Place, interest: Interest) -> None:
        self._watching, self._place, self._interest = watching, place, interest
        self.active = False
        self.renew()

    def renew(self) -> None:
        """There are other watchers now."""
        self.active = bool(self._watching.watchers)
        for side in Side:
            wanted = NOTHING
            for watcher in self._watching.watchers:
                wanted = both(wanted, watcher.wanted(self._place, side))
            self._interest.watch(side, wanted)

    def noted(self, side: Side, notes: list[Note]) -> None:
        """Messages that have passed, by their headers."""
        for id_, size, _, _ in notes:
            self._tell(Passing(self._place, side, id_, size))

    def heard(self, message: Message) -> None:
        """A message that a peer has said."""
        self._tell(Passing(self._place, message.side, message.id, message.size, message.body))

    def _tell(self, seen: Passing) -> None:
        for watcher in list(self._watching.watchers):
            try:
                watcher.message(seen)
            except Exception as error:  # noqa: BLE001  ours, and not the session's
                self._watching.remove(watcher)
                watcher.failed(error)

    def close(self) -> None:
        """The connection is over."""
        self._watching.connections.discard(self)


class Watching:
    """The watchers of a proxy, and its connections whose messages can be read."""

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        self.connections: set[WatchedConnection] = set()

    def open(self, place: Place, interest: Interest) -> WatchedConnection:
        """A connection is linked. It is to be closed."""
        made = WatchedConnection(self, place, interest)
        self.connections.add(made)
        return made

    def add(self, watcher: Watcher) -> None:
        """Tell this one as well, from the next message on."""
        self.watchers.append(watcher)
        self._renew()

    def remove(self, watcher: Watcher) -> None:
        """Tell this one nothing any more; may be called twice."""
        if watcher in self.watchers:
            self.watchers.remove(watcher)
            self._renew()

    def _renew(self) -> None:
        for connection in self.connections:
            connection.renew()
