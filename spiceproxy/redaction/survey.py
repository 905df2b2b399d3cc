"""The first reading: every message of a capture is decoded, and what may be known of it goes into the store."""

import re
from collections.abc import Collection, Iterator
from functools import partial
from typing import BinaryIO, Final

from dissectors.fields import Record, read
from dissectors.link import HEADER_BYTES, MAGIC, PUB_KEY_BYTES, LinkMess, LinkReply
from dissectors.side import Side
from spiceproxy.capture.connections import Route
from spiceproxy.capture.events import Closed, Data, Gap, Opened, StreamEvent, Summary
from spiceproxy.capture.messages import CapturedMessage, Connection, Happening, read_messages
from spiceproxy.capture.streams import stream_events
from spiceproxy.errors import CaptureError, ProtocolError
from spiceproxy.protocol.framer import MAX_HEADER_BYTES, MINI_HEADER_BYTES
from spiceproxy.protocol.link import LinkPhase, Phase, Unit
from spiceproxy.reading.inside import CARRIERS, Inside
from spiceproxy.redaction.bodies import Bodies, GuestPort, Pieces
from spiceproxy.redaction.desk import Desk
from spiceproxy.redaction.kinds import Account, Kind
from spiceproxy.redaction.store import Store
from spiceproxy.redaction.streams import AgentWatcher, watcher

_LENGTH_BYTES: Final = 4
_MECHANISMS: Final = re.compile(
    rb"[A-Z0-9_,-]*"
)  # RFC 4422, section 3.1; spice-server frames lists by commas
_ERROR_BYTES: Final = 4  # in front of a link reply's key
# Stand where a header announces more than any message has, so that a reader loses its way there, too. What is there may be
# no header at all, but a piece of a secret: of a stream that somebody has changed, or that lacks what nobody misses.
_IMPOSSIBLE_MINI: Final = bytes(2) + b"\xff" * 4
_IMPOSSIBLE: Final = bytes(10) + b"\xff" * 4 + bytes(4)


def stream_number(connection: int, side: Side) -> int:
    """The number of a stream in the store."""
    return connection << 1 | (side is Side.SERVER)


class _Stream:
    """One direction of a connection."""

    __slots__ = ("base", "before", "head", "last", "number", "position", "seen")

    def __init__(self, number: int) -> None:
        self.number = number
        self.seen = 0  # bytes, also those that are not in the capture
        self.base = 0  # where framing was lost
        self.position = 0  # of the next message
        self.head: bytes | None = (
            b""  # the first bytes, until it is known whether they are those of a link message
        )
        self.before, self.last = (
            b"",
            b"",
        )  # the last bytes that came, and as many before them as a header may have

    def came(self, data: bytes) -> None:
        """Remember the last bytes."""
        self.seen += len(data)
        self.before = (
            (self.before + self.last)[-MAX_HEADER_BYTES:]
            if len(self.last) < MAX_HEADER_BYTES
            else self.last[-MAX_HEADER_BYTES:]
        )
        self.last = data

    def missing(self, size: int) -> None:
        """Bytes are not in the capture."""
        self.seen += size
        self.before, self.last, self.head = b"", b"", None


class _Streams:
    """Both, and the link phase as long as it lasts."""

    def __init__(self, connection: int, *, from_start: bool) -> None:
        self.of = {side: _Stream(stream_number(connection, side)) for side in Side}
        self.link: LinkPhase | None = LinkPhase() if from_start else None
        self.link_at = dict.fromkeys(Side, 0)


class _Body:
    """The body of the message that is being read, as the watchers of inner streams see it."""

    def __init__(self, store: Store, stream: int, at: int) -> None:
        self._store, self._stream, self._at = store, stream, at

    def put(self, at: int, data: bytes) -> None:
        """These bytes may be known."""
        self._store.put(self._stream, self._at + at, data)

    def settled(self, size: int) -> None:
        """Nothing to do: what was not put is zero."""


