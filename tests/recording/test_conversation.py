import itertools
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.side import Side
from spiceproxy.recording.conversation import (
    ACK_EVERY_BYTES,
    Conversation,
)
from spiceproxy.recording.flow import MAX_SEGMENT_BYTES, payload_bytes, word_sum
from tests.recording.packets import ACK, FIN, PSH, RST, SYN, Segment, Sink, internet_checksum

CLIENT, SERVER = ("192.0.2.1", 40000), ("198.51.100.2", 5900)
TOP = 2**32


def opened(
    sink: Sink,
    client: tuple[str, int] = CLIENT,
    server: tuple[str, int] = SERVER,
    *,
    client_isn: int = 1000,
    server_isn: int = 2000,
) -> Conversation:
    conversation = Conversation(sink, client, server, client_isn=client_isn, server_isn=server_isn)
    conversation.open(5, "hello")
    return conversation


def started(*, client_isn: int = 1000, server_isn: int = 2000) -> tuple[Sink, Conversation]:
    """A conversation whose handshake has been taken."""
    sink = Sink()
    conversation = opened(sink, client_isn=client_isn, server_isn=server_isn)
    sink.take()
    return sink, conversation


def sent(segments: list[Segment], side: Side) -> list[bytes]:
    """Payloads from `side`, without what carries none."""
    source = CLIENT if side is Side.CLIENT else SERVER
    return [each.payload for each in segments if each.source == source and each.payload]


def test_it_begins_with_a_handshake() -> None:
    sink = Sink()
    opened(sink)
    syn, answer, ack = sink.take()
    # Maximum segment size 65495, window scale 14.
    tcp_options = bytes.fromhex("0204 ffd7 01 03030e")
    assert syn == Segment(5, CLIENT, SERVER, 1000, 0, SYN, 65535, tcp_options, b"", "hello")
    assert answer == Segment(5, SERVER, CLIENT, 2000, 1001, SYN | ACK, 65535, tcp_options, b"", None)
    assert ack == Segment(5, CLIENT, SERVER, 1001, 2001, ACK, 65535, b"", b"", None)


def test_each_unit_is_one_segment_that_acknowledges_what_went_the_other_way() -> None:
    sink, conversation = started()
    conversation.data(Side.CLIENT, 7, b"oneTWO", ends=[3, 6], comment="changed")
    conversation.data(Side.SERVER, 8, b"three", ends=[5])
    assert sink.take() == [
        Segment(7, CLIENT, SERVER, 1001, 2001, PSH | ACK, 65535, b"", b"one", "changed"),
        Segment(7, CLIENT, SERVER, 1004, 2001, PSH | ACK, 65535, b"", b"TWO", "changed"),
        Segment(8, SERVER, CLIENT, 2001, 1007, PSH | ACK, 65535, b"", b"three", None),
    ]


def test_a_unit_that_comes_in_pieces_is_one_segment_at_the_time_of_its_last_byte() -> None:
    sink, conversation = started()
    conversation.data(Side.SERVER, 7, b"first+sec", ends=[6])
    conversation.data(Side.SERVER, 8, b"o", ends=[])
    conversation.data(Side.SERVER, 9, b"nd;third", ends=[3])
    conversation.data(Side.SERVER, 10, b"", ends=[0])
    conversation.data(Side.SERVER, 11, b"", ends=[0])
    conversation.data(Side.SERVER, 12, b"", ends=[])
    assert [(each.time_ns, each.flags, each.payload) for each in sink.take()] == [
        (7, PSH | ACK, b"first+"),
        (9, PSH | ACK, b"second;"),
        (10, PSH | ACK, b"third"),
    ]


def test_the_buffer_may_be_reused_after_the_call() -> None:
    sink, conversation = started()
    buffer = bytearray(b"abcd")
    conversation.data(Side.CLIENT, 7, memoryview(buffer)[:2], ends=[])
    buffer[:] = b"wxyz"
    conversation.data(Side.CLIENT, 7, memoryview(buffer)[2:], ends=[2])
    buffer.clear()  # possible only if no view of it is kept
    assert sent(sink.take(), Side.CLIENT) == [b"abyz"]


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_a_unit_above_the_maximum_segment_is_split_and_fits_the_length_fields(host: str) -> None:
    sink = Sink()
    conversation = opened(sink, (host, 1), (host, 2))
    sink.take()
    data = os.urandom(2 * MAX_SEGMENT_BYTES + 1)
    conversation.data(Side.CLIENT, 7, data, ends=[len(data)])
    first, second, third = sink.take()
    assert [len(each.payload) for each in (first, second, third)] == [MAX_SEGMENT_BYTES, MAX_SEGMENT_BYTES, 1]
    assert [each.flags for each in (first, second, third)] == [ACK, ACK, PSH | ACK]
    assert first.payload + second.payload + third.payload == data


