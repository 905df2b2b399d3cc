"""What the relay has of a connection that is wrapped in something; without the libraries for that, which are late.

The relay moves bytes between sockets. What is wrapped is carried to a socket pair by a task of its own, and the relay gets
the other end, which has the addresses of the connection behind it.
"""

import socket
from typing import Self

import trio

from spiceproxy import sockets

_READ_BYTES = 256 * 2**10
# After one direction has ended, for the other.
_END_S = 60.0


class CarriedEnd(socket.socket):
    """The relay's end of the pair, with the addresses of the connection behind."""

    _own: tuple[str, int]
    _peer: tuple[str, int]

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


class WebSocketEnd(CarriedEnd):
    """What was in a WebSocket."""

    target = "/"


class HandshakeError(Exception):
    """There will be no WebSocket; the peer has been told, if it could be."""


def carry(secured: socket.socket, nursery: trio.Nursery) -> CarriedEnd:
    """Have what is in a TLS connection as plain bytes, in which there may be TLS once more.

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
    nursery.start_soon(_carry, secured, there)
    return end


async def _carry(secured: socket.socket, pair: socket.socket) -> None:
    async def one_way(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := await sockets.receive(source, _READ_BYTES):
                await sockets.send_all(sink, data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            nursery.cancel_scope.cancel()  # a half is no use: both see the end
        nursery.cancel_scope.deadline = trio.current_time() + _END_S

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one_way, secured, pair)
            nursery.start_soon(one_way, pair, secured)
    finally:
        sockets.close(secured, pair)
