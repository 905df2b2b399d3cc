"""The framer: whatever is sent, wanted and cut, every byte leaves once, in order, and every message is told."""

import struct
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dissectors.side import Side
from spiceproxy.protocol.framer import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    MAX_KEPT_BYTES,
    MAX_NOTES,
    Framer,
    Held,
    Message,
    Note,
    Noted,
    Pass,
    Seen,
    Want,
)
from tests.protocol.streams import (
    CUTS,
    FULL_BYTES,
    MESSAGES,
    MINI_BYTES,
    WANTED,
    Sent,
    feed,
    framer_for,
    message_ends,
    pieces,
    unhurried,
)

BOTH_HEADERS = pytest.mark.parametrize("mini_header", [True, False], ids=["mini", "full"])
BOOLEANS = st.booleans()
MIB = 2**20


def expected(
    messages: list[Sent], wanted: dict[int, Want], want: Want, *, mini_header: bool
) -> list[Message]:
    """What must be told of these messages."""
    told = []
    for number, message in enumerate(messages, start=1):
        if wanted.get(message.id) is want:
            size = len(message.body)
            header = (
                message.raw(mini_header=mini_header)[:-size] if size else message.raw(mini_header=mini_header)
            )
            serial = number if mini_header else message.serial
            sub_list = 0 if mini_header else message.sub_list
            told.append(Message(Side.SERVER, message.id, size, serial, sub_list, header, message.body))
    return told


def noted(
    messages: list[Sent], wanted: dict[int, Want], rest: Want | None, *, mini_header: bool
) -> list[Note]:
    """What must be noted of these messages."""
    return [
        (message.id, len(message.body), number if mini_header else message.serial, number)
        for number, message in enumerate(messages, start=1)
        if wanted.get(message.id, rest) is Want.NOTE
    ]


@unhurried
@given(MESSAGES, WANTED, CUTS, BOOLEANS, BOOLEANS)
@example([Sent(1, b"ab"), Sent(1, b"")], {1: Want.HOLD}, list(range(99)), False, True)
@example([Sent(1, b""), Sent(2, b"abc"), Sent(3, b"")], {2: Want.HOLD}, [], True, True)
def test_every_byte_leaves_once_and_every_wanted_message_is_told(
    messages: list[Sent], wanted: dict[int, Want], cuts: list[int], mini_header: bool, trace: bool
) -> None:
    stream = b"".join(message.raw(mini_header=mini_header) for message in messages)
    framer = framer_for(wanted, mini_header=mini_header, trace=trace)
    fed = feed(framer, pieces(stream, cuts))
    assert fed.passed == stream
    assert fed.seen == expected(messages, wanted, Want.SEE, mini_header=mini_header)
    assert fed.held == expected(messages, wanted, Want.HOLD, mini_header=mini_header)
    assert fed.notes == noted(messages, wanted, None, mini_header=mini_header)
    assert (fed.broken, fed.rest, fed.inside) == (None, b"", False)
    assert fed.most_pending <= (MINI_BYTES if mini_header else FULL_BYTES) - 1
    assert (framer.messages, framer.offset) == (len(messages), len(stream))
    if trace:
        assert fed.ends == message_ends(messages, mini_header=mini_header)


