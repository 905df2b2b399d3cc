"""A WebSocket on one side, plain bytes for the relay on the other (RFC 6455, subprotocol `binary`).

The relay moves bytes between sockets. So that its loop stays as it is, a WebSocket is carried to a socket pair by a task of
its own, and the relay gets the other end, which has the addresses of the connection behind it. wsproto does the protocol;
it hands out a frame's bytes as they come, so what a peer announces costs no memory.
"""

import contextlib
import errno
import socket
import time
from typing import Final
from urllib.parse import urlsplit

import trio
import wsproto
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.events import Event as WsEvent
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.relay.fairness import TURN_S, Fairness, Share, pause
from spiceproxy.ways.allowing import is_localhost_or_address
from spiceproxy.ways.end import LINGER_NONE, HandshakeError, WebSocketEnd

SUBPROTOCOL: Final = "binary"
READ_BYTES: Final = 256 * 2**10
# After a Close frame: time for the peer's own.
CLOSE_S: Final = 5.0


def may_connect(request: Request, origins: tuple[str, ...]) -> bool:
    """Whether a web page of this origin may: a browser lets any page connect to anything.

    Programs send no origin. A page of the same host may, if the host is an address or localhost: a name can be made to
    point here by whoever owns it. All others have to be in `origins`.
    """
    headers = dict(request.extra_headers)
    if (origin := headers.get(b"origin")) is None:
        return True
    text = origin.decode("latin-1")
    if text in origins:
        return True
    try:
        page, here = urlsplit(text).hostname, urlsplit(f"//{request.host}").hostname
    except ValueError:
        return False
    return page is not None and page == here and is_localhost_or_address(page)


async def accept(
    connection: socket.socket, nursery: trio.Nursery, origins: tuple[str, ...], fairness: Fairness
) -> WebSocketEnd:
    """Answer a client's handshake and carry what follows, in a task of `nursery`.

    The caller sees to a time limit, and closes `connection` if this fails.

    Raises:
        HandshakeError: It is not to be.
        OSError: The connection broke.
    """
    ws = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
    try:
        request = await _first_event(ws, connection)
        assert isinstance(request, Request)  # noqa: S101  wsproto's server begins with nothing else
        if not may_connect(request, origins):
            await sockets.send_all(connection, ws.send(RejectConnection(status_code=403)))
            raise HandshakeError("a web page of another origin (--allow-origin)")
        chosen = SUBPROTOCOL if SUBPROTOCOL in request.subprotocols else None
        await sockets.send_all(connection, ws.send(AcceptConnection(subprotocol=chosen)))
    except (RemoteProtocolError, UnicodeError) as error:
        hint = error.event_hint if isinstance(error, RemoteProtocolError) else None
        answer = hint if isinstance(hint, RejectConnection) else RejectConnection(status_code=400)
        await sockets.send_all(connection, ws.send(answer))
        raise HandshakeError(f"no WebSocket handshake: {error}") from None
    end, there = WebSocketEnd.pair(connection)
    end.target = request.target
    nursery.start_soon(_Bridge(ws, connection, there, end, fairness.share()).run)
    return end


async def connect(
    connection: socket.socket, server: Address, target: str, nursery: trio.Nursery, fairness: Fairness
) -> WebSocketEnd:
    """Make a WebSocket of a connection to a server, and carry what follows, in a task of `nursery`.

    The caller sees to a time limit, and closes `connection` if this fails.

    Raises:
        OSError: The server would not, or the connection broke.
    """
    ws = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    request = Request(host=str(server), target=target, subprotocols=[SUBPROTOCOL])
    try:
        await sockets.send_all(connection, ws.send(request))
        event = await _first_event(ws, connection)
    except (RemoteProtocolError, LocalProtocolError, HandshakeError) as error:
        raise OSError(errno.EPROTO, f"no WebSocket: {error}") from None
    if not isinstance(event, AcceptConnection):
        status = event.status_code if isinstance(event, RejectConnection) else "no"
        raise OSError(errno.EPROTO, f"no WebSocket: the server answered with {status} status")
    end, there = WebSocketEnd.pair(connection)
    nursery.start_soon(_Bridge(ws, connection, there, end, fairness.share()).run)
    return end


async def _first_event(ws: wsproto.WSConnection, connection: socket.socket) -> WsEvent:
    while True:
        data = await sockets.receive(connection, READ_BYTES)
        if not data:
            raise HandshakeError("closed before its WebSocket handshake was whole")
        ws.receive_data(data)
        if (event := next(ws.events(), None)) is not None:
            return event


class _Bridge:
    """Carries between a WebSocket and the pair, until both are over. Owns both sockets."""

    def __init__(
        self,
        ws: wsproto.WSConnection,
        connection: socket.socket,
        pair: socket.socket,
        end: WebSocketEnd,
        share: Share,
    ) -> None:
        self._ws, self._connection, self._pair = ws, connection, pair
        self._end, self._share = end, share
        self._sending = trio.Lock()  # pongs come from the task that reads
        self._peer_over = trio.Event()

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._to_relay)
                await self._to_peer()
                with trio.move_on_after(CLOSE_S):
                    await self._peer_over.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._share.over()
            sockets.close(self._connection, self._pair)

    async def _to_relay(self) -> None:
        try:
            data = b"-"
            while data and self._ws.state is not ConnectionState.CLOSED:
                data = await sockets.receive(self._connection, READ_BYTES)
                began = time.monotonic()
                self._ws.receive_data(data or None)
                for event in self._ws.events():
                    if not await self._take(event):
                        return
                    # A read may hold forty thousand empty frames.
                    if (used_s := time.monotonic() - began) >= TURN_S:
                        await self._give_way(used_s)
                        began = time.monotonic()
        except OSError:
            self._end.broken = True
        finally:
            self._peer_over.set()
            with contextlib.suppress(OSError):
                self._pair.shutdown(socket.SHUT_WR)

    async def _give_way(self, used_s: float) -> None:
        wait_s = self._share.use(min(used_s, 5 * TURN_S))  # more was that of others, while something was sent
        await pause(wait_s)

    async def _take(self, event: WsEvent) -> bool:
        """Do what an event asks for; whether more may come."""
        match event:
            case BytesMessage():
                await sockets.send_all(self._pair, memoryview(event.data))
            case TextMessage():
                await self._send(CloseConnection(CloseReason.UNSUPPORTED_DATA, "SPICE is binary"))
                return False
            case Ping():
                await self._send(event.response())
            case CloseConnection(
                code=CloseReason.ABNORMAL_CLOSURE
            ):  # the stream has ended without a Close frame
                # Browsers send one; spice-server never does, so its end is as good as that of a plain connection.
                self._end.broken = not self._ws.client
                return False
            case CloseConnection():  # or a broken frame, for which wsproto chooses code and reason
                await self._send(CloseConnection(event.code, event.reason))
                return False
        return True

    async def _to_peer(self) -> None:
        try:
            while data := await sockets.receive(self._pair, READ_BYTES):
                await self._send(BytesMessage(data))
            if self._end.cut:
                self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
                self._peer_over.set()
            else:
                await self._send(CloseConnection(CloseReason.NORMAL_CLOSURE))
        except OSError:
            pass  # the peer is gone, or the relay

    async def _send(self, event: WsEvent) -> None:
        """Send a frame, unless the WebSocket is closing: what the other side still has to say is lost then."""
        async with self._sending:
            try:
                data = self._ws.send(event)
            except LocalProtocolError:
                return
            await sockets.send_all(self._connection, data)