def test_a_unit_of_exactly_the_maximum_is_one_segment() -> None:
    sink, conversation = started()
    data = bytes(MAX_SEGMENT_BYTES)
    conversation.data(Side.CLIENT, 7, data, ends=[len(data)])
    conversation.data(Side.CLIENT, 7, data[1:], ends=[])
    conversation.data(Side.CLIENT, 7, b"\0", ends=[1])
    assert [(each.flags, each.payload) for each in sink.take()] == [(PSH | ACK, data)] * 2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_cut_of_the_stream_gives_the_same_segments(data: st.DataObject) -> None:
    sizes = data.draw(
        st.lists(
            st.one_of(
                st.integers(1, 40),
                st.integers(MAX_SEGMENT_BYTES - 1, MAX_SEGMENT_BYTES + 1),
                st.just(200_000),
            ),
            min_size=1,
            max_size=6,
        )
    )
    total = sum(sizes)
    stream = random.Random(total).randbytes(total)
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    cuts = sorted(data.draw(st.sets(st.integers(0, total), max_size=8)) | {0, total})

    sink, conversation = started()
    for start, stop in itertools.pairwise(cuts):
        inside = [end - start for end in ends if start < end <= stop]
        conversation.data(Side.SERVER, 7, stream[start:stop], ends=inside)

    expected = []
    for start, stop in zip([0, *ends], ends, strict=False):
        unit = stream[start:stop]
        expected += [unit[at : at + MAX_SEGMENT_BYTES] for at in range(0, len(unit), MAX_SEGMENT_BYTES)]
    segments = sink.take()
    assert sent(segments, Side.SERVER) == expected
    last_of_unit = [each.flags == PSH | ACK for each in segments if each.payload]
    assert sum(last_of_unit) == len(sizes)


def test_never_more_than_one_segment_is_held_however_long_the_unit_is() -> None:
    sink, conversation = started()
    passed = 0
    for size in [1, 65_000, 300_000, 7, 65_495, 65_496, 1_000_000] * 3:
        conversation.data(Side.SERVER, 7, bytes(size), ends=[])
        passed += size
        written = sum(map(len, sent(sink.segments, Side.SERVER)))
        assert passed - MAX_SEGMENT_BYTES <= written < passed
    assert {len(payload) for payload in sent(sink.take(), Side.SERVER)} == {MAX_SEGMENT_BYTES}


def test_a_listening_side_acknowledges_now_and_then() -> None:
    sink, conversation = started()
    for _ in range(100):
        conversation.data(Side.SERVER, 7, bytes(50_000), ends=[50_000])
    unacknowledged, pure_acks = 0, 0
    for segment in sink.take():
        if segment.source == SERVER:
            unacknowledged += len(segment.payload)
            assert unacknowledged < ACK_EVERY_BYTES + MAX_SEGMENT_BYTES
            next_seq = segment.seq + len(segment.payload)
        else:
            assert (segment.flags, segment.payload, segment.ack) == (ACK, b"", next_seq)
            unacknowledged, pure_acks = 0, pure_acks + 1
    assert pure_acks == 5_000_000 // ACK_EVERY_BYTES


def test_a_side_that_talks_acknowledges_on_the_way() -> None:
    sink, conversation = started()
    for _ in range(30):
        conversation.data(Side.SERVER, 7, bytes(50_000), ends=[50_000])
        conversation.data(Side.CLIENT, 7, b"x", ends=[1])
    assert all(each.payload for each in sink.take())


def test_sequence_numbers_wrap() -> None:
    sink, conversation = started(client_isn=TOP - 1, server_isn=TOP - 3)
    conversation.data(Side.CLIENT, 7, b"abc", ends=[3])
    conversation.data(Side.SERVER, 7, b"defg", ends=[4])
    conversation.data(Side.SERVER, 7, b"h", ends=[1])
    conversation.close(Side.SERVER, 8)
    assert [(each.seq, each.ack) for each in sink.take()] == [
        (0, TOP - 2),
        (TOP - 2, 3),
        (2, 3),
        (3, 3),
        (3, 4),
    ]


