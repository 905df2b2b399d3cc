"""Sessions for a proxy in another process: strict simulated peers that exchange traffic and migrate.

All clients come through one proxy, so all of them reach one address behind it. `Front` listens there and gives each
connection to the server of its session.
"""

import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from spiceproxy.address import Address
from spiceproxy.simulate import (
    ClientOptions,
    Outcome,
    ServerOptions,
    SimulatedClient,
    SimulatedServer,
    open_client,
    open_server,
)

CHANNELS: Final = ("display", "inputs", "cursor", "usbredir", "webdav")  # and main: six
LINK_HEAD_BYTES: Final = 21  # header, connection id, channel type
STEP_S: Final = 60.0  # for whatever takes a fraction of a second on a machine that does nothing else


class Served(Protocol):
    """A server that takes connections which somebody else has accepted."""

    @property
    def options(self) -> ServerOptions:
        """With the id of its session."""

    async def serve_stream(self, stream: trio.SocketStream) -> None:
        """Take one."""


class Front:
    """The address that the proxy was told, with many servers behind it."""

    def __init__(self) -> None:
        self._servers: dict[int, Served] = {}
        self._next: Served | None = None
        self._turn, self._taken = trio.Lock(), trio.Event()
        self.strangers = 0

    async def next_client(self, server: Served) -> None:
        """Give the next client without a connection id to this server; returns when it has come."""
        session_id = server.options.session_id
        assert session_id
        async with self._turn:
            self._servers[session_id] = self._next = server
            self._taken = trio.Event()
            await self._taken.wait()

    async def ready_for(self, server: Served) -> None:
        """Wait until it is this server's turn."""
        while self._next is not server:  # noqa: ASYNC110
            await trio.sleep(0.005)

    def forget(self, server: Served) -> None:
        """The server is gone."""
        assert server.options.session_id
        self._servers.pop(server.options.session_id, None)

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection."""
        async with stream:
            head = b""
            with trio.move_on_after(STEP_S):
                while len(head) < LINK_HEAD_BYTES:
                    await trio.lowlevel.wait_readable(stream.socket)
                    head = await stream.socket.recv(LINK_HEAD_BYTES, socket.MSG_PEEK)
                    if not head:
                        return
            (connection_id,) = struct.unpack_from("<I", head, 16)
            server = self._servers.get(connection_id)
            if server is None and not connection_id and self._next is not None:
                server, self._next = self._next, None
                self._taken.set()
            if server is None:
                self.strangers += 1
                return
            await server.serve_stream(stream)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Address]:
        """Listen for as long as the block runs."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=4096)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self.serve, [listener])
            yield Address(*listener.socket.getsockname())
            nursery.cancel_scope.cancel()


@dataclass
class Tally:
    """What all sessions have done."""

    sessions: int = 0
    open: int = 0
    migrations: Counter[str] = field(default_factory=Counter)
    drawn: int = 0
    errors: list[str] = field(default_factory=list)


class Session:
    """One user, one guest, two hosts."""

    def __init__(self, number: int, tally: Tally) -> None:
        self.number, self._tally = number, tally
        self._servers: list[SimulatedServer] = []
        self._here = 0
        self._client: SimulatedClient

    @asynccontextmanager
    async def open(self, front: Front, proxy: Address, *, seamless: bool = True) -> AsyncIterator["Session"]:
        """Connect through the proxy, every channel; closed on every way out."""
        session_id = 0x10000 + self.number
        common = {"channels": CHANNELS, "net_test": False, "seamless": seamless}
        async with AsyncExitStack() as stack:
            for incoming in (False, True):
                options = ServerOptions(
                    name=f"s{self.number}",
                    incoming=incoming,
                    session_id=None if incoming else session_id,
                    **common,  # type: ignore[arg-type]
                )
                self._servers.append(await stack.enter_async_context(open_server(options)))
            stack.callback(front.forget, self._servers[0])
            self._client = await stack.enter_async_context(open_client(ClientOptions(name=f"c{self.number}")))
            with trio.fail_after(STEP_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(front.next_client, self._servers[0])
                    await front.ready_for(self._servers[0])
                    await self._client.connect(*proxy)
                await self._servers[0].wait_client_arrived()
            self._tally.sessions += 1
            self._tally.open += 1
            try:
                yield self
                self._client.disconnect()
            finally:
                self._tally.open -= 1

    async def traffic(self) -> None:
        """Let the guest draw and the user do something, and see that it has arrived."""
        server, before = self._servers[self._here], self._client.drawn
        server.draw(4, image=(32, 32))
        server.draw(16)
        server.move_pointer(3, self.number % 700)
        self._client.send_motion(1, 1)
        self._client.send_key()
        with trio.fail_after(STEP_S):
            while self._client.drawn < before + 20:  # noqa: ASYNC110  nobody tells of each
                await trio.sleep(0.02)
        self._tally.drawn += 20

    async def migrate(self, between: Callable[[], None] = lambda: None) -> None:
        """Move to the other host; `between` is called when the client has connected to that."""
        source, destination = self._servers[self._here], self._servers[1 - self._here]
        assert destination.address is not None
        with trio.fail_after(STEP_S):
            source.migrate_connect(*destination.address)
            await source.wait_client_connected()
            between()
            source.hand_over_to(destination)
            outcome = await source.migrate_end()
            await self._client.wait_migrated()
            await destination.wait_client_arrived()
        assert outcome in {Outcome.MIGRATE, Outcome.MIGRATE_END}, outcome
        self._tally.migrations[outcome.name] += 1
        self._here = 1 - self._here
