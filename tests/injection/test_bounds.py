"""What is kept because of faults is bounded, and what cannot be kept is said; what fails costs nobody else anything."""

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Main, Msg, MsgC
from dissectors.registry import build
from dissectors.side import Side
from spiceproxy import hooks
from spiceproxy.faults import parse
from spiceproxy.injection import Faults
from tests.injection.faulty import expect, faulty, one
from tests.injection.test_rules_at_run_time import destination
from tests.raw_peers import message, raw_proxy, read_all

PING = message(Msg.PING, bytes(12))
MARK = message(Display.MARK, b"")
PONG = message(MsgC.PONG, bytes(12))


async def test_a_message_that_is_too_long_to_be_held_passes_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spiceproxy.faults.wanted.MAX_HELD_BYTES", 100_000)
    async with faulty(one('"drop"')) as raw:
        client, server = await raw.linked()
        long = message(Msg.PING, bytes(100_001))
        await server.send_all(message(Msg.PING, bytes(100_000)) + long + MARK)
        await expect(client, long + MARK)
        failed = await raw.events.wait_for("fault_failed")
        assert failed["reason"] == "a message of 100001 bytes is too long to be held, and passes"
        assert len(raw.events.named("fault_fired")) == 1


async def test_what_waits_while_others_overtake_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spiceproxy.faults.carry.MAX_WAITING_BYTES", 30)
    async with faulty(one("{ hold = { overtake = true, seconds = 0.3 } }")) as raw:
        client, server = await raw.linked()
        pings = [message(Msg.PING, bytes([n]) * 12) for n in range(3)]
        await server.send_all(b"".join(pings) + MARK)
        await expect(client, pings[2] + MARK)
        assert "2 messages of 24 bytes" in (await raw.events.wait_for("fault_failed"))["reason"]
        await expect(client, pings[0] + pings[1])
        await server.send_all(PING + MARK)  # there is room again
        await expect(client, MARK + PING)


async def test_what_is_put_in_before_a_peer_that_reads_nothing_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spiceproxy.injection.direction.MAX_QUEUED_BYTES", 1000)
    rules = one('{ inject = { message = "SPICE_MSG_DISPLAY_MARK", times = 10 } }', 'message = "PONG"')
    async with faulty(rules) as raw:
        client, server = await raw.linked()
        await server.send_all(PING[:9])  # what is put in has to wait for the rest
        await expect(client, PING[:9])
        await client.send_all(PONG * 20)
        await expect(server, PONG * 20)
        failed = await raw.events.wait_for("fault_failed")
        assert failed["reason"] == "166 messages of 996 bytes wait to go to the client"
        await server.send_all(PING[9:] + PING)
        await expect(client, PING[9:] + MARK * 166 + PING)


@pytest.mark.parametrize(
    "action", ["{ duplicate = 10000 }", '{ inject = { message = "PING", body = "BODY", times = 10000 } }']
)
async def test_more_copies_than_memory_may_hold_are_refused(action: str) -> None:
    async with faulty(one(action.replace("BODY", "00" * 7000))) as raw:
        client, server = await raw.linked()
        long = message(Msg.PING, bytes(7000))
        await server.send_all(long + MARK)
        await expect(client, long + MARK)
        failed = await raw.events.wait_for("fault_failed")
        assert failed["reason"] == "10000 times 7000 bytes are too much to be kept"


async def test_counts_of_connections_that_are_over_are_forgotten() -> None:
    async with faulty(one('"log"', 'message = "PING", nth = 1', count='"connection"')) as raw:
        assert raw.proxy.injector is not None
        for firing in range(1, 4):
            client, server = await raw.linked()
            await server.send_all(PING + PING)
            await expect(client, PING + PING)
            assert raw.proxy.injector.engine.fired("fault 1") == firing
            await client.aclose()
            await server.aclose()
            await raw.events.wait_for("channel_closed", count=firing)
        with trio.fail_after(5):
            while raw.proxy.injector.engine._counts:  # noqa: ASYNC110
                await trio.sleep(0.01)


async def test_an_error_of_ours_in_something_that_waited_costs_an_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with faulty(one("{ delay = { seconds = 0.1, overtake = true } }")) as raw:
        client, server = await raw.linked()

        def fails(*_: object) -> list[object]:
            raise RuntimeError("a slip of ours")

        assert raw.proxy.injector is not None
        monkeypatch.setattr(raw.proxy.injector.engine, "resume", fails)
        await server.send_all(PING)
        assert "a slip of ours" in (await raw.events.wait_for("fault_failed"))["reason"]
        await server.send_all(MARK)
        await expect(client, MARK)
        assert not raw.events.named("connection_crashed")


async def test_a_migration_goes_on_while_a_fault_is_ending_another_connection() -> None:
    @hooks.channel(moment="phase")
    async def nothing(seen: hooks.Seen) -> hooks.Answer:
        return None

    rules = parse(one('"close"')).rules
    async with raw_proxy(faults=Faults(rules, hooks=(nothing,))) as raw:
        main, main_server = await raw.linked(ChannelType.MAIN, connection_id=9)
        display, display_server = await raw.linked(ChannelType.DISPLAY, connection_id=9)
        await display_server.send_all(PING)
        with trio.fail_after(5):
            assert (
                await read_all(display) == b""
            )  # closed by the proxy, which waits for the peers to do the same
        body = build(ChannelType.MAIN, Side.SERVER, Main.MIGRATE_BEGIN, {"dst_info": destination(4)})
        await main_server.send_all(message(Main.MIGRATE_BEGIN, body))
        await raw.events.wait_for("migration_started")
        assert not raw.events.named("migration_unfollowed")
        await main.aclose()
