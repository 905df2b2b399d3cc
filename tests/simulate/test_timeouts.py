"""The protocol's deadlines, on a clock that jumps."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dissectors.message_ids import Main
from spiceproxy.address import Address
from spiceproxy.simulate import Outcome, RuleBroken, Source
from spiceproxy.simulate.client_migration import ClientMigration
from spiceproxy.simulate.errors import ConnectionLost
from spiceproxy.simulate.server_channels import DisplayServer
from tests.simulate.peers import S1, connect, scene, until, use

Patch = pytest.MonkeyPatch


@contextmanager
def deaf_listener() -> Iterator[Address]:
    """A port whose connections are neither accepted nor refused: the kernel drops what the full queue cannot take."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = Address(*listener.getsockname())
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        try:
            yield address
        finally:
            for filler in fillers:
                filler.close()


async def test_a_destination_that_does_not_accept_is_given_up_after_10_seconds(
    autojump_clock: MockClock,
) -> None:
    with deaf_listener() as address:
        async with scene(replace(S1, migrate_timeout_s=11)) as play:
            started = trio.current_time()
            play.s1.migrate_connect(*address)
            assert await play.s1.wait_client_connected() is Source.REFUSED
            assert trio.current_time() - started == pytest.approx(10, abs=0.2)
            assert "within 10 s" in (play.client.migrations[0].refusal or "")
            await use(play.client, play.s1)


async def test_a_destination_that_accepts_and_says_nothing_lets_the_source_time_out(
    autojump_clock: MockClock,
) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(10)
        async with scene() as play:
            started = trio.current_time()
            play.s1.migrate_connect(*listener.getsockname())
            assert await play.s1.wait_client_connected() is Source.TIMED_OUT
            assert trio.current_time() - started == pytest.approx(10, abs=0.2)
            # Silently: nothing was sent. The client gives up as well after 30 s, which spice-gtk never does.
            await play.client.wait_until(lambda: play.client.migrations[0].reply is not None)
            assert trio.current_time() - started == pytest.approx(30, abs=0.5)
            await use(play.client, play.s1)
            play.s1.hand_over_to(play.s2)
            assert await play.s1.migrate_end(completed=False) is Outcome.NOTHING


async def test_after_a_timeout_the_client_switches_hosts(
    autojump_clock: MockClock, monkeypatch: Patch
) -> None:
    original = ClientMigration._connect

    async def slow(self: ClientMigration, *arguments: Any) -> bool:
        await trio.sleep(10.5)
        return await original(self, *arguments)

    monkeypatch.setattr(ClientMigration, "_connect", slow)
    async with scene() as play:
        assert await play.announce() is Source.TIMED_OUT
        play.s1.hand_over_to(play.s2)
        assert await play.s1.migrate_end() is Outcome.SWITCH_HOST
        await play.client.wait_until(lambda: play.client.migrations[0].kind == "switch-host")
        await play.s2.wait_client_arrived()
        assert play.client.broken_rules == play.s1.broken_rules == []


async def test_a_begin_waits_for_the_client_to_finish_its_own_arrival(autojump_clock: MockClock) -> None:
    async with scene() as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        # s2 is told to migrate before the client has switched to it.
        play.s2.migrate_connect("127.0.0.1", 1)
        assert play.s2.source.state is Source.IDLE
        await play.s1.migrate_end()
        assert await play.s2.wait_client_connected() is Source.REFUSED


async def test_a_postponed_begin_that_never_goes_out_times_out(autojump_clock: MockClock) -> None:
    async with scene() as play:
        await play.announce()
        started = trio.current_time()
        play.s2.migrate_connect("127.0.0.1", 1)
        assert await play.s2.wait_client_connected() is Source.NO_BEGIN
        assert trio.current_time() - started == pytest.approx(10, abs=0.2)
        assert play.client.received["SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS"] == 1


async def test_a_display_that_cannot_be_written_is_dropped_after_30_seconds(
    autojump_clock: MockClock,
) -> None:
    async with scene(replace(S1, latency_ping_after_s=None)) as play:
        await play.announce()
        assert play.s1.session is not None
        display = next(c for c in play.s1.session.channels.values() if isinstance(c, DisplayServer))
        assert display.window is not None
        display.window.outstanding = 10_000  # as if ACKs had been lost
        play.s1.draw(5)
        play.s1.hand_over_to(play.s2)
        started = trio.current_time()
        outcome = await play.s1.migrate_end()
        assert outcome is Outcome.MIGRATE
        assert trio.current_time() - started == pytest.approx(30, abs=0.5)
        assert "display:0 dropped: 5 messages" in play.s1.remarks[0]
        assert play.client.session is not None
        assert "display:0" in play.client.session.lost


async def test_latency_pings_come_in_pairs_and_again(autojump_clock: MockClock) -> None:
    async with scene() as play:
        await trio.sleep(1)
        first = play.client.received["SPICE_MSG_PING"]
        await trio.sleep(15.5)  # main and display again
        assert play.client.received["SPICE_MSG_PING"] == first + 4


async def test_the_acks_of_a_lost_window_stop_the_stream_at_41(monkeypatch: Patch) -> None:
    async with scene() as play:
        monkeypatch.setattr("spiceproxy.simulate.acks.ClientWindow.count_received", lambda _: False)
        before = play.client.drawn
        play.s1.draw(100)
        await trio.sleep(0.2)
        assert play.s1.session is not None
        (display,) = (c for c in play.s1.session.channels.values() if isinstance(c, DisplayServer))
        assert display.window is not None
        assert display.window.outstanding == 41
        assert play.client.drawn - before < 41


async def test_a_client_that_reconnects_after_a_broken_rule_is_whole(autojump_clock: MockClock) -> None:
    async with scene() as play:
        play.s1.inject("main", Main.MIGRATE_END)
        with pytest.raises(RuleBroken, match="R21"):
            await play.client.wait_until(lambda: False)
        await until(lambda: play.s1.session is None)
        await play.client.connect(*play.s1.address or ("", 0))
        await play.s1.wait_client_arrived()
        await use(play.client, play.s1)


async def test_whoever_waits_for_a_client_that_was_to_come_with_the_guest_hears_that_it_has_left(
    autojump_clock: MockClock,
) -> None:
    async with scene() as play:
        await play.announce()
        play.s1.hand_over_to(play.s2)
        play.client.disconnect()
        with trio.fail_after(1), pytest.raises(ConnectionLost, match="went away before it had arrived"):
            await play.s2.wait_client_arrived(Outcome.MIGRATE)
        await play.client.wait_until(lambda: play.client.session is None)
        # It may come again, as a new one.
        await connect(play.client, play.s2)
