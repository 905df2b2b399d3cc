"""USB packets out of SPICEVMC_DATA and COMPRESSED_DATA."""

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.compression import compress
from dissectors.side import Side
from dissectors.usbredir_names import UsbredirType
from spiceproxy.protocol.payload import MAX_INNERS, MAX_KEPT, Payloads
from tests.dissectors.bodies import unhurried
from tests.protocol.payload.wire import (
    CLIENT,
    COMPRESSED,
    DATA,
    SERVER,
    chunks,
    errors,
    feed,
    hello,
    names,
    packet,
)

NO_WIDE = 255 & ~32
BULK = bytes.fromhex("02 00 0300 00000000 0000") + b"abc"
STREAM = (
    packet(7, b"", 1) + packet(101, BULK, 2**32 + 2) + packet(77, b"new", 3) + packet(103, b"\x81\0\0\0", 4)
)


def greeted(server: int = 255, client: int = 255) -> Payloads:
    payloads = Payloads(ChannelType.USBREDIR)
    for side, caps in ((SERVER, server), (CLIENT, client)):
        (inner,) = payloads.message(side, DATA, hello(caps))
        assert (inner.protocol, inner.name, inner.error) == ("usbredir", "usb_redir_hello", None)
        assert inner.fields["capabilities"] == [caps]
    return payloads


def compressed(stream: bytes) -> bytes:
    return struct.pack("<BI", 1, len(stream)) + compress(stream)


def test_a_packet_comes_out_with_its_id_and_its_fields() -> None:
    (inner,) = greeted().message(CLIENT, DATA, packet(101, BULK, 2**32 + 2))
    assert inner.fields == {
        "header": {"type": UsbredirType.BULK_PACKET, "length": 13, "id": 2**32 + 2},
        "endpoint": 2,
        "status": 0,
        "length": 3,
        "stream_id": 0,
        "length_high": 0,
        "data": b"abc",
    }
    assert (inner.name, inner.size, inner.bulk) == ("usb_redir_bulk_packet", 13, frozenset({"data"}))


@pytest.mark.parametrize(("server", "client"), [(NO_WIDE, 255), (255, NO_WIDE), (NO_WIDE, NO_WIDE)])
def test_ids_have_32_bits_unless_both_announced_64(server: int, client: int) -> None:
    stream = packet(7, b"", 5, wide=False) + packet(6, b"\1", 6, wide=False)
    inners = greeted(server, client).message(SERVER, DATA, stream)
    assert [inner.fields["header"]["id"] for inner in inners] == [5, 6]
    assert names(inners) == ["usb_redir_get_configuration", "usb_redir_set_configuration"]


def test_a_layout_follows_what_both_announced() -> None:
    narrow = BULK[:8] + BULK[10:]
    (inner,) = greeted(client=255 & ~64).message(CLIENT, DATA, packet(101, narrow))
    assert "length_high" not in inner.fields
    assert inner.fields["data"] == b"abc"


@unhurried
@given(st.lists(st.integers(0, 90), max_size=14), st.lists(st.booleans(), min_size=15, max_size=15))
def test_the_same_packets_come_out_however_the_stream_is_cut_and_packed(
    sizes: list[int], packed: list[bool]
) -> None:
    cut = Payloads(ChannelType.USBREDIR)
    before = cut.message(SERVER, DATA, hello())
    pieces = chunks(hello() + STREAM, sizes)
    for piece, is_packed in zip(pieces, packed, strict=False):
        before += cut.message(
            CLIENT, COMPRESSED if is_packed else DATA, compressed(piece) if is_packed else piece
        )
    whole = Payloads(ChannelType.USBREDIR)
    assert before == [
        *whole.message(SERVER, DATA, hello()),
        *whole.message(CLIENT, DATA, hello() + STREAM),
    ]
    assert names(before[2:]) == [
        "usb_redir_get_configuration",
        "usb_redir_bulk_packet",
        "unknown_77",
        "usb_redir_interrupt_packet",
    ]
    assert errors(before) == [None] * 6


def test_a_packet_begun_at_the_source_ends_at_the_destination() -> None:
    source = greeted()
    assert source.message(SERVER, DATA, STREAM[:10]) == []
    assert len(source.moved().message(SERVER, DATA, STREAM[10:])) == 4


def test_a_stream_without_a_hello_says_so_once() -> None:
    payloads = Payloads(ChannelType.USBREDIR)
    (lost,) = feed(payloads, CLIENT, DATA, [STREAM, STREAM, hello()])
    assert (lost.name, lost.fields) == ("lost", {})
    assert lost.error == "no hello at the beginning: the stream is joined in the middle"
    (server,) = payloads.message(SERVER, DATA, hello())
    assert server.error is None


