"""Which connections that come in were made by the proxy itself: rules of the kernel that catch too much bring them back."""

import os
import socket
from typing import Final

from spiceproxy import sockets
from spiceproxy.address import Address

# Beyond so many those that are closed are looked for and forgotten.
_MANY: Final = 1024


class OwnConnections:
    """Our ends of connections to servers, as long as they are open.

    A socket may become another object, of TLS for instance; descriptor and inode stay.
    """

    def __init__(self) -> None:
        self._known: dict[Address, tuple[int, int]] = {}
        self._limit = _MANY

    def add(self, connection: socket.socket) -> None:
        """Remember a connection that was made just now."""
        if len(self._known) >= self._limit:
            self._known = {address: which for address, which in self._known.items() if _is_open(*which)}
            self._limit = max(_MANY, 2 * len(self._known))
        descriptor = connection.fileno()
        self._known[sockets.local_address(connection)] = descriptor, os.fstat(descriptor).st_ino

    def __contains__(self, address: Address) -> bool:
        """Whether this is the end of one of them."""
        return (which := self._known.get(address)) is not None and _is_open(*which)


def _is_open(descriptor: int, inode: int) -> bool:
    try:
        return os.fstat(descriptor).st_ino == inode
    except OSError:
        return False
