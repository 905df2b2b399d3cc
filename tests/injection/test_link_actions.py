"""What faults do to the link phase, on real sockets."""

import struct

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.link import (
    LinkError,
    LinkMessage,
    build_link_error,
    build_link_mess,
    parse_link_mess,
    parse_link_reply,
)
from dissectors.message_ids import Display, Msg
from tests.injection.faulty import expect, expect_nothing, faulty, one
from tests.raw_peers import (
    AUTH_SPICE,
    FULL_CAPS,
    MINI_CAPS,
    TICKET,
    RawProxy,
    link_mess,
    link_reply,
    message,
    read_all,
    read_exactly,
    read_link_block,
)

PERMISSION_DENIED = 7


async def begin(raw: RawProxy) -> tuple[trio.SocketStream, trio.SocketStream]:
    """A client that has sent its link message, and the server."""
    client = await raw.connect()
    await client.send_all(link_mess(ChannelType.MAIN))
    return client, await raw.accept()


@pytest.mark.parametrize("sender", ["client", "server", "both"])
async def test_capabilities_change_and_the_header_is_what_the_peers_agreed_on(sender: str) -> None:
    moments = {"client": '"link-message"', "server": '"link-reply"', "both": '["link-message", "link-reply"]'}
    rules = one('{ capabilities = { clear = "MINI_HEADER" } }', f"moment = {moments[sender]}") + "\n"
    rules += one("{ set = { id = 9 } }")
    async with faulty(rules) as raw:
        client, server = await begin(raw)
        with trio.fail_after(5):
            seen = parse_link_mess(await read_link_block(server))
            assert seen.common_caps == (MINI_CAPS if sender == "server" else FULL_CAPS)
            await server.send_all(link_reply())
            reply = parse_link_reply(await read_link_block(client))
            assert reply.common_caps == (MINI_CAPS if sender == "client" else FULL_CAPS)
            await client.send_all(AUTH_SPICE + TICKET)
            await read_exactly(server, 132)
            await server.send_all(bytes(4))
            await read_exactly(client, 4)
        # The server goes by what it has read and sent; the proxy reads its messages the same way.
        full = sender != "server"
        body = struct.pack("<IQ", 1, 0)
        await server.send_all(message(Msg.PING, body, mini=not full, serial=1))
        await expect(client, message(Msg.PING, struct.pack("<IQ", 9, 0), mini=not full, serial=1))


async def test_a_client_without_auth_selection_sends_no_mechanism() -> None:
    rules = one('{ capabilities = { clear = "PROTOCOL_AUTH_SELECTION" } }', 'moment = "link-reply"')
    async with faulty(rules) as raw:
        client, server = await begin(raw)
        with trio.fail_after(5):
            await read_link_block(server)
            await server.send_all(link_reply())
            await read_link_block(client)
            await client.send_all(TICKET)
            assert await read_exactly(server, 128) == TICKET
            await server.send_all(bytes(4))
            assert await read_exactly(client, 4) == bytes(4)
        await raw.events.wait_for("channel_linked")


async def test_fields_of_the_link_message_change() -> None:
    async with faulty(
        one("{ link = { connection_id = 99, channel_id = 3 } }", 'moment = "link-message"')
    ) as raw:
        _, server = await begin(raw)
        with trio.fail_after(5):
            seen = await read_link_block(server)
        assert seen == build_link_mess(LinkMessage(99, ChannelType.MAIN, 3, MINI_CAPS, ()))


@pytest.mark.parametrize("moment", ["connect", "link-reply"])
async def test_the_client_gets_a_link_error(moment: str) -> None:
    async with faulty(one('{ link_error = "CHANNEL_NOT_AVAILABLE" }', f'moment = "{moment}"')) as raw:
        client = await raw.connect()
        await client.send_all(link_mess())
        if moment == "link-reply":
            server = await raw.accept()
            await server.send_all(link_reply())
        with trio.fail_after(5):
            assert await read_all(client) == build_link_error(LinkError.CHANNEL_NOT_AVAILABLE)
        await client.aclose()
        await raw.events.wait_for("session_ended")


