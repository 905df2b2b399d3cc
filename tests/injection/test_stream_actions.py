"""What faults do to a connection as a whole, on real sockets."""

import time

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.link import LinkError
from dissectors.message_ids import Display, Msg, MsgC
from spiceproxy.injection import shaping
from tests.injection.faulty import expect, expect_nothing, faulty, one
from tests.raw_peers import RawProxy, message, read_all

PING = message(Msg.PING, bytes(12))
MARK = message(Display.MARK, b"")
OTHER = message(9999, b"what nobody knows")
PONG = message(MsgC.PONG, bytes(12))


async def is_reset(stream: trio.SocketStream) -> bool:
    """Whether the connection ends by RST; what comes before is thrown away."""
    with trio.fail_after(5):
        try:
            await read_all(stream)
        except trio.BrokenResourceError:
            return True
    return False


async def no_connection_is_left(raw: RawProxy) -> None:
    with trio.fail_after(10):
        while any(each.state != "closed" for session in raw.proxy.sessions for each in session.connections):  # noqa: ASYNC110  a view is a copy
            await trio.sleep(0.01)


async def test_a_connection_is_reset_in_the_place_of_a_message() -> None:
    async with faulty(one('"reset"')) as raw:
        client, server = await raw.linked()
        await server.send_all(MARK)
        await expect(client, MARK)
        await server.send_all(PING + MARK)
        assert await is_reset(client)
        assert await is_reset(server)
        closed = await raw.events.wait_for("channel_closed")
        assert (closed["by"], closed["reason"]) == ("proxy", "fault `fault 1`")


async def test_some_bytes_of_a_message_go_out_before_the_reset() -> None:
    async with faulty(one("{ reset = 10 }")) as raw:
        client, server = await raw.linked()
        await server.send_all(MARK + PING)
        await expect(client, MARK + PING[:10])
        assert await is_reset(client)
        assert await is_reset(server)


@pytest.mark.parametrize(("action", "passes"), [('"close"', b""), ("{ close = 8 }", PING[:8]), ("{ close = { after = true } }", PING)])  # fmt: skip
async def test_a_connection_is_closed_in_good_order(action: str, passes: bytes) -> None:
    async with faulty(one(action)) as raw:
        client, server = await raw.linked()
        await server.send_all(MARK + PING + MARK)
        await client.send_all(OTHER)
        with trio.fail_after(5):
            assert await read_all(client) == MARK + passes
            assert await read_all(server) in {OTHER, b""}
        await client.aclose()
        await server.aclose()
        closed = await raw.events.wait_for("channel_closed")
        assert closed["by"] == "proxy"


async def test_one_half_is_closed_and_the_other_goes_on() -> None:
    async with faulty(one('{ close = { to = "client", after = true } }')) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        with trio.fail_after(5):
            assert await read_all(client) == PING
        for _ in range(3):
            await client.send_all(OTHER)
            await expect(server, OTHER)
            await server.send_all(MARK)  # read and thrown away
        await client.aclose()
        with trio.fail_after(5):
            assert await read_all(server) == b""
        await server.aclose()
        await no_connection_is_left(raw)


async def test_nothing_is_read_for_a_while() -> None:
    async with faulty(one('{ stall = { seconds = 0.4, from = "server" } }')) as raw:
        client, server = await raw.linked()
        began = trio.current_time()
        await server.send_all(PING + MARK)  # in one read: what follows the message waits all the same
        await expect(client, PING)
        await client.send_all(OTHER)
        await expect(server, OTHER)
        await expect_nothing(client)
        await expect(client, MARK)
        assert trio.current_time() - began >= 0.4
        await server.send_all(OTHER)
        await expect(client, OTHER)


async def test_a_stalled_sender_comes_to_wait() -> None:
    async with faulty(one('"stall"')) as raw:
        client, server = await raw.linked()
        await server.send_all(PING)
        await expect(client, PING)
        with trio.move_on_after(1) as scope:
            for _ in range(200):
                await server.send_all(message(9999, bytes(10**6)))
        assert scope.cancelled_caught  # the buffers between are full
        await client.send_all(OTHER)
        await expect_nothing(server)


async def test_a_connection_that_is_stalled_for_good_still_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shaping, "LOOK_S", 0.05)
    async with faulty(one('"stall"')) as raw:
        client, server = await raw.linked()
        await server.send_all(PING)
        await expect(client, PING)
        await client.aclose()
        await server.aclose()
        await no_connection_is_left(raw)


async def test_not_more_than_so_many_bytes_a_second_pass() -> None:
    async with faulty(one('{ throttle = { rate = 20000, from = "server" } }')) as raw:
        client, server = await raw.linked()
        began = trio.current_time()
        data = message(9999, bytes(10_000))
        await server.send_all(PING + data)
        await expect(client, PING + data)
        assert trio.current_time() - began >= 0.4
        began = trio.current_time()
        await client.send_all(data)
        await expect(server, data)
        assert trio.current_time() - began < 0.4


async def test_all_arrives_later_and_in_order() -> None:
    async with faulty(one("{ latency = { seconds = 0.2, jitter = 0.1 } }")) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, PING)
        began = trio.current_time()
        await server.send_all(b"".join(message(9999, bytes([n])) for n in range(50)))
        await expect_nothing(client, 0.05)
        await expect(client, MARK + b"".join(message(9999, bytes([n])) for n in range(50)))
        assert trio.current_time() - began >= 0.2
        began = trio.current_time()
        await client.send_all(OTHER)
        await expect(server, OTHER)
        assert trio.current_time() - began >= 0.2