@unhurried
@given(MESSAGES, WANTED, st.sampled_from([None, *Want]), CUTS, BOOLEANS, BOOLEANS, st.data())
def test_what_is_wanted_may_change_between_any_two_reads(
    messages: list[Sent],
    wanted: dict[int, Want],
    rest: Want | None,
    cuts: list[int],
    mini_header: bool,
    trace: bool,
    data: st.DataObject,
) -> None:
    stream = b"".join(message.raw(mini_header=mini_header) for message in messages)
    parts = list(pieces(stream, cuts))
    turn = data.draw(st.integers(0, len(parts)), label="changes before piece")
    framer = framer_for({}, mini_header=mini_header, trace=trace)
    begun = 0

    def changing() -> Iterator[bytes]:
        nonlocal begun
        for number, part in enumerate(parts):
            if number == turn:
                begun = framer.messages
                framer.want(wanted, rest)
            yield part

    fed = feed(framer, changing())
    later = messages[begun:] if turn < len(parts) else []
    counted = [(id_, size, serial, number - begun) for id_, size, serial, number in fed.notes]
    if mini_header:
        counted = [(id_, size, serial - begun, number) for id_, size, serial, number in counted]
    assert fed.passed == stream
    assert (framer.messages, framer.offset) == (len(messages), len(stream))
    assert counted == noted(later, wanted, rest, mini_header=mini_header)
    for told, want in ((fed.seen, Want.SEE), (fed.held, Want.HOLD)):
        bodies = [message.body for message in later if wanted.get(message.id, rest) is want]
        assert [message.body for message in told] == bodies
    if messages:
        last = messages[-1]
        known = (last.id, len(last.body), len(messages) if mini_header else last.serial)
        assert (framer.last_id, framer.last_size, framer.last_serial) == known
    if trace:
        assert fed.ends == message_ends(messages, mini_header=mini_header)


@BOTH_HEADERS
def test_what_is_wanted_may_change_between_two_messages_of_one_read(mini_header: bool) -> None:
    raw = [Sent(id_, b"body", serial=id_).raw(mini_header=mini_header) for id_ in (7, 2, 7, 8)]
    framer = framer_for({2: Want.HOLD}, mini_header=mini_header)
    items = framer.walk(memoryview(b"".join(raw)))
    assert items is not None
    said = []
    for item in items:
        said.append(item)
        if isinstance(item, Held):
            framer.want({2: Want.HOLD}, Want.NOTE)
    assert [type(item) for item in said] == [Pass, Held, Noted, Pass]
    assert said[2] == Noted([(7, 4, 3 if mini_header else 7, 3), (8, 4, 4 if mini_header else 8, 4)])
    assert isinstance(said[3], Pass)
    assert bytes(said[3].data) == raw[2] + raw[3]  # in one piece


def test_notes_come_before_the_message_that_follows_them_and_a_few_at_a_time() -> None:
    one, two = (Sent(id_, b"").raw(mini_header=True) for id_ in (1, 2))
    framer = framer_for({2: Want.SEE}, mini_header=True)
    framer.want({2: Want.SEE}, Want.NOTE)
    items = framer.walk(memoryview(one * (MAX_NOTES + 3) + two + one))
    assert items is not None
    kinds = [(type(item), len(item.notes) if isinstance(item, Noted) else None) for item in items]
    assert kinds == [(Noted, MAX_NOTES), (Noted, 3), (Seen, None), (Noted, 1), (Pass, None)]


@pytest.mark.parametrize("trace", [False, True], ids=["plain", "traced"])
def test_a_long_message_is_noted_when_it_is_whole_and_nothing_of_it_is_kept(trace: bool) -> None:
    framer = framer_for({}, mini_header=True, trace=trace)
    framer.want({}, Want.NOTE)
    stream = Sent(5, bytes(MIB)).raw(mini_header=True)
    fed = feed(framer, pieces(stream, range(0, MIB, 1000)))
    assert fed.notes == [(5, MIB, 1, 1)]
    assert fed.passed == stream
    assert fed.most_kept <= MINI_BYTES


@unhurried
@given(MESSAGES.filter(bool), WANTED, CUTS, BOOLEANS, BOOLEANS, st.data())
def test_a_stream_that_is_cut_off_leaves_whole_all_the_same(
    messages: list[Sent],
    wanted: dict[int, Want],
    cuts: list[int],
    mini_header: bool,
    trace: bool,
    data: st.DataObject,
) -> None:
    stream = b"".join(message.raw(mini_header=mini_header) for message in messages)
    stream = stream[: data.draw(st.integers(0, len(stream)), label="cut off at")]
    framer = framer_for(wanted, mini_header=mini_header, trace=trace)
    fed = feed(framer, pieces(stream, cuts))
    ends = [end for end in message_ends(messages, mini_header=mini_header) if end <= len(stream)]
    assert fed.passed == stream
    assert fed.inside == (len(stream) not in [0, *ends])
    assert framer.offset == len(stream)
    assert len(fed.seen) == sum(wanted.get(message.id) is Want.SEE for message in messages[: len(ends)])
    assert len(fed.held) == sum(wanted.get(message.id) is Want.HOLD for message in messages[: len(ends)])
    if trace:
        assert fed.ends == ends
    assert framer.end() == b""