def test_comments_stay_with_the_bytes_they_were_given_for() -> None:
    sink, conversation = started()
    conversation.data(Side.CLIENT, 7, b"a", ends=[], comment="first")
    conversation.data(Side.CLIENT, 7, b"b", ends=[])
    conversation.data(Side.CLIENT, 7, b"c", ends=[], comment="first")
    conversation.data(Side.CLIENT, 7, b"dx", ends=[1], comment="second")
    conversation.data(Side.CLIENT, 7, b"yz", ends=[1, 2])
    assert [(each.payload, each.comment) for each in sink.take()] == [
        (b"abcd", "first\nsecond"),
        (b"xy", "second"),
        (b"z", None),
    ]
    conversation.data(Side.CLIENT, 8, b"h" * 10, ends=[], comment="head")
    conversation.data(Side.CLIENT, 8, b"t" * (2 * MAX_SEGMENT_BYTES), ends=[2 * MAX_SEGMENT_BYTES])
    assert [each.comment for each in sink.take()] == ["head", None, None]


def test_both_sides_close_in_turn() -> None:
    sink, conversation = started()
    conversation.close(Side.CLIENT, 8)
    half_closed = conversation.closed
    conversation.data(Side.SERVER, 9, b"rest", ends=[4])
    conversation.close(Side.SERVER, 10)
    assert (half_closed, conversation.closed) == (False, True)
    assert [(each.source, each.flags, each.seq, each.ack, each.payload) for each in sink.take()] == [
        (CLIENT, FIN | ACK, 1001, 2001, b""),
        (SERVER, ACK, 2001, 1002, b""),
        (SERVER, PSH | ACK, 2001, 1002, b"rest"),
        (SERVER, FIN | ACK, 2005, 1002, b""),
        (CLIENT, ACK, 1002, 2006, b""),
    ]


def test_closing_both_at_once_closes_what_is_open_and_only_once() -> None:
    sink, conversation = started()
    conversation.close(None, 8)
    assert [each.flags for each in sink.take()] == [FIN | ACK, ACK, FIN | ACK, ACK]
    sink, conversation = started()
    conversation.close(Side.SERVER, 8)
    sink.take()
    conversation.close(None, 8)
    assert [(each.source, each.flags) for each in sink.take()] == [(CLIENT, FIN | ACK), (SERVER, ACK)]
    for side in (None, *Side):
        conversation.close(side, 9)
        conversation.close(side, 9, reset=True)
    assert sink.take() == []


@pytest.mark.parametrize(
    ("side", "source"), [(Side.CLIENT, CLIENT), (Side.SERVER, SERVER), (None, CLIENT)], ids=str
)
def test_a_reset_ends_both_directions(side: Side | None, source: tuple[str, int]) -> None:
    sink, conversation = started()
    conversation.close(side, 8, reset=True)
    [reset] = sink.take()
    assert (reset.source, reset.flags) == (source, RST | ACK)
    assert conversation.closed


@pytest.mark.parametrize("reset", [False, True])
def test_what_is_held_goes_out_before_the_end(reset: bool) -> None:
    sink, conversation = started()
    conversation.data(Side.SERVER, 7, b"half a mess", ends=[])
    conversation.data(Side.CLIENT, 7, b"hal", ends=[])
    conversation.close(None, 8, reset=reset)
    segments = sink.take()
    assert [(each.payload, each.flags) for each in segments[:2]] == [(b"hal", ACK), (b"half a mess", ACK)]
    assert segments[2].flags == (RST if reset else FIN) | ACK


def test_bytes_after_a_close_are_recorded_all_the_same() -> None:
    sink, conversation = started()
    conversation.close(None, 8)
    sink.take()
    conversation.data(Side.SERVER, 9, b"late", ends=[4])
    assert sent(sink.take(), Side.SERVER) == [b"late"]


def test_a_unit_that_stops_half_way_is_released_at_the_second_call() -> None:
    sink, conversation = started()
    conversation.data(Side.SERVER, 7, b"half", ends=[], comment="c")
    conversation.release_stale()
    assert sink.take() == []
    conversation.release_stale()
    conversation.release_stale()
    [segment] = sink.take()
    assert (segment.time_ns, segment.flags, segment.payload, segment.comment) == (7, ACK, b"half", "c")
    conversation.data(Side.SERVER, 9, b" more", ends=[5])
    [segment] = sink.take()
    assert (segment.flags, segment.payload, segment.comment) == (PSH | ACK, b" more", None)


