"""The link phase: tickets, errors, and peers that do not speak SPICE."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from dissectors.channels import ChannelType
from dissectors.link import (
    LinkError,
    LinkMessage,
    LinkReplyMessage,
    build_link_error,
    build_link_mess,
    build_link_reply,
    parse_link_reply,
)
from dissectors.message_ids import InputsC
from spiceproxy.simulate import (
    ClientOptions,
    ConnectionLost,
    LinkRefused,
    ServerOptions,
    SimulatedClient,
    SimulatedServer,
    SimulationError,
    open_client,
    open_server,
)
from spiceproxy.simulate.tickets import TicketKey, make_ticket
from tests.simulate.peers import S1, S2, address_of, connect, scene, until, use

GOOD = ServerOptions(password="correct horse")
COMMON = (0x09,)


async def test_the_right_password_opens_a_session() -> None:
    async with open_server(GOOD) as server, open_client(ClientOptions(password="correct horse")) as client:
        await connect(client, server)
        await use(client, server)
        assert {view.name for view in client.channels} == {view.name for view in server.channels} != set()


@pytest.mark.parametrize("password", ["wrong", "", None, "correct horse battery", "correct hors\u00e9"])
async def test_another_password_is_refused(password: str | None) -> None:
    async with open_server(GOOD) as server, open_client(ClientOptions(password=password)) as client:
        with pytest.raises(LinkRefused, match="PERMISSION_DENIED") as caught:
            await client.connect(*address_of(server))
        assert caught.value.code == LinkError.PERMISSION_DENIED
        assert not server.channels


async def test_without_ticketing_any_password_is_good() -> None:
    async with open_server() as server, open_client(ClientOptions(password="anything")) as client:
        await connect(client, server)
        assert {view.name for view in client.channels} == {view.name for view in server.channels} != set()


async def test_a_password_migrates_along() -> None:
    secret = "correct horse"
    options = ClientOptions(password=secret)
    async with scene(replace(S1, password=secret), replace(S2, password=secret), options) as play:
        await play.migrate()
        await use(play.client, play.s2)
        assert {view.name for view in play.s2.channels} == {view.name for view in play.client.channels}


def test_options_do_not_show_passwords() -> None:
    assert "horse" not in repr(GOOD)
    assert "horse" not in repr(ClientOptions(password="correct horse"))


def test_a_password_of_sixty_characters_is_turned_down() -> None:
    SimulatedClient(ClientOptions(password="x" * 59))
    with pytest.raises(SimulationError, match="59"):
        SimulatedClient(ClientOptions(password="x" * 60))


def test_a_ticket_opens_with_its_own_key_only() -> None:
    key, other = TicketKey(), TicketKey()
    ticket = make_ticket(key.public_der, "secret")
    assert len(key.public_der) == 162
    assert key.opens(ticket, "secret")
    assert key.opens(ticket, None)
    assert not key.opens(ticket, "other")
    assert not other.opens(ticket, None)
    assert not key.opens(bytes(128), None)


@pytest.mark.parametrize("der", [b"", bytes(162), b"\x30\x81\x9f"])
def test_a_key_that_is_none_is_turned_down(der: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - what cryptography says
        make_ticket(der, "secret")


@asynccontextmanager
async def speak(server: SimulatedServer) -> AsyncIterator[trio.SocketStream]:
    async with await trio.open_tcp_stream(*address_of(server)) as stream:
        with trio.fail_after(5):
            yield stream


async def read_all(stream: trio.SocketStream) -> bytes:
    data = b""
    try:
        while more := await stream.receive_some(65536):
            data += more
    except trio.BrokenResourceError:  # closed with bytes of ours unread
        pass
    return data


HEADER = struct.Struct("<4sIII")


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", LinkError.INVALID_MAGIC),
        (HEADER.pack(b"REDQ", 1, 0, 18) + bytes(18), LinkError.VERSION_MISMATCH),
        (HEADER.pack(b"REDQ", 2, 2, 17), LinkError.INVALID_DATA),
        (HEADER.pack(b"REDQ", 2, 2, 4097), LinkError.INVALID_DATA),
        (HEADER.pack(b"REDQ", 2, 2, 0xFFFFFFFF), LinkError.INVALID_DATA),
        (HEADER.pack(b"REDQ", 2, 2, 18) + struct.pack("<IBBIII", 0, 1, 0, 1, 0, 18), LinkError.INVALID_DATA),
        (
            HEADER.pack(b"REDQ", 2, 2, 22) + struct.pack("<IBBIIII", 0, 1, 0, 1, 0, 4, 9),
            LinkError.INVALID_DATA,
        ),
    ],
)
async def test_a_bad_link_message_gets_the_link_error_that_spice_server_gives(
    first: bytes, code: LinkError
) -> None:
    async with open_server() as server:
        async with speak(server) as stream:
            await stream.send_all(first)
            assert await read_all(stream) == build_link_error(code)
        async with open_client() as client:
            await connect(client, server)


async def test_a_channel_that_is_not_there_is_closed_without_a_word() -> None:
    async with open_server() as server, speak(server) as stream:
        await stream.send_all(build_link_mess(LinkMessage(5, ChannelType.WEBDAV, 0, COMMON)))
        assert await read_all(stream) == b""


async def test_an_unknown_auth_mechanism_is_invalid_data() -> None:
    async with open_server() as server, speak(server) as stream:
        await stream.send_all(
            build_link_mess(LinkMessage(0, 1, 0, COMMON)) + struct.pack("<I", 2) + bytes(128)
        )
        assert (await read_all(stream)).endswith(build_link_error(LinkError.INVALID_DATA))


async def test_a_client_without_auth_selection_sends_its_ticket_at_once() -> None:
    async with open_server(GOOD) as server, speak(server) as stream:
        await stream.send_all(build_link_mess(LinkMessage(0, 1, 0, (0x08,))))
        reply = parse_link_reply(await stream.receive_some(206))
        await stream.send_all(make_ticket(reply.pub_key, "correct horse"))
        assert await stream.receive_some(4) == bytes(4)
        await server.wait_until(lambda: bool(server.channels))
        server.forget()


async def test_main_is_main_under_any_id() -> None:
    async with open_server() as server, speak(server) as stream:
        await stream.send_all(build_link_mess(LinkMessage(0, 1, 7, COMMON)))
        reply = parse_link_reply(await stream.receive_some(206))
        await stream.send_all(struct.pack("<I", 1) + make_ticket(reply.pub_key, ""))
        await server.wait_until(lambda: bool(server.channels))
        assert [view.name for view in server.channels] == ["main:0"]


async def test_a_link_that_stops_in_the_middle_is_closed_in_time(autojump_clock: MockClock) -> None:
    async with open_server() as server:
        async with await trio.open_tcp_stream(*address_of(server)) as stream:
            started = trio.current_time()
            await stream.send_all(b"REDQ")
            assert await read_all(stream) == b""
            assert trio.current_time() - started == pytest.approx(server.options.link_timeout_s, abs=0.5)
        assert not server.broken_rules


async def test_a_new_client_sends_the_old_one_away() -> None:
    async with open_server() as server, open_client() as old, open_client() as new:
        await connect(old, server)
        await connect(new, server)
        with pytest.raises(ConnectionLost):
            await old.wait_until(lambda: False)
        await use(new, server)


async def test_a_body_over_64_mib_ends_the_connection() -> None:
    async with open_server() as server, speak(server) as stream:
        await stream.send_all(build_link_mess(LinkMessage(0, 1, 0, COMMON)))
        reply = parse_link_reply(await stream.receive_some(206))
        await stream.send_all(struct.pack("<I", 1) + make_ticket(reply.pub_key, ""))
        assert await stream.receive_some(4) == bytes(4)
        await stream.send_all(struct.pack("<HI", 107, 2**26 + 1))
        await read_all(stream)
        assert "67108865 bytes" in server.remarks[0]
        assert server.session is None


@asynccontextmanager
async def answering(*answers: bytes, hold: bool = False) -> AsyncIterator[tuple[str, int]]:
    """A server that says `answers` to whoever connects, and then closes, or not."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(65536)
            for data in answers:
                await stream.send_all(data)
            if hold:
                await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, listeners)
        host, port = listeners[0].socket.getsockname()
        yield host, port
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"RFB 003.008\n" + bytes(8), "does not speak SPICE.*VNC"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak SPICE"),
        (HEADER.pack(b"REDQ", 2, 2, 2**31), "does not speak SPICE"),
        (b"", "closed"),
        (b"REDQ", "closed"),
        (build_link_error(LinkError.NEED_SECURED), "NEED_SECURED"),
        (build_link_error(77), "error 77"),
        (build_link_reply(LinkReplyMessage(0, bytes(162), (0x0B,), (0x0F,))), "does not speak SPICE"),
    ],
)
async def test_a_server_that_is_none_gives_a_clear_error(answer: bytes, message: str) -> None:
    async with answering(answer) as (host, port), open_client() as client:
        with trio.fail_after(5), pytest.raises(SimulationError, match=message):
            await client.connect(host, port)
        assert client.session is None


