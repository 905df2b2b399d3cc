"""What has to be settled before the relay reads from a client: where it goes, and what its bytes are wrapped in."""

import socket
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import trio

from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.destinations import Listener, Way
from spiceproxy.eventlog import EventLog
from spiceproxy.relay.fairness import Fairness
from spiceproxy.tls.ends import Peer, Tls, begins_with_handshake
from spiceproxy.tls.stream import TlsSocket
from spiceproxy.ways.allowing import default
from spiceproxy.ways.carrying import carry
from spiceproxy.ways.end import HandshakeError
from spiceproxy.ways.inside_tls import Subjects
from spiceproxy.ways.mode import Mode, WaysIn
from spiceproxy.ways.original import original_destination
from spiceproxy.ways.own import OwnConnections

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


_TURNED_AWAY: Final = (trio.TooSlowError, _RefusedError, HandshakeError, OSError)


class Entrance:
    """The door of a proxy.

    Args:
        ways: What the user said.
        listens: Where clients come to.
        tls: Shows clients certificates, where they come with TLS.
        subjects: Makes the ways of clients that speak TLS to their server; None: that is passed on unread.
        timeout_s: For all that comes before a link message, and its beginning.
        own: Our ends of connections to servers.
        nursery: Where WebSockets are carried.
        fairness: Says how much of the processor these may use.
    """

    def __init__(
        self,
        ways: WaysIn,
        listens: Iterable[Address],
        tls: Tls | None,
        subjects: Subjects | None,
        timeout_s: float,
        own: OwnConnections,
        nursery: trio.Nursery,
        fairness: Fairness,
    ) -> None:
        self._fairness = fairness
        self._ways, self._subjects, self._timeout_s, self._nursery = ways, subjects, timeout_s, nursery
        self._tls, self._own = tls, own
        self._allowed = ways.allowed if ways.allowed is not None else default(listens)

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
        came, admitted = accepted, None
        try:
            with trio.fail_after(self._timeout_s):
                if self._ways.mode is Mode.CONNECT and listener.way.tls:
                    came = await self._take_off_tls(accepted)
                admitted = await self._admit(came, listener)
        except _TURNED_AWAY as error:
            await self._turn_away(came, error, log)
        finally:
            if admitted is None and came is not accepted:
                sockets.close(came)
        return admitted

    async def unwrap(self, secured: TlsSocket, log: EventLog) -> socket.socket | None:
        """Say what the relay is to read from, where TLS of a client ends here: there may be a WebSocket in it.

        Args:
            secured: As it is after the handshake.
            log: The connection's log.

        Returns:
            None if the client is not let in; it has been told and logged.
        """
        try:
            with trio.fail_after(self._timeout_s):
                if await _peek(secured) != _WEBSOCKET:
                    return secured
                return await self._websocket(secured)
        except _TURNED_AWAY as error:
            await self._turn_away(secured, error, log)
            return None

    async def _turn_away(self, client: socket.socket, error: Exception, log: EventLog) -> None:
        if isinstance(error, trio.TooSlowError):
            reason = f"no link message within {self._timeout_s:g} s"
        else:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        log.warning("link_failed", by="client", reason=reason)
        if isinstance(error, _RefusedError | HandshakeError):
            await _linger(client)

    async def _take_off_tls(self, accepted: socket.socket) -> TlsSocket:
        """What a client says to a CONNECT proxy in TLS."""
        assert self._tls is not None  # noqa: S101  nothing listens for TLS without
        if not await begins_with_handshake(accepted):
            raise _RefusedError("no TLS handshake, on a port for TLS")
        here = sockets.local_address(accepted)
        return await self._tls.accept(accepted, Peer(here, None), here.machine, door=True)

    async def _websocket(self, client: socket.socket) -> socket.socket:
        from spiceproxy.ways import websocket

        return await websocket.accept(client, self._nursery, self._ways.origins, self._fairness)

    async def _admit(self, accepted: socket.socket, listener: Listener) -> tuple[socket.socket, Listener]:
        mode = self._ways.mode
        if mode is Mode.CONNECT:
            listener = replace(listener, way=Way(await self._connect_request(accepted)))
        elif mode is Mode.TRANSPARENT:
            target = original_destination(accepted, listener.address.port)
            if target is None:
                raise _RefusedError(
                    "was not redirected here: in transparent mode nobody connects to the proxy itself"
                )
            listener = replace(listener, way=Way(target))
        if listener.way.tls or listener.way.unread:
            return accepted, listener
        first = await _peek(accepted)
        # Known by now, if it is ours that has sent something.
        if mode is Mode.TRANSPARENT and sockets.peer_address(accepted) in self._own:
            raise _RefusedError(
                "comes from this proxy itself, since the kernel brings back our own connections: "
                "`run --local`, or run as the user of `nft --proxy-user`"
            )
        if first == _WEBSOCKET:
            return await self._websocket(accepted), listener
        if not mode.rewrites and first[:1] == bytes([_TLS_HANDSHAKE]):
            server, subjects = listener.server, self._subjects
            way = Way(server, unread=True) if subjects is None else subjects.way(server)
            listener = replace(listener, way=way)
            if isinstance(accepted, TlsSocket):  # TLS to the server in TLS to us
                accepted = carry(accepted, self._nursery)
        return accepted, listener

    async def _connect_request(self, accepted: socket.socket) -> Address:
        from spiceproxy.ways.http_connect import ConnectRequest, Refused

        proxmox = self._ways.upstream is not None
        request = ConnectRequest(self._allowed, self._ways.credentials, proxmox=proxmox)
        # What follows the request is the client's link message: it stays where it is.
        flags = 0 if isinstance(accepted, TlsSocket) else socket.MSG_PEEK
        while True:
            await sockets.wait_readable(accepted)
            try:
                data = accepted.recv(_READ_BYTES, flags)
            except BlockingIOError:
                continue
            taken, result = request.receive(data)
            if isinstance(accepted, TlsSocket):
                accepted.put_back(data[taken:])
            else:
                accepted.recv(taken)
            if result is not None:
                break
        await sockets.send_all(accepted, request.answer(result))
        if isinstance(result, Refused):
            raise _RefusedError(result.reason)
        return result.target


async def _peek(connection: socket.socket) -> bytes:
    """The first bytes, which stay there; fewer only at the end of the stream."""
    if isinstance(connection, TlsSocket):
        return await connection.peek(_FIRST_BYTES)
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
