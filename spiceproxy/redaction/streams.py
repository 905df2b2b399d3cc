"""What may stay of the streams inside messages: agent, usbredir, webdav and smartcard messages, over borders of messages.

The decoder's own streams put the inner messages together. Here they are watched: where each byte of an inner message
came from is remembered until the message is whole or given up, and then what may be known of it goes there. What is
never put together stays out.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from dissectors.channels import ChannelType
from dissectors.fields import read
from dissectors.message import MessageSpec
from dissectors.side import Side
from dissectors.smartcard_channel import SmartcardData
from dissectors.usbredir import HEADER_32, HEADER_64, HEADER_SIZE_32, usbredir_layout
from dissectors.vd_agent import HEADER, agent_layout
from dissectors.vd_agent_names import AgentCap, AgentMessage
from dissectors.vscard import VSC_MESSAGES
from dissectors.webdav_mux import FRAME
from dissectors.webdav_mux import HEADER as WEBDAV_HEADER
from spiceproxy.protocol.payload.agent import AgentCapabilities, AgentStream
from spiceproxy.protocol.payload.guest_port import MAX_SEARCHED, chunks_in
from spiceproxy.protocol.payload.inner import MAX_KEPT, Found, Inner
from spiceproxy.protocol.payload.main import MainPayload
from spiceproxy.protocol.payload.stream import PacketStream
from spiceproxy.protocol.payload.usbredir import Hellos, UsbredirPayload, UsbredirStream
from spiceproxy.protocol.payload.vmc import VmcPayload
from spiceproxy.protocol.payload.vscard import VscardPayload
from spiceproxy.protocol.payload.webdav import WebdavPayload, WebdavStream
from spiceproxy.reading.inside import Looker
from spiceproxy.redaction.bodies import Pieces
from spiceproxy.redaction.desk import Bytes, Desk, Region, block_in
from spiceproxy.redaction.kinds import Kind

MAX_PIECES: Final = 8192
"""Pieces of a message under way that are remembered; one that is cut finer is not shown."""

_VMC_DATA, _VMC_COMPRESSED = 101, 102
_VSCARD_DATA_AT: Final = 12  # type, reader_id, length
_UNREAD_AGENT: Final[Mapping[int, Kind]] = {
    AgentMessage.CLIPBOARD: Kind.CLIPBOARD,
    AgentMessage.FILE_XFER_START: Kind.FILES,
    AgentMessage.FILE_XFER_DATA: Kind.FILES,
}


class _Watched(PacketStream):
    """A stream that remembers where its bytes came from."""

    kind: Kind

    def watch(self, desk: Desk) -> None:
        """Begin to watch."""
        self._desk = desk
        self._sources: deque[tuple[int, int, Region, int]] = (
            deque()
        )  # inner offset, size, region, offset in it
        self._total = 0  # bytes of the stream so far
        self._begin = 0  # inner offset of the message under way
        self._body_at = 0

    def feed(self, data: bytes, found: Found) -> None:
        desk = self._desk
        if self._header is None and not self._head:
            self._begin = self._total
        self._sources.append((self._total, len(data), desk.region, 0))
        self._total += len(data)
        desk.fed(self.kind, len(data))
        super().feed(data, found)
        under_way = self._header is not None or bool(self._head)
        if (
            under_way
            and self._header is not None
            and (self._size > MAX_KEPT or len(self._sources) > MAX_PIECES)
        ):
            under_way = False  # it will never be read, so nothing more is said of it
        self._settle(self._begin if under_way else self._total)

    def restart(self, why: str, found: Found) -> None:
        super().restart(why, found)
        self._settle(self._total)

    def _open(self, head: bytes) -> tuple[dict[str, Any], int]:
        header, size = super()._open(head)  # type: ignore[safe-super]  # the stream's own
        spec = self._header_spec(head)
        self._publish(self._begin, self._desk.bodies.fields(spec.schema, header, head))
        self._desk.told(self.kind, len(head))
        self._body_at = self._begin + len(head)
        if size > MAX_KEPT:
            self._count(header, size)
        return header, size

    def _close(self, found: Found) -> None:
        end = self._body_at + self._size
        super()._close(found)
        self._begin = end

    def _read(self, header: dict[str, Any], body: bytes) -> Inner:
        spec = self._spec(header, body)
        inner = super()._read(header, body)  # type: ignore[safe-super]  # the stream's own
        if inner.error is not None or spec is None:
            self._count(header, len(body))
        else:
            self._publish(self._body_at, self._desk.bodies.fields(spec.schema, inner.fields, body))
            trailing = len(inner.trailing)
            self._desk.told(self.kind, len(body) - trailing)
        return inner

    def _count(self, header: dict[str, Any], size: int) -> None:
        """A message is left out as a whole."""
        self._desk.bodies.account.add(self._kind_of(header), size)
        self._desk.told(self.kind, size)

    def _kind_of(self, header: dict[str, Any]) -> Kind:  # noqa: ARG002 - the agent's messages differ
        return self.kind

    def _header_spec(self, head: bytes) -> MessageSpec:
        raise NotImplementedError

    def _spec(self, header: dict[str, Any], body: bytes) -> MessageSpec | None:
        raise NotImplementedError

    def _publish(self, start: int, pieces: Pieces) -> None:
        """Put what may be known where it came from."""
        for at, data in pieces:
            begin, end = start + at, start + at + len(data)
            for inner, size, region, offset in self._sources:
                first, last = max(begin, inner), min(end, inner + size)
                if first < last:
                    region.put(offset + first - inner, data[first - begin : last - begin])

    def _settle(self, to: int) -> None:
        """All that is to be said before this offset has been said."""
        sources = self._sources
        while sources and sources[0][0] + sources[0][1] <= to:
            _, size, region, _ = sources.popleft()
            region.settled(size)


class _Agent(_Watched, AgentStream):
    kind = Kind.AGENT

    def _header_spec(self, head: bytes) -> MessageSpec:  # noqa: ARG002 - there is one
        return HEADER

    def _kind_of(self, header: dict[str, Any]) -> Kind:
        return _UNREAD_AGENT.get(header["type"], self.kind)

    def _spec(self, header: dict[str, Any], body: bytes) -> MessageSpec | None:
        both = self._capabilities.both() or 0
        return agent_layout(
            header["type"],
            len(body),
            selection=bool(both & 1 << AgentCap.CLIPBOARD_SELECTION),
            grab_serial=bool(both & 1 << AgentCap.CLIPBOARD_GRAB_SERIAL),
        )


class _Usb(_Watched, UsbredirStream):
    kind = Kind.USB

    def _header_spec(self, head: bytes) -> MessageSpec:
        return HEADER_32 if len(head) == HEADER_SIZE_32 else HEADER_64

    def _spec(self, header: dict[str, Any], body: bytes) -> MessageSpec | None:  # noqa: ARG002 - the type tells
        return usbredir_layout(header["type"], caps=self._hellos.caps)


class _Frames(_Watched, WebdavStream):
    kind = Kind.WEBDAV

    def _header_spec(self, head: bytes) -> MessageSpec:  # noqa: ARG002 - there is one
        return WEBDAV_HEADER

    def _spec(self, header: dict[str, Any], body: bytes) -> MessageSpec | None:  # noqa: ARG002 - there is one
        return FRAME


class AgentWatcher(MainPayload):
    """The main channel's agent."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._watched = {side: _Agent(self._capabilities, side) for side in Side}
        for stream in self._watched.values():
            stream.watch(desk)
        self._streams = {**self._watched}

    def guest_port(self, data: bytes) -> Pieces:
        """What may stay of bytes that the guest's agent has not read: the part of MIGRATE_DATA."""
        pieces: Pieces = []
        if len(data) > MAX_SEARCHED:
            return pieces
        capabilities = AgentCapabilities(self._capabilities.both())
        streams: dict[int | None, _Agent] = {}
        found = Found(AgentStream.protocol)
        desk = Desk(self._desk.bodies.uncounted())  # MIGRATE_DATA counts for itself
        for port, _, start, end in chunks_in(data):
            head = max(0, start - 8)
            pieces.append((head, data[head:start]))
            stream = streams.get(port)
            if stream is None:
                stream = streams[port] = _Agent(capabilities, None)
                stream.watch(desk)
            desk.region = Bytes(pieces, start)
            stream.feed(data[start:end], found)
        return pieces


