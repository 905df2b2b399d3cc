"""What a peer does wrong costs its own connection, with an event that says what it was."""

import errno
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.link import LinkError, parse_link_reply
from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import EventLog
from spiceproxy.proxy import ProxyConfig, open_proxy
from tests.raw_peers import (
    AUTH_SPICE,
    MINI_CAPS,
    TICKET,
    Events,
    RawProxy,
    link_mess,
    link_reply,
    message,
    raw_proxy,
    read_all,
    read_exactly,
    read_link_block,
)


def _patched(data: bytes, offset: int, value: int) -> bytes:
    return data[:offset] + struct.pack("<I", value) + data[offset + 4 :]


GOOD = link_mess()
BAD_LINK_MESSAGES = {
    "wrong magic": (b"HTTP" + GOOD[4:], LinkError.INVALID_MAGIC),
    "wrong magic, four bytes": (b"\x16\x03\x01\x02", LinkError.INVALID_MAGIC),
    "wrong major": (_patched(GOOD, 4, 1), LinkError.VERSION_MISMATCH),
    "size 0xFFFFFFFF": (_patched(GOOD, 12, 0xFFFFFFFF), LinkError.INVALID_DATA),
    "size 17": (_patched(GOOD, 12, 17), LinkError.INVALID_DATA),
    "caps_offset beyond the message": (_patched(GOOD, 16 + 14, 4000), LinkError.INVALID_DATA),
    "caps_offset 0xFFFFFFFF": (_patched(GOOD, 16 + 14, 0xFFFFFFFF), LinkError.INVALID_DATA),
    "caps_offset inside the fixed part": (_patched(GOOD, 16 + 14, 4), LinkError.INVALID_DATA),
    "a billion capability words": (_patched(GOOD, 16 + 6, 10**9), LinkError.INVALID_DATA),
}


async def _witness(raw: RawProxy) -> Callable[[], Awaitable[None]]:
    """A well-behaved connection beside the bad one; call the result to see that it still works."""
    client, server = await raw.linked()

    async def check() -> None:
        with trio.fail_after(5):
            await server.send_all(message(304, b"draw"))
            assert await read_exactly(client, 10) == message(304, b"draw")
            await client.send_all(message(101, b"init"))
            assert await read_exactly(server, 10) == message(101, b"init")

    return check


@pytest.mark.parametrize(("data", "code"), BAD_LINK_MESSAGES.values(), ids=BAD_LINK_MESSAGES)
async def test_a_bad_link_message_is_answered_with_the_link_error_of_spice_server(
    data: bytes, code: LinkError
) -> None:
    async with raw_proxy() as raw:
        check = await _witness(raw)
        client = await raw.connect()
        with trio.fail_after(5):
            await client.send_all(data)
            assert parse_link_reply(await read_all(client)).error == code
        event = await raw.events.wait_for("link_failed")
        assert (event["by"], event["level"]) == ("client", "warning")
        assert event["reason"]
        await check()


async def test_a_truncated_link_message_is_logged_with_its_length() -> None:
    async with raw_proxy() as raw:
        client = await raw.connect()
        await client.send_all(GOOD[:20])
        await client.send_eof()
        with trio.fail_after(5):
            assert await read_all(client) == b""
        assert "20 bytes" in (await raw.events.wait_for("link_failed", by="client"))["reason"]


async def test_a_client_that_says_nothing_is_dropped_after_the_link_timeout() -> None:
    async with raw_proxy(link_timeout_s=0.2) as raw:
        client = await raw.connect()
        with trio.fail_after(5):
            assert await read_all(client) == b""
        assert "0.2 s" in (await raw.events.wait_for("link_failed"))["reason"]


async def test_a_server_that_says_nothing_is_dropped_after_the_link_timeout() -> None:
    async with raw_proxy(link_timeout_s=0.3) as raw:
        client = await raw.connect()
        await client.send_all(GOOD)
        server = await raw.accept()
        with trio.fail_after(5):
            assert await read_all(client) == b""
            await read_link_block(server)
            assert await read_all(server) == b""
        event = await raw.events.wait_for("link_failed", by="server")
        assert "link reply" in event["reason"]


async def test_a_server_that_is_not_there_gives_the_client_a_link_error() -> None:
    async with raw_proxy() as raw:
        await raw.listener.aclose()
        client = await raw.connect()
        with trio.fail_after(5):
            await client.send_all(GOOD)
            assert parse_link_reply(await read_all(client)).error == LinkError.ERROR
        event = await raw.events.wait_for("link_failed", by="server")
        assert event["reason"] == f"cannot connect to {raw.proxy.config.server}: Connection refused"


