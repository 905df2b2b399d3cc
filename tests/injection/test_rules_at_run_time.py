"""Rules that come while connections are open; moments; sessions; hooks."""

import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Main, Msg
from dissectors.registry import build
from dissectors.side import Side
from spiceproxy import hooks
from spiceproxy.faults import parse
from spiceproxy.injection import Faults
from tests.injection.faulty import expect, expect_nothing, faulty, one
from tests.raw_peers import RawProxy, message, raw_proxy, read_exactly

PING = message(Msg.PING, bytes(12))
MARK = message(Display.MARK, b"")


def add(raw: RawProxy, text: str) -> None:
    assert raw.proxy.injector is not None
    for rule in parse(text).rules:
        raw.proxy.injector.engine.add(rule)
    raw.proxy.injector.renew()


async def test_a_rule_that_is_added_reaches_open_connections_and_one_that_is_removed_leaves_them() -> None:
    async with raw_proxy(faults=Faults(live=True)) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, PING + MARK)
        add(raw, one('"drop"'))
        await server.send_all(PING + MARK)
        await expect(client, MARK)
        assert raw.proxy.injector is not None
        raw.proxy.injector.engine.remove("fault 1")
        raw.proxy.injector.renew()
        await server.send_all(PING + MARK)
        await expect(client, PING + MARK)


async def test_a_rule_that_is_added_in_the_middle_of_a_message_waits_for_the_next_one() -> None:
    async with raw_proxy(faults=Faults(live=True)) as raw:
        client, server = await raw.linked()
        await server.send_all(PING[:9])
        await expect(client, PING[:9])
        add(raw, one('"drop"'))
        await server.send_all(PING[9:] + PING + MARK)
        await expect(client, PING[9:] + MARK)


async def test_moments_are_told_in_the_order_of_a_connections_life() -> None:
    names = ("session", "connect", "link-message", "link-reply", "ticket", "auth", "linked", "closed")
    rules = "\n".join(one('"log"', f'moment = "{name}"', name=f'"{name}"') for name in names)
    async with faulty(rules) as raw:
        client, server = await raw.linked(ChannelType.MAIN, connection_id=3)
        await raw.linked(ChannelType.DISPLAY, connection_id=3)
        await client.aclose()
        await server.aclose()
        await raw.events.wait_for("fault_fired", fault="closed")
        events = raw.events
    fired = [(event["connection"], event["fault"]) for event in events.named("fault_fired")]
    assert [name for connection, name in fired if connection == "c1"] == list(names)
    assert [name for connection, name in fired if connection == "c2"] == [
        name for name in names if name != "session"
    ]


async def test_a_message_is_put_in_when_a_connection_is_linked() -> None:
    async with faulty(one('{ inject = "SPICE_MSG_DISPLAY_MARK" }', 'moment = "linked"')) as raw:
        client, server = await raw.linked()
        await expect(client, MARK)
        await server.send_all(PING)
        await expect(client, PING)


def destination(port: int) -> dict[str, object]:
    return {"port": port, "sport": 0, "host_data": b"127.0.0.1\0", "cert_subject_data": b"\0"}


async def test_a_phase_of_the_migration_is_a_moment_of_every_connection() -> None:
    rules = one('"stall"', 'moment = "phase", phase = "connecting", channel = "display"')
    rules += "\n" + one(
        '"log"', 'message = "MIGRATE_BEGIN", migration = 1, phase = "connecting"', name='"begin"'
    )
    async with faulty(rules) as raw:
        main, main_server = await raw.linked(ChannelType.MAIN, connection_id=9)
        display, display_server = await raw.linked(ChannelType.DISPLAY, connection_id=9)
        body = build(ChannelType.MAIN, Side.SERVER, Main.MIGRATE_BEGIN, {"dst_info": destination(4)})
        await display_server.send_all(MARK)
        await expect(display, MARK)
        await main_server.send_all(message(Main.MIGRATE_BEGIN, body))
        with trio.fail_after(5):
            header = await read_exactly(main, 6)
            await read_exactly(main, int.from_bytes(header[2:], "little"))
        await raw.events.wait_for("fault_fired", fault="begin")
        await display_server.send_all(MARK)
        await expect_nothing(display)


async def test_a_destination_that_is_put_in_leads_to_the_proxy_unless_it_is_not_to() -> None:
    fields = 'fields = { dst_info = { port = 7, host_data = "127.0.0.1" } }'
    rules = one(f'{{ inject = {{ message = "MIGRATE_BEGIN", {fields} }} }}', 'message = "PING", nth = 1')
    rules += "\n" + one(
        f'{{ inject = {{ message = "MIGRATE_BEGIN", {fields}, redirect = false }} }}',
        'message = "PING", nth = 2',
    )
    async with faulty(rules) as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        ports = []
        for _ in range(2):
            await server.send_all(PING)
            await expect(client, PING)
            with trio.fail_after(5):
                header = await read_exactly(client, 6)
                body = await read_exactly(client, int.from_bytes(header[2:], "little"))
            assert int.from_bytes(header[:2], "little") == Main.MIGRATE_BEGIN
            ports.append(int.from_bytes(body[:2], "little"))
        opened = await raw.events.wait_for("destination_opened", destination="127.0.0.1:7")
        assert ports == [int(opened["listen"].rpartition(":")[2]), 7]


async def test_a_destination_that_a_fault_changes_goes_out_as_the_fault_says() -> None:
    rules = one('{ set = { "dst_info.port" = 65535 } }', 'message = "MIGRATE_BEGIN"')
    async with faulty(rules) as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        body = build(ChannelType.MAIN, Side.SERVER, Main.MIGRATE_BEGIN, {"dst_info": destination(4)})
        await server.send_all(message(Main.MIGRATE_BEGIN, body))
        with trio.fail_after(5):
            header = await read_exactly(client, 6)
            got = await read_exactly(client, int.from_bytes(header[2:], "little"))
        assert got[:2] == b"\xff\xff"
        assert raw.events.named("destination_opened")
        assert raw.events.named("migration_message")


async def test_hooks_decide_as_rules_do() -> None:
    @hooks.message(message="PING")
    async def away(seen: hooks.Seen) -> hooks.Answer:
        await trio.sleep(0.05)
        return hooks.Drop()

    @hooks.channel(moment="linked")
    async def linked(seen: hooks.Seen) -> hooks.Answer:
        return hooks.Inject("SPICE_MSG_DISPLAY_MARK")

    async with raw_proxy(faults=Faults(hooks=(away, linked))) as raw:
        client, server = await raw.linked()
        await expect(client, MARK)
        await server.send_all(PING + MARK)
        await expect(client, MARK)
        await expect_nothing(client, 0.05)
        assert [event["fault"] for event in raw.events.named("fault_fired")] == ["hook linked", "hook away"]