def test_a_unit_that_began_after_the_first_call_is_not_released_at_the_second() -> None:
    sink, conversation = started()
    conversation.data(Side.SERVER, 7, b"one", ends=[])
    conversation.release_stale()
    conversation.data(Side.SERVER, 8, b"!two", ends=[1])
    conversation.release_stale()
    assert sent(sink.take(), Side.SERVER) == [b"one!"]


@pytest.mark.parametrize(
    ("client", "server", "as_client", "as_server"),
    [
        ("192.0.2.1", "198.51.100.2", "192.0.2.1", "198.51.100.2"),
        ("2001:db8::1", "2001:db8::2", "2001:db8::1", "2001:db8::2"),
        ("fe80::1%eth0", "::1", "fe80::1", "::1"),
        ("192.0.2.1", "2001:db8::2", "::ffff:c000:201", "2001:db8::2"),
        ("2001:db8::1", "192.0.2.1", "2001:db8::1", "::ffff:c000:201"),
        ("::ffff:192.0.2.1", "198.51.100.2", "192.0.2.1", "198.51.100.2"),
    ],
)
def test_addresses_of_both_families_are_kept(
    client: str, server: str, as_client: str, as_server: str
) -> None:
    sink = Sink()
    conversation = opened(sink, (client, 1), (server, 65535))
    conversation.data(Side.CLIENT, 7, b"odd", ends=[3])  # Segment.parse() checks both checksums
    conversation.data(Side.SERVER, 7, b"even", ends=[4])
    ends = [(as_client, 1), (as_server, 65535)]
    for segment in sink.take():
        assert sorted([segment.source, segment.destination]) == sorted(ends)


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (("client.example", 1), SERVER),
        (CLIENT, ("", 5900)),
        (CLIENT, ("192.0.2.1", 65536)),
        (("192.0.2.1", -1), SERVER),
    ],
)
def test_what_is_no_address_is_refused(client: tuple[str, int], server: tuple[str, int]) -> None:
    with pytest.raises(ValueError, match=r"IPv4 or IPv6|port"):
        Conversation(Sink(), client, server, client_isn=1, server_isn=2)


@pytest.mark.parametrize("ends", [[4], [2, 1], [-1]])
def test_unit_ends_that_make_no_sense_are_refused(ends: list[int]) -> None:
    _, conversation = started()
    with pytest.raises(ValueError, match="unit end"):
        conversation.data(Side.CLIENT, 7, b"abc", ends=ends)


def test_nothing_is_made_for_a_sink_that_has_ended() -> None:
    sink, conversation = started()
    sink.ended = True
    conversation.data(Side.CLIENT, 7, b"abc", ends=[1])
    assert (sink.take(), sink.lost) == ([], 3)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=70) | st.integers(4000, 66_000).map(os.urandom))
def test_the_quick_sum_agrees_with_rfc_1071(data: bytes) -> None:
    summed = -word_sum(data) % 65535
    assert summed % 65535 == internet_checksum(data) % 65535
    assert word_sum(memoryview(data)) == word_sum(bytearray(data)) == word_sum(data)


def test_a_checksum_of_all_ones_is_written_as_zero() -> None:
    # A receiver takes 0x0000 and 0xffff for the same; RFC 1071 arithmetic gives a sender 0x0000.
    headers: list[bytes] = []

    class Raw(Sink):
        def packet(
            self, time_ns: int, header: bytes, payload: bytes | bytearray | memoryview, comment: str | None
        ) -> None:
            super().packet(time_ns, header, payload, comment)
            headers.append(header)

    word = b"\0\0"
    for _ in range(2):
        opened(Raw()).data(Side.CLIENT, 7, word, ends=[2])
        word = headers[-1][36:38]  # with the checksum as its payload the same packet sums up to nothing
    assert word == b"\0\0"


def test_payload_bytes_leaves_out_the_headers_of_both_families() -> None:
    class Sizes(Sink):
        sizes: list[int]

        def packet(
            self, time_ns: int, header: bytes, payload: bytes | bytearray | memoryview, comment: str | None
        ) -> None:
            self.sizes.append(payload_bytes(header + bytes(payload)))

    for host in ("192.0.2.1", "::1"):
        sink = Sizes()
        sink.sizes = []
        conversation = opened(sink, (host, 1), (host, 2))
        conversation.data(Side.CLIENT, 7, b"abc", ends=[3])
        assert sink.sizes == [0, 0, 0, 3]
    assert payload_bytes(b"") == 0
