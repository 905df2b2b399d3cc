"""One TLS connection through the proxy: what is on the wire, and what hostile peers can do there."""

import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from dissectors.channels import ChannelType
from spiceproxy.address import Address
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import EventLog
from spiceproxy.injection import Faults
from spiceproxy.proxy import ProxyConfig, open_proxy
from spiceproxy.relay import pump
from spiceproxy.tls.authority import Authority
from spiceproxy.tls.ends import Peer, Tls
from spiceproxy.tls.settings import TlsConfig
from spiceproxy.tls.stream import TlsError, secure
from tests.raw_peers import (
    AUTH_SPICE,
    TICKET,
    RawProxy,
    link_mess,
    link_reply,
    message,
    raw_proxy,
    read_exactly,
    read_link_block,
)
from tests.tls.certificates import SERVER_SUBJECT, server_context, trusting, write_pair

LOOPBACK = Address("127.0.0.1", 0)
Stream = trio.SSLStream[trio.SocketStream]


@asynccontextmanager
async def tls_proxy(**options: Any) -> AsyncIterator[tuple[RawProxy, Authority]]:
    """A proxy that clients reach with TLS, before a server in clear that the test plays."""
    authority = Authority.new()
    with trio.fail_after(15):
        tls = TlsConfig(LOOPBACK, certificate=authority)
        async with raw_proxy(listen=None, tls=tls, **options) as raw:
            yield raw, authority


class Records:
    """A peer that sees TLS records one by one: reading gives what one of them holds, and no more."""

    def __init__(self, stream: trio.SocketStream, context: ssl.SSLContext, *, server: bool = False) -> None:
        self._stream, self._in, self._out = stream, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=server)

    async def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._stream.send_all(self._out.read())
                if not (data := await self._stream.receive_some(100)):
                    raise EOFError from None
                self._in.write(data)
            else:
                await self._stream.send_all(self._out.read())
                return

    async def send_all(self, data: bytes) -> None:
        self._tls.write(data)
        await self._stream.send_all(self._out.read())

    async def record(self) -> bytes:
        while True:
            try:
                return self._tls.read(2**14)
            except ssl.SSLWantReadError:
                self._in.write(await self._stream.receive_some(4096))


async def linked(
    raw: RawProxy, authority: Authority, channel: int = ChannelType.DISPLAY
) -> tuple[Records, trio.SocketStream]:
    stream = await raw.connect()
    client = Records(stream, trusting(authority))
    await client.shake_hands()
    await client.send_all(link_mess(channel))
    server = await raw.accept()
    await read_link_block(server)
    await server.send_all(link_reply())
    assert await client.record() == link_reply()
    await client.send_all(AUTH_SPICE + TICKET)
    assert await read_exactly(server, 132) == AUTH_SPICE + TICKET
    return client, server


@pytest.mark.parametrize("faults", [None, Faults(live=True)], ids=["plain", "with faults"])
@pytest.mark.parametrize("record", [False, True], ids=["", "recorded"])
async def test_a_client_never_finds_two_messages_in_one_record(
    faults: Faults | None, record: bool, tmp_path: Path
) -> None:
    """spice-gtk leaves the second one until the socket has more to read, which may be never."""
    file = tmp_path / "r.pcapng" if record else None
    async with tls_proxy(faults=faults, record=file) as (raw, authority):
        client, server = await linked(raw, authority)
        messages = [message(304, bytes([n]) * size) for n, size in enumerate([10, 0, 300, 16378, 20_000, 1])]
        await server.send_all(bytes(4) + b"".join(messages))  # with the link result, as they may come
        assert await client.record() == bytes(4)
        for one in messages * 2:
            if one is messages[0]:
                await server.send_all(b"".join(messages))
            found = b""
            while len(found) < len(one):
                found += await client.record()
            assert found == one


@pytest.mark.parametrize("faults", [None, Faults(live=True)], ids=["plain", "with faults"])
async def test_a_server_never_finds_two_messages_in_one_record(faults: Faults | None, tmp_path: Path) -> None:
    """spice-server leaves the second one, if the device was busy that the first was for."""
    theirs = Authority.new()
    shown = server_context(*write_pair(tmp_path, "server", theirs))
    with trio.fail_after(15):
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listener, trio.open_nursery() as nursery:

            async def looked_at() -> None:
                async with await listener.accept() as first:
                    with suppress(EOFError):
                        await Records(first, shown, server=True).shake_hands()

            nursery.start_soon(looked_at)
            tls = TlsConfig(None, Address(*listener.socket.getsockname()), insecure=True)
            config = ProxyConfig(None, LOOPBACK, tls=tls, events=EventLog([]), faults=faults)
            async with open_proxy(config) as proxy, await trio.open_tcp_stream(*proxy.address) as client:
                await client.send_all(link_mess(ChannelType.USBREDIR))
                async with await listener.accept() as stream:
                    server = Records(stream, shown, server=True)
                    await server.shake_hands()
                    assert await server.record() == link_mess(ChannelType.USBREDIR)
                    await server.send_all(link_reply())
                    assert await read_link_block(client) == link_reply()
                    await client.send_all(AUTH_SPICE + TICKET)
                    assert [await server.record(), await server.record()] == [AUTH_SPICE, TICKET]
                    await server.send_all(bytes(4))
                    assert await read_exactly(client, 4) == bytes(4)
                    messages = [message(101, bytes([n]) * size) for n, size in enumerate([1, 0, 300, 2])]
                    await client.send_all(b"".join(messages))
                    assert [await server.record() for _ in messages] == messages


