"""WebSockets on both sides: handshakes, frames however they come, ends, and sessions over a migration."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
import wsproto
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)

from spiceproxy.address import Address, parse_server
from spiceproxy.errors import UsageError
from spiceproxy.proxy import Proxy, ProxyConfig, open_proxy
from spiceproxy.relay.fairness import Fairness
from spiceproxy.simulate import Outcome
from spiceproxy.simulate.linking import Dial
from spiceproxy.ways import websocket
from spiceproxy.ways.allowing import Allowed
from spiceproxy.ways.mode import Mode, WaysIn
from spiceproxy.ways.original import original_destination
from tests.raw_peers import (
    AUTH_SPICE,
    MINI_CAPS,
    TICKET,
    RawProxy,
    link_mess,
    link_reply,
    message,
    raw_proxy,
    read_all,
    read_exactly,
    read_link_block,
)
from tests.ways.sessions import play


class WebSocketPeer:
    """A client or a server of a WebSocket, on a stream."""

    def __init__(self, stream: trio.SocketStream, kind: wsproto.ConnectionType) -> None:
        self.stream, self.ws = stream, wsproto.WSConnection(kind)
        self.data = bytearray()
        self.others: list[Event] = []

    async def send(self, event: Event) -> None:
        await self.stream.send_all(self.ws.send(event))

    async def next(self) -> list[Event]:
        with trio.fail_after(10):
            data = await self.stream.receive_some()
        self.ws.receive_data(data or None)
        return list(self.ws.events())

    async def exactly(self, size: int) -> bytes:
        """So many bytes of messages."""
        while len(self.data) < size:
            await self.hear()
        taken = bytes(self.data[:size])
        del self.data[:size]
        return taken

    async def hear(self) -> None:
        for event in await self.next():
            if isinstance(event, BytesMessage):
                self.data += event.data
            else:
                self.others.append(event)

    async def until(self, kind: type[Event]) -> Event:
        while not (found := [event for event in self.others if isinstance(event, kind)]):
            await self.hear()
        return found[0]


async def browser(
    it: RawProxy, *, origin: str | None = None, protocols: tuple[str, ...] = ("binary",)
) -> tuple[WebSocketPeer, Event]:
    """A client that has sent its handshake, and the answer."""
    peer = WebSocketPeer(await it.connect(), wsproto.ConnectionType.CLIENT)
    headers = [] if origin is None else [(b"Origin", origin.encode())]
    await peer.send(
        Request(host=str(it.proxy.address), target="/", subprotocols=list(protocols), extra_headers=headers)
    )
    (event, *_) = await peer.next()
    return peer, event


async def test_a_client_in_a_websocket_links_and_messages_pass_both_ways() -> None:
    async with raw_proxy() as it:
        peer, accepted = await browser(it)
        assert isinstance(accepted, AcceptConnection)
        assert accepted.subprotocol == "binary"
        mess = link_mess(2, caps=MINI_CAPS)
        for start in range(0, len(mess), 7):  # frames do not have to be what messages are
            await peer.send(BytesMessage(mess[start : start + 7]))
        server = await it.accept()
        assert await read_link_block(server) == mess
        await server.send_all(link_reply(caps=MINI_CAPS))
        assert await peer.exactly(len(link_reply(caps=MINI_CAPS))) == link_reply(caps=MINI_CAPS)
        await peer.send(BytesMessage(AUTH_SPICE + TICKET))
        assert await read_exactly(server, 132) == AUTH_SPICE + TICKET
        await server.send_all(bytes(4))
        assert await peer.exactly(4) == bytes(4)
        linked = await it.events.wait_for("channel_linked")
        assert linked["client"] == "{}:{}".format(*peer.stream.socket.getsockname())
        big = message(103, bytes(3_000_000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, big)
            assert await peer.exactly(len(big)) == big
        await peer.send(Ping(b"are you there"))
        assert (await peer.until(Pong)).payload == b"are you there"  # type: ignore[attr-defined]
        await peer.send(BytesMessage(message(1, b"abcd")))
        assert await read_exactly(server, 10) == message(1, b"abcd")
        await server.send_eof()
        closed = await peer.until(CloseConnection)
        assert isinstance(closed, CloseConnection)
        assert closed.code == 1000
        await peer.send(closed.response())
        assert await read_all(server) == b""
        await it.events.wait_for("channel_closed", by="server", reason="closed")


async def test_a_client_that_closes_its_websocket_ends_the_connection() -> None:
    async with raw_proxy() as it:
        peer, _ = await browser(it)
        await peer.send(BytesMessage(link_mess(2)))
        server = await it.accept()
        await read_link_block(server)
        await peer.send(CloseConnection(1001))
        assert await read_all(server) == b""
        assert isinstance(await peer.until(CloseConnection), CloseConnection)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (TextMessage("UkVEUQ=="), 1003),
        (b"\xf2\x80\x00\x00\x00\x00", 1002),  # reserved bits
        (b"\x02\x05REDQ", 1002),  # not masked, as a client's have to be
        (b"\x89\xfe\x01\x00" + bytes(260), 1002),  # a ping of 256 bytes
    ],
    ids=["text", "reserved bits", "not masked", "long ping"],
)
async def test_a_broken_frame_closes_its_websocket_with_a_code(frame: Event | bytes, code: int) -> None:
    async with raw_proxy() as it:
        peer, _ = await browser(it)
        await peer.stream.send_all(frame if isinstance(frame, bytes) else peer.ws.send(frame))
        closed = await peer.until(CloseConnection)
        assert isinstance(closed, CloseConnection)
        assert closed.code == code
        assert await it.events.wait_for("link_failed", by="client")


async def test_a_frame_of_any_announced_size_is_passed_on_as_it_comes() -> None:
    async with raw_proxy() as it:
        peer, _ = await browser(it)
        mess = link_mess(2)
        # A binary frame of 2^62 bytes, masked with zeros, of which these are the first.
        await peer.stream.send_all(b"\x82\xff" + (2**62).to_bytes(8, "big") + bytes(4) + mess)
        assert await read_link_block(await it.accept()) == mess


HTTP = {
    "a page": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 400 "),
    "no HTTP": (b"GET me out\r\n\r\n", b"HTTP/1.1 400 "),
    "an old version": (
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n",
        b"HTTP/1.1 426 ",
    ),
    "a host that is no name": (
        b"GET / HTTP/1.1\r\nHost: xn--\xff\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 400 ",
    ),
    "no end": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000, b"HTTP/1.1 4"),
}


@pytest.mark.parametrize("name", HTTP)
async def test_a_request_that_is_no_handshake_is_answered_and_told(name: str) -> None:
    data, answer = HTTP[name]
    async with raw_proxy() as it:
        client = await it.connect()
        await client.send_all(data)
        await client.send_eof()
        assert (await read_all(client)).startswith(answer)
        assert (await it.events.wait_for("link_failed"))["by"] == "client"


ORIGINS = {
    "no browser": (None, (), True),
    "a page of the proxy's address": ("http://127.0.0.1:8000", (), True),
    "a page of anywhere": ("https://evil.example", (), False),
    "no page": ("null", (), False),
    "a page that is allowed": ("https://console.example", ("https://console.example",), True),
    "another port of it": ("https://console.example:1", ("https://console.example",), False),
    "nonsense": ("http://[::1", (), False),
}


@pytest.mark.parametrize("name", ORIGINS)
async def test_a_web_page_may_connect_if_it_is_of_the_same_address_or_allowed(name: str) -> None:
    origin, allowed, good = ORIGINS[name]
    async with raw_proxy(ways=WaysIn(origins=allowed)) as it:
        _, event = await browser(it, origin=origin)
        assert isinstance(event, AcceptConnection if good else RejectConnection)
        if not good:
            assert "origin" in (await it.events.wait_for("link_failed"))["reason"]


def test_a_name_that_points_here_is_no_proof_of_a_page_of_ours() -> None:
    request = Request(
        host="rebound.example:5900", target="/", extra_headers=[(b"origin", b"http://rebound.example")]
    )
    assert not websocket.may_connect(request, ())
    request = Request(host="localhost:5900", target="/", extra_headers=[(b"origin", b"http://localhost")])
    assert websocket.may_connect(request, ())


async def test_a_client_that_only_begins_a_handshake_is_let_go() -> None:
    async with raw_proxy(link_timeout_s=0.1) as it:
        client = await it.connect()
        await client.send_all(b"GET / HT")
        assert await read_all(client) == b""
        assert "no link message within" in (await it.events.wait_for("link_failed"))["reason"]


# Towards servers --------------------------------------------------------------------------------------


def through_websocket(proxy: Proxy) -> Dial:
    """The client speaks to the proxy in WebSockets, wherever it goes: it dials what it was told."""
    first: list[Address] = []

    async def dial(address: Address) -> trio.SocketStream:
        first.append(address)
        to = proxy.address if address == first[0] else address
        plain = (await trio.open_tcp_stream(*to)).socket.detach()
        connection = socket.socket(fileno=plain)
        connection.setblocking(False)
        end = await websocket.connect(connection, to, "/", nurseries[0], Fairness())
        return trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=end.detach())))

    return dial


nurseries: list[trio.Nursery] = []


@contextmanager
def carried_in(nursery: trio.Nursery) -> Iterator[None]:
    nurseries.append(nursery)
    try:
        yield
    finally:
        nurseries.clear()
        nursery.cancel_scope.cancel()


async def test_a_session_in_websockets_is_followed_through_a_migration() -> None:
    async with trio.open_nursery() as nursery:
        with carried_in(nursery):
            async with play(WaysIn(), through_websocket) as it:
                assert await it.migrate(0, 1) is Outcome.MIGRATE
                await it.check_one_session(hop=1, server=1)
                await it.completed(1)


async def test_a_server_is_spoken_to_through_a_websocket() -> None:
    """A proxy takes WebSockets, so a second one in front of it is a client of them."""
    async with raw_proxy() as it:
        config = ProxyConfig(
            server=it.proxy.address, ways=WaysIn(websocket="/socket?x=1"), events=it.proxy.config.events
        )
        async with open_proxy(config) as outer:
            mess = link_mess(2)
            client = await it.connect(outer.address)
            await client.send_all(mess)
            server = await it.accept()
            assert await read_link_block(server) == mess
            await client.send_eof()
            assert await read_all(server) == b""


@pytest.mark.parametrize("abrupt", [True, False], ids=["reset", "end of the stream, as of spice-server"])
async def test_a_server_s_websocket_without_a_close_frame_ends_as_its_connection_does(abrupt: bool) -> None:
    async with raw_proxy(ways=WaysIn(websocket="/")) as it:
        client = await it.connect()
        await client.send_all(link_mess(2, caps=MINI_CAPS))
        server = WebSocketPeer(await it.accept(), wsproto.ConnectionType.SERVER)
        (request,) = await server.next()
        assert isinstance(request, Request)
        await server.send(AcceptConnection(subprotocol="binary"))
        assert await server.exactly(len(link_mess(2, caps=MINI_CAPS))) == link_mess(2, caps=MINI_CAPS)
        await server.send(BytesMessage(link_reply(caps=MINI_CAPS)))
        await read_link_block(client)
        await client.send_all(AUTH_SPICE + TICKET)
        await server.exactly(132)
        await server.send(BytesMessage(bytes(4)))
        assert await read_exactly(client, 4) == bytes(4)
        if abrupt:
            await client.send_all(message(1, b"abcd"))  # what is unread makes it a reset
            await trio.sleep(0.05)
        await server.stream.aclose()
        assert await read_all(client) == b""
        await client.aclose()
        await it.events.wait_for("channel_closed", by="server", reason="reset" if abrupt else "closed")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered with 404 status"),
        (b"REDQ" + bytes(12), "no WebSocket"),
        (b"", "closed before its WebSocket handshake was whole"),
    ],
)
async def test_a_server_that_is_no_websocket_is_a_link_error_and_an_event(answer: bytes, reason: str) -> None:
    async with raw_proxy(ways=WaysIn(websocket="/")) as it:
        client = await it.connect()
        await client.send_all(link_mess(2))
        server = await it.accept()
        assert (await server.receive_some()).startswith(b"GET / HTTP/1.1\r\n")
        await server.send_all(answer)
        await server.aclose()
        assert (await read_link_block(client))[16:20] != bytes(4)
        event = await it.events.wait_for("link_failed", by="server")
        assert reason in event["reason"]


async def test_a_server_that_does_not_answer_the_handshake_is_given_up() -> None:
    async with raw_proxy(ways=WaysIn(websocket="/"), connect_timeout_s=0.1) as it:
        client = await it.connect()
        await client.send_all(link_mess(2))
        server = await it.accept()
        assert "no WebSocket within 0.1 s" in (await it.events.wait_for("link_failed"))["reason"]
        assert (await read_all(server)).startswith(b"GET ")


async def test_where_clients_choose_the_server_a_websocket_stays_one_to_the_end() -> None:
    async with raw_proxy(ways=WaysIn(mode=Mode.CONNECT, allowed=Allowed(["*:*"]))) as it:
        peer = WebSocketPeer(await it.connect(), wsproto.ConnectionType.CLIENT)
        target = Address("127.0.0.1", it.listener.socket.getsockname()[1])
        await peer.stream.send_all(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        assert (await peer.stream.receive_some()).startswith(b"HTTP/1.1 200")
        await peer.send(Request(host=str(target), target="/vm1", subprotocols=["binary"]))
        assert isinstance((await peer.next())[0], AcceptConnection)
        await peer.send(BytesMessage(link_mess(2)))
        server = await it.accept()
        assert (await server.receive_some()).startswith(b"GET /vm1 HTTP/1.1\r\n")


def test_the_address_of_a_websocket_is_read() -> None:
    target = parse_server("ws://kvm1:5900")
    assert (target.address, target.websocket) == (Address("kvm1", 5900), "/")
    target = parse_server("ws://[::1]:5900/a/b?c=d")
    assert (target.address, target.websocket) == (Address("::1", 5900), "/a/b?c=d")
    target = parse_server("wss://kvm1:5901/a")
    assert (target.address, target.tls, target.websocket) == (None, Address("kvm1", 5901), "/a")


@pytest.mark.parametrize(
    "text", ["ws://kvm1", "ws://:1", "ws://a:b@kvm1:5900", "ws://kvm1:x", "ws://k\nvm1:1", "wss://kvm1"]
)
def test_what_is_no_address_of_a_websocket_is_told(text: str) -> None:
    with pytest.raises(UsageError):
        parse_server(text)


def test_a_connection_to_this_machine_itself_has_no_original_destination() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert original_destination(accepted, accepted.getsockname()[1]) is None