async def test_what_is_sent_is_thrown_away_and_the_connection_stays() -> None:
    async with faulty(one('{ blackhole = { from = "server" } }')) as raw:
        client, server = await raw.linked()
        await server.send_all(PING + MARK)
        await expect(client, PING)
        await expect_nothing(client)
        with trio.fail_after(10):
            for _ in range(20):
                await server.send_all(message(9999, bytes(10**6)))
        await client.send_all(OTHER)
        await expect(server, OTHER)
        await expect_nothing(client, 0.05)


async def test_one_word_resets_every_connection_of_the_session_and_no_other() -> None:
    async with faulty(one('"abort_session"', 'message = "PONG"')) as raw:
        pairs = [await raw.linked(kind, connection_id=5) for kind in (ChannelType.MAIN, ChannelType.DISPLAY)]
        stranger, other = await raw.linked(connection_id=6)
        await pairs[1][0].send_all(PONG)
        for stream in (*pairs[0], *pairs[1]):
            assert await is_reset(stream)
        await other.send_all(MARK)
        await expect(stranger, MARK)


async def test_a_second_client_comes_and_goes() -> None:
    async with faulty(one("{ second_client = { seconds = 0.3, connection_id = 12 } }")) as raw:
        from spiceproxy.simulate.linking import answer_link
        from spiceproxy.simulate.tickets import shared_key

        client, server = await raw.linked(ChannelType.MAIN)
        await server.send_all(PING)
        await expect(client, PING)
        second = await raw.accept()
        ids: list[int] = []

        def admit(_: object, connection_id: int) -> LinkError:
            ids.append(connection_id)
            return LinkError.OK

        with trio.fail_after(5):
            linked = await answer_link(
                second, ticket_key=shared_key(), password=None, mini_header=True, server_caps=lambda _: (15,),
                admit=admit, peer_name="s", observer=None,
            )  # fmt: skip
            assert linked is not None
            assert ids == [12]
            assert await linked.wire.receive() is None  # it leaves by itself
        await server.send_all(MARK)
        await expect(client, MARK)


async def test_a_second_client_that_is_turned_away_costs_an_event() -> None:
    async with faulty(one("{ second_client = 1 }")) as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        await server.send_all(PING)
        await expect(client, PING)
        await (await raw.accept()).aclose()
        assert "second client" in (await raw.events.wait_for("fault_failed"))["reason"]


@pytest.mark.parametrize(
    "do", ['"stall"', "{ stall = 3600 }", "{ latency = 3600 }", "{ throttle = { rate = 1 } }"]
)
async def test_a_connection_that_both_peers_have_left_ends_though_their_bytes_are_still_on_the_way(
    do: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shaping, "LOOK_S", 0.05)
    monkeypatch.setattr("spiceproxy.relay.pump.HALF_CLOSED_IDLE_S", 0.2)
    monkeypatch.setattr("spiceproxy.relay.pump.GONE_GRACE_S", 0.2)
    async with faulty(one(do)) as raw:
        client, server = await raw.linked()
        await server.send_all(PING)
        await expect(client, PING)
        await server.send_all(MARK * 9)
        await client.send_all(OTHER)
        await client.aclose()
        await server.aclose()
        await no_connection_is_left(raw)


async def test_what_is_on_the_way_when_its_sender_leaves_still_arrives() -> None:
    async with faulty(one('{ latency = { seconds = 0.3, from = "server" } }')) as raw:
        client, server = await raw.linked()
        await server.send_all(PING)
        await expect(client, PING)
        began = trio.current_time()
        await server.send_all(MARK)
        await server.aclose()
        with trio.fail_after(5):
            assert await read_all(client) == MARK
        assert trio.current_time() - began >= 0.3


@pytest.mark.parametrize(
    "do",
    ["{ delay = 3600 }", "{ hold = 3600 }", '"stall"', "{ latency = 3600 }", "{ throttle = { rate = 1 } }", '"blackhole"',
     "{ split = { bytes = 1, gap = 3600 } }", "{ reorder = { behind = 9, within = 3600 } }", "{ swap = 3600 }",
     '{ inject = { message = "SPICE_MSG_DISPLAY_MARK", delay = 3600 } }', '"close"'],
)  # fmt: skip
@pytest.mark.parametrize("peers_leave", [True, False], ids=["peers leave", "the proxy stops"])
async def test_nothing_is_left_of_whatever_waits(
    do: str, peers_leave: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shaping, "LOOK_S", 0.05)
    monkeypatch.setattr("spiceproxy.relay.pump.HALF_CLOSED_IDLE_S", 0.2)
    monkeypatch.setattr("spiceproxy.relay.pump.GONE_GRACE_S", 0.2)
    before = trio.lowlevel.current_statistics().tasks_living
    started = time.monotonic()
    async with faulty(one(do)) as raw:
        client, server = await raw.linked()
        await server.send_all(MARK + PING + MARK * 3)
        await client.send_all(OTHER)
        await raw.events.wait_for("fault_fired")
        if peers_leave:
            await client.aclose()
            await server.aclose()
            await no_connection_is_left(raw)
            assert raw.proxy.injector is not None
            assert not raw.proxy.injector.waiting
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert time.monotonic() - started < 10
