"""What each action does to messages, on real sockets."""

import struct
import time

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, InputsC, Main, MainC, Msg, MsgC
from tests.injection.faulty import expect, expect_nothing, faulty, one
from tests.raw_peers import message, read_exactly

PING = message(Msg.PING, bytes(12))
MARK = message(Display.MARK, b"")
OTHER = message(9999, b"what nobody knows")


def ping(id_: int) -> bytes:
    return message(Msg.PING, struct.pack("<IQ", id_, 0))


async def test_a_message_is_dropped_and_what_surrounds_it_passes() -> None:
    async with faulty(one('"drop"')) as raw:
        client, server = await raw.linked()
        await server.send_all(MARK + PING + MARK)
        await expect(client, MARK + MARK)
        await expect_nothing(client)
        fired = await raw.events.wait_for("fault_fired")
        told = [fired[key] for key in ("fault", "actions", "name", "firing", "channel")]
        assert told == ["fault 1", "drop", "SPICE_MSG_PING", 1, "display:0"]


async def test_a_delayed_message_keeps_what_follows_it_waiting() -> None:
    async with faulty(one("{ delay = 0.3 }")) as raw:
        client, server = await raw.linked()
        began = trio.current_time()
        await server.send_all(MARK + PING + MARK)
        await expect(client, MARK)
        await expect(client, PING + MARK)
        assert trio.current_time() - began >= 0.3


async def test_a_delay_in_one_direction_is_none_in_the_other() -> None:
    async with faulty(one("{ delay = 60 }")) as raw:
        client, server = await raw.linked()
        await server.send_all(PING)
        await raw.events.wait_for("fault_fired")
        await client.send_all(OTHER)
        await expect(server, OTHER)


async def test_a_delayed_message_may_be_overtaken() -> None:
    async with faulty(one("{ delay = { seconds = 0.2, overtake = true } }")) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK + MARK)
        await expect(client, MARK + MARK + PING)


async def test_a_message_is_held_until_another_connection_of_the_session_says_something() -> None:
    rules = one(
        '{ hold = { until = { message = "PONG", channel = "inputs" } } }',
        'message = "PING", channel = "main"',
    )
    async with faulty(rules) as raw:
        client, server = await raw.linked(ChannelType.MAIN, connection_id=77)
        inputs, _ = await raw.linked(ChannelType.INPUTS, connection_id=77)
        stranger, _ = await raw.linked(ChannelType.INPUTS, connection_id=78)
        await server.send_all(PING + OTHER)
        await stranger.send_all(message(MsgC.PONG, bytes(12)))
        await expect_nothing(client)
        await inputs.send_all(message(MsgC.PONG, bytes(12)))
        await expect(client, PING + OTHER)


async def test_a_message_is_held_until_the_other_side_says_something() -> None:
    rules = one('{ hold = { until = { message = "PONG" }, seconds = 60 } }')
    async with faulty(rules) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect_nothing(client)
        await client.send_all(message(MsgC.PONG, bytes(12)))
        await expect(client, PING + MARK)
        await expect(server, message(MsgC.PONG, bytes(12)))


async def test_a_message_is_held_no_longer_than_is_said() -> None:
    async with faulty(one('{ hold = { until = { message = "PONG" }, seconds = 0.2 } }')) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, PING + MARK)


async def test_a_message_goes_out_behind_the_next_two() -> None:
    async with faulty(one("{ reorder = 2 }")) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK + OTHER + MARK)
        await expect(client, MARK + OTHER + PING + MARK)


async def test_a_message_that_nothing_follows_is_not_kept_for_ever() -> None:
    async with faulty(one("{ reorder = { behind = 2, within = 0.2 } }")) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, MARK + PING)


async def test_a_message_goes_out_three_times() -> None:
    async with faulty(one("{ duplicate = 2 }")) as raw:
        client, server = await raw.linked()
        await server.send_all(ping(1) + MARK)
        await expect(client, ping(1) * 3 + MARK)


async def test_a_field_is_set() -> None:
    async with faulty(one("{ set = { id = 7 } }")) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, ping(7) + MARK)