async def test_nobody_there_gives_a_clear_error(unused_port: int) -> None:
    async with open_client() as client:
        with pytest.raises(ConnectionLost, match=f"cannot connect to 127.0.0.1:{unused_port}"):
            await client.connect("127.0.0.1", unused_port)


async def test_a_server_that_says_nothing_is_given_up_in_time(autojump_clock: MockClock) -> None:
    async with answering(hold=True) as (host, port), open_client() as client:
        started = trio.current_time()
        with pytest.raises(ConnectionLost, match="within 30 s"):
            await client.connect(host, port)
        assert trio.current_time() - started == pytest.approx(30, abs=0.5)


async def test_a_port_that_is_taken_gives_a_clear_error() -> None:
    async with open_server() as server:
        second = SimulatedServer(ServerOptions(port=address_of(server).port))
        with pytest.raises(SimulationError, match=r"cannot listen on 127\.0\.0\.1"):
            await second.serve()


def test_a_channel_that_nobody_knows_is_turned_down() -> None:
    for name in ("dispaly", "display:x", "main", "smartcard"):
        with pytest.raises(SimulationError):
            SimulatedServer(ServerOptions(channels=(name,)))


async def test_what_cannot_be_done_is_said_at_once() -> None:
    client = SimulatedClient()
    with pytest.raises(SimulationError, match="not running"):
        await client.connect("127.0.0.1", 1)
    with pytest.raises(SimulationError, match="not connected"):
        client.send_key()
    async with scene() as play:
        with pytest.raises(SimulationError, match="connected already"):
            await play.client.connect("127.0.0.1", 1)
        with pytest.raises(SimulationError, match="port"):
            play.s1.migrate_connect("127.0.0.1", 0xFFFF, 0)
        with pytest.raises(SimulationError, match="guest is not here"):
            play.s2.draw()
        with pytest.raises(SimulationError, match="not linked"):
            play.client.inject("usbredir:4", InputsC.KEY_DOWN)
        with pytest.raises(SimulationError, match="no client has linked"):
            play.s2.inject("main", 1)


async def test_a_server_that_dies_is_noticed() -> None:
    async with scene() as play:
        play.s1.abort()
        with pytest.raises(ConnectionLost):
            await play.client.wait_until(lambda: False)
        await until(lambda: play.client.session is None)
