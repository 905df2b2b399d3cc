"""Frames inside a webdav channel's stream, both directions."""

from typing import Any, ClassVar, Final

from dissectors.side import Side
from dissectors.webdav_mux import FRAME, HEADER, HEADER_SIZE
from spiceproxy.protocol.payload.inner import Found, Inner, note, take_apart
from spiceproxy.protocol.payload.stream import PacketStream
from spiceproxy.protocol.payload.vmc import VmcPayload

# From the server; the client's PORT_EVENT has the number of PORT_INIT. Source: spice-common spice.proto, PortChannel.
_PORT_INIT: Final = 201
_PORT_EVENT: Final = 202

_OPENED: Final = 0
_CLOSED: Final = 1


class WebdavStream(PacketStream):
    """One direction of the frames. They have no mark, so where nobody saw them begin nothing can be told."""

    protocol: ClassVar[str] = "webdav"

    def __init__(self) -> None:
        super().__init__()
        self.has_begun = False
        self._said = False

    def feed(self, data: bytes, found: Found) -> None:
        """Take the next bytes of the stream."""
        if self.has_begun:
            super().feed(data, found)
        elif data and not self._said:
            self._said = True
            found.add(note(self.protocol, "the stream is joined in the middle: no PORT_INIT was seen"))

    def restart(self, why: str, found: Found) -> None:
        """Begin anew with the next byte."""
        super().restart(why, found)
        self.has_begun = True

    def _header_size(self) -> int:
        return HEADER_SIZE

    def _open(self, head: bytes) -> tuple[dict[str, Any], int]:
        header = HEADER.dissect(head).fields
        return header, header["size"]

    def _name(self, header: dict[str, Any]) -> str:  # noqa: ARG002 - there is one kind
        return FRAME.name

    def _read(self, header: dict[str, Any], body: bytes) -> Inner:
        return take_apart(self.protocol, header, FRAME.id, FRAME, body)


class WebdavPayload(VmcPayload):
    """Frames of a webdav channel."""

    protocol: ClassVar[str] = WebdavStream.protocol

    def __init__(self) -> None:
        self._streams = {side: WebdavStream() for side in Side}

    def _stream(self, side: Side) -> PacketStream:
        return self._streams[side]

    def _event(self, side: Side, message_id: int, body: bytes, found: Found) -> None:
        if side is Side.CLIENT:
            return
        server, client = self._streams[Side.SERVER], self._streams[Side.CLIENT]
        if message_id == _PORT_INIT:
            # A migration target says it again, in the middle of the streams.
            for stream in (server, client):
                if not stream.has_begun:
                    stream.restart("PORT_INIT", found)
        elif message_id == _PORT_EVENT and body[:1] == bytes([_OPENED]):
            server.restart("PORT_EVENT", found)
            client.restart("PORT_EVENT", found)
        elif message_id == _PORT_EVENT and body[:1] == bytes([_CLOSED]):
            # The client may still send what it had begun to say; it stops when it has seen this.
            server.restart("PORT_EVENT", found)
