"""What the tests of the simulated peers share."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import Main
from dissectors.registry import build
from dissectors.side import Side
from spiceproxy.address import Address
from spiceproxy.simulate import (
    ClientOptions,
    Outcome,
    ServerOptions,
    SimulatedClient,
    SimulatedServer,
    Source,
    open_client,
    open_server,
)
from spiceproxy.simulate.linking import open_link
from spiceproxy.simulate.wire import ChannelKey, Wire

ALL_CHANNELS = ("display", "inputs", "cursor", "playback", "record", "usbredir", "webdav")
ALL_NAMES = {"main:0", *(f"{name}:0" for name in ALL_CHANNELS)}
S1 = ServerOptions(name="s1", channels=ALL_CHANNELS)
S2 = replace(S1, name="s2", incoming=True)


def address_of(server: SimulatedServer) -> Address:
    assert server.address is not None
    return server.address


@dataclass
class Scene:
    """Two servers and a client that is connected to the first."""

    s1: SimulatedServer
    s2: SimulatedServer
    client: SimulatedClient

    async def announce(self) -> Source:
        """BEGIN, and the client's answer."""
        self.s1.migrate_connect(*address_of(self.s2))
        return await self.s1.wait_client_connected()

    async def finish(self) -> Outcome:
        """Move the guest, and the client after it."""
        self.s1.hand_over_to(self.s2)
        outcome = await self.s1.migrate_end()
        await self.client.wait_migrated()
        await self.s2.wait_client_arrived()
        return outcome

    async def migrate(self) -> tuple[Source, Outcome]:
        return await self.announce(), await self.finish()


async def until(condition: Callable[[], bool], timeout_s: float = 5) -> None:
    """Wait for something that no peer notifies of."""
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - there is no event
            await trio.sleep(0.001)


async def connect(client: SimulatedClient, server: SimulatedServer) -> None:
    await client.connect(*address_of(server))
    await server.wait_client_arrived()
    await client.wait_until(lambda: client.received["SPICE_MSG_DISPLAY_MARK"] > 0)


@asynccontextmanager
async def scene(
    first: ServerOptions = S1, second: ServerOptions = S2, client_options: ClientOptions | None = None
) -> AsyncIterator[Scene]:
    """A client on s1; whatever goes wrong ends the test in time, and broken rules are the test's business."""
    with trio.fail_after(60):
        async with open_server(first) as s1, open_server(second) as s2, open_client(client_options) as client:
            await connect(client, s1)
            try:
                yield Scene(s1, s2, client)
            finally:
                client.disconnect()
                with trio.CancelScope(shield=True):
                    while client.session is not None:
                        await client.changed()
                    await until(lambda: s1.session is None and s2.session is None)
                for peer in (s1, s2, client):
                    peer.forget()


async def use(client: SimulatedClient, server: SimulatedServer) -> None:
    """Traffic both ways on display, cursor and inputs that must arrive."""
    drawn, motions, keys = client.drawn, server.guest.motions, server.guest.keys
    server.draw(70)
    server.move_pointer(server.guest.pointer[0] + 3, 4)
    for _ in range(4):
        client.send_motion(1, 2)
    client.send_key()
    await client.wait_until(lambda: client.drawn >= drawn + 70 and client.pointer == server.guest.pointer)
    await server.wait_until(lambda: server.guest.motions > motions and server.guest.keys == keys + 2)


def begin_body(
    kind: Main, *, host: str = "127.0.0.1", port: int = 1, sport: int = 0xFFFF, version: int = 1
) -> bytes:
    fields: dict[str, Any] = {"port": port, "sport": sport, "host_data": host}
    if kind is not Main.MIGRATE_SWITCH_HOST:
        fields = {"dst_info": fields}
    if kind is Main.MIGRATE_BEGIN_SEAMLESS:
        fields["src_mig_version"] = version
    return build(ChannelType.MAIN, Side.SERVER, kind, fields)


@asynccontextmanager
async def raw_link(server: SimulatedServer, channel: str, connection_id: int) -> AsyncIterator[Wire]:
    linked = await open_link(
        address_of(server),
        ChannelKey.parse(channel),
        connection_id=connection_id,
        password=None,
        mini_header=True,
        channel_caps=(0x0F,),
        connect_timeout_s=10,
        link_timeout_s=10,
        peer_name="raw",
        observer=None,
    )
    try:
        yield linked.wire
    finally:
        linked.wire.close()
