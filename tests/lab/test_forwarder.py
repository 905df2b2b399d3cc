"""The port that refuses until it is opened."""

import contextlib

import pytest
import trio

from spiceproxy.address import Address
from spiceproxy.lab.errors import single_error
from spiceproxy.lab.forwarder import Forwarder, silent_port, start_forwarder
from spiceproxy.lab.procfs import connections_of


async def echo(stream: trio.SocketStream) -> None:
    async with stream:
        async for data in stream:
            await stream.send_all(data)
        await stream.send_all(b" (end)")


async def forwarder_to_echo(nursery: trio.Nursery) -> Forwarder:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, echo, [listener])
    return await start_forwarder(nursery, "127.0.0.1", Address(*listener.socket.getsockname()))


async def test_connections_are_refused_until_it_is_opened_and_then_forwarded() -> None:
    with single_error():
        async with trio.open_nursery() as nursery:
            forwarder = await forwarder_to_echo(nursery)
            with trio.socket.socket() as refused, pytest.raises(ConnectionRefusedError):
                await refused.connect(forwarder.address)
            forwarder.open()
            async with await trio.open_tcp_stream(*forwarder.address) as stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
                await stream.send_eof()
                assert await stream.receive_some() == b" (end)"
                assert await stream.receive_some() == b""
            nursery.cancel_scope.cancel()


async def test_it_knows_who_is_behind_the_peer_that_the_target_sees() -> None:
    with single_error():
        async with trio.open_nursery() as nursery:
            forwarder = await forwarder_to_echo(nursery)
            forwarder.open()
            async with await trio.open_tcp_stream(*forwarder.address) as stream:
                await stream.send_all(b"x")
                await stream.receive_some()
                mine = Address(*stream.socket.getsockname())
                origins = {forwarder.origin(local) for local, _ in connections_of()}
                assert origins == {mine, None}
            nursery.cancel_scope.cancel()


async def test_one_side_that_breaks_off_takes_the_other_with_it() -> None:
    with single_error():
        async with trio.open_nursery() as nursery:
            closed = trio.Event()

            async def until_closed(stream: trio.SocketStream) -> None:
                async with stream:
                    with contextlib.suppress(trio.BrokenResourceError):
                        while True:
                            await stream.send_all(b"x" * 65536)
                closed.set()

            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, until_closed, [listener])
            forwarder = await start_forwarder(nursery, "127.0.0.1", Address(*listener.socket.getsockname()))
            forwarder.open()
            stream = await trio.open_tcp_stream(*forwarder.address)
            await stream.receive_some()
            await stream.aclose()
            with trio.fail_after(5):
                await closed.wait()
            nursery.cancel_scope.cancel()


async def test_a_silent_port_takes_no_connection_and_refuses_none() -> None:
    with silent_port("127.0.0.1") as address, trio.socket.socket() as waiting:
        with trio.move_on_after(0.5) as patience:
            await waiting.connect(address)
        assert patience.cancelled_caught
    with trio.socket.socket() as refused, pytest.raises(ConnectionRefusedError):
        await refused.connect(address)
