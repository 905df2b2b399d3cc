"""What the peers can do beside migrating, and the odd ways in which sessions end."""

import struct
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from dissectors.capabilities import MainCap
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.simulate import (
    ClientOptions,
    ConnectionLost,
    LinkRefused,
    Outcome,
    RuleBroken,
    SimulatedServer,
    SimulationError,
    Source,
    Trace,
    open_client,
    open_server,
)
from spiceproxy.simulate.meanings import meaning_of, sentence, short_name
from spiceproxy.simulate.wire import MAIN, ChannelKey
from tests.simulate.peers import (
    ALL_NAMES,
    S1,
    S2,
    Scene,
    address_of,
    begin_body,
    connect,
    raw_link,
    scene,
    until,
)


async def test_images_arrive_whole() -> None:
    traces: list[Trace] = []
    async with scene(client_options=ClientOptions(observer=traces.append)) as play:
        play.s1.draw(3, image=(320, 200))
        await play.s1.drawn()
        await play.client.wait_until(lambda: play.client.drawn == 4)
        sizes = [trace.size for trace in traces if trace.name == "SPICE_MSG_DISPLAY_DRAW_COPY"]
        assert sizes == [21 + 36 + 18 + 18 + 320 * 200 * 4] * 3


async def test_observers_see_no_bodies_of_keys() -> None:
    traces: list[Trace] = []
    async with scene(
        replace(S1, observer=traces.append), client_options=ClientOptions(observer=traces.append)
    ) as play:
        play.client.send_key(0x21)
        await play.s1.wait_until(lambda: play.s1.guest.keys == 2)
    keys = [trace for trace in traces if trace.name.startswith("SPICE_MSGC_INPUTS_KEY_")]
    assert {(trace.peer, trace.sent) for trace in keys} == {("client", True), ("s1", False)}
    assert {trace.body for trace in keys} == {b""}


async def test_a_client_links_only_the_channels_it_wants() -> None:
    async with open_server(S1) as server, open_client(ClientOptions(channels=("inputs",))) as client:
        await client.connect(*address_of(server))
        assert {view.name for view in client.channels} == {"main:0", "inputs:0"}


async def test_a_channel_that_appears_later_is_linked() -> None:
    async with open_server(S1) as server, open_client() as client:
        server.channel_keys = server.channel_keys[:3]
        await connect(client, server)
        assert len(client.channels) == 4
        server.channel_keys = SimulatedServer(S1).channel_keys
        server.inject("main", Main.CHANNELS_LIST, struct.pack("<IBBBB", 2, 11, 0, 2, 0))
        await client.wait_until(lambda: "webdav:0" in {view.name for view in client.channels})
        assert len(client.channels) == 5


async def test_a_mouse_mode_request_is_answered() -> None:
    async with scene() as play:
        play.client.inject("main", MainC.MOUSE_MODE_REQUEST, struct.pack("<H", 2))
        await play.client.wait_until(lambda: play.client.received["SPICE_MSG_MAIN_MOUSE_MODE"] == 1)


@pytest.mark.parametrize("channel", ["main", "display"])
async def test_messages_without_effect_are_taken(channel: str) -> None:
    async with scene() as play:
        play.client.inject(channel, MsgC.DISCONNECTING, bytes(12))
        play.s1.inject(channel, Msg.DISCONNECTING, bytes(12))
        play.s1.inject(channel, Msg.WAIT_FOR_CHANNELS, b"\0")
        play.s1.inject(channel, Msg.PING, struct.pack("<IQ", 77, 1) + b"tail")
        await play.client.wait_until(lambda: play.client.received["SPICE_MSG_DISCONNECTING"] == 1)
        play.client.send_key()
        await play.s1.wait_until(lambda: play.s1.guest.keys == 2)


async def test_a_second_link_of_a_channel_replaces_the_first() -> None:
    async with scene() as play:
        assert play.s1.session is not None
        first = play.s1.session.channels[ChannelKey.parse("webdav")]
        async with raw_link(play.s1, "webdav", play.s1.session.session_id) as wire:
            await play.client.wait_until(
                lambda: play.client.session is not None and bool(play.client.session.lost)
            )
            assert play.s1.session.channels[ChannelKey.parse("webdav")] is not first
            message = await wire.receive()
            assert message is not None
        assert play.s1.session is not None


async def test_losing_one_channel_costs_that_channel_only() -> None:
    async with scene() as play:
        assert play.s1.session is not None
        play.s1.session.channels[ChannelKey.parse("cursor")].scope.cancel()
        await play.client.wait_until(
            lambda: play.client.session is not None and "cursor:0" in play.client.session.lost
        )
        await until(lambda: "cursor:0" not in {view.name for view in play.s1.channels})
        play.s1.draw()
        await play.client.wait_until(lambda: play.client.drawn == 2)
        assert await play.migrate() == (Source.SEAMLESS, Outcome.MIGRATE)
        assert {view.name for view in play.s2.channels} == ALL_NAMES - {"cursor:0"}


@pytest.mark.parametrize("seamless", [True, False])
async def test_a_destination_with_tls_only_cannot_be_reached(seamless: bool) -> None:
    async with scene(replace(S1, seamless=seamless)) as play:
        play.s1.migrate_connect("127.0.0.1", 0xFFFF, 5901)
        assert await play.s1.wait_client_connected() is Source.REFUSED
        assert "no plain port" in (play.client.migrations[0].refusal or "")
        play.s1.inject(
            "main", Main.MIGRATE_SWITCH_HOST, begin_body(Main.MIGRATE_SWITCH_HOST, port=0, sport=5901)
        )
        with pytest.raises(SimulationError, match="no plain port"):
            await play.client.wait_until(lambda: False)