class Survey:
    """Reads a capture once.

    Args:
        store: Takes what may be known.
        bodies: Says what that is of a message.
        ports: As for `stream_events`.
    """

    def __init__(self, store: Store, bodies: Bodies, ports: Collection[int] = ()) -> None:
        self.routes: list[Route] = []
        """Which packets carry which connection."""
        self.summary = Summary()
        self._store, self._bodies, self._ports = store, bodies, ports
        self._account: Account = bodies.account
        self._desk = Desk(bodies)
        self._inside = Inside(partial(watcher, self._desk))
        self._streams: dict[int, _Streams] = {}

    def read(self, source: BinaryIO) -> CaptureError | None:
        """Read all of it.

        Returns:
            Why it could not be read to its end, if so.

        Raises:
            CaptureError: It is no capture.
        """
        damage = None
        try:
            events = stream_events(source, ports=self._ports, summary=self.summary, routes=self.routes)
            for item in read_messages(self._watched(events)):
                if type(item) is CapturedMessage:
                    self._message(item)
                else:
                    assert isinstance(item, Happening)  # noqa: S101  there is nothing else
                    self._happened(item)
        except CaptureError as error:
            if not self.summary.packets:
                raise
            damage = error
        self._desk.finish()
        self._store.flush_all()
        return damage

    # Bytes ------------------------------------------------------------------------------------------------

    def _watched(self, events: Iterator[StreamEvent]) -> Iterator[StreamEvent]:
        """The same events; what is known of positions, and of the link phase, comes from here."""
        for event in events:
            if type(event) is Opened:
                self._streams[event.connection] = _Streams(event.connection, from_start=event.from_start)
            elif type(event) is Data:
                self._data(event)
            elif type(event) is Gap:
                streams = self._streams[event.connection]
                streams.of[event.side].missing(event.size)
                streams.link = None
            yield event
            if type(event) is Closed and event.side is None:
                self._store.flush(stream_number(event.connection, Side.CLIENT))
                self._store.flush(stream_number(event.connection, Side.SERVER))

    def _data(self, event: Data) -> None:
        streams = self._streams[event.connection]
        stream = streams.of[event.side]
        if stream.head is not None:
            self._first(stream, event.data)
        stream.came(event.data)
        if streams.link is None:
            return
        try:
            for unit in streams.link.receive(event.side, event.data):
                self._unit(streams, streams.link, unit)
        except ProtocolError:
            streams.link = None
            return
        if streams.link.finished:
            streams.link = None

    def _first(self, stream: _Stream, data: bytes) -> None:
        """The first bytes of a stream tell that it is SPICE: magic, version and size of a link message, if that is it."""
        assert stream.head is not None  # noqa: S101  asked before
        head = stream.head = (stream.head + data)[:HEADER_BYTES]
        if head.startswith(MAGIC) or MAGIC.startswith(head):
            self._store.put(stream.number, 0, head)
        if len(head) == HEADER_BYTES or not MAGIC.startswith(head[: len(MAGIC)]):
            stream.head = None

    def _unit(self, streams: _Streams, link: LinkPhase, unit: Unit) -> None:
        """A piece of the link phase."""
        start = streams.link_at[unit.side]
        streams.link_at[unit.side] = start + len(unit.data)
        kind, pieces = self._unit_pieces(link, unit)
        self._put(streams.of[unit.side].number, start, pieces)
        kept = sum(len(data) for _, data in pieces)
        secret = len(unit.data) - kept
        if secret and any(unit.data):
            self._account.add(kind, secret)

    def _unit_pieces(self, link: LinkPhase, unit: Unit) -> tuple[Kind, Pieces]:
        data, phase = unit.data, unit.phase
        if phase is Phase.TICKET:
            return Kind.CREDENTIALS, []
        if phase is Phase.SASL_MECHLIST and _MECHANISMS.fullmatch(data[_LENGTH_BYTES:]):
            return Kind.CREDENTIALS, [(0, data)]
        if phase is Phase.SASL_MECHNAME and link.sasl_mechanism in link.sasl_mechanisms:
            return Kind.CREDENTIALS, [(0, data)]
        if phase is Phase.SASL_RESULT:
            return Kind.CREDENTIALS, [(0, data[: 2 * _LENGTH_BYTES])]
        if phase is Phase.SASL_SERVER_DATA:
            return Kind.CREDENTIALS, [(0, data[:_LENGTH_BYTES]), (len(data) - 1, data[-1:])]
        if phase.name.startswith("SASL"):
            return Kind.CREDENTIALS, [(0, data[:_LENGTH_BYTES])]
        if phase in {Phase.LINK_MESS, Phase.LINK_REPLY, Phase.ERROR_REPLY}:
            return self._link_block_pieces(data, LinkMess if phase is Phase.LINK_MESS else LinkReply)
        return Kind.UNREAD, [(0, data)]

    def _link_block_pieces(self, data: bytes, layout: Record) -> tuple[Kind, Pieces]:
        """Header, fields and capability words. What else is in a block nobody reads."""
        fields, size = read(layout, data[HEADER_BYTES:])
        caps = HEADER_BYTES + fields["caps_offset"]
        words = fields["num_common_caps"] + fields["num_channel_caps"]
        pieces = [(0, data[: HEADER_BYTES + size])]
        if words:
            pieces.append((caps, data[caps : caps + 4 * words]))
        if layout is LinkReply and not self._bodies.plan.keeps(Kind.ADDRESSES):
            key = HEADER_BYTES + _ERROR_BYTES
            pieces[0] = (0, data[:key])
            pieces.insert(1, (key + PUB_KEY_BYTES, data[key + PUB_KEY_BYTES : HEADER_BYTES + size]))
            return Kind.ADDRESSES, pieces
        return Kind.UNREAD, pieces

    def _put(self, stream: int, start: int, pieces: Pieces) -> None:
        for at, data in pieces:
            self._store.put(stream, start + at, data)

    # Messages ---------------------------------------------------------------------------------------------

    def _happened(self, item: Happening) -> None:
        connection = item.connection
        streams = self._streams.get(connection.number)
        if streams is None:
            return
        if item.event == "channel_linked":
            for side in Side:
                streams.of[side].position = connection.link.offset(side)
        elif item.event == "framing_lost":
            stream = streams.of[Side(item.fields["from"])]
            stream.base = stream.seen
            size = MAX_HEADER_BYTES if not connection.link.mini_header else MINI_HEADER_BYTES
            data = stream.before + stream.last
            at = stream.position - (stream.seen - len(data))
            if 0 <= at <= len(data) - size:  # it is there, and announces what cannot be
                self._store.put(
                    stream.number,
                    stream.position,
                    _IMPOSSIBLE_MINI if connection.link.mini_header else _IMPOSSIBLE,
                )
        elif item.event == "framing_found":
            stream = streams.of[Side(item.fields["from"])]
            stream.position = stream.base + item.fields["lost"]
        elif item.event == "connection_closed":
            del self._streams[connection.number]
            for stream in streams.of.values():
                self._store.flush(stream.number)

    def _message(self, captured: CapturedMessage) -> None:
        connection, message = captured.connection, captured.message
        stream = self._streams[connection.number].of[message.side]
        at = stream.position
        body_at = at + len(message.header)
        stream.position = body_at + message.size
        channel_type = connection.channel_type or 0
        self._account.messages += 1
        self._store.put(stream.number, at, message.header)
        if channel_type in CARRIERS:
            self._desk.region = _Body(self._store, stream.number, body_at)
            self._inside.take(captured)
        if captured.error is not None:
            self._account.undecoded += 1
            self._account.add(Kind.UNREAD, len(message.body))
            return
        redacted = self._bodies.message(
            channel_type,
            message.side,
            message.id,
            message.body,
            sub_list=message.sub_list,
            guest_port=self._guest_port(connection),
        )
        self._put(stream.number, body_at, redacted.pieces)

    def _guest_port(self, connection: Connection) -> GuestPort | None:
        """What looks into the bytes that the guest's agent has not read."""
        agent = connection.reading
        return agent.guest_port if isinstance(agent, AgentWatcher) else None
