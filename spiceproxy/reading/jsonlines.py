"""JSON: one object a line. The format is documented in docs/reading.md; `v` changes when a meaning does."""

from typing import Any, Final

import msgspec

from spiceproxy.capture.messages import Happening
from spiceproxy.reading.decode import MessageView, entry_json

VERSION: Final = 1


class MessageLine(msgspec.Struct, omit_defaults=True, rename={"from_": "from"}, gc=False):
    """One message."""

    v: int
    time: float
    time_ns: str
    number: int
    session: str | None
    connection: str
    leg: str | None
    hop: int | None
    channel: str | None
    from_: str
    id: int
    name: str
    size: int
    fields: dict[str, Any]
    error: str | None = None
    trailing: str | None = None
    inside: list[dict[str, Any]] | None = None


class JsonLines:
    """Makes the lines.

    Args:
        bulk: Images and the like in full.
    """

    def __init__(self, *, bulk: bool = False) -> None:
        self._bulk = bulk
        self._encode = msgspec.json.Encoder().encode

    def message(self, view: MessageView) -> bytes:
        """The line of one message, without its end."""
        captured = view.captured
        time_ns, connection, message = captured.time_ns, captured.connection, captured.message
        fields, error, trailing = view.json()
        inside = view.inside
        return self._encode(
            MessageLine(
                1,
                time_ns / 1e9,
                str(time_ns),
                captured.number,
                connection.session,
                connection.id,
                connection.leg,
                connection.hop,
                connection.channel,
                message.side.value,
                message.id,
                view.name,
                message.size,
                fields,
                error,
                trailing.hex() if trailing else None,
                [entry_json(entry, bulk=self._bulk) for entry in inside] if inside else None,
            )
        )

    def happening(self, happening: Happening) -> bytes:
        """The line of something that is no message."""
        connection, time_ns = happening.connection, happening.time_ns
        return self._encode(
            {
                "v": VERSION,
                "time": time_ns / 1e9,
                "time_ns": str(time_ns),
                "event": happening.event,
                "session": connection.session,
                "connection": connection.id,
                "leg": connection.leg,
                "hop": connection.hop,
                "channel": connection.channel,
                **happening.fields,
            }
        )