async def test_a_client_that_goes_away_while_it_is_waited_for_is_lost() -> None:
    async with scene() as play, trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with listeners[0]:
            play.s1.migrate_connect(*listeners[0].socket.getsockname())
            nursery.start_soon(_disconnect_soon, play)
            with pytest.raises(ConnectionLost, match="went away"):
                await play.s1.wait_client_connected()


async def _disconnect_soon(play: Scene) -> None:
    await trio.sleep(0.02)
    play.client.disconnect()


@pytest.mark.parametrize("completed", [True, False])
async def test_a_migration_without_a_client_ends_at_once(completed: bool) -> None:
    async with open_server() as s1, open_server(S2) as s2:
        s1.migrate_connect(*address_of(s2))
        assert await s1.wait_client_connected() is Source.NO_BEGIN
        s1.hand_over_to(s2)
        assert await s1.migrate_end(completed=completed) is (
            Outcome.SWITCH_HOST if completed else Outcome.NOTHING
        )
        assert s1.migration_completed.is_set() == completed
        assert s2.has_guest


async def test_a_destination_that_dies_before_the_switch_costs_the_session(autojump_clock: MockClock) -> None:
    async with scene() as play:
        await play.announce()
        play.s2.abort()
        play.s1.hand_over_to(play.s2)
        await play.s1.migrate_end()
        with pytest.raises(ConnectionLost):
            await play.client.wait_until(lambda: False)


async def test_a_destination_that_hangs_up_instead_of_a_verdict_is_a_connect_error() -> None:
    def hang_up(trace: Trace) -> None:
        if trace.message_id == MainC.MIGRATE_DST_DO_SEAMLESS and play.s2.session is not None:
            play.s2.session.end()

    async with scene(second=replace(S2, observer=hang_up)) as play:
        assert await play.announce() is Source.REFUSED
        assert "main:0" in (play.client.migrations[0].refusal or "")


async def test_an_agent_on_one_host_only_is_told() -> None:
    async with scene(replace(S1, agent=True)) as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        await play.s1.migrate_end()
        with pytest.raises(RuleBroken, match="the agent is on one host") as caught:
            await play.s2.wait_until(lambda: False)
        assert caught.value.by is Side.SERVER


async def test_a_server_that_does_not_run_cannot_migrate() -> None:
    server = SimulatedServer()
    with pytest.raises(SimulationError, match="not running"):
        server.migrate_connect("127.0.0.1", 1)
    server.close()


async def test_a_client_whose_main_is_refused_by_the_new_host_fails(unused_port: int) -> None:
    async with scene(client_options=ClientOptions(main_caps=(0,))) as play:
        body = begin_body(Main.MIGRATE_SWITCH_HOST, port=unused_port)
        play.s1.inject("main", Main.MIGRATE_SWITCH_HOST, body)
        with pytest.raises(ConnectionLost, match=f"cannot connect to 127.0.0.1:{unused_port}"):
            await play.client.wait_migrated()
        assert play.client.session is None
        assert play.client.migrations[0].kind == "switch-host"
        assert play.client.migrations[0].ended_at is None


async def test_a_session_without_name_and_net_test_is_shorter() -> None:
    caps = tuple(1 << bit for bit in (MainCap.SEMI_SEAMLESS_MIGRATE,))
    options = ClientOptions(main_caps=caps)
    async with scene(replace(S1, net_test=False, latency_ping_after_s=None), client_options=options) as play:
        assert play.s1.session is not None
        assert play.s1.session.channels[MAIN].wire.sent.keys() == {Main.INIT, Main.CHANNELS_LIST, Msg.NOTIFY}


async def test_a_session_id_can_be_chosen() -> None:
    async with open_server(replace(S1, session_id=0x1234)) as server, open_client() as client:
        await connect(client, server)
        assert server.session is not None
        assert server.session.session_id == 0x1234
        with pytest.raises(LinkRefused, match="BAD_CONNECTION_ID"):
            async with raw_link(server, "display", 0x1235):
                pass
        assert server.broken_rules == []  # no migration, no rule of migration


def test_words_are_found_for_what_the_peers_send() -> None:
    assert sentence("SPICE_MSG_DISPLAY_DRAW_FILL") == "Fills the box with a colour or a pattern."
    assert sentence("SPICE_MSG_PORT_INIT") == "The port's name."
    assert sentence("SPICE_MSG_MAIN_MIGRATE_CANCEL")
    assert sentence("SPICE_MSG_NEVER") == ""
    assert short_name("SPICE_MSGC_INPUTS_KEY_DOWN") == "KEY_DOWN"
    assert short_name("SPICE_MSG_MAIN_INIT") == "MAIN_INIT"


async def test_words_say_what_a_migrate_asks_for() -> None:
    traces: list[Trace] = []
    async with scene(replace(S1, observer=traces.append)) as play:
        await play.migrate()
    said = {(t.channel.name, t.name): meaning_of(t) for t in traces}
    assert "nothing to carry" in said["cursor:0", "SPICE_MSG_MIGRATE"]
    assert "FLUSH_MARK" in said["display:0", "SPICE_MSG_MIGRATE"]
    assert "88 bytes (DCMD)" in said["display:0", "SPICE_MSG_MIGRATE_DATA"]
