"""Both sides of every kind of migration, connected directly."""

from dataclasses import replace

import pytest
import trio

from spiceproxy.simulate import ClientOptions, Outcome, ServerOptions, Source, open_client, open_server
from tests.simulate.peers import ALL_NAMES, S1, S2, Scene, address_of, connect, scene, use


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
            assert {view.name for view in server.channels} == ALL_NAMES
            assert {view.peer for view in server.channels} == {view.local for view in client.channels}


@pytest.mark.parametrize("headers", [(True, True), (False, False), (True, False), (False, True)])
async def test_a_seamless_migration_moves_every_channel_with_its_state(headers: tuple[bool, bool]) -> None:
    first, second = (
        replace(options, mini_header=mini) for options, mini in zip((S1, S2), headers, strict=True)
    )
    async with scene(first, second) as play:
        play.s1.add_surface(100, 50)
        await use(play.client, play.s1)
        assert await play.migrate() == (Source.SEAMLESS, Outcome.MIGRATE)
        assert play.s1.channels == ()
        assert play.s1.migration_completed.is_set()
        assert {view.name for view in play.s2.channels} == ALL_NAMES
        assert {view.server for view in play.client.channels} == {address_of(play.s2)}
        assert [view.header == "mini" for view in play.s2.channels] == [headers[1]] * 8
        assert play.client.migrations[0].kind == "seamless"
        assert play.client.migrations[0].moved.keys() == ALL_NAMES
        await use(play.client, play.s2)
        assert play.s2.guest.drawn == 140
        assert play.s2.guest.surfaces.keys() == {0, 1}


async def test_unread_bytes_and_tokens_move_with_their_channel() -> None:
    first, second = replace(S1, agent=True), replace(S2, agent=True)
    async with scene(first, second) as play:
        play.s1.devices_stalled = True
        play.client.send_agent(bytes(3 * 2048))
        play.client.send_device("webdav", b"unread")
        received = {"SPICE_MSGC_MAIN_AGENT_DATA": 3}
        await play.s1.wait_until(lambda: received.items() <= play.s1.channels[0].received.items())
        assert await play.migrate() == (Source.SEAMLESS, Outcome.MIGRATE)
        chunks = 3 * (8 + 2048)  # each behind a VDIChunkHeader
        assert play.s2.guest.agent_bytes == chunks
        assert sum(play.s2.guest.device_bytes.values()) == 80 + len(
            b"unread"
        )  # 80: the client's usbredir hello
        play.client.send_agent(bytes(40 * 2048))  # four times what the tokens allow at once
        await play.s2.wait_until(lambda: play.s2.guest.agent_bytes == chunks + 40 * (8 + 2048))


async def test_motions_are_acknowledged_across_the_migration() -> None:
    async with scene() as play:
        for _ in range(50):
            play.client.send_motion(1, 0)
        await play.migrate()
        for _ in range(50):
            play.client.send_motion(1, 0)
        sent = play.client.received["SPICE_MSG_INPUTS_MOUSE_MOTION_ACK"]
        await play.client.wait_until(lambda: play.client.received["SPICE_MSG_INPUTS_MOUSE_MOTION_ACK"] > sent)


async def test_a_semi_seamless_migration_keeps_the_session_id() -> None:
    async with scene(replace(S1, seamless=False)) as play:
        assert play.s1.session is not None
        session_id = play.s1.session.session_id
        await use(play.client, play.s1)
        assert await play.migrate() == (Source.CONNECTED, Outcome.MIGRATE_END)
        assert play.client.migrations[0].kind == "semi-seamless"
        assert {view.name for view in play.s2.channels} == ALL_NAMES
        assert play.s2.session is not None
        assert play.s2.session.session_id == session_id
        await use(play.client, play.s2)


