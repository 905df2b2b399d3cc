"""The proxy's own connections to servers, through whatever lies between."""

import errno
import socket
from functools import partial

import trio

from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.destinations import Way
from spiceproxy.protocol.resolving import is_address
from spiceproxy.relay.fairness import Fairness
from spiceproxy.tls.ends import Reach, Tls
from spiceproxy.tls.stream import TlsSocket
from spiceproxy.ways.end import WebSocketEnd
from spiceproxy.ways.mode import OWN_MARK, Mode, WaysIn
from spiceproxy.ways.own import OwnConnections
from spiceproxy.ways.upstream import Upstream


class Dialer:
    """Connects to servers as the ways in want it.

    From below: TCP, or a unix socket; a tunnel of an HTTP proxy; TLS; a WebSocket.

    Args:
        ways: What the user said of them.
        first: The first server.
        timeout_s: For a connection and what comes before SPICE on it.
        nursery: Where WebSockets are carried, and TLS to an HTTP proxy.
        tls: Makes TLS, where a way has it.
        fairness: Says how much of the processor WebSockets may use.
    """

    def __init__(
        self,
        ways: WaysIn,
        first: Address,
        timeout_s: float,
        nursery: trio.Nursery,
        tls: Tls | None,
        fairness: Fairness,
    ) -> None:
        self._ways, self._first, self._timeout_s, self._nursery = ways, first, timeout_s, nursery
        self._tls, self._fairness = tls, fairness
        self.own = OwnConnections()
        """In transparent mode, where they may come back to us."""
        self._upstream = None if ways.upstream is None else Upstream(ways.upstream, nursery)

    async def connect(
        self, way: Way, client: socket.socket, secured: TlsSocket | None = None
    ) -> socket.socket:
        """Connect to a server for a client.

        Args:
            way: Which, and whether with TLS.
            client: The client's connection.
            secured: What `secured` has given for this way, if that was asked before.

        Raises:
            OSError: It cannot be reached; a timeout is a TimeoutError.
        """
        upstream: socket.socket
        if not way.server_tls:
            upstream = await self.reach(client)(way.server, self._timeout_s)
        else:
            upstream = secured or await self.secured(way, client, self._timeout_s)
        target = self._websocket(way.server, client)
        if target is None:
            return upstream
        from spiceproxy.ways import websocket

        try:
            with trio.fail_after(self._timeout_s):
                return await websocket.connect(upstream, way.server, target, self._nursery, self._fairness)
        except trio.TooSlowError:
            sockets.close(upstream)
            raise TimeoutError(errno.ETIMEDOUT, f"no WebSocket within {self._timeout_s:g} s") from None
        except BaseException:
            sockets.close(upstream)
            raise

    def server_end(self, server: Address, upstream: socket.socket) -> Address:
        """Where a server is, as packets would show it.

        Behind an HTTP proxy that may be nowhere known: then it has the proxy's address, and its own port.
        """
        peer = sockets.peer_address(upstream)
        if self._upstream is None:
            return peer
        return Address(server.host if is_address(server.host) else peer.host, server.port)

    async def secured(self, way: Way, client: socket.socket | None, timeout_s: float) -> TlsSocket:
        """Connect to a server as far as TLS.

        Raises:
            OSError: It cannot be reached, or is not the right one.
        """
        assert self._tls is not None  # noqa: S101  there is no such way without
        return await self._tls.connect(way.peer, timeout_s, reach=self.reach(client))

    def reach(self, client: socket.socket | None) -> Reach:
        """How a server is reached for a client, or for ourselves."""
        if self._upstream is not None:
            return self._upstream.connect
        mark = OWN_MARK if self._ways.local else None
        connect = partial(sockets.connect, source=self._source(client), mark=mark)
        if self._ways.mode is not Mode.TRANSPARENT:
            return connect

        async def remembered(address: Address, timeout_s: float) -> socket.socket:
            connection = await connect(address, timeout_s)
            self.own.add(connection)
            return connection

        return remembered

    def _source(self, client: socket.socket | None) -> str | None:
        """The address that a server is to see; None: our own."""
        if client is None or self._ways.mode is not Mode.TRANSPARENT or not self._ways.tproxy:
            return None
        return sockets.peer_address(client).host

    def _websocket(self, server: Address, client: socket.socket) -> str | None:
        """The path of a WebSocket, where the server is to be spoken to through one.

        That is the first server, if the user said so. Where a migration leads is a SPICE port, and those take both.
        A client that chose its server by itself chose WebSocket as well.
        """
        if self._ways.mode.rewrites:
            return self._ways.websocket if server == self._first else None
        return client.target if isinstance(client, WebSocketEnd) else None