async def test_a_server_whose_name_is_unknown_is_said_so() -> None:
    config = ProxyConfig(server=Address("no-such-host.invalid", 5900), events=EventLog([events := Events()]))
    async with open_proxy(config) as proxy, await trio.open_tcp_stream(*proxy.address) as client:
        with trio.fail_after(20):
            await client.send_all(GOOD)
            assert parse_link_reply(await read_all(client)).error == LinkError.ERROR
        assert "no-such-host.invalid:5900: " in (await events.wait_for("link_failed"))["reason"]


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "\u2028"])
async def test_a_server_whose_name_cannot_be_one_is_said_so(host: str) -> None:
    config = ProxyConfig(server=Address(host, 5900), events=EventLog([events := Events()]))
    async with open_proxy(config) as proxy, await trio.open_tcp_stream(*proxy.address) as client:
        with trio.fail_after(20):
            await client.send_all(GOOD)
            assert parse_link_reply(await read_all(client)).error == LinkError.ERROR
        assert (await events.wait_for("link_failed"))[
            "reason"
        ] == f"cannot connect to {host}:5900: not a host name"
    with pytest.raises(UsageError, match="not a host name"):
        sockets.listen(host, (0,))


async def test_a_server_that_refuses_the_link_is_passed_on_and_named() -> None:
    async with raw_proxy() as raw:
        client = await raw.connect()
        await client.send_all(GOOD)
        server = await raw.accept()
        with trio.fail_after(5):
            await read_link_block(server)
            refusal = link_reply(error=LinkError.NEED_SECURED)
            await server.send_all(refusal)
            await server.send_eof()
            assert await read_all(client) == refusal
        assert (await raw.events.wait_for("link_refused"))["error"] == "SPICE_LINK_ERR_NEED_SECURED"