@unhurried
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=30), WANTED, BOOLEANS, BOOLEANS)
def test_garbage_raises_nothing_and_leaves_up_to_where_it_is_unreadable(
    chunks: list[bytes], wanted: dict[int, Want], mini_header: bool, trace: bool
) -> None:
    framer = framer_for(wanted, mini_header=mini_header, trace=trace)
    fed = feed(framer, chunks)
    stream = b"".join(chunks)
    assert stream.startswith(fed.passed)
    if fed.broken is None:
        assert fed.passed == stream
    else:
        assert fed.broken.offset == len(fed.passed) == framer.offset


@BOTH_HEADERS
def test_a_body_over_the_limit_breaks_the_stream_after_all_before_it_has_passed(mini_header: bool) -> None:
    before = Sent(7, b"seven").raw(mini_header=mini_header)
    header = _header(101, MAX_BODY_BYTES + 1, mini_header=mini_header)
    framer = Framer(Side.CLIENT, mini_header=mini_header, wanted={101: Want.HOLD}, trace=True, offset=1000)
    fed = feed(framer, [before + header + b"some of the body"])
    assert fed.passed == before
    assert fed.ends == [len(before)]
    assert (fed.seen, fed.held) == ([], [])
    assert fed.broken is not None
    assert fed.broken.side is Side.CLIENT
    assert fed.broken.offset == 1000 + len(before)
    assert str(MAX_BODY_BYTES + 1) in fed.broken.reason


@BOTH_HEADERS
def test_a_broken_stream_is_noticed_as_soon_as_the_header_is_whole(mini_header: bool) -> None:
    header = _header(5, 2**32 - 1, mini_header=mini_header)
    framer = framer_for({}, mini_header=mini_header)
    fed = feed(framer, [bytes([byte]) for byte in header])
    assert fed.broken is not None
    assert (fed.broken.offset, bytes(fed.passed), framer.end()) == (0, b"", b"")