@pytest.mark.parametrize("length", [0, 63, 65, 64 + 4 * 33, 2**32 - 64])
def test_a_hello_of_no_possible_length_is_none(length: int) -> None:
    (lost,) = Payloads(ChannelType.USBREDIR).message(SERVER, DATA, struct.pack("<III", 0, length, 0))
    assert lost.error == "no hello at the beginning: the stream is joined in the middle"


def test_a_packet_before_the_other_hello_is_not_guessed_at() -> None:
    payloads = Payloads(ChannelType.USBREDIR)
    inners = feed(payloads, SERVER, DATA, [hello(), STREAM, STREAM])
    assert names(inners) == ["usb_redir_hello", "lost"]
    assert inners[1].error == "a packet before the hello of the other end: its layout is not known"


def test_a_second_hello_loses_the_stream() -> None:
    inners = feed(greeted(), SERVER, DATA, [packet(0, bytes(68)), STREAM])
    assert errors(inners) == ["a second hello"]


def test_a_packet_that_usbredirparser_refuses_loses_the_stream() -> None:
    head = struct.pack("<IIQ", 101, 128 * 2**20 + 1025, 0)
    inners = feed(greeted(), SERVER, DATA, [head, STREAM])
    assert errors(inners) == ["a packet of 134218753 bytes; none has more than 134218752"]


def test_a_packet_too_short_for_its_type_keeps_its_bytes_and_the_stream_goes_on() -> None:
    short, following = greeted().message(CLIENT, DATA, packet(8, b"\1") + packet(3, b""))
    assert short.name == "usb_redir_configuration_status"
    assert short.fields["raw"] == b"\1"
    assert short.error is not None
    assert following.name == "usb_redir_reset"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\1\0\0",
        struct.pack("<BI", 1, 2**31) + b"\x10a",
        struct.pack("<BI", 1, 200) + b"\x10a",
        struct.pack("<BI", 2, 1) + b"a",
    ],
)
def test_bytes_that_cannot_be_unpacked_lose_the_stream_once(body: bytes) -> None:
    payloads = greeted()
    (lost,) = [*payloads.message(CLIENT, COMPRESSED, body), *payloads.message(CLIENT, COMPRESSED, body)]
    assert lost.error is not None
    assert lost.error.startswith("a part of the stream cannot be unpacked: ")
    assert payloads.message(CLIENT, DATA, STREAM) == []


def test_compression_none_is_the_stream_itself() -> None:
    assert len(greeted().message(CLIENT, COMPRESSED, b"\0" + STREAM)) == 4


def test_a_huge_packet_keeps_its_header_and_bounded_memory() -> None:
    payloads = greeted()
    size, piece = 100 * 2**20, bytes(2**20)
    tracemalloc.start()
    try:
        inners = feed(
            payloads, CLIENT, DATA, [struct.pack("<IIQ", 104, size, 9), *[piece] * 100, packet(3, b"")]
        )
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_KEPT
    finally:
        tracemalloc.stop()
    assert names(inners) == ["usb_redir_buffered_bulk_packet", "usb_redir_reset"]
    assert inners[0].fields == {"header": {"type": 104, "length": size, "id": 9}}
    assert inners[0].error == f"{size} bytes are not kept; the limit is {MAX_KEPT}"


def test_a_flood_of_tiny_packets_is_counted_not_kept() -> None:
    inners = greeted().message(CLIENT, DATA, packet(3, b"") * (MAX_INNERS + 7))
    assert len(inners) == MAX_INNERS + 1
    assert inners[-1].error == "7 more in this message are not shown"


@unhurried
@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Side)),
            st.sampled_from([101, 102, 1]),
            st.binary(max_size=80)
            | st.builds(hello, st.integers(0, 2**32 - 1))
            | st.builds(packet, st.integers(0, 110), st.binary(max_size=40), wide=st.booleans()),
        ),
        max_size=20,
    )
)
def test_any_messages_give_inner_messages_and_no_exception(messages: list[tuple[Side, int, bytes]]) -> None:
    payloads = Payloads(ChannelType.USBREDIR)
    lost = 0
    for side, id_, body in messages:
        for inner in payloads.message(side, id_, body):
            lost += inner.name == "lost"
            assert inner.error is None or "\n" not in inner.error
            inner.plain()
    assert lost <= len(Side)