class _BlockMixin(VmcPayload):
    """Channels whose messages may be compressed."""

    _desk: Desk

    def _feed_compressed(self, stream: PacketStream, body: bytes, found: Found) -> None:
        block = block_in(self._desk, body)
        if block is None or stream.is_lost:
            if block is not None:
                block.finish()
            super()._feed_compressed(stream, body, found)
            return
        kept, self._desk.region = self._desk.region, block
        super()._feed_compressed(stream, body, found)
        self._desk.region = kept


class _Usbredir(_BlockMixin, UsbredirPayload):
    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        hellos = Hellos()
        watched = {side: _Usb(hellos, side) for side in Side}
        for stream in watched.values():
            stream.watch(desk)
        self._streams = {**watched}


class _Webdav(_BlockMixin, WebdavPayload):
    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        watched = {side: _Frames() for side in Side}
        for stream in watched.values():
            stream.watch(desk)
        self._streams = {**watched}


class _Port:
    """A port: what its bytes mean only a program of the guest knows."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def message(self, side: Side, message_id: int, body: bytes) -> list[Inner]:  # noqa: ARG002 - the same both ways
        """Take a message."""
        plan = self._desk.bodies.plan
        if message_id == _VMC_DATA:
            if plan.keeps(Kind.PORT):
                self._desk.region.put(0, body)
            else:
                self._desk.bodies.account.add(Kind.PORT, len(body))
        elif message_id == _VMC_COMPRESSED:
            block = block_in(self._desk, body)
            if block is not None:
                if plan.keeps(Kind.PORT):
                    block.keep()
                else:
                    self._desk.bodies.account.add(Kind.PORT, block.size)
                block.finish()
        return []


class _Vscard(VscardPayload):
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def message(self, side: Side, message_id: int, body: bytes) -> list[Inner]:
        inners = super().message(side, message_id, body)
        bodies = self._desk.bodies
        for inner in inners:
            data = read(SmartcardData, body)[0]["data"]
            spec = VSC_MESSAGES.get(inner.fields["header"]["type"])
            if spec is None or inner.error is not None:
                bodies.account.add(Kind.SMARTCARD, len(data))
                continue
            for at, piece in bodies.fields(spec.schema, inner.fields, data):
                self._desk.region.put(_VSCARD_DATA_AT + at, piece)
            bodies.account.add(Kind.UNREAD, len(inner.trailing))
        return inners


_WATCHERS: Final[Mapping[int, Callable[[Desk], Looker]]] = {
    ChannelType.MAIN: AgentWatcher,
    ChannelType.SMARTCARD: _Vscard,
    ChannelType.USBREDIR: _Usbredir,
    ChannelType.WEBDAV: _Webdav,
}


def watcher(desk: Desk, channel_type: int) -> Looker:
    """Make the watcher of a channel; for `spiceproxy.reading.inside.Inside`."""
    return _WATCHERS.get(channel_type, _Port)(desk)