@BOTH_HEADERS
@pytest.mark.parametrize("trace", [False, True], ids=["plain", "traced"])
def test_a_body_of_exactly_the_limit_passes_without_being_kept(mini_header: bool, trace: bool) -> None:
    def gib() -> Iterator[bytes | memoryview]:
        yield _header(9, MAX_BODY_BYTES, mini_header=mini_header)
        mebibyte = memoryview(bytearray(MIB))
        for _ in range(MAX_BODY_BYTES // MIB):
            yield mebibyte

    framer = framer_for({9: Want.HOLD}, mini_header=mini_header, trace=trace)
    fed = feed(framer, gib(), keep_passed=False)
    header_bytes = MINI_BYTES if mini_header else FULL_BYTES
    assert framer.offset == header_bytes + MAX_BODY_BYTES
    assert (fed.broken, fed.inside, fed.held) == (None, False, [])
    (message,) = fed.seen
    assert (message.size, len(message.body), message.whole) == (MAX_BODY_BYTES, MAX_KEPT_BYTES, False)
    assert fed.most_kept <= MAX_HEADER_BYTES + MAX_KEPT_BYTES
    assert fed.ends == ([framer.offset] if trace else [])


@BOTH_HEADERS
@pytest.mark.parametrize(
    "cuts", [[], [3], [50], list(range(0, 200_000, 997))], ids=["whole", "header", "body", "many"]
)
@pytest.mark.parametrize(("extra", "held"), [(0, True), (1, False)], ids=["at the limit", "over it"])
def test_a_message_too_long_to_be_held_is_seen_in_part(
    mini_header: bool, cuts: list[int], extra: int, held: bool
) -> None:
    body = bytes(range(256)) * (MAX_KEPT_BYTES // 256) + b"x" * extra
    stream = Sent(101, body).raw(mini_header=mini_header) + Sent(4, b"after").raw(mini_header=mini_header)
    fed = feed(framer_for({101: Want.HOLD, 4: Want.SEE}, mini_header=mini_header), pieces(stream, cuts))
    assert fed.passed == stream
    (message,) = fed.held if held else fed.seen[:1]
    assert message.whole is held
    assert message.body == body[:MAX_KEPT_BYTES]
    assert (len(fed.held), len(fed.seen)) == ((1, 1) if held else (0, 2))


def test_nothing_is_said_where_all_passes() -> None:
    framer = framer_for({101: Want.SEE}, mini_header=True)
    stream = Sent(7, b"seven").raw(mini_header=True)
    inside = []
    for piece in (stream * 3, stream[:8], stream[8:9], stream[9:]):
        assert framer.walk(memoryview(piece)) is None
        inside.append(framer.inside_message)
    assert inside == [False, True, True, False]
    assert (framer.messages, framer.offset) == (4, 4 * len(stream))


def test_a_held_message_stands_between_what_passes_before_and_after_it() -> None:
    framer = framer_for({2: Want.HOLD}, mini_header=True, trace=True)
    one, two, three = (Sent(id_, b"body").raw(mini_header=True) for id_ in (1, 2, 3))
    items = framer.walk(memoryview(one + two + three + one[:2]))
    assert items is not None
    before, held, after = items
    assert isinstance(before, Pass)
    assert isinstance(held, Held)
    assert isinstance(after, Pass)
    assert (bytes(before.data), before.ends) == (one, [10])
    assert held.message.header + held.message.body == two
    assert (bytes(after.data), after.ends) == (three, [10])
    assert (framer.pending, framer.inside_message) == (one[:2], True)


def test_a_seen_message_is_told_before_its_last_bytes_pass() -> None:
    framer = framer_for({1: Want.SEE}, mini_header=True)
    stream = Sent(1, b"body").raw(mini_header=True)
    assert [type(item) for item in framer.walk(memoryview(stream[:8])) or ()] == [Pass]
    items = framer.walk(memoryview(stream[8:]))
    assert items is not None
    seen, passed = items
    assert isinstance(seen, Seen)
    assert seen.message.body == b"body"
    assert isinstance(passed, Pass)
    assert bytes(passed.data) == stream[8:]


def test_a_flood_of_wanted_messages_is_not_a_flood_of_objects() -> None:
    framer = framer_for({4: Want.SEE}, mini_header=True)
    flood = memoryview(Sent(4, b"").raw(mini_header=True) * (2**20 // 6))
    tracemalloc.start()
    try:
        seen = sum(isinstance(item, Seen) for item in framer.walk(flood) or ())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen == framer.messages == 2**20 // 6
    assert peak < 64 * 2**10


def test_the_serial_under_mini_headers_counts_messages_across_reads() -> None:
    framer = framer_for({3: Want.SEE}, mini_header=True)
    stream = b"".join(Sent(id_, b"x" * id_).raw(mini_header=True) for id_ in (1, 3, 2, 2, 3, 3))
    fed = feed(framer, pieces(stream, range(0, 100, 5)))
    assert [message.serial for message in fed.seen] == [2, 5, 6]


def _header(id_: int, size: int, *, mini_header: bool) -> bytes:
    raw = Sent(id_, b"").raw(mini_header=mini_header)
    at = 2 if mini_header else 10
    return raw[:at] + size.to_bytes(4, "little") + raw[at + 4 :]


def test_while_a_message_is_told_the_framer_has_counted_as_far_as_that() -> None:
    stream = b"".join(struct.pack("<HI", id_, 2) + b"xx" for id_ in (7, 1, 7, 7, 1, 7))
    framer = Framer(Side.SERVER, mini_header=True, wanted={1: Want.HOLD})
    counted = [
        (framer.messages, item.message.serial)
        for item in framer.walk(memoryview(stream)) or ()
        if isinstance(item, Held)
    ]
    assert counted == [(2, 2), (5, 5)]
    assert framer.messages == 6
