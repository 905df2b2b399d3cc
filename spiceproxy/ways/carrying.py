"""TLS in TLS: what an HTTP proxy is told in TLS, in which there may be TLS to the server once more."""

import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from spiceproxy import sockets
from spiceproxy.tls.stream import TlsSocket
from spiceproxy.ways.end import LINGER_NONE, CarriedEnd

_READ_BYTES: Final = 256 * 2**10
# After one direction has ended, for the other; the relay waits as long (relay.HALF_CLOSED_IDLE_S).
_END_S: Final = 60.0
_HEAD_BYTES: Final = 5  # of a TLS record: type, version, size
_CONTENT_TYPES: Final = range(20, 24)  # change_cipher_spec, alert, handshake, application_data


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
