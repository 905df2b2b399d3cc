"""What a recording says of faults: what each receiver got as packets, what the sender said in comments."""

from pathlib import Path

import pytest
import trio

from dissectors.message_ids import Display, Msg
from dissectors.side import Side
from spiceproxy.capture.events import Summary
from spiceproxy.capture.files import open_capture
from spiceproxy.capture.messages import CapturedMessage, read_messages
from spiceproxy.capture.streams import stream_events
from spiceproxy.demo.result import DemoResult
from spiceproxy.demo.run import DemoOptions, run_demo
from spiceproxy.eventlog import EventLog
from spiceproxy.faults import parse
from spiceproxy.injection import Faults
from spiceproxy.injection.loading import load_faults
from spiceproxy.proxy import ProxyConfig, open_proxy
from spiceproxy.simulate import ServerOptions, open_client, open_server
from tests.injection.faulty import expect, faulty, one
from tests.injection.test_counting import address_of
from tests.raw_peers import (
    AUTH_SPICE,
    TICKET,
    Events,
    link_mess,
    link_reply,
    message,
    read_exactly,
    read_link_block,
)
from tests.recording.tshark import assert_flawless, fields

PING = message(Msg.PING, bytes(12))
MARK = message(Display.MARK, b"")


def recorded(path: Path) -> list[CapturedMessage]:
    """All messages of a recording in which nothing is wrong."""
    summary = Summary()
    with open_capture(str(path)) as source:
        found = [
            each
            for each in read_messages(stream_events(source, summary=summary))
            if isinstance(each, CapturedMessage)
        ]
    assert not summary.problems
    return found


def comments(path: Path) -> list[tuple[str, str]]:
    """Bytes and comment of each packet that has one, but the first of a connection."""
    rows = fields(path, "tcp.len", "frame.comment", only="frame.comment && !(tcp.flags.syn == 1)")
    return [(size, text) for size, text in rows]


async def test_packets_are_what_the_receiver_got_and_comments_what_the_sender_said(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    rules = one("{ set = { id = 7 } }", 'message = "PING", nth = 1', name='"changed"')
    rules += "\n" + one(
        '["drop", { inject = "SPICE_MSG_DISPLAY_MARK" }]', 'message = "PING", nth = 2', name='"gone"'
    )
    rules += "\n" + one("{ stall = { seconds = 0.1 } }", 'message = "PING", nth = 2', name='"slow"')
    async with faulty(rules, record=path) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + PING + PING + MARK)
        changed = message(Msg.PING, b"\7" + bytes(11))
        await expect(client, changed + MARK + PING + MARK)
        await client.aclose()
        await server.aclose()
        await raw.events.wait_for("channel_closed")
    assert_flawless(path)
    got = [each.message for each in recorded(path) if each.message.side is Side.SERVER]
    assert [each.header + each.body for each in got] == [changed, MARK, PING, MARK]
    told = comments(path)
    assert [size for size, _ in told] == ["18", "6", "18"]
    assert (
        told[0][1]
        == f"fault `changed`, firing 1: set id; the server sent SPICE_MSG_PING, 12 bytes: {bytes(12).hex()}"
    )
    assert told[1][1].startswith("fault `gone`, firing 1: drop, inject SPICE_MSG_DISPLAY_MARK")
    assert told[2][1] == "fault `slow`, firing 1: stall"  # it counts what no fault before it has dropped


async def test_a_dropped_message_is_a_comment_on_the_next_packet(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with faulty(one('"drop"'), record=path) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, MARK)
    assert comments(path) == [
        (
            "6",
            f"before this: fault `fault 1`, firing 1: drop; the server sent SPICE_MSG_PING, 12 bytes: {bytes(12).hex()}",
        )
    ]
    assert_flawless(path)


