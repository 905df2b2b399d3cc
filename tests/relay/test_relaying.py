"""The relay over real loopback sockets: what arrives is what was sent, and what ends, ends."""

import random
import socket
import struct

import psutil
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.protocol.link import LinkPhase, Unit
from spiceproxy.relay import link_phase, pump
from tests.raw_peers import link_mess, link_reply, message, raw_proxy, read_all, read_exactly, read_link_block

MESSAGES = st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=300)), max_size=30)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    both=st.tuples(MESSAGES, MESSAGES), seed=st.integers(0, 2**32), mini=st.booleans(), record=st.booleans()
)
def test_what_arrives_is_what_was_sent_for_any_messages_and_any_split(
    both: tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]],
    seed: int,
    mini: bool,
    record: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    cuts = random.Random(seed)
    streams = [
        b"".join(message(id_, body, mini=mini, serial=n) for n, (id_, body) in enumerate(messages, 1))
        for messages in both
    ]

    async def main() -> None:
        path = tmp_path_factory.mktemp("recording") / "r.pcapng" if record else None
        async with raw_proxy(record=path) as raw:
            ends = await raw.linked(mini=mini)  # the display channel: nothing is rewritten there
            received: dict[trio.SocketStream, bytes] = {}

            async def send(stream: trio.SocketStream, data: bytes) -> None:
                while data:
                    size = cuts.choice([1, 5, 6, 17, 18, 100, 2000])
                    await stream.send_all(data[:size])
                    data = data[size:]
                await stream.send_eof()

            async def receive(stream: trio.SocketStream) -> None:
                received[stream] = await read_all(stream)

            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    for stream, data in zip(ends, streams, strict=True):
                        nursery.start_soon(send, stream, data)
                        nursery.start_soon(receive, stream)
            client, server = ends
            assert (received[server], received[client]) == tuple(streams)

    trio.run(main)


@pytest.mark.parametrize("mini", [True, False], ids=["mini header", "full header"])
async def test_bytes_go_out_before_their_message_is_complete(mini: bool) -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked(mini=mini)
        whole = message(304, b"x" * 1000, mini=mini)
        with trio.fail_after(5):
            await server.send_all(whole[:500])
            assert await read_exactly(client, 500) == whole[:500]
            await server.send_all(whole[500:])
            assert await read_exactly(client, len(whole) - 500) == whole[500:]


async def test_a_message_that_does_not_decode_is_passed_on_unchanged() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        wrong = (
            message(103, b"\1\2") + message(111, b"\0" * 3) + message(9999, b"?")
        )  # MAIN_INIT, SWITCH_HOST cut short
        with trio.fail_after(5):
            await server.send_all(wrong)
            assert await read_exactly(client, len(wrong)) == wrong
        assert raw.events.named("message_undecoded")
        assert raw.events.named("message_not_rewritten")


async def test_a_half_close_is_passed_on_and_the_other_way_stays_open() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked()
        with trio.fail_after(5):
            await client.send_eof()
            assert await server.receive_some() == b""
            for _ in range(3):
                await server.send_all(message(304, b"still here"))
                assert await read_exactly(client, 16)
            await server.aclose()
            assert await client.receive_some() == b""
        closed = await raw.events.wait_for("channel_closed")
        assert (closed["by"], closed["reason"], closed["messages_from_server"]) == ("client", "closed", 3)


async def test_a_client_that_closes_its_side_after_the_link_message_still_gets_the_answer() -> None:
    async with raw_proxy() as raw:
        client = await raw.connect()
        await client.send_all(link_mess())
        server = await raw.accept()
        with trio.fail_after(5):
            await read_link_block(server)
            await client.send_eof()
            assert await server.receive_some() == b""
            refusal = link_reply(error=5)
            await server.send_all(refusal)
            await server.send_eof()
            assert await read_all(client) == refusal


async def test_a_client_that_closes_its_side_and_owes_a_ticket_ends_the_connection() -> None:
    async with raw_proxy() as raw:
        client = await raw.connect()
        await client.send_all(link_mess())
        server = await raw.accept()
        with trio.fail_after(5):
            await read_link_block(server)
            await client.send_eof()
            await server.send_all(link_reply())
            assert await read_all(server) == b""
        assert "auth mechanism" in (await raw.events.wait_for("link_failed", by="client"))["reason"]


