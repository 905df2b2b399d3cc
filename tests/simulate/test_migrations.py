"""Both sides of every kind of migration, connected directly."""

from dataclasses import replace

import pytest
import trio

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

ALL_CHANNELS = ("display", "inputs", "cursor", "playback", "record", "usbredir", "webdav")
S1 = ServerOptions(name="s1", channels=ALL_CHANNELS)
S2 = replace(S1, name="s2", incoming=True)


def address_of(server: SimulatedServer) -> Address:
    assert server.address is not None
    return server.address


async def connect(client: SimulatedClient, server: SimulatedServer) -> None:
    await client.connect(*address_of(server))
    await server.wait_client_arrived()


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


async def migrate(
    client: SimulatedClient, source: SimulatedServer, destination: SimulatedServer
) -> tuple[Source, Outcome]:
    source.migrate_connect(*address_of(destination))
    state = await source.wait_client_connected()
    source.hand_over_to(destination)
    outcome = await source.migrate_end()
    await client.wait_migrated()
    await destination.wait_client_arrived()
    return state, outcome


def all_names() -> set[str]:
    return {"main:0", *(f"{name}:0" for name in ALL_CHANNELS)}


@pytest.mark.parametrize("server_mini", [True, False])
@pytest.mark.parametrize("client_mini", [True, False])
async def test_a_session_exchanges_traffic_with_either_header(server_mini: bool, client_mini: bool) -> None:
    with trio.fail_after(10):
        async with (
            open_server(replace(S1, mini_header=server_mini)) as server,
            open_client(ClientOptions(mini_header=client_mini)) as client,
        ):
            await connect(client, server)
            await use(client, server)
            header = "mini" if server_mini and client_mini else "full"
            assert (
                {view.header for view in server.channels}
                == {view.header for view in client.channels}
                == {header}
            )
            assert {view.name for view in server.channels} == all_names()
            assert {view.peer for view in server.channels} == {view.local for view in client.channels}


@pytest.mark.parametrize("headers", [(True, True), (False, False), (True, False), (False, True)])
async def test_a_seamless_migration_moves_every_channel_with_its_state(headers: tuple[bool, bool]) -> None:
    first, second = headers
    with trio.fail_after(10):
        async with (
            open_server(replace(S1, mini_header=first)) as s1,
            open_server(replace(S2, mini_header=second)) as s2,
            open_client() as client,
        ):
            await connect(client, s1)
            s1.add_surface(100, 50)
            await use(client, s1)
            client.send_motion()
            assert await migrate(client, s1, s2) == (Source.SEAMLESS, Outcome.MIGRATE)
            assert s1.channels == ()
            assert s1.session is None
            assert s1.migration_completed.is_set()
            assert {view.name for view in s2.channels} == all_names()
            assert {view.server for view in client.channels} == {address_of(s2)}
            assert client.migrations[0].kind == "seamless"
            await use(client, s2)
            assert s2.guest.drawn == 140


async def test_a_semi_seamless_migration_keeps_the_session_id() -> None:
    with trio.fail_after(10):
        async with (
            open_server(replace(S1, seamless=False)) as s1,
            open_server(S2) as s2,
            open_client() as client,
        ):
            await connect(client, s1)
            assert s1.session is not None
            session_id = s1.session.session_id
            await use(client, s1)
            assert await migrate(client, s1, s2) == (Source.CONNECTED, Outcome.MIGRATE_END)
            assert client.migrations[0].kind == "semi-seamless"
            assert {view.name for view in s2.channels} == all_names()
            assert s2.session is not None
            assert s2.session.session_id == session_id
            await use(client, s2)


async def test_a_client_without_semi_seamless_switches_hosts() -> None:
    with trio.fail_after(10):
        async with (
            open_server(S1) as s1,
            open_server(S2) as s2,
            open_client(ClientOptions(main_caps=(0,))) as client,
        ):
            await connect(client, s1)
            assert await migrate(client, s1, s2) == (Source.NO_BEGIN, Outcome.SWITCH_HOST)
            assert client.migrations[0].kind == "switch-host"
            assert {view.name for view in s2.channels} == all_names()
            await use(client, s2)


async def test_a_chain_of_migrations_comes_back_to_where_it_began() -> None:
    with trio.fail_after(20):
        async with (
            open_server(S1) as s1,
            open_server(S2) as s2,
            open_server(replace(S2, name="s3")) as s3,
            open_client() as client,
        ):
            await connect(client, s1)
            for source, destination in ((s1, s2), (s2, s3), (s3, s1), (s1, s2)):
                await use(client, source)
                assert await migrate(client, source, destination) == (Source.SEAMLESS, Outcome.MIGRATE)
            await use(client, s2)
            assert [report.kind for report in client.migrations] == ["seamless"] * 4
