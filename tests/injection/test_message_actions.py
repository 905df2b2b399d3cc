"""What each action does to messages, on real sockets."""

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Main, MainC, Msg
from tests.injection.faulty import expect, expect_nothing, faulty, one
from tests.raw_peers import message, read_exactly

PING = message(Msg.PING, bytes(12))
MARK = message(Display.MARK, b"")
NOTIFY = message(Msg.NOTIFY, bytes(25))


async def test_a_message_is_dropped_and_what_surrounds_it_passes() -> None:
    async with faulty(one('"drop"')) as raw:
        client, server = await raw.linked()
        await server.send_all(MARK + PING + MARK)
        await expect(client, MARK + MARK)
        await expect_nothing(client)
        fired = await raw.events.wait_for("fault_fired")
        assert (fired["fault"], fired["actions"], fired["name"], fired["firing"], fired["channel"]) == (
            "fault 1", "drop", "SPICE_MSG_PING", 1, "display:0",
        )  # fmt: skip


async def test_a_delayed_message_keeps_what_follows_it_waiting() -> None:
    async with faulty(one("{ delay = 0.3 }")) as raw:
        client, server = await raw.linked()
        began = trio.current_time()
        await server.send_all(MARK + PING + MARK)
        await expect(client, MARK)
        await expect(client, PING + MARK)
        assert trio.current_time() - began >= 0.3


async def test_a_delayed_message_may_be_overtaken() -> None:
    async with faulty(one("{ delay = { seconds = 0.2, overtake = true } }")) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK + MARK)
        await expect(client, MARK + MARK + PING)


async def test_a_field_is_set() -> None:
    async with faulty(one("{ set = { id = 7 } }")) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, message(Msg.PING, b"\7" + bytes(11)) + MARK)


async def test_a_message_of_the_other_side_is_put_in() -> None:
    rules = one('["drop", { inject = "MIGRATE_DST_SEAMLESS_NACK" }]', 'message = "MIGRATE_DST_DO_SEAMLESS"')
    async with faulty(rules) as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        await client.send_all(message(MainC.MIGRATE_DST_DO_SEAMLESS, bytes(4)) + message(1, b""))
        await expect(client, message(Main.MIGRATE_DST_SEAMLESS_NACK, b""))
        await expect(server, message(1, b""))


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


async def test_the_server_is_refused() -> None:
    async with faulty(one('"refuse"', 'moment = "connect"')) as raw:
        client = await raw.connect()
        from tests.raw_peers import link_mess, read_all

        await client.send_all(link_mess())
        with trio.fail_after(5):
            reply = await read_all(client)
        assert reply[:4] == b"REDQ"
        assert int.from_bytes(reply[16:20], "little") == 1