async def test_a_message_is_replaced() -> None:
    rules = one('{ replace = "MIGRATE_CONNECT_ERROR" }', 'message = "MIGRATE_CONNECTED_SEAMLESS"')
    async with faulty(rules) as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        await client.send_all(message(MainC.MIGRATE_CONNECTED_SEAMLESS, b"") + OTHER)
        await expect(server, message(MainC.MIGRATE_CONNECT_ERROR, b"") + OTHER)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_message_is_put_in_beside_another_one(when: str) -> None:
    rules = one(f'{{ inject = {{ message = "SPICE_MSG_DISPLAY_MARK", when = "{when}", times = 2 }} }}')
    async with faulty(rules) as raw:
        client, server = await raw.linked()
        await server.send_all(OTHER + PING + OTHER)
        await expect(client, OTHER + (MARK * 2 + PING if when == "before" else PING + MARK * 2) + OTHER)


async def test_an_answer_is_given_in_the_other_peers_place() -> None:
    rules = one('["drop", { inject = "MIGRATE_DST_SEAMLESS_NACK" }]', 'message = "MIGRATE_DST_DO_SEAMLESS"')
    async with faulty(rules) as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        await client.send_all(message(MainC.MIGRATE_DST_DO_SEAMLESS, bytes(4)) + OTHER)
        await expect(client, message(Main.MIGRATE_DST_SEAMLESS_NACK, b""))
        await expect(server, OTHER)


async def test_what_is_put_in_later_goes_out_while_all_else_goes_on() -> None:
    async with faulty(one('{ inject = { message = "SPICE_MSG_DISPLAY_MARK", delay = 0.2 } }')) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + OTHER)
        await expect(client, PING + OTHER)
        await expect(client, MARK)


async def test_what_is_put_in_waits_for_the_end_of_a_message_that_is_half_out() -> None:
    rules = one('{ inject = "SPICE_MSG_MAIN_MIGRATE_END" }', 'message = "MIGRATE_CONNECTED"')
    async with faulty(rules) as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        whole = message(9999, b"x" * 1000)
        await server.send_all(whole[:500])
        await expect(client, whole[:500])
        await client.send_all(message(MainC.MIGRATE_CONNECTED, b""))
        await expect(server, message(MainC.MIGRATE_CONNECTED, b""))
        await expect_nothing(client)
        await server.send_all(whole[500:] + whole)
        await expect(client, whole[500:] + message(Main.MIGRATE_END, b"") + whole)


async def test_what_is_put_in_waits_behind_half_a_header() -> None:
    rules = one('{ inject = "SPICE_MSG_MAIN_MIGRATE_END" }', 'message = "MIGRATE_CONNECTED"')
    async with faulty(rules) as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        await server.send_all(
            OTHER + OTHER[:3]
        )  # three bytes of a header are kept back: the wire is at a boundary
        await expect(client, OTHER)
        await client.send_all(message(MainC.MIGRATE_CONNECTED, b""))
        await expect(client, message(Main.MIGRATE_END, b""))
        await server.send_all(OTHER[3:])
        await expect(client, OTHER)


async def test_bytes_of_the_body_change() -> None:
    async with faulty(one('{ corrupt = { at = 1, bytes = "ffff" } }')) as raw:
        client, server = await raw.linked()
        await server.send_all(PING)
        await expect(client, message(Msg.PING, b"\0\xff\xff" + bytes(9)))


async def test_the_seed_says_which_bytes_change() -> None:
    async def corrupted(seed: int) -> bytes:
        async with faulty(one("{ corrupt = 3 }"), seed=seed) as raw:
            client, server = await raw.linked()
            await server.send_all(PING)
            with trio.fail_after(5):
                return await read_exactly(client, len(PING))

    assert await corrupted(1) == await corrupted(1) != await corrupted(2)


async def test_a_body_is_cut_and_another_grows() -> None:
    rules = (
        one("{ truncate = 4 }", 'message = "PING", nth = 1')
        + "\n"
        + one("{ pad = 2 }", 'message = "PING", nth = 2')
    )
    async with faulty(rules) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + PING + MARK)
        await expect(client, message(Msg.PING, bytes(4)) + message(Msg.PING, bytes(14)) + MARK)


async def test_a_header_tells_a_lie() -> None:
    async with faulty(one("{ header = { size = 1000, id = 5 } }")) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, struct.pack("<HI", 5, 1000) + bytes(12) + MARK)


