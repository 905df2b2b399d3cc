"""Messages, queues and windows between peers."""

import struct

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Msg
from dissectors.side import Side
from spiceproxy.simulate import ConnectionLost, RuleBroken, SimulationError, bodies
from spiceproxy.simulate.acks import ClientWindow, ServerWindow
from spiceproxy.simulate.messages import DRAWING, is_known
from spiceproxy.simulate.wire import MAIN, ChannelKey, Outbox, Trace, Wire
from tests.simulate.peers import until


async def pair(*, mini_header: bool, traces: list[Trace] | None = None) -> tuple[Wire, Wire]:
    """Both ends of a connection."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0]:
        near = await trio.open_tcp_stream(*listeners[0].socket.getsockname())
        far = await listeners[0].accept()
    observer = None if traces is None else traces.append
    return (
        Wire(near, MAIN, side=Side.CLIENT, mini_header=mini_header, peer_name="c", observer=observer),
        Wire(far, MAIN, side=Side.SERVER, mini_header=mini_header, peer_name="s"),
    )


@pytest.mark.parametrize("mini_header", [True, False])
async def test_messages_arrive_as_they_were_sent(mini_header: bool) -> None:
    traces: list[Trace] = []
    client, server = await pair(mini_header=mini_header, traces=traces)
    for number, body in enumerate((b"", b"x", bytes(70_000)), start=1):
        await server.send(103, body)
        message = await client.receive()
        assert message == (103, body, number, number)
    assert client.received == server.sent == {103: 3}
    assert [trace.name for trace in traces] == ["SPICE_MSG_MAIN_INIT"] * 3
    assert {(trace.sent, trace.peer, trace.side) for trace in traces} == {(False, "c", Side.SERVER)}
    assert traces[0].local == server.remote
    server.close()
    assert await client.receive() is None
    client.close()


@pytest.mark.parametrize("mini_header", [True, False])
async def test_a_connection_cut_inside_a_message_is_lost(mini_header: bool) -> None:
    header = struct.pack("<HI", 103, 32) if mini_header else struct.pack("<QHII", 1, 103, 32, 0)
    for cut in (header[:3], header, header + b"part"):
        client, server = await pair(mini_header=mini_header)
        await server._stream.send_all(cut)
        server.close()
        with pytest.raises(ConnectionLost, match="inside a message"):
            await client.receive()
        client.close()


async def test_an_absurd_body_is_turned_down_by_its_header() -> None:
    client, server = await pair(mini_header=True)
    await server._stream.send_all(struct.pack("<HI", 103, 0xFFFFFFFF))
    with pytest.raises(SimulationError, match="4294967295 bytes"):
        await client.receive()
    client.close()
    server.close()


async def test_what_has_arrived_unread_is_seen_and_an_end_is_not() -> None:
    client, server = await pair(mini_header=True)
    assert not client.has_unread()
    await server.send(103)
    await until(client.has_unread)
    assert await client.receive() == (103, b"", 1, 1)
    assert not client.has_unread()
    server.close()
    await trio.sleep(0.02)
    assert not client.has_unread()
    client.close()
    assert not client.has_unread()


async def test_a_reset_is_a_lost_connection() -> None:
    client, server = await pair(mini_header=True)
    server.abort()
    with pytest.raises(ConnectionLost):
        await client.receive()
    with pytest.raises(ConnectionLost):
        await server.send(103)
    client.close()


async def test_an_urgent_message_overtakes_and_a_held_queue_waits() -> None:
    client, server = await pair(mini_header=True)
    outbox = Outbox(server)
    outbox.held = True
    for kind in (101, 102):
        outbox.put(kind)
    outbox.put(4, urgent=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outbox.run)
        first = await client.receive()
        assert first is not None
        assert first.type == 4
        with trio.move_on_after(0.02) as scope:
            await client.receive()
        assert scope.cancelled_caught
        assert len(outbox) == 2
        outbox.held = False
        outbox.kick()
        await outbox.below(1)
        assert [message.type for message in (await client.receive(), await client.receive()) if message] == [
            101,
            102,
        ]
        nursery.cancel_scope.cancel()
    outbox.put(103)
    with pytest.raises(ConnectionLost):  # nobody writes any more
        await outbox.below(1)
    outbox.clear()
    await outbox.below(1)
    client.close()
    server.close()


def test_a_server_window_opens_and_shuts_as_spice_servers_does() -> None:
    window = ServerWindow(20, "display:0")
    assert window.next_set_ack() == struct.pack("<II", 1, 20)
    window.count_sent(Msg.SET_ACK)
    window.ack()  # before ACK_SYNC it counts for nothing
    assert window.outstanding == 1
    window.ack_sync(struct.pack("<I", 1))
    sent = 1  # SET_ACK
    while window.is_open:
        window.count_sent(Display.MARK)
        sent += 1
    assert sent == 41  # as measured with all ACKs lost
    window.ack()
    assert sent - window.outstanding == 20
    window.ack()
    with pytest.raises(RuleBroken):
        window.ack()
    with pytest.raises(RuleBroken):
        window.ack_sync(struct.pack("<I", 2))


def test_a_client_window_acknowledges_every_window_messages() -> None:
    window = ClientWindow()
    assert not any(window.count_received() for _ in range(100))
    assert window.set_ack(struct.pack("<II", 7, 3)) == struct.pack("<I", 7)
    assert [window.count_received() for _ in range(7)] == [False, False, True, False, False, True, False]


def test_channels_have_names() -> None:
    assert ChannelKey.parse("display:1") == (ChannelType.DISPLAY, 1)
    assert ChannelKey.parse("usbredir").name == "usbredir:0"
    with pytest.raises(SimulationError, match="dispaly"):
        ChannelKey.parse("dispaly")


@pytest.mark.parametrize(
    ("channel", "side", "kind", "known"),
    [
        (ChannelType.DISPLAY, Side.SERVER, 302, True),
        (ChannelType.WEBDAV, Side.SERVER, 201, True),
        (ChannelType.WEBDAV, Side.CLIENT, 202, False),
        (ChannelType.INPUTS, Side.CLIENT, 4, True),
        (ChannelType.CURSOR, Side.CLIENT, 101, False),
        (ChannelType.DISPLAY, Side.SERVER, 999, False),
        # These have a number, but a plain server or client knows nothing of them.
        (ChannelType.MAIN, Side.SERVER, 100, False),
        (ChannelType.MAIN, Side.CLIENT, 112, False),
        (ChannelType.DISPLAY, Side.SERVER, 322, False),
    ],
)
def test_a_message_is_known_if_an_honest_peer_may_send_it(
    channel: ChannelType, side: Side, kind: int, known: bool
) -> None:
    assert is_known(channel, side, kind) == known


def test_bodies_have_the_sizes_that_spice_proto_says() -> None:
    assert len(bodies.display_init()) == 14
    assert len(bodies.surface_create(0, 1, 1, primary=True)) == 20
    assert len(bodies.monitors_config(0, 1, 1)) == 4 + 28
    assert len(bodies.draw_fill(0, 0, 0, 1, 1, 0)) == 21 + 20
    assert len(bodies.cursor_init(0, 0)) == 11
    assert len(bodies.usbredir_hello("x" * 100)) == 80
    assert len(bodies.port_init("name")) == 9 + 5
    assert {Display.DRAW_FILL, Display.COPY_BITS, Display.DRAW_COMPOSITE} < DRAWING
    with pytest.raises(ValueError, match="not 2x2 pixels"):
        bodies.draw_copy(0, 0, 0, 2, 2, image_id=1, pixels=b"x")


def test_an_image_is_where_its_pointer_says() -> None:
    body = bodies.draw_copy(0, 5, 6, 2, 3, image_id=9, pixels=bytes(range(24)))
    (offset,) = struct.unpack_from("<I", body, 21)
    image_id, kind, flags, width, height = struct.unpack_from("<QBBII", body, offset)
    assert (image_id, kind, flags, width, height) == (9, 0, 0, 2, 3)
    assert body[offset + 18 + 18 :] == bytes(range(24))