@pytest.mark.parametrize(
    ("first", "second", "client_caps"),
    [
        (S1, replace(S2, main_caps=(0x07,)), 0x0F),  # the destination cannot
        (S1, S2, 0x0B),  # a client without AGENT_CONNECTED_TOKENS
        (S1, S2, 0x07),  # a client without SEAMLESS_MIGRATE
        (S1, replace(S2, migration_version=0), 0x0F),  # answered with NACK
    ],
)
async def test_what_cannot_be_seamless_becomes_semi_seamless(
    first: ServerOptions, second: ServerOptions, client_caps: int
) -> None:
    async with scene(first, second, ClientOptions(main_caps=(client_caps,))) as play:
        assert await play.migrate() == (Source.CONNECTED, Outcome.MIGRATE_END)
        await use(play.client, play.s2)


async def test_a_client_without_semi_seamless_switches_hosts() -> None:
    async with scene(client_options=ClientOptions(main_caps=(0,))) as play:
        assert await play.migrate() == (Source.NO_BEGIN, Outcome.SWITCH_HOST)
        assert play.client.migrations[0].kind == "switch-host"
        assert {view.name for view in play.s2.channels} == ALL_NAMES
        await use(play.client, play.s2)


async def test_a_client_that_could_not_connect_switches_hosts() -> None:
    async with scene(second=replace(S2, channels=("display", "inputs", "cursor"))) as play:
        assert await play.announce() is Source.REFUSED  # s2 does not have all of the channels
        assert await play.finish() is Outcome.SWITCH_HOST
        assert play.client.migrations[0].refusal is not None
        await use(play.client, play.s2)


async def test_a_cancelled_migration_leaves_everything_as_it_was_and_may_be_tried_again() -> None:
    async with scene() as play:
        for _ in range(2):
            assert await play.announce() is Source.SEAMLESS
            assert await play.s1.migrate_end(completed=False) is Outcome.CANCEL
            assert (await play.client.wait_migrated()).kind == "cancelled"
            await play.s2.wait_until(lambda: play.s2.session is None)
            await use(play.client, play.s1)
        assert await play.migrate() == (Source.SEAMLESS, Outcome.MIGRATE)
        await use(play.client, play.s2)


async def test_a_second_announcement_cancels_the_first() -> None:
    async with open_server(replace(S2, name="s3")) as s3, scene() as play:
        assert await play.announce() is Source.SEAMLESS
        play.s2 = s3
        assert await play.announce() is Source.SEAMLESS
        assert (await play.client.wait_migrated()).kind == "cancelled"
        assert await play.finish() is Outcome.MIGRATE
        await use(play.client, s3)


async def test_a_completed_migration_without_an_announcement_disconnects_the_client() -> None:
    async with scene() as play:
        assert await play.s1.migrate_end() is Outcome.DISCONNECT
        assert play.s1.session is None


async def test_a_chain_of_migrations_comes_back_to_where_it_began() -> None:
    async with open_server(replace(S2, name="s3")) as s3, scene() as play:
        s1, s2, client = play.s1, play.s2, play.client
        for source, destination in ((s1, s2), (s2, s3), (s3, s1), (s1, s2)):
            await use(client, source)
            assert await Scene(source, destination, client).migrate() == (Source.SEAMLESS, Outcome.MIGRATE)
        await use(client, s2)
        assert [report.kind for report in client.migrations] == ["seamless"] * 4


async def test_a_chain_of_all_kinds_works() -> None:
    async with open_server(replace(S2, name="s3", seamless=False)) as s3, scene() as play:
        client = play.client
        assert await Scene(play.s1, play.s2, client).migrate() == (Source.SEAMLESS, Outcome.MIGRATE)
        assert await Scene(play.s2, s3, client).migrate() == (Source.SEAMLESS, Outcome.MIGRATE)
        assert await Scene(s3, play.s1, client).migrate() == (Source.CONNECTED, Outcome.MIGRATE_END)
        assert await Scene(play.s1, play.s2, client).migrate() == (Source.SEAMLESS, Outcome.MIGRATE)
        await use(client, play.s2)
