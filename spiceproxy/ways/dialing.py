"""The proxy's own connections to servers."""

import socket

import trio

from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.fairness import Fairness
from spiceproxy.ways.end import WebSocketEnd
from spiceproxy.ways.mode import Mode, WaysIn


class Dialer:
    """Connects to servers as the ways in want it.

    Args:
        ways: What the user said of them.
        first: The first server.
        timeout_s: For a connection and what comes before SPICE on it.
        nursery: Where WebSockets are carried.
        fairness: Says how much of the processor these may use.
    """

    def __init__(
        self, ways: WaysIn, first: Address, timeout_s: float, nursery: trio.Nursery, fairness: Fairness
    ) -> None:
        self._ways, self._first, self._timeout_s, self._nursery = ways, first, timeout_s, nursery
        self._fairness = fairness

    async def connect(self, server: Address, client: socket.socket) -> socket.socket:
        """Connect to a server for a client.

        Raises:
            OSError: It cannot be reached; a timeout is a TimeoutError.
        """
        upstream = await sockets.connect(server, self._timeout_s, source=self.source(client))
        target = self._websocket(server, client)
        if target is None:
            return upstream
        from spiceproxy.ways import websocket

        try:
            with trio.fail_after(self._timeout_s):
                return await websocket.connect(upstream, server, target, self._nursery, self._fairness)
        except trio.TooSlowError:
            sockets.close(upstream)
            raise TimeoutError(f"no WebSocket within {self._timeout_s:g} s") from None
        except BaseException:
            sockets.close(upstream)
            raise

    def source(self, client: socket.socket) -> str | None:
        """The address that a server is to see; None: our own."""
        keep = self._ways.mode is Mode.TRANSPARENT and self._ways.tproxy
        return sockets.peer_address(client).host if keep else None

    def _websocket(self, server: Address, client: socket.socket) -> str | None:
        """The path of a WebSocket, where the server is to be spoken to through one.

        That is the first server, if the user said so. Where a migration leads is a SPICE port, and those take both.
        A client that chose its server by itself chose WebSocket as well.
        """
        if self._ways.mode.rewrites:
            return self._ways.websocket if server == self._first else None
        return client.target if isinstance(client, WebSocketEnd) else None
