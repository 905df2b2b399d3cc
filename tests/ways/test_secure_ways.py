"""TLS around the ways in: wss:// on both sides, and CONNECT proxies that are spoken to with TLS."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import wsproto
from hypothesis import given
from hypothesis import strategies as st
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, RejectConnection, Request

from dissectors.message_ids import Msg
from spiceproxy.address import Address
from spiceproxy.eventlog import EventLog
from spiceproxy.proxy import ProxyConfig, open_proxy
from spiceproxy.tls.authority import Authority
from spiceproxy.tls.settings import FixedCertificate, TlsConfig
from spiceproxy.ways.allowing import Allowed
from spiceproxy.ways.carrying import RecordEnds
from spiceproxy.ways.mode import ANYWHERE, Mode, WaysIn
from tests.injection.faulty import faulty, one
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
from tests.tls.certificates import server_context, trusting, write_pair
from tests.tls.test_connections import Records
from tests.ways.dialling import request
from tests.ways.test_websocket import WebSocketPeer

LOOPBACK = Address("127.0.0.1", 0)


@asynccontextmanager
async def secure_proxy(**options: Any) -> AsyncIterator[tuple[RawProxy, Authority]]:
    """A proxy to which clients come with TLS only; its server is spoken to in clear."""
    authority = Authority.new()
    tls = TlsConfig(listen=LOOPBACK, certificate=authority, inside=False)
    with trio.fail_after(20):
        async with raw_proxy(listen=None, tls=tls, **options) as it:
            yield it, authority


async def secured(it: RawProxy, authority: Authority) -> trio.SSLStream[trio.SocketStream]:
    stream = trio.SSLStream(await it.connect(), trusting(authority), https_compatible=True)
    await stream.do_handshake()
    return stream


class SecurePeer(WebSocketPeer):
    """A client of a WebSocket in TLS."""

    stream: Any

    def __init__(self, stream: Any) -> None:
        super().__init__(stream, wsproto.ConnectionType.CLIENT)

    async def ask(self, host: str, target: str = "/", origin: str | None = None) -> Any:
        headers = [] if origin is None else [(b"Origin", origin.encode())]
        await self.send(Request(host=host, target=target, subprotocols=["binary"], extra_headers=headers))
        return (await self.next())[0]


async def finish_link(it: RawProxy, peer: SecurePeer) -> trio.SocketStream:
    await peer.send(BytesMessage(link_mess(2, caps=MINI_CAPS)))
    server = await it.accept()
    assert await read_link_block(server) == link_mess(2, caps=MINI_CAPS)
    await server.send_all(link_reply(caps=MINI_CAPS))
    assert await peer.exactly(len(link_reply(caps=MINI_CAPS))) == link_reply(caps=MINI_CAPS)
    await peer.send(BytesMessage(AUTH_SPICE + TICKET))
    assert await read_exactly(server, 132) == AUTH_SPICE + TICKET
    await server.send_all(bytes(4))
    assert await peer.exactly(4) == bytes(4)
    return server


# wss:// -----------------------------------------------------------------------------------------------


async def test_a_client_in_a_secure_websocket_links_and_messages_pass_both_ways() -> None:
    async with secure_proxy() as (it, authority):
        peer = SecurePeer(await secured(it, authority))
        assert isinstance(await peer.ask(str(it.proxy.address)), AcceptConnection)
        server = await finish_link(it, peer)
        linked = await it.events.wait_for("channel_linked")
        assert linked["client"] == "{}:{}".format(*peer.stream.transport_stream.socket.getsockname())
        big = message(304, bytes(2_000_000))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.send_all, big)
            assert await peer.exactly(len(big)) == big
        await peer.send(BytesMessage(message(1, b"abcd")))
        assert await read_exactly(server, 10) == message(1, b"abcd")
        await server.send_eof()
        closed = await peer.until(CloseConnection)
        assert isinstance(closed, CloseConnection)
        await peer.send(closed.response())
        assert await read_all(server) == b""


async def test_one_port_takes_tls_with_a_websocket_and_without() -> None:
    async with secure_proxy() as (it, authority):
        stream = await secured(it, authority)
        await stream.send_all(link_mess(2)[:2])  # less than it takes to tell them apart
        await trio.sleep(0.05)
        await stream.send_all(link_mess(2)[2:])
        assert await read_link_block(await it.accept()) == link_mess(2)


async def test_a_page_of_another_origin_is_turned_away_in_tls_as_well() -> None:
    async with secure_proxy() as (it, authority):
        peer = SecurePeer(await secured(it, authority))
        answer = await peer.ask(str(it.proxy.address), origin="https://evil.example")
        assert isinstance(answer, RejectConnection)
        assert "origin" in (await it.events.wait_for("link_failed"))["reason"]


async def test_a_client_that_says_nothing_in_its_tls_is_let_go() -> None:
    async with secure_proxy(link_timeout_s=0.2) as (it, authority):
        stream = await secured(it, authority)
        assert await stream.receive_some() == b""
        assert "no link message within" in (await it.events.wait_for("link_failed"))["reason"]


@pytest.mark.parametrize("abrupt", [True, False], ids=["reset", "end of the stream"])
async def test_a_server_is_spoken_to_through_a_secure_websocket_and_its_end_is_told(abrupt: bool) -> None:
    """A proxy takes WebSockets in TLS, so a second one in front of it is a client of them."""
    async with secure_proxy() as (it, authority):
        assert it.proxy.tls_address is not None
        ways = WaysIn(websocket="/socket?x=1")
        tls = TlsConfig(server=it.proxy.tls_address, insecure=True, certificate=authority)
        config = ProxyConfig(server=None, ways=ways, tls=tls, events=it.proxy.config.events)
        async with open_proxy(config) as outer:
            client = await it.connect(outer.address)
            await client.send_all(link_mess(2, caps=MINI_CAPS))
            server = await it.accept()
            assert await read_link_block(server) == link_mess(2, caps=MINI_CAPS)
            await server.send_all(link_reply(caps=MINI_CAPS))
            assert await read_link_block(client) == link_reply(caps=MINI_CAPS)
            await client.send_all(AUTH_SPICE + TICKET)
            await read_exactly(server, 132)
            await server.send_all(bytes(4))
            assert await read_exactly(client, 4) == bytes(4)
            if abrupt:
                # What is unread makes it a reset.
                await client.send_all(message(1, b"abcd"))
                await trio.sleep(0.1)
                await server.aclose()
            else:
                await server.send_eof()
            assert await read_all(client) == b""


# WebSockets that end without a word -------------------------------------------------------------------


@pytest.mark.parametrize("abrupt", [True, False], ids=["reset", "end of the stream, no Close frame"])
async def test_a_websocket_that_is_gone_without_a_close_frame_counts_as_reset(abrupt: bool) -> None:
    async with raw_proxy() as it:
        peer = SecurePeer(await it.connect())
        assert isinstance(await peer.ask(str(it.proxy.address)), AcceptConnection)
        server = await finish_link(it, peer)
        if abrupt:
            await server.send_all(message(304, b"abcd"))  # what is unread makes it a reset
            await trio.sleep(0.05)
        await peer.stream.aclose()
        assert await read_all(server) == b""
        await it.events.wait_for("channel_closed", by="client", reason="reset")


async def test_a_fault_that_resets_a_connection_resets_a_websocket() -> None:
    async with faulty(one('"reset"')) as it:
        peer = SecurePeer(await it.connect())
        assert isinstance(await peer.ask(str(it.proxy.address)), AcceptConnection)
        server = await finish_link(it, peer)
        await server.send_all(message(Msg.PING, bytes(12)))
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await read_all(peer.stream)


# CONNECT, with TLS to the proxy -----------------------------------------------------------------------


@asynccontextmanager
async def connect_proxy(**more: Any) -> AsyncIterator[tuple[RawProxy, Authority, str]]:
    ways = WaysIn(mode=Mode.CONNECT, allowed=Allowed(["127.0.0.1:*"]), **more)
    async with secure_proxy(ways=ways) as (it, authority):
        yield it, authority, f"127.0.0.1:{it.listener.socket.getsockname()[1]}"


async def test_a_client_asks_in_tls_and_gets_a_message_a_record() -> None:
    async with connect_proxy() as (it, authority, target):
        client = Records(await it.connect(), trusting(authority))
        await client.shake_hands()
        await client.send_all(request(target) + link_mess(2))  # the link message with the request
        assert (await client.record()).startswith(b"HTTP/1.1 200 ")
        server = await it.accept()
        assert await read_link_block(server) == link_mess(2)
        await server.send_all(link_reply())
        assert await client.record() == link_reply()
        await client.send_all(AUTH_SPICE + TICKET)
        assert await read_exactly(server, 132) == AUTH_SPICE + TICKET
        messages = [message(304, bytes([n]) * 10) for n in range(4)]
        await server.send_all(bytes(4) + b"".join(messages))
        assert [await client.record() for _ in range(5)] == [bytes(4), *messages]


async def test_the_way_to_the_proxy_may_have_a_certificate_of_its_own(tmp_path: Path) -> None:
    door = Authority.new()
    tls = TlsConfig(listen=LOOPBACK, inside=False, door=FixedCertificate(*write_pair(tmp_path, "door", door)))
    ways = WaysIn(mode=Mode.CONNECT, allowed=Allowed(["127.0.0.1:*"]))
    with trio.fail_after(20):
        async with raw_proxy(listen=None, tls=tls, ways=ways) as it:
            stream = await secured(it, door)
            await stream.send_all(request("127.0.0.1:1"))
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_who_is_refused_is_told_in_tls() -> None:
    async with connect_proxy() as (it, authority, _):
        stream = await secured(it, authority)
        await stream.send_all(request("evil.example:5900"))
        assert (await read_all(stream)).startswith(b"HTTP/1.1 403 ")
        assert "not an allowed destination" in (await it.events.wait_for("link_failed"))["reason"]


async def test_who_speaks_no_tls_to_it_is_told_apart() -> None:
    async with connect_proxy() as (it, _, target):
        client = await it.connect()
        await client.send_all(request(target))
        reason = (await it.events.wait_for("link_failed"))["reason"]
        assert reason == "no TLS handshake, on a port for TLS"


async def test_tls_to_the_server_in_tls_to_us_passes_unread(tmp_path: Path) -> None:
    async with connect_proxy() as (it, authority, target):
        outer = await secured(it, authority)
        await outer.send_all(request(target))
        assert (await outer.receive_some()).startswith(b"HTTP/1.1 200 ")
        theirs = Authority.new()
        inner = trio.SSLStream(outer, trusting(theirs), https_compatible=True)
        context = server_context(*write_pair(tmp_path, "s", theirs))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inner.do_handshake)
            server = trio.SSLStream(await it.accept(), context, server_side=True, https_compatible=True)
            await server.do_handshake()
        data = bytes(range(256)) * 4000
        for source, sink in ((inner, server), (server, inner)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(source.send_all, data)
                got = b""
                while len(got) < len(data):
                    got += await sink.receive_some()
            assert got == data
        await server.transport_stream.aclose()
        assert await inner.receive_some() == b""
        await outer.transport_stream.aclose()
        assert (await it.events.wait_for("tunnel_closed"))["server"] == target


def test_anywhere_needs_no_server() -> None:
    tls = TlsConfig(listen=LOOPBACK)
    ((listen, way),) = ProxyConfig(server=ANYWHERE, listen=None, tls=tls, events=EventLog([])).first_ways()
    assert (listen, way.server, way.tls, way.server_tls) == (LOOPBACK, ANYWHERE, True, False)


# Records in records -----------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=300), max_size=6), st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_the_ends_of_records_are_found_however_they_come(bodies: list[bytes], sizes: list[int]) -> None:
    records = [b"\x17\x03\x03" + len(body).to_bytes(2, "big") + body for body in bodies]
    stream, found, cutter, at = b"".join(records), [], RecordEnds(), 0
    for size in itertools.cycle(sizes):
        if at >= len(stream):
            break
        found += [at + end for end in cutter.feed(stream[at : at + size])]
        at += size
    assert found == list(itertools.accumulate(map(len, records)))


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_what_are_no_records_have_no_ends(pieces: list[bytes]) -> None:
    cutter = RecordEnds()
    assert cutter.feed(b"REDQ" + bytes(8)) == []
    assert [cutter.feed(piece) for piece in pieces] == [[]] * len(pieces)
