"""What the relay has of a connection that is wrapped in something; without the libraries for that, which are late.

The relay moves bytes between sockets. What is wrapped is carried to a socket pair by a task of its own, and the relay gets
the other end, which has the addresses of the connection behind it.
"""

import errno
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

import trio

from spiceproxy import sockets
from spiceproxy.tls.stream import TlsSocket

_READ_BYTES: Final = 256 * 2**10
# After one direction has ended, for the other; the relay waits as long (relay.HALF_CLOSED_IDLE_S).
_END_S: Final = 60.0
# The value of SO_LINGER with which closing is a reset.
LINGER_NONE: Final = struct.pack("ii", 1, 0)
_HEAD_BYTES: Final = 5  # of a TLS record: type, version, size
_CONTENT_TYPES: Final = range(20, 24)  # change_cipher_spec, alert, handshake, application_data


class CarriedEnd(socket.socket):
    """The relay's end of the pair, with the addresses of the connection behind.

    A reset goes through, which a pair by itself does not know: `broken` says that the stream's end is none, and the bridge
    looks whether this end was told not to linger (`cut`).
    """

    _own: tuple[str, int]
    _peer: tuple[str, int]
    broken = cut = False

    @classmethod
    def pair(cls, behind: socket.socket) -> tuple[Self, socket.socket]:
        """Two connected sockets; the first is to be the relay's."""
        here, there = socket.socketpair()
        end = cls(fileno=here.detach())
        end._own, end._peer = sockets.local_address(behind), sockets.peer_address(behind)
        for each in (end, there):
            each.setblocking(False)
        return end, there

    def getsockname(self) -> tuple[str, int]:
        """Of the connection behind."""
        return self._own

    def getpeername(self) -> tuple[str, int]:
        """Of the connection behind."""
        return self._peer

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As of the connection behind."""
        count = super().recv_into(buffer, nbytes, flags)
        if not count and self.broken:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return count

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """As of the connection behind."""
        data = super().recv(bufsize, flags)
        if not data and self.broken:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return data

    def setsockopt(self, *arguments: Any) -> None:
        """As of the connection behind, as far as that is wanted."""
        self.cut = self.cut or tuple(arguments) == (socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        super().setsockopt(*arguments)


class WebSocketEnd(CarriedEnd):
    """What was in a WebSocket."""

    target = "/"


class HandshakeError(Exception):
    """There will be no WebSocket; the peer has been told, if it could be."""


class RecordEnds:
    """Finds where TLS records end in a stream of them (RFC 8446, 5.1). Pure."""

    def __init__(self) -> None:
        self._head, self._left = b"", 0
        self._lost = False

    def feed(self, data: bytes) -> list[int]:
        """Where records end in these bytes; nowhere if they are none."""
        ends, at = [], 0
        while at < len(data) and not self._lost:
            if not self._left:
                more = data[at : at + _HEAD_BYTES - len(self._head)]
                self._head += more
                at += len(more)
                if len(self._head) < _HEAD_BYTES:
                    break
                self._lost = self._head[0] not in _CONTENT_TYPES
                self._left, self._head = int.from_bytes(self._head[3:]), b""
            step = min(self._left, len(data) - at)
            at += step
            self._left -= step
            if not self._left:
                ends.append(at)
        return [] if self._lost else ends


def carry(secured: TlsSocket, nursery: trio.Nursery) -> CarriedEnd:
    """Have what is in a TLS connection as plain bytes, in which there may be TLS once more.

    No record that goes out holds parts of two that are inside: spice-gtk waits for the socket though there is more in its
    TLS below (see `relay.Pump`).

    Args:
        secured: The connection; it is the carrying task's from now on.
        nursery: Where that runs.

    Raises:
        OSError: The peer is gone; then it is closed.
    """
    try:
        end, there = CarriedEnd.pair(secured)
    except OSError:
        sockets.close(secured)
        raise
    nursery.start_soon(_carry, secured, there, end)
    return end


async def _carry(secured: TlsSocket, pair: socket.socket, end: CarriedEnd) -> None:
    records = RecordEnds()

    async def inwards() -> None:
        try:
            while data := await sockets.receive(secured, _READ_BYTES):
                await sockets.send_all(pair, data)
        except OSError:
            end.broken = True
            raise
        pair.shutdown(socket.SHUT_WR)

    async def outwards() -> None:
        while data := await sockets.receive(pair, _READ_BYTES):
            await secured.send_apart(memoryview(data), records.feed(data))
        if end.cut:
            secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
            nursery.cancel_scope.cancel()
        else:
            secured.shutdown(socket.SHUT_WR)

    async def one_way(way: Callable[[], Awaitable[None]]) -> None:
        try:
            await way()
            nursery.cancel_scope.deadline = trio.current_time() + _END_S
        except OSError:
            nursery.cancel_scope.cancel()  # a half is no use: both see the end

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one_way, inwards)
            nursery.start_soon(one_way, outwards)
    finally:
        sockets.close(secured, pair)
