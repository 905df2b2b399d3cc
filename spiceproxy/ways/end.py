"""What the relay has of a WebSocket; without the libraries for one, which are imported with the first."""

import socket

from spiceproxy import sockets


class WebSocketEnd(socket.socket):
    """The relay's end of the pair, with the addresses of the WebSocket's connection."""

    target = "/"
    _own: tuple[str, int]
    _peer: tuple[str, int]

    @classmethod
    def pair(cls, behind: socket.socket) -> "tuple[WebSocketEnd, socket.socket]":
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


class HandshakeError(Exception):
    """There will be no WebSocket; the peer has been told, if it could be."""