async def test_a_client_that_does_not_read_the_last_of_the_link_phase_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare = sockets.prepare

    def small(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        prepare(connection)

    monkeypatch.setattr(sockets, "prepare", small)
    async with raw_proxy(link_timeout_s=0.5) as raw:
        client = await raw.connect()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caps = (0b1111,)
        await client.send_all(link_mess(caps=caps))
        server = await raw.accept()
        await server.send_all(link_reply(caps=caps))
        with trio.fail_after(10):
            assert await read_link_block(server)
            await client.send_all(struct.pack("<I", 2))
            await read_exactly(server, 4)
            await server.send_all(struct.pack("<I", 7) + b",PLAIN,")
            await client.send_all(struct.pack("<I", 5) + b"PLAIN" + struct.pack("<I", 0))
            await read_exactly(server, 4 + 5 + 4)
            step = struct.pack("<I", 2**20) + bytes(2**20) + b"\1"  # the longest there may be, and the last
            await server.send_all(step + bytes(4) + bytes(4))
        failed = await raw.events.wait_for("link_failed")
        assert (failed["by"], failed["reason"]) == ("client", "did not read the server's answer within 0.5 s")


async def test_a_server_that_closes_without_a_word_closes_the_client() -> None:
    async with raw_proxy() as raw:
        client = await raw.connect()
        await client.send_all(GOOD)
        server = await raw.accept()
        with trio.fail_after(5):
            await read_link_block(server)
            await server.aclose()
            assert await read_all(client) == b""
        assert "link reply" in (await raw.events.wait_for("link_failed", by="server"))["reason"]


BAD_REPLIES = {
    "no SPICE": b"SSH-2.0-OpenSSH_9.2\r\n",
    "size 0xFFFFFFFF": _patched(link_reply(), 12, 0xFFFFFFFF),
    "size 10": _patched(link_reply(), 12, 10),
    "caps_offset out of range": _patched(link_reply(), 16 + 174, 9000),
    "too many capability words": _patched(link_reply(), 16 + 166, 0x40000000),
}


@pytest.mark.parametrize("reply", BAD_REPLIES.values(), ids=BAD_REPLIES)
async def test_a_bad_link_reply_closes_the_connection_and_blames_the_server(reply: bytes) -> None:
    async with raw_proxy() as raw:
        check = await _witness(raw)
        client = await raw.connect()
        await client.send_all(GOOD)
        server = await raw.accept()
        with trio.fail_after(5):
            await read_link_block(server)
            await server.send_all(reply)
            await read_all(client)
        event = await raw.events.wait_for("link_failed", by="server")
        assert event["reason"]
        await check()


@pytest.mark.parametrize("guilty", ["client", "server"])
async def test_an_absurd_message_size_ends_the_connection_and_names_the_side(guilty: str) -> None:
    async with raw_proxy() as raw:
        check = await _witness(raw)
        client, server = await raw.linked()
        sender, receiver = (client, server) if guilty == "client" else (server, client)
        good = message(103, b"good")
        with trio.fail_after(5):
            await sender.send_all(good + struct.pack("<HI", 104, 0xFFFFFFF0) + b"garbage")
            assert await read_all(receiver) == good  # what came before arrives, the rest does not
        closed = await raw.events.wait_for("channel_closed")
        assert closed["by"] == guilty
        assert "4294967280 bytes" in closed["reason"]
        await check()


async def test_garbage_after_the_link_phase_costs_only_its_connection() -> None:
    async with raw_proxy() as raw:
        check = await _witness(raw)
        client, server = await raw.linked(ChannelType.MAIN)
        with trio.fail_after(5):
            await client.send_all(b"GARBAGE GARBAGE GARBAGE")
            assert await read_all(server) == b""
            assert await read_all(client) == b""
        closed = await raw.events.wait_for("channel_closed")
        assert closed["by"] == "client"
        assert "at byte" in closed["reason"]
        await check()


async def test_a_destination_message_with_wild_offsets_passes_unchanged_and_is_reported() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        body = struct.pack("<HHIIII", 5900, 0, 0xFFFFFFFF, 0xFFFFFFF0, 10**9, 3)
        with trio.fail_after(5):
            await server.send_all(message(101, body))
            assert await read_exactly(client, 6 + len(body)) == message(101, body)
        assert (await raw.events.wait_for("message_not_rewritten"))["level"] == "error"


async def test_a_destination_message_too_long_to_be_held_passes_and_is_reported() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        long = message(111, struct.pack("<HHIIII", 5900, 0, 10, 20, 0, 0) + bytes(200_000))
        with trio.fail_after(5):
            await server.send_all(long)
            assert await read_exactly(client, len(long)) == long
        assert "200020 bytes" in (await raw.events.wait_for("message_not_rewritten"))["reason"]


async def test_early_client_bytes_without_end_are_refused() -> None:
    async with raw_proxy() as raw:
        client = await raw.connect()
        with trio.fail_after(10):
            await client.send_all(GOOD)
            server = await raw.accept()
            await read_link_block(server)
            with pytest.raises(trio.BrokenResourceError):  # noqa: PT012  which of them fails is not ours to say
                while True:
                    await client.send_all(bytes(2**16))
        assert "link reply was awaited" in (await raw.events.wait_for("link_failed", by="client"))["reason"]


async def test_data_that_comes_with_the_ticket_is_not_lost() -> None:
    async with raw_proxy() as raw:
        client = await raw.connect()
        early = message(101, b"early")
        with trio.fail_after(5):
            await client.send_all(GOOD)
            server = await raw.accept()
            await read_link_block(server)
            await server.send_all(link_reply(caps=MINI_CAPS))
            await read_link_block(client)
            await client.send_all(AUTH_SPICE + TICKET + early)
            assert await read_exactly(server, 132) == AUTH_SPICE + TICKET
            first = message(101, b"first")
            await server.send_all(bytes(4) + first)
            assert await read_exactly(client, 4 + len(first)) == bytes(4) + first
            assert await read_exactly(server, len(early)) == early


async def test_a_proxy_without_free_descriptors_goes_on_accepting_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, failures = sockets.accept, iter([OSError(errno.EMFILE, "Too many open files")])

    async def accept(listener: socket.socket) -> socket.socket:
        for failure in failures:
            raise failure
        return await real(listener)

    monkeypatch.setattr(sockets, "accept", accept)
    async with raw_proxy() as raw:
        event = await raw.events.wait_for("accept_failed")
        assert event["reason"] == "Too many open files"
        await raw.linked()


async def test_connections_and_sessions_are_gone_when_their_peers_are() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked()
        await raw.events.wait_for("channel_linked")
        assert [connection.state for connection in raw.proxy.sessions[0].connections] == ["open"]
        await client.aclose()
        with trio.fail_after(5):
            assert await read_all(server) == b""
        await server.aclose()
        await raw.events.wait_for("session_ended")
        (session,) = raw.proxy.sessions
        assert session.ended
        assert [connection.state for connection in session.connections] == ["closed"]


def test_an_address_prints_as_it_is_written() -> None:
    assert str(Address("::1", 5900)) == "[::1]:5900"
