"""What was said on the connections of a capture: stream events in, messages and happenings out.

Each connection goes through the link phase and its two directions through a framer, the same ones that the proxy uses
(`spiceproxy.protocol`). What a capture does not hold is said: once in words, and at every message that it cost.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

from dissectors.capabilities import capability_names
from dissectors.channels import ChannelType, channel_name
from dissectors.link import LinkError
from dissectors.side import Side
from spiceproxy.capture.events import Closed, Commented, Data, Endpoint, Gap, Opened, StreamEvent
from spiceproxy.capture.resync import Resync
from spiceproxy.capture.sessions import TELLING, CapturedSessions, Place
from spiceproxy.errors import ProtocolError
from spiceproxy.protocol.framer import Framer, Message
from spiceproxy.protocol.link import LinkPhase, Phase

# Bodies are kept whole up to here: an uncompressed frame of 4096x4096 pixels at 4 bytes. A longer one is shown with an
# error, its size and its first bytes.
MAX_BODY_BYTES: Final = 64 * 2**20


class Happening(NamedTuple):
    """What is worth a line and is no message. Names as in docs/events.md where the proxy says the same."""

    time_ns: int
    event: str
    connection: "Connection"
    fields: dict[str, Any]


class CapturedMessage(NamedTuple):
    """One message, with the time of the packet that made it whole."""

    number: int  # from 1, in the order in which they became whole
    time_ns: int
    connection: "Connection"
    message: Message
    packet: int  # number of that packet in the file
    error: str | None  # why the body is not whole


class Connection:
    """What is known of one connection."""

    __slots__ = (
        "channel", "channel_id", "channel_type", "client", "closed_by", "comment", "directions", "from_client",
        "from_server", "id", "leg", "link", "number", "opened_ns", "place", "reading", "server", "session",
    )  # fmt: skip

    def __init__(self, opened: Opened, number: int) -> None:
        self.number, self.id = number, f"c{number}"
        self.client: Endpoint = opened.client
        self.server: Endpoint = opened.server
        self.opened_ns, self.comment = opened.time_ns, opened.comment
        self.link = LinkPhase()
        self.place: Place | None = None
        self.session: str | None = None
        self.leg: str | None = None  # "source" or "destination"
        self.channel: str | None = None  # as "display:0"
        self.channel_type: int | None = None
        self.channel_id: int | None = None
        self.from_client, self.from_server = _Direction(), _Direction()
        self.directions = {Side.CLIENT: self.from_client, Side.SERVER: self.from_server}
        self.closed_by: str | None = None  # the side that began, or "capture"
        self.reading: Any = None  # whatever who decodes keeps beside a connection

    @property
    def hop(self) -> int | None:
        """Which server of the session this is; 0 is the first. None if the capture cannot tell."""
        place = self.place
        return place.hop if place is not None and place.certain else None


class _Direction:
    """One side's stream."""

    __slots__ = ("bytes", "closed", "framer", "gaps", "messages", "resync")

    def __init__(self) -> None:
        self.framer: Framer | None = None
        self.resync: Resync | None = None
        self.gaps = 0  # bytes of the current message that are not in the capture
        self.bytes = 0  # seen or missing
        self.messages = 0
        self.closed = False


def read_messages(
    events: Iterable[StreamEvent], sessions: CapturedSessions | None = None
) -> Iterator[CapturedMessage | Happening]:
    """Say what stream events mean, in order. Memory does not grow with their number.

    Args:
        events: From `spiceproxy.capture.streams`.
        sessions: Joins the connections; a new one by default.
    """
    reader = _Reader(sessions or CapturedSessions())
    connections = reader.connections
    count = 0
    for event in events:
        if isinstance(event, Commented):
            continue
        if not isinstance(event, Data):
            found: Iterable[CapturedMessage | Happening] = reader.other(event)
        else:
            number, time_ns, side, data, packet = event
            connection = connections.get(number)
            if connection is None:
                continue
            # Not directions[side]: an Enum's hash is a call.
            direction = connection.from_client if side is Side.CLIENT else connection.from_server
            direction.bytes += len(data)
            framer = direction.framer
            if framer is None:
                found = reader.unframed(connection, event)
            else:
                if framer.pending:
                    data = framer.pending + data
                try:
                    for message in framer.read(data):
                        count += 1
                        error = None
                        if len(message.body) != message.size:
                            error = _why_short(direction, message)
                        elif side is Side.SERVER and connection.channel_type == 1 and message.id in TELLING:
                            reader.told(connection, message, time_ns)
                        yield CapturedMessage(count, time_ns, connection, message, packet, error)
                except ProtocolError as broken:
                    yield reader.lose(connection, side, time_ns, broken.reason)
                continue
        for item in found:
            if type(item) is CapturedMessage:
                count += 1
                item = item._replace(number=count)  # noqa: PLW2901
            yield item


