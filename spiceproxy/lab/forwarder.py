"""TCP ports that a client is sent to: one that refuses until it is opened and then forwards, one that never answers."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

import trio

from spiceproxy.address import Address

_QUEUE: Final = 3  # connections that fill a queue of one, with some to spare


class Forwarder:
    """Made by `start_forwarder`. Bound from the start, so the port is ours; listening only once `open` was called."""

    def __init__(self, listener: trio.socket.SocketType, target: Address, nursery: trio.Nursery) -> None:
        self._listener, self._target, self._nursery = listener, target, nursery
        self._peers: dict[Address, Address] = {}

    @property
    def address(self) -> Address:
        """Where it listens, or refuses."""
        return Address(*self._listener.getsockname())

    def open(self) -> None:
        """Stop refusing: from now on every connection is forwarded to the target."""
        self._listener.listen(64)
        self._nursery.start_soon(trio.serve_listeners, self._forward, [trio.SocketListener(self._listener)])

    def origin(self, peer: Address) -> Address | None:
        """Return who connected to us, for the address that the target sees as its peer; None if that is not us."""
        return self._peers.get(peer)

    async def _forward(self, near: trio.SocketStream) -> None:
        with suppress(OSError, trio.BrokenResourceError):
            async with near, await trio.open_tcp_stream(*self._target) as far:
                self._peers[Address(*far.socket.getsockname())] = Address(*near.socket.getpeername())
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_pump, near, far)
                    nursery.start_soon(_pump, far, near)


async def _pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            await sink.send_all(data)
        await sink.send_eof()
        return
    await trio.aclose_forcefully(source)
    await trio.aclose_forcefully(sink)


async def start_forwarder(nursery: trio.Nursery, host: str, target: Address, port: int = 0) -> Forwarder:
    """Reserve a port of `host` (0: any) that refuses connections until `Forwarder.open`; a task of `nursery`.

    A socket that is bound and does not listen answers SYN with RST, as a port without a program does.
    """
    forwarder: Forwarder = await nursery.start(_run, Address(host, port), target)
    return forwarder


async def _run(address: Address, target: Address, *, task_status: trio.TaskStatus[Forwarder]) -> None:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        await listener.bind(tuple(address))
        async with trio.open_nursery() as nursery:
            task_status.started(Forwarder(listener, target, nursery))
            await trio.sleep_forever()


@contextmanager
def silent_port(host: str, port: int = 0) -> Iterator[Address]:
    """Hold a port of `host` (0: any) that neither takes nor refuses connections: the kernel drops every SYN to it.

    Linux does that when a listener's queue of connections that nobody has accepted is full; it holds one more than asked.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, port))
        listener.listen(0)
        address = Address(*listener.getsockname())
        for _ in range(_QUEUE):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield address
