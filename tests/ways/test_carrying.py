"""TLS in TLS: what is carried between a TLS connection and a pair of sockets, and how it ends."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.tls.authority import Authority
from spiceproxy.tls.ends import Peer, Tls
from spiceproxy.tls.settings import TlsConfig
from spiceproxy.tls.stream import secure
from spiceproxy.ways.carrying import carry
from spiceproxy.ways.end import LINGER_NONE, CarriedEnd
from tests.raw_peers import read_all
from tests.tls.certificates import server_context, trusting, write_pair


@asynccontextmanager
async def carried(directory: Path) -> AsyncIterator[tuple[CarriedEnd, trio.SSLStream[trio.SocketStream]]]:
    """The relay's end of a connection, and the client of it."""
    authority = Authority.new()
    context = server_context(*write_pair(directory, "proxy", authority))
    with trio.fail_after(15):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            plain = await trio.open_tcp_stream(*listener.getsockname())
            accepted = await sockets.accept(listener)
        client = trio.SSLStream(plain, trusting(authority), https_compatible=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            secured = await secure(accepted, context, server=True)
        async with trio.open_nursery() as nursery:
            end = carry(secured, nursery)
            assert sockets.peer_address(end) == Address(*plain.socket.getsockname())
            try:
                yield end, client
            finally:
                sockets.close(end)
                await trio.aclose_forcefully(client)
                nursery.cancel_scope.cancel()


async def test_an_end_comes_through_and_what_follows_the_other_way_as_well(tmp_path: Path) -> None:
    async with carried(tmp_path) as (end, client):
        await client.send_all(b"hello")
        assert await sockets.receive(end, 100) == b"hello"
        end.shutdown(socket.SHUT_WR)
        assert await client.receive_some() == b""
        await client.transport_stream.aclose()
        assert await sockets.receive(end, 100) == b""


async def test_a_client_that_is_gone_is_a_reset(tmp_path: Path) -> None:
    async with carried(tmp_path) as (end, client):
        client.transport_stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await client.transport_stream.aclose()
        with pytest.raises(ConnectionResetError):
            await sockets.receive(end, 100)
        await trio.lowlevel.wait_readable(end)
        with pytest.raises(ConnectionResetError):
            end.recv_into(bytearray(10))


async def test_a_connection_that_is_cut_is_reset_for_the_client(tmp_path: Path) -> None:
    async with carried(tmp_path) as (end, client):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
        sockets.close(end)
        with pytest.raises(trio.BrokenResourceError):
            await read_all(client)


async def test_a_client_that_is_gone_before_it_is_carried_costs_an_error(tmp_path: Path) -> None:
    async with carried(tmp_path) as (_, client), trio.open_nursery() as nursery:
        near, far = socket.socketpair()
        with near, far:

            class Gone(socket.socket):
                def getpeername(self) -> None:
                    raise OSError("not connected")

            gone = Gone(fileno=near.detach())
            with pytest.raises(OSError, match="not connected"):
                carry(gone, nursery)  # type: ignore[arg-type]
            assert gone.fileno() == -1
        await client.send_all(b"still here")


async def test_a_host_that_cannot_be_a_name_is_none_for_the_server(tmp_path: Path) -> None:
    """An HTTP proxy may lead to what no resolver knows; then TLS names no host."""
    authority = Authority.new()
    context = server_context(*write_pair(tmp_path, "s", authority))
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def reach(_address: Address, timeout_s: float) -> socket.socket:
        return await sockets.connect(Address(*listener.socket.getsockname()[:2]), timeout_s)

    async def serve() -> None:
        async with await listener.accept() as plain:
            await trio.SSLStream(plain, context, server_side=True).do_handshake()

    tls = Tls(TlsConfig(insecure=True))
    with trio.fail_after(10):
        async with listener:
            for host in ("a" * 70 + ".example", "a:b", "kvm1.example"):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(serve)
                    sockets.close(await tls.connect(Peer(Address(host, 1), None), 5, reach=reach))
    assert names == [None, None, "kvm1.example"]