def _why_short(direction: _Direction, message: Message) -> str:
    missing, direction.gaps = direction.gaps, 0
    if missing:
        return f"{_bytes(missing)} of the body are not in the capture"
    return f"only the first {_bytes(len(message.body))} of the body are read"


class _Reader:
    """The connections of one capture."""

    def __init__(self, sessions: CapturedSessions) -> None:
        self.connections: dict[int, Connection] = {}
        self._sessions = sessions
        self._opened = 0

    def other(self, event: Opened | Gap | Closed) -> Iterator[CapturedMessage | Happening]:
        """What is not data."""
        if isinstance(event, Opened):
            self._opened += 1
            connection = self.connections[event.connection] = Connection(event, self._opened)
            yield Happening(event.time_ns, "connection_opened", connection, {
                "client": _address(event.client), "server": _address(event.server),
                **({"comment": event.comment} if event.comment else {}),
            })  # fmt: skip
            if not event.from_start:
                connection.link.phase = Phase.OPAQUE
                yield Happening(event.time_ns, "link_missing", connection, {
                    "reason": "the capture begins in the middle of this connection: channel, session and kind of "
                    "header cannot be known, so its messages are not read",
                })  # fmt: skip
            return
        known = self.connections.get(event.connection)
        if known is None:
            return
        if isinstance(event, Gap):
            yield from self._gap(known, event)
        else:
            yield from self._closed(known, event)

    def unframed(self, connection: Connection, event: Data) -> Iterator[CapturedMessage | Happening]:
        """Bytes of a side that is in its link phase, has lost its framing, or cannot be read."""
        direction = connection.directions[event.side]
        if direction.resync is not None:
            found = direction.resync.feed(event.data)
            if found is None:
                return
            direction.resync = None
            yield Happening(event.time_ns, "framing_found", connection, {
                "from": event.side.value, "reason": f"messages are read again after {_bytes(found.lost)}",
                "lost": found.lost,
            })  # fmt: skip
            direction.framer = self._framer(connection, event.side)
            yield from self._framed(connection, event._replace(data=found.data))
        elif not connection.link.finished:
            yield from self._link(connection, event)

    def told(self, connection: Connection, message: Message, time_ns: int) -> None:
        """A message that says what belongs together."""
        if connection.place is not None:
            self._sessions.heard(connection.place, message, time_ns)

    def lose(self, connection: Connection, side: Side, time_ns: int, reason: str) -> Happening:
        """Framing is lost on one side; look for it, and say so."""
        direction, link = connection.directions[side], connection.link
        assert connection.channel_type is not None  # noqa: S101  it had a framer
        if direction.framer is not None:
            direction.messages += direction.framer.messages
        direction.framer, direction.gaps = None, 0
        direction.resync = Resync(connection.channel_type, side, mini_header=link.mini_header)
        text = f"{reason}; where the next message begins is not known"
        return Happening(time_ns, "framing_lost", connection, {"from": side.value, "reason": text})

    # Link phase -----------------------------------------------------------------------------------

    def _link(self, connection: Connection, event: Data) -> Iterator[CapturedMessage | Happening]:
        link, time_ns = connection.link, event.time_ns
        try:
            link.receive(event.side, event.data)
        except ProtocolError as error:
            self._join(connection, time_ns)
            yield self._link_failed(connection, time_ns, error.side.value, error.reason)
            return
        self._join(connection, time_ns)
        if link.phase is Phase.DATA:
            yield self._linked(connection, time_ns)
            for side in Side:
                connection.directions[side].framer = self._framer(connection, side)
            for side in Side:
                if early := link.leftover(side):
                    yield from self._framed(connection, event._replace(side=side, data=early))
        elif link.phase is Phase.REFUSED:
            name = "unknown" if link.result is None else _error_name(link.result)
            fields = {"error": name, "code": link.result, **self._said(connection)}
            yield Happening(time_ns, "link_refused", connection, fields)
        elif link.phase is Phase.OPAQUE:
            reason = "a SASL security layer encrypts what follows: its messages cannot be read"
            if connection.place is not None and connection.channel_type == ChannelType.MAIN:
                connection.place.session.opaque = True
            yield Happening(
                time_ns, "connection_opaque", connection, {"reason": reason, **self._said(connection)}
            )

    def _join(self, connection: Connection, time_ns: int) -> None:
        """The link message names channel and session."""
        mess = connection.link.mess
        if mess is None or connection.place is not None:
            return
        connection.channel_type, connection.channel_id = mess.channel_type, mess.channel_id
        connection.channel = f"{channel_name(mess.channel_type)}:{mess.channel_id}"
        place = connection.place = self._sessions.join(
            mess,
            client=connection.client,
            server=connection.server,
            comment=connection.comment,
            time_ns=time_ns,
        )
        connection.session = place.session.id
        if place.certain:
            connection.leg = "destination" if place.hop else "source"

    def _linked(self, connection: Connection, time_ns: int) -> Happening:
        header = "mini" if connection.link.mini_header else "full"
        return Happening(time_ns, "channel_linked", connection, {"header": header, **self._said(connection)})

    def _said(self, connection: Connection) -> dict[str, Any]:
        """What the link phase told."""
        link, place = connection.link, connection.place
        said: dict[str, Any] = {
            "client": _address(connection.client),
            "server": _address(connection.server),
        }
        if place is not None and place.orphan:
            said["note"] = "the main channel of this session is not in the capture"
        if link.mess is not None:
            said["connection_id"] = link.mess.connection_id
        for key, block in (("client_caps", link.mess), ("server_caps", link.reply)):
            if block is not None:
                said[key] = capability_names(None, block.common_caps) + capability_names(
                    connection.channel_type, block.channel_caps
                )
        return said

    def _link_failed(self, connection: Connection, time_ns: int, by: str, reason: str) -> Happening:
        connection.link.phase = Phase.REFUSED
        return Happening(time_ns, "link_failed", connection, {"by": by, "reason": reason})

    # Messages -------------------------------------------------------------------------------------

    def _framer(self, connection: Connection, side: Side) -> Framer:
        return Framer(
            side,
            mini_header=connection.link.mini_header,
            wanted={},
            offset=connection.link.offset(side),
            keep=MAX_BODY_BYTES,
        )

    def _framed(self, connection: Connection, event: Data) -> Iterator[CapturedMessage | Happening]:
        """As the loop of `read_messages`, where speed does not matter."""
        direction = connection.directions[event.side]
        framer = direction.framer
        assert framer is not None  # noqa: S101  made just before
        try:
            for message in framer.read(framer.pending + event.data):
                yield self._message(connection, message, event.time_ns, event.packet)
        except ProtocolError as broken:
            yield self.lose(connection, event.side, event.time_ns, broken.reason)

    def _message(
        self, connection: Connection, message: Message, time_ns: int, packet: int
    ) -> CapturedMessage:
        error = None
        if not message.whole:
            error = _why_short(connection.directions[message.side], message)
        elif (
            message.side is Side.SERVER
            and connection.channel_type == ChannelType.MAIN
            and message.id in TELLING
        ):
            self.told(connection, message, time_ns)
        return CapturedMessage(0, time_ns, connection, message, packet, error)

    # Gaps and ends --------------------------------------------------------------------------------

    def _gap(self, connection: Connection, gap: Gap) -> Iterator[CapturedMessage | Happening]:
        link, side, time_ns = connection.link, gap.side, gap.time_ns
        direction = connection.directions[side]
        direction.bytes += gap.size
        if link.finished and link.phase is not Phase.DATA:
            return  # nothing here is read, as was said
        yield Happening(time_ns, "gap", connection, {
            "from": side.value, "size": gap.size, "reason": f"{_bytes(gap.size)} are not in the capture",
        })  # fmt: skip
        if not link.finished:
            phase = link.phase.value
            yield self._link_failed(
                connection, time_ns, side.value,
                f"{_bytes(gap.size)} are missing where the {phase} was due: channel, session or kind of header cannot "
                "be known, so its messages are not read",
            )  # fmt: skip
            return
        if direction.resync is not None:
            direction.resync.gap(gap.size)
        if (framer := direction.framer) is None:
            return
        inside = 0 if framer.pending else min(gap.size, framer.left)
        if inside:
            direction.gaps += inside
            if (message := framer.skip(inside)) is not None:
                yield self._message(connection, message, time_ns, 0)
        if inside < gap.size:
            yield self.lose(
                connection, side, time_ns, f"a header is among {_bytes(gap.size)} that are missing"
            )

    def _closed(self, connection: Connection, closed: Closed) -> Iterator[CapturedMessage | Happening]:
        sides = [closed.side] if closed.side is not None and not closed.reset else list(Side)
        by = closed.side.value if closed.side is not None else "capture"
        reason = "reset" if closed.reset else "closed" if closed.side else "the capture ends"
        connection.closed_by = connection.closed_by or by
        for side in sides:
            direction = connection.directions[side]
            if not direction.closed:
                direction.closed = True
                yield from self._cut(connection, side, closed.time_ns, reason)
        link = connection.link
        if not link.finished and (closed.reset or closed.side in {None, link.turn}):
            what = f"{reason} where the {link.phase.value} was due"
            yield self._link_failed(connection, closed.time_ns, by, what)
        if not all(direction.closed for direction in connection.directions.values()):
            return
        if not link.finished:
            yield self._link_failed(connection, closed.time_ns, by, f"closed before the {link.phase.value}")
        del self.connections[closed.connection]
        if connection.place is not None:
            self._sessions.left(connection.place, closed.time_ns)
        yield Happening(closed.time_ns, "connection_closed", connection, {
            "by": connection.closed_by, "reason": reason, "duration_s": round((closed.time_ns - connection.opened_ns) / 1e9, 6),
            **{f"messages_from_{s.value}": self._messages(connection, s) for s in Side},
            **{f"bytes_from_{s.value}": connection.directions[s].bytes for s in Side},
        })  # fmt: skip

    def _messages(self, connection: Connection, side: Side) -> int:
        direction = connection.directions[side]
        return direction.messages + (direction.framer.messages if direction.framer else 0)

    def _cut(
        self, connection: Connection, side: Side, time_ns: int, reason: str
    ) -> Iterator[CapturedMessage | Happening]:
        """One side's stream is over: what of it is not whole."""
        direction = connection.directions[side]
        framer = direction.framer
        if framer is None:
            if direction.resync is not None and direction.resync.skipped:
                text = f"the last {_bytes(direction.resync.skipped)} could not be read"
                yield Happening(time_ns, "stream_unread", connection, {"from": side.value, "reason": text})
            return
        left = framer.left
        if framer.pending:
            text = f"{reason} after {_bytes(len(framer.pending))} of a header"
            yield Happening(time_ns, "stream_cut", connection, {"from": side.value, "reason": text})
        elif (message := framer.cut()) is not None:
            error = f"{reason} before the last {_bytes(left)} of the body"
            yield CapturedMessage(0, time_ns, connection, message, 0, error)


def _address(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"


def _bytes(count: int) -> str:
    return f"{count} byte" if count == 1 else f"{count} bytes"


def _error_name(code: int) -> str:
    try:
        return f"SPICE_LINK_ERR_{LinkError(code).name}"
    except ValueError:
        return f"link_error_{code}"