async def test_a_peer_that_closes_when_the_time_is_up_is_told_as_one_that_closed() -> None:
    """Both at once is a group of two exceptions, and was one of ours that nobody expected."""

    async def receive(side: Side) -> bytes:
        if side is Side.SERVER:
            await trio.sleep_forever()
        with trio.CancelScope(shield=True):
            await trio.sleep(0.2)
        return b""

    client, server = socket.socketpair()

    async def pass_on(_unit: Unit) -> None:
        raise AssertionError

    with client, server, pytest.raises(link_phase.ClosedEarlyError):
        with trio.fail_after(0.05):
            await link_phase.relay_link(
                LinkPhase(), {Side.CLIENT: client, Side.SERVER: server}, pass_on, receive
            )


async def test_what_was_kept_back_of_a_header_goes_out_when_the_peer_closes() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        cut = (
            message(102, b"") + message(101, b"1234567890")[:9]
        )  # the second would be held until it is whole
        with trio.fail_after(5):
            await server.send_all(cut)
            await server.send_eof()
            assert await read_all(client) == cut


async def test_a_reset_ends_the_connection_and_says_by_whom() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
        with trio.fail_after(5):
            assert await server.receive_some() == b""
        closed = await raw.events.wait_for("channel_closed")
        assert (closed["by"], closed["reason"]) == ("client", "reset")


async def test_data_sent_just_before_a_close_arrives() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked()
        data = message(304, b"y" * 3_000_000)
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                await server.send_all(data)
                await server.aclose()

            nursery.start_soon(send)
            with trio.fail_after(10):
                assert await read_all(client) == data


async def test_a_slow_reader_that_has_closed_its_side_gets_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "HALF_CLOSED_IDLE_S", 0.1)  # while nothing moves but what the kernel has
    async with raw_proxy() as raw:
        client, server = await raw.linked()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64_000)
        await client.send_eof()
        assert await server.receive_some() == b""
        data, received = message(304, b"y" * 10_000_000), 0
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                await server.send_all(data)
                await server.aclose()

            nursery.start_soon(send)
            with trio.fail_after(20):
                while more := await client.receive_some(100_000):
                    received += len(more)
                    await trio.sleep(0.03)
        assert received == len(data)


async def test_many_messages_that_are_looked_at_leave_others_their_turn() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked()
        data, longest = message(1, bytes(4)) * 30_000, 0.0  # MIGRATE: an event each

        async def tick() -> None:
            nonlocal longest
            while True:
                before = trio.current_time()
                await trio.sleep(0.001)
                longest = max(longest, trio.current_time() - before)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(tick)
                nursery.start_soon(server.send_all, data)
                assert await read_exactly(client, len(data)) == data
                nursery.cancel_scope.cancel()
        assert longest < 0.5


async def test_a_reader_that_does_not_read_stops_the_sender_and_the_proxy_does_not_grow() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked()
        chunk = message(304, bytes(2**20 - 6))
        process, sent = psutil.Process(), 0
        before = process.memory_info().rss
        with trio.move_on_after(1.5):
            for _ in range(1000):
                await server.send_all(chunk)
                sent += len(chunk)
        assert sent < 64 * 2**20  # what the kernel's buffers take, not a gigabyte
        assert process.memory_info().rss - before < 16 * 2**20
        with trio.fail_after(20):  # and nothing is lost
            assert await read_exactly(client, sent) == chunk * (sent // len(chunk))


async def test_sockets_have_no_delay_and_are_kept_alive() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked()
        client_port, server_port = client.socket.getsockname()[1], server.socket.getpeername()[1]
        for info in _socket_options({client_port, server_port}):
            assert info == (1, 1)


def _socket_options(ports: set[int]) -> list[tuple[int, int]]:
    """TCP_NODELAY and SO_KEEPALIVE of the proxy's two sockets, found among this process's descriptors."""
    found = []
    for connection in psutil.Process().net_connections("tcp4"):
        far = connection.raddr.port if connection.raddr else 0
        near = connection.laddr.port
        if connection.status == "ESTABLISHED" and ({far, near} & ports) and (far in ports or near in ports):
            view = socket.socket(fileno=socket.dup(connection.fd))
            with view:
                if (far in ports and view.getpeername()[1] in ports) or view.getsockname()[1] in ports:
                    nodelay = view.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                    alive = view.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                    found.append((int(bool(nodelay)), alive))
    assert found
    return [options for options in found if options != (1, 0)]  # (1, 0): trio's own streams, the test's peers
