"""What has to be settled before the relay reads from a client: where it goes, and what its bytes are wrapped in."""

import socket
from dataclasses import replace
from typing import Final

import trio

from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.destinations import Listener, Way
from spiceproxy.eventlog import EventLog
from spiceproxy.fairness import Fairness
from spiceproxy.ways.allowing import default
from spiceproxy.ways.end import HandshakeError
from spiceproxy.ways.inside_tls import Subjects
from spiceproxy.ways.mode import Mode, WaysIn
from spiceproxy.ways.original import original_destination

_FIRST_BYTES: Final = 4
_WEBSOCKET: Final = (
    b"GET "  # as spice-server tells them apart on one port (reds.cpp, handle_read_header_done())
)
_TLS_HANDSHAKE: Final = 22  # RFC 8446, 5.1: the content type of a record
_READ_BYTES: Final = 4096
# A client that is refused gets this long to read why.
_LINGER_S: Final = 2.0


class _RefusedError(Exception):
    """The client does not come in; the text says why."""


class Entrance:
    """The door of a proxy.

    Args:
        ways: What the user said.
        listen: Where clients come to.
        subjects: Makes the ways of clients that speak TLS; None: TLS is passed on unread.
        timeout_s: For all that comes before a link message, and its beginning.
        nursery: Where WebSockets are carried.
        fairness: Says how much of the processor these may use.
    """

    def __init__(
        self,
        ways: WaysIn,
        listen: Address,
        subjects: Subjects | None,
        timeout_s: float,
        nursery: trio.Nursery,
        fairness: Fairness,
    ) -> None:
        self._fairness = fairness
        self._ways, self._subjects, self._timeout_s, self._nursery = ways, subjects, timeout_s, nursery
        self._allowed = ways.allowed if ways.allowed is not None else default(listen)

    async def admit(
        self, accepted: socket.socket, listener: Listener, log: EventLog
    ) -> tuple[socket.socket, Listener] | None:
        """Say what the relay is to read from, and where it leads.

        Args:
            accepted: As it was accepted. Whoever is given another socket has to close that one only.
            listener: Where it came in.
            log: The connection's log.

        Returns:
            None if the client is not let in; it has been told and logged.
        """
        try:
            with trio.fail_after(self._timeout_s):
                return await self._admit(accepted, listener)
        except trio.TooSlowError:
            reason = f"no link message within {self._timeout_s:g} s"
        except (_RefusedError, HandshakeError) as error:
            log.warning("link_failed", by="client", reason=str(error))
            await _linger(accepted)
            return None
        except OSError as error:
            reason = error.strerror or str(error)
        log.warning("link_failed", by="client", reason=reason)
        return None

    async def _admit(self, accepted: socket.socket, listener: Listener) -> tuple[socket.socket, Listener]:
        mode = self._ways.mode
        if mode is Mode.CONNECT:
            listener = replace(listener, way=Way(await self._connect_request(accepted)))
        elif mode is Mode.TRANSPARENT:
            target = original_destination(accepted)
            if target is None:
                raise _RefusedError(
                    "was not redirected here: in transparent mode nobody connects to the proxy itself"
                )
            listener = replace(listener, way=Way(target))
        if listener.way.tls or listener.way.unread:
            return accepted, listener
        first = await _peek(accepted)
        if first == _WEBSOCKET:
            from spiceproxy.ways import websocket

            end = await websocket.accept(accepted, self._nursery, self._ways.origins, self._fairness)
            return end, listener
        if not mode.rewrites and first[:1] == bytes([_TLS_HANDSHAKE]):
            server, subjects = listener.server, self._subjects
            way = Way(server, unread=True) if subjects is None else subjects.way(server)
            listener = replace(listener, way=way)
        return accepted, listener

    async def _connect_request(self, accepted: socket.socket) -> Address:
        from spiceproxy.ways.http_connect import ConnectRequest, Refused

        request = ConnectRequest(self._allowed, self._ways.credentials)
        while True:
            await trio.lowlevel.wait_readable(accepted)
            try:
                # What follows the request is the client's link message: it stays where it is.
                data = accepted.recv(_READ_BYTES, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            taken, result = request.receive(data)
            accepted.recv(taken)
            if result is not None:
                break
        await sockets.send_all(accepted, request.answer(result))
        if isinstance(result, Refused):
            raise _RefusedError(result.reason)
        return result.target


async def _peek(connection: socket.socket) -> bytes:
    """The first bytes, which stay there; fewer only at the end of the stream."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _FIRST_BYTES)
    try:
        while True:
            await trio.lowlevel.wait_readable(connection)
            try:
                return connection.recv(_FIRST_BYTES, socket.MSG_PEEK)
            except BlockingIOError:
                continue
    finally:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def _linger(connection: socket.socket) -> None:
    """Let the client read its answer: closing with unread bytes would reset the connection."""
    with trio.move_on_after(_LINGER_S):
        try:
            connection.shutdown(socket.SHUT_WR)
            while await sockets.receive(connection, _READ_BYTES):
                pass
        except OSError:
            pass
