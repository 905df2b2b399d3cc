"""Simulated servers and a client that come together through a proxy by another way than a port of it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import trio

from spiceproxy.address import Address
from spiceproxy.eventlog import EventLog
from spiceproxy.proxy import Proxy, ProxyConfig, open_proxy
from spiceproxy.simulate import (
    ClientOptions,
    Outcome,
    ServerOptions,
    SimulatedClient,
    SimulatedServer,
    open_client,
    open_server,
)
from spiceproxy.ways.mode import WaysIn
from tests.raw_peers import Events

TIME_LIMIT_S = 20


@dataclass
class Play:
    servers: list[SimulatedServer]
    client: SimulatedClient
    proxy: Proxy
    events: Events

    async def migrate(self, source: int, destination: int, *, host: str = "127.0.0.1") -> Outcome:
        """One migration; the client is told of `host`."""
        s1, s2 = self.servers[source], self.servers[destination]
        assert s2.address is not None
        s1.draw(20)
        self.client.send_motion(3, 4)
        s1.migrate_connect(host, s2.address.port)
        await s1.wait_client_connected()
        s1.hand_over_to(s2)
        outcome = await s1.migrate_end()
        await self.client.wait_migrated()
        await s2.wait_client_arrived()
        s2.draw(20)
        return outcome

    async def completed(self, count: int) -> None:
        """So many migrations have taken place, and none was anything but completed."""
        with trio.fail_after(5):
            while (outcomes := [str(each.outcome) for each in self.proxy.migrations]) != [
                "completed"
            ] * count:
                assert set(outcomes) <= {"None", "completed"}
                self.servers[-1].draw(1)
                await trio.sleep(0.01)

    async def check_one_session(self, hop: int, server: int) -> None:
        """All that the client has linked is in the one session of the proxy, on this hop."""
        (session,) = self.proxy.sessions
        with trio.fail_after(5):
            while {c.hop for c in self.proxy.sessions[0].connections if c.state == "open"} != {hop}:  # noqa: ASYNC110
                await trio.sleep(0.01)
        (session,) = self.proxy.sessions
        here = [c for c in session.connections if c.state == "open"]
        assert {c.channel for c in here} == {view.name for view in self.client.channels}
        assert len(here) >= 4
        address = self.servers[server].address
        assert address is not None
        assert {c.server.port for c in here} == {address.port}


Dialling = Callable[[Proxy], Callable[[Address], Awaitable[trio.SocketStream]]]


@asynccontextmanager
async def play(
    ways: WaysIn,
    dialling: Dialling,
    *,
    servers: int = 2,
    client: ClientOptions | None = None,
    first: ServerOptions | None = None,
    server: Callable[[Address], Awaitable[Address]] | None = None,
    **options: Any,
) -> AsyncIterator[Play]:
    """A session through a proxy with these ways in.

    Args:
        ways: What the proxy is told.
        dialling: Given the proxy, returns how the client dials.
        servers: How many there are.
        client: The client.
        first: The first server; the others are like it.
        server: Given the first server's address, returns the one that the proxy is told of.
        options: Further ones of ProxyConfig.
    """
    events, first = Events(), first or ServerOptions()
    with trio.fail_after(TIME_LIMIT_S):
        async with AsyncExitStack() as stack:
            running = [
                await stack.enter_async_context(open_server(replace(first, incoming=bool(number))))
                for number in range(servers)
            ]
            address = running[0].address
            assert address is not None
            told = address if server is None else await server(address)
            config = ProxyConfig(server=told, events=EventLog([events]), ways=ways, **options)
            proxy = await stack.enter_async_context(open_proxy(config))
            dial = dialling(proxy)
            peer = await stack.enter_async_context(open_client(replace(client or ClientOptions(), dial=dial)))
            await peer.connect(*address)
            await running[0].wait_client_arrived()
            yield Play(running, peer, proxy, events)
