"""What the relay has of a connection that is wrapped in something; without the libraries for that, which are late.

The relay moves bytes between sockets. What is wrapped is carried to a socket pair by a task of its own, and the relay gets
the other end, which has the addresses of the connection behind it.
"""

import errno
import os
import socket
import struct
from typing import Any, Final, Self

from spiceproxy import sockets

# The value of SO_LINGER with which closing is a reset.
LINGER_NONE: Final = struct.pack("ii", 1, 0)


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
        """Two connected sockets; the first is to be the relay's.

        Raises:
            OSError: The peer is gone already.
        """
        own, peer = sockets.local_address(behind), sockets.peer_address(behind)
        here, there = socket.socketpair()
        end = cls(fileno=here.detach())
        end._own, end._peer = own, peer
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