async def test_the_ticket_is_turned_down() -> None:
    async with faulty(one('"auth_fail"', 'moment = "auth"')) as raw:
        client, server = await begin(raw)
        with trio.fail_after(5):
            await read_link_block(server)
            await server.send_all(link_reply())
            await read_link_block(client)
            await client.send_all(AUTH_SPICE + TICKET)
            await read_exactly(server, 132)
            await server.send_all(bytes(4))
            assert await read_all(client) == struct.pack("<I", PERMISSION_DENIED)


async def test_the_ticket_changes_on_its_way() -> None:
    async with faulty(one("{ corrupt = 1 }", 'moment = "ticket"')) as raw:
        client, server = await begin(raw)
        with trio.fail_after(5):
            await read_link_block(server)
            await server.send_all(link_reply())
            await read_link_block(client)
            await client.send_all(AUTH_SPICE + TICKET)
            got = await read_exactly(server, 132)
        assert sum(one != other for one, other in zip(got[4:], TICKET, strict=True)) == 1
        assert got[:4] == AUTH_SPICE


async def test_the_server_is_refused() -> None:
    async with faulty(one('"refuse"', 'moment = "connect"')) as raw:
        client = await raw.connect()
        await client.send_all(link_mess())
        with trio.fail_after(5):
            assert await read_all(client) == build_link_error(LinkError.ERROR)
        failed = await raw.events.wait_for("link_failed", by="server")
        assert "fault" in failed["reason"]
        with trio.move_on_after(0.1):
            await raw.listener.accept()
            raise AssertionError("the server was dialled")


async def test_a_refusal_may_come_late() -> None:
    async with faulty(one('[{ delay = 0.3 }, "refuse"]', 'moment = "connect"')) as raw:
        client = await raw.connect()
        began = trio.current_time()
        await client.send_all(link_mess())
        with trio.fail_after(5):
            assert await read_all(client) == build_link_error(LinkError.ERROR)
        assert trio.current_time() - began >= 0.3


async def test_a_link_reply_comes_late_and_the_link_goes_on() -> None:
    async with faulty(one("{ delay = 0.3 }", 'moment = "link-reply"')) as raw:
        began = trio.current_time()
        client, server = await raw.linked()
        assert trio.current_time() - began >= 0.3
        await server.send_all(message(Display.MARK, b""))
        await expect(client, message(Display.MARK, b""))


async def test_a_link_message_that_is_dropped_never_comes() -> None:
    async with faulty(one('"drop"', 'moment = "link-message"')) as raw:
        _, server = await begin(raw)
        await expect_nothing(server)


async def test_a_link_reply_comes_in_pieces() -> None:
    async with faulty(one("{ split = { bytes = 50, gap = 0.02 } }", 'moment = "link-reply"')) as raw:
        client, server = await begin(raw)
        await server.send_all(link_reply())
        with trio.fail_after(5):
            first = await client.receive_some()
            assert len(first) == 50
            assert first + await read_exactly(client, len(link_reply()) - 50) == link_reply()


async def test_the_link_phase_may_go_through_a_slow_connection() -> None:
    rules = one("[{ latency = 0.1 }, { throttle = { rate = 4000 } }]", 'moment = "connect"')
    async with faulty(rules) as raw:
        began = trio.current_time()
        client, server = await raw.linked()
        assert trio.current_time() - began >= 0.3  # reply, ticket and result come 0.1 s later each
        await server.send_all(message(Display.MARK, b""))
        await expect(client, message(Display.MARK, b""))


async def test_nothing_comes_from_a_server_in_a_black_hole() -> None:
    async with faulty(one('"blackhole"', 'moment = "connect"'), link_timeout_s=0.5) as raw:
        client, server = await begin(raw)
        await expect_nothing(server)
        with trio.fail_after(5):
            assert await read_all(client) == b""
            assert await read_all(server) == b""
        await raw.events.wait_for("link_failed")