async def test_a_message_comes_in_small_pieces() -> None:
    async with faulty(one("{ split = { bytes = 3, gap = 0.05 } }")) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        pieces: list[bytes] = []
        began = trio.current_time()
        with trio.fail_after(5):
            while sum(len(piece) for piece in pieces) < len(PING):
                pieces.append(await client.receive_some())
        assert [len(piece) for piece in pieces[:5]] == [3] * 5
        assert trio.current_time() - began >= 0.2
        assert b"".join(pieces).startswith(PING)


async def test_two_messages_exchange_their_bodies() -> None:
    async with faulty(one("{ swap = 5 }")) as raw:
        client, server = await raw.linked()
        other_client, other_server = await raw.linked()  # another session: not meant
        await server.send_all(ping(1) + MARK)
        await expect_nothing(client)
        await other_server.send_all(ping(3))
        await expect_nothing(other_client, 0.05)
        assert raw.proxy.injector is not None
        assert len(raw.proxy.injector.waiting) == 2


async def test_two_messages_of_a_session_exchange_their_bodies() -> None:
    rules = one("{ swap = 5 }", 'message = ["SPICE_MSG_PING", "SPICE_MSGC_PONG"]')
    async with faulty(rules) as raw:
        client, server = await raw.linked()
        await server.send_all(ping(1) + MARK)
        await expect_nothing(client, 0.1)
        await client.send_all(message(MsgC.PONG, struct.pack("<IQ", 2, 0)))
        await expect(client, ping(2) + MARK)
        await expect(server, message(MsgC.PONG, struct.pack("<IQ", 1, 0)))


async def test_a_message_gets_the_body_of_the_one_before() -> None:
    async with faulty(one('"copy"')) as raw:
        client, server = await raw.linked()
        await server.send_all(ping(1) + ping(2) + ping(3))
        await expect(client, ping(1) + ping(1) + ping(2))


async def test_a_word_in_the_log() -> None:
    async with faulty(one('{ log = "here we are" }')) as raw:
        client, server = await raw.linked()
        await server.send_all(PING)
        await expect(client, PING)
        assert (await raw.events.wait_for("fault_log"))["message"] == "here we are"


async def test_what_cannot_be_done_costs_an_event_and_the_bytes_go_on() -> None:
    async with faulty(one("{ set = { id = 7 } }")) as raw:
        client, server = await raw.linked()
        short = message(Msg.PING, b"\1")
        await server.send_all(short + MARK)
        await expect(client, short + MARK)
        assert (await raw.events.wait_for("fault_failed"))["fault"] == "fault 1"


async def test_an_error_of_ours_costs_an_event_and_the_bytes_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with faulty(one('"drop"')) as raw:
        client, server = await raw.linked()
        assert raw.proxy.injector is not None

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(raw.proxy.injector.engine, "message", broken)
        await server.send_all(MARK + PING + MARK)
        await expect(client, MARK + PING + MARK)
        failed = await raw.events.wait_for("fault_failed")
        assert failed["level"] == "error"
        assert "a bug" in failed["reason"]


async def test_motion_that_is_dropped_is_acknowledged_in_the_servers_place() -> None:
    async with faulty(one('"drop"', 'message = "MOUSE_MOTION"')) as raw:
        client, server = await raw.linked(ChannelType.INPUTS)
        motion = message(InputsC.MOUSE_MOTION, bytes(10))
        await client.send_all(motion * 3)
        await expect_nothing(client)
        await client.send_all(motion)
        with trio.fail_after(5):
            assert (await read_exactly(client, 6))[:2] == (111).to_bytes(2, "little")
        await expect_nothing(server, 0.05)


async def test_a_rule_that_has_not_fired_is_named_at_the_end() -> None:
    async with faulty(one('"drop"')) as raw:
        await raw.linked()
        events = raw.events
    assert [event["fault"] for event in events.named("fault_never_fired")] == ["fault 1"]


async def test_what_is_due_at_the_same_time_goes_out_in_the_order_in_which_it_came() -> None:
    async with faulty(one("{ delay = { seconds = 0.1, overtake = true } }")) as raw:
        client, server = await raw.linked()
        pings = [message(Msg.PING, bytes([n]) * 12) for n in range(100)]
        await server.send_all(b"".join(pings) + MARK)
        await expect(client, MARK)
        time.sleep(0.2)  # noqa: ASYNC251  the machine is busy: all come due at once
        await expect(client, b"".join(pings))