@pytest.mark.parametrize("action", ['"reset"', "{ close = 9 }", '{ close = { to = "client" } }'])
async def test_a_connection_that_a_fault_ends_ends_in_the_recording(action: str, tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with faulty(one(action), record=path) as raw:
        client, server = await raw.linked()
        await server.send_all(MARK + PING)
        await expect(client, MARK)
        await raw.events.wait_for("fault_fired")
        await client.aclose()
        await server.aclose()
        await raw.events.wait_for("channel_closed")
    assert_flawless(path)
    ends = fields(path, "tcp.flags.fin", "tcp.flags.reset", only="tcp.flags.fin == 1 || tcp.flags.reset == 1")
    assert bool([row for row in ends if row[1] == "1"]) is ("reset" in action)


async def test_no_ticket_is_recorded_whatever_a_fault_makes_of_it(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    rules = one("[{ corrupt = 3 }, { delay = 0.1 }]", 'moment = "ticket"')
    async with faulty(rules, record=path) as raw:
        client = await raw.connect()
        await client.send_all(link_mess())
        server = await raw.accept()
        with trio.fail_after(5):
            await read_link_block(server)
            await server.send_all(link_reply())
            await read_link_block(client)
            await client.send_all(AUTH_SPICE + TICKET)
            got = await read_exactly(server, 132)
    data = path.read_bytes()
    assert got[4:] != TICKET
    for secret in (got[4:], TICKET):
        assert not any(secret[at : at + 16] in data for at in range(0, 128, 16))


async def test_capabilities_that_a_fault_changes_are_recorded_as_they_were_read(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    rules = '{ capabilities = { clear = "MINI_HEADER" } }'
    async with faulty(one(rules, 'moment = ["link-message", "link-reply"]'), record=path) as raw:
        client = await raw.connect()
        await client.send_all(link_mess())
        server = await raw.accept()
        with trio.fail_after(5):
            await read_link_block(server)
            await server.send_all(link_reply())
            await read_link_block(client)
            await client.send_all(AUTH_SPICE + TICKET)
            await read_exactly(server, 132)
            await server.send_all(bytes(4) + message(Display.MARK, b"", mini=False))
            await read_exactly(client, 4 + 18)
    (mark,) = recorded(path)
    assert (mark.message.id, len(mark.message.header)) == (Display.MARK, 18)
    assert [text.partition(":")[0] for _, text in comments(path)] == [
        "fault `fault 1`, firing 1",
        "fault `fault 1`, firing 2",
    ]


async def test_live_and_recorded_accounts_of_a_lost_message_agree(tmp_path: Path) -> None:
    from spiceproxy.capture.reports import read_report

    path = tmp_path / "r.pcapng"
    options = DemoOptions(faults=load_faults([], ["lose-data-in-inputs"], []), record=path, time_limit_s=2)
    with trio.fail_after(60):
        result: DemoResult = await run_demo(options, lambda _: None)
    assert result.report is not None
    (live,), (read,) = result.report.migrations, read_report(str(path)).migrations
    assert live.channels["inputs:0"].data_to_destination is None
    assert read.channels["inputs:0"].data_to_destination is None
    assert [each.text for each in live.waiting] == [each.text for each in read.waiting]
    assert any("MIGRATE_DATA" in each.text and "inputs:0" in each.text for each in live.waiting)


RULES = """
[[fault]]
match = { message = "DRAW_FILL", probability = 0.3 }
do = "drop"

[[fault]]
match = { message = "DRAW_FILL", probability = 0.2 }
do = { corrupt = { field = "base.box.top", count = 2 } }

[[fault]]
match = { message = "DRAW_FILL", probability = 0.1 }
do = { inject = "SPICE_MSG_DISPLAY_MARK" }
"""


async def faulted(path: Path, seed: int) -> tuple[list[bytes], list[tuple[str, str, int]]]:
    """What the display of a session with these faults gets, and which fired."""
    events = Events()
    async with (
        open_server(ServerOptions(net_test=False, latency_ping_after_s=None, session_id=5)) as server,
        open_proxy(
            ProxyConfig(
                server=address_of(server),
                record=path,
                events=EventLog([events]),
                faults=Faults(parse(RULES).rules, seed=seed),
            )
        ) as proxy,
        open_client() as client,
    ):
        with trio.fail_after(30):
            await client.connect(*proxy.address)
            await server.wait_client_arrived()
            server.draw(400)
            await server.drawn()
            server.add_surface(77, 55)
            await client.wait_until(lambda: client.received["SPICE_MSG_DISPLAY_SURFACE_CREATE"] == 2)
    display = [
        each.message
        for each in recorded(path)
        if each.connection.channel == "display:0" and each.message.side is Side.SERVER
    ]
    wanted = {Display.DRAW_FILL, Display.MARK}
    fired = [(each["fault"], each["name"], each["firing"]) for each in events.named("fault_fired")]
    return [each.header + each.body for each in display if each.id in wanted], fired


async def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    one_run, again = [await faulted(tmp_path / f"{n}.pcapng", 11) for n in range(2)]
    assert one_run == again
    assert len(one_run[1]) > 100
    other = await faulted(tmp_path / "other.pcapng", 12)
    assert other[0] != one_run[0]