async def test_a_client_without_tls_is_told_apart_and_no_server_is_dialled() -> None:
    async with tls_proxy() as (raw, _):
        client = await raw.connect()
        await client.send_all(link_mess())
        failed = await raw.events.wait_for("link_failed")
        assert (failed["by"], failed["reason"]) == ("client", "no TLS handshake, on a port for TLS")
        with trio.move_on_after(0.1), pytest.raises(AssertionError):
            await raw.accept()


@pytest.mark.parametrize("hello", [b"", b"\x16", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"])
async def test_a_client_that_does_not_finish_the_handshake_is_left_after_a_while(hello: bytes) -> None:
    async with tls_proxy(link_timeout_s=0.3) as (raw, _):
        client = await raw.connect()
        await client.send_all(hello)
        failed = await raw.events.wait_for("link_failed")
        assert failed["reason"] == "no TLS handshake within 0.3 s"
        assert await client.receive_some() == b""


async def test_a_handshake_that_is_nonsense_ends_the_connection_and_no_other() -> None:
    async with tls_proxy() as (raw, authority):
        client, server = await linked(raw, authority)
        bad = await raw.connect()
        await bad.send_all(b"\x16\x03\x01\0\5" + b"junk!" * 1000)
        failed = await raw.events.wait_for("link_failed")
        assert failed["reason"].startswith("TLS: ")
        await server.send_all(bytes(4) + message(304, b"draw"))
        assert await client.record() == bytes(4)
        assert await client.record() == message(304, b"draw")


async def test_a_client_that_answers_no_close_cannot_keep_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pump, "HALF_CLOSED_IDLE_S", 0.2)
    async with tls_proxy() as (raw, authority):
        _client, server = await linked(raw, authority)
        await server.send_all(bytes(4) + message(304, bytes(60_000)))
        await server.aclose()
        closed = await raw.events.wait_for("channel_closed")
        assert closed["by"] == "server"


async def test_a_server_that_answers_no_handshake_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, trio.fail_after(15):
        tls = TlsConfig(None, Address(*silent.getsockname()), insecure=True)
        async with raw_proxy(tls=tls, connect_timeout_s=0.3) as raw:
            unknown = raw.events.named("server_unknown")
            assert unknown == []  # it is there, and only clients in clear come, whom it does not concern
            with pytest.raises(TlsError, match=r"no handshake within 0\.3 s"):
                await Tls(tls).connect(Peer(Address(*silent.getsockname()), None), 0.3)


async def test_the_keys_of_both_sides_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    authority = Authority.new()
    with trio.fail_after(15):
        tls = TlsConfig(LOOPBACK, certificate=authority, keylog=keys)
        async with raw_proxy(listen=None, tls=tls) as raw:
            await linked(raw, authority)
    assert b"CLIENT_TRAFFIC_SECRET_0" in keys.read_bytes()
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    with pytest.raises(UsageError, match=r"cannot write .*none/keys: No such file"):
        Tls(replace(tls, keylog=tmp_path / "none" / "keys"))


async def test_a_plain_socket_that_is_gone_cannot_be_secured() -> None:
    near, far = socket.socketpair()
    far.close()
    near.setblocking(False)
    with trio.fail_after(5), pytest.raises(OSError, match=r"closed during the handshake|Broken pipe"):
        await secure(near, trusting(None), server=False)
    assert near.fileno() == -1


async def test_a_server_whose_certificate_cannot_be_imitated_costs_its_client_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def issue(*_: object) -> None:
        raise ValueError("an odd name")

    monkeypatch.setattr(Authority, "issue", issue)
    async with tls_proxy() as (raw, authority):
        client = Records(await raw.connect(), trusting(authority))
        with pytest.raises((ssl.SSLError, trio.BrokenResourceError, AssertionError, EOFError)):
            with trio.fail_after(5):
                await client.shake_hands()
        failed = await raw.events.wait_for("link_failed")
        assert failed["reason"] == "TLS: no certificate like the server's can be made: an odd name"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_both_peers_may_send_at_once_as_much_as_they_like(
    version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """TLS on both sides, and bytes in all four directions."""
    theirs, ours = Authority.new(), Authority.new()
    (tmp_path / "ca").write_bytes(theirs.pem)
    shown, wanted = server_context(*write_pair(tmp_path, "server", theirs)), trusting(ours)
    shown.maximum_version = wanted.maximum_version = version
    one, count = message(304, bytes(30_000)), 300
    arrived: list[Stream] = []

    async def serve(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, shown, server_side=True, https_compatible=True)
        try:
            await read_link_block(secured)
        except (trio.BrokenResourceError, EOFError):
            return  # the proxy has looked at the certificate
        await secured.send_all(link_reply())
        await read_exactly(secured, 132)
        await secured.send_all(bytes(4))
        arrived.append(secured)
        await both(secured)

    async def both(stream: Stream) -> None:
        async with trio.open_nursery() as each:
            each.start_soon(send, stream)
            for _ in range(count):
                assert await read_exactly(stream, len(one)) == one

    async def send(stream: Stream) -> None:
        for _ in range(count):
            await stream.send_all(one)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, [listener])
            server = Address(*listener.socket.getsockname())
            tls = TlsConfig(LOOPBACK, server, tmp_path / "ca", SERVER_SUBJECT, certificate=ours)
            async with open_proxy(ProxyConfig(None, None, tls=tls, events=EventLog([]))) as proxy:
                assert proxy.tls_address is not None
                plain = await trio.open_tcp_stream(*proxy.tls_address)
                async with plain:
                    client = trio.SSLStream(plain, wanted, https_compatible=True)
                    await client.send_all(link_mess())
                    assert await read_link_block(client) == link_reply()
                    await client.send_all(AUTH_SPICE + TICKET)
                    assert await read_exactly(client, 4) == bytes(4)
                    await both(client)
                    assert len(arrived) == 1
            nursery.cancel_scope.cancel()
