"""What a captured message says: decoded when somebody asks, once."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dissectors.errors import DissectionError
from dissectors.image_headers import header_of_image
from dissectors.plain import without_bulk
from dissectors.registry import Dissection, dissect, dissect_plain, lookup, message_name
from dissectors.side import Side
from spiceproxy.capture.messages import CapturedMessage, Happening
from spiceproxy.filter import MISSING
from spiceproxy.protocol.payload import Inner
from spiceproxy.reading.inside import Inside

NOBODYS_CHANNEL: Final = 0  # no channel has this type: every message of it is unknown
MAX_NAMES: Final = 4096  # kept at hand; a peer may send any id

_NOTHING: Final[dict[str, Any]] = {}


class Decoder:
    """Makes views of messages; keeps what is remembered from one message to the next.

    Args:
        bulk: Show images, sound and the like in full instead of as their length.
    """

    def __init__(self, *, bulk: bool = False) -> None:
        self.bulk = bulk
        self.inside = Inside()
        self._names: dict[int, str] = {}

    def name(self, captured: CapturedMessage) -> str:
        """The message's C name."""
        message = captured.message
        channel_type = captured.connection.channel_type or NOBODYS_CHANNEL
        key = channel_type << 17 | (message.side is Side.CLIENT) << 16 | message.id
        name = self._names.get(key)
        if name is None:
            name = message_name(channel_type, message.side, message.id)
            if len(self._names) < MAX_NAMES:
                self._names[key] = name
        return name

    def view(self, captured: CapturedMessage) -> "MessageView":
        """A view of this message. Every message has to come here, in order: some go on in the next."""
        return MessageView(self, captured, self.inside.take(captured))


class MessageView:
    """One message: what a filter asks, and what is shown."""

    __slots__ = ("_decoder", "_dissection", "_json", "captured", "inside", "name")

    def __init__(self, decoder: Decoder, captured: CapturedMessage, inside: list[Inner] | None) -> None:
        self._decoder, self.captured, self.inside = decoder, captured, inside
        self.name = decoder.name(captured)
        self._json: tuple[dict[str, Any], str | None, bytes] | None = None
        self._dissection: tuple[Dissection | None, str | None] | None = None

    def json(self) -> tuple[dict[str, Any], str | None, bytes]:
        """Fields ready for JSON, the error if there is one, and trailing bytes."""
        if self._json is None:
            captured = self.captured
            message, error = captured.message, captured.error
            if error is not None:
                self._json = _NOTHING, error, b""
            else:
                channel_type = captured.connection.channel_type or NOBODYS_CHANNEL
                try:
                    fields, trailing = dissect_plain(
                        channel_type, message.side, message.id, message.body, bulk=self._decoder.bulk
                    )
                    self._json = fields, None, trailing
                except DissectionError as undecoded:
                    self._json = _NOTHING, str(undecoded), b""
        return self._json

    def dissection(self) -> tuple[Dissection | None, str | None]:
        """Fields with the names of enums and flags; or None, and the error."""
        if self._dissection is None:
            captured = self.captured
            message, error = captured.message, captured.error
            found = None
            if error is None:
                try:
                    channel_type = captured.connection.channel_type or NOBODYS_CHANNEL
                    found = dissect(channel_type, message.side, message.id, message.body)
                except DissectionError as undecoded:
                    error = str(undecoded)
            self._dissection = found, error
        return self._dissection

    def shown_fields(self) -> dict[str, Any]:
        """Fields for people: with names of enums and flags, and bulk as its length unless all is asked for."""
        dissection, _ = self.dissection()
        if dissection is None:
            return _NOTHING
        message = self.captured.message
        spec = lookup(self.captured.connection.channel_type or NOBODYS_CHANNEL, message.side, message.id)
        if spec is None or self._decoder.bulk:
            return dissection.fields
        shown: dict[str, Any] = without_bulk(spec.schema, dissection.fields)
        return shown

    def image_headers(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """What the data of the message's images begin with: image type, and the header that its codec writes."""
        dissection, _ = self.dissection()
        for image in _images(dissection.fields if dissection is not None else None):
            try:
                header = header_of_image(image)
            except DissectionError as error:
                header = {"error": str(error)}
            if header:
                yield image["descriptor"]["type"], header

    @property
    def error(self) -> str | None:
        """Why the message could not be decoded, whoever decoded it first."""
        if self._dissection is not None:
            return self._dissection[1]
        return self.json()[1]

    def get(self, name: str) -> Any:
        """For a filter: the value of this name, or MISSING."""
        asked = _ASKED.get(name)
        value = MISSING if asked is None else asked(self)
        return MISSING if value is None else value


def _images(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every image inside the fields of a draw operation."""
    if isinstance(value, Mapping):
        if isinstance(value.get("descriptor"), Mapping) and "u" in value:
            yield value
        else:
            for each in value.values():
                yield from _images(each)


class HappeningView:
    """What happened, for a filter. Its fields are top-level names, as in the event log."""

    __slots__ = ("happening",)

    def __init__(self, happening: Happening) -> None:
        self.happening = happening

    def get(self, name: str) -> Any:
        """The value of this name, or MISSING."""
        happening = self.happening
        if name in happening.fields:
            return happening.fields[name]
        if name == "event":
            return happening.event
        if name == "time":
            return happening.time_ns / 1e9
        asked = _OF_CONNECTION.get(name)
        value = MISSING if asked is None else asked(happening.connection)
        return MISSING if value is None else value


def entry_json(entry: Inner, *, bulk: bool) -> dict[str, Any]:
    """What is inside a message, ready for JSON."""
    found: dict[str, Any] = {
        "protocol": entry.protocol,
        "name": entry.name,
        "size": entry.size,
        "fields": entry.plain(bulk=bulk),
    }
    if entry.error is not None:
        found["error"] = entry.error
    if entry.trailing:
        found["trailing"] = entry.trailing.hex()
    return found


def _trailing(view: MessageView) -> str | None:
    trailing = view.json()[2]
    return trailing.hex() if trailing else None


_OF_CONNECTION: Final[dict[str, Any]] = {
    "session": lambda connection: connection.session,
    "connection": lambda connection: connection.id,
    "leg": lambda connection: connection.leg,
    "hop": lambda connection: connection.hop,
    "channel": lambda connection: connection.channel,
}


def _through_connection(of: Any) -> Any:
    return lambda view: of(view.captured.connection)


_ASKED: Final[dict[str, Any]] = {
    **{name: _through_connection(of) for name, of in _OF_CONNECTION.items()},
    "time": lambda view: view.captured.time_ns / 1e9,
    "time_ns": lambda view: str(view.captured.time_ns),
    "from": lambda view: view.captured.message.side.value,
    "id": lambda view: view.captured.message.id,
    "name": lambda view: view.name,
    "size": lambda view: view.captured.message.size,
    "fields": lambda view: view.json()[0],
    "error": lambda view: view.error,
    "trailing": _trailing,
    "inside": lambda view: view.inside and [entry_json(entry, bulk=False) for entry in view.inside],
}

# What a filter may ask for: of messages, and of what else happens.
NAMES: Final = frozenset(
    {
        *_ASKED, "event", "by", "bytes_from_client", "bytes_from_server", "client", "client_caps", "code", "comment",
        "connection_id", "duration_s", "header", "lost", "messages_from_client", "messages_from_server", "note",
        "reason", "server", "server_caps",
    }
)  # fmt: skip
