"""`Framer.read`, for who passes nothing on: the same messages as `walk` tells, also where bytes are missing."""

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.side import Side
from spiceproxy.errors import ProtocolError
from spiceproxy.protocol.framer import MAX_BODY_BYTES, Framer, Message, Want
from tests.protocol.streams import CUTS, MESSAGES, Sent, feed, pieces, unhurried

BOOLEANS = st.booleans()


def seer(*, mini_header: bool) -> Framer:
    """A framer that tells all messages."""
    framer = Framer(Side.SERVER, mini_header=mini_header, wanted={})
    framer.want({}, Want.SEE)
    return framer


def reader(*, mini_header: bool = True, keep: int = 2**20) -> Framer:
    return Framer(Side.SERVER, mini_header=mini_header, wanted={}, keep=keep)


def read_all(framer: Framer, parts: Iterable[bytes]) -> list[Message]:
    found: list[Message] = []
    for part in parts:
        found += framer.read(framer.pending + part)
    return found


@unhurried
@given(MESSAGES, CUTS, BOOLEANS)
def test_read_gives_what_walk_tells_to_who_wants_everything(
    messages: list[Sent], cuts: list[int], mini_header: bool
) -> None:
    stream = b"".join(message.raw(mini_header=mini_header) for message in messages)
    walked = feed(seer(mini_header=mini_header), [stream])
    framer = reader(mini_header=mini_header)
    assert read_all(framer, pieces(stream, cuts)) == walked.seen
    assert (framer.messages, framer.offset, framer.inside_message) == (len(messages), len(stream), False)
    assert framer.cut() is None


@unhurried
@given(MESSAGES, CUTS, BOOLEANS, st.integers(0, 50))
def test_of_a_body_that_is_too_long_its_start_is_kept(
    messages: list[Sent], cuts: list[int], mini_header: bool, keep: int
) -> None:
    stream = b"".join(message.raw(mini_header=mini_header) for message in messages)
    found = read_all(reader(mini_header=mini_header, keep=keep), pieces(stream, cuts))
    assert [(m.id, m.size, m.body) for m in found] == [(m.id, len(m.body), m.body[:keep]) for m in messages]


@unhurried
@given(MESSAGES, CUTS, BOOLEANS, st.data())
def test_of_a_stream_that_is_cut_off_the_last_message_is_told_as_far_as_it_came(
    messages: list[Sent], cuts: list[int], mini_header: bool, data: st.DataObject
) -> None:
    stream = b"".join(message.raw(mini_header=mini_header) for message in messages)
    size = data.draw(st.integers(0, len(stream)))
    framer = reader(mini_header=mini_header)
    found = read_all(framer, pieces(stream[:size], cuts))
    whole = feed(seer(mini_header=mini_header), [stream]).seen
    assert found == whole[: len(found)]
    left = framer.left
    if (last := framer.cut()) is not None:
        expected = whole[len(found)]
        assert last == expected._replace(body=expected.body[: len(last.body)])
        assert len(last.body) + left == last.size
    consumed = sum(len(m.header) + len(m.body) for m in [*found, *filter(None, [last])])
    assert consumed + len(framer.pending) == size


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("mini_header", [True, False])
def test_a_message_goes_on_behind_bytes_that_are_missing(before: int, mini_header: bool) -> None:
    first, second = Sent(5, bytes(range(10))), Sent(6, b"next")
    stream = b"".join(message.raw(mini_header=mini_header) for message in (first, second))
    start = len(stream) - 4 - (6 if mini_header else 18) - 10 + before
    framer = reader(mini_header=mini_header)
    assert read_all(framer, [stream[:start]]) == []
    assert framer.skip(4) is None
    found = read_all(framer, [stream[start + 4 :]])
    assert [(m.id, m.size, m.body, m.whole) for m in found] == [
        (5, 10, bytes(range(before)), False),
        (6, 4, b"next", True),
    ]
    assert framer.offset == len(stream)


def test_bytes_that_are_missing_up_to_the_end_of_a_message_end_it() -> None:
    framer = reader()
    assert read_all(framer, [struct.pack("<HI", 5, 10) + b"abc"]) == []
    assert framer.left == 7
    message = framer.skip(7)
    assert message is not None
    assert (message.size, message.body) == (10, b"abc")
    assert [m.body for m in read_all(framer, [Sent(6, b"next").raw(mini_header=True)])] == [b"next"]


@pytest.mark.parametrize(("given_", "size"), [(b"", 1), (b"\5\0", 1), (struct.pack("<HI", 5, 2), 3)])
def test_nothing_is_skipped_that_would_lose_the_next_header(given_: bytes, size: int) -> None:
    framer = reader()
    read_all(framer, [given_])
    with pytest.raises(ValueError, match="to be skipped"):
        framer.skip(size)


def test_a_body_that_nobody_sends_breaks_the_stream_behind_what_was_whole() -> None:
    framer = reader()
    stream = Sent(5, b"ab").raw(mini_header=True) + struct.pack("<HI", 6, MAX_BODY_BYTES + 1)
    framer_reads = framer.read(stream)
    assert next(framer_reads).body == b"ab"
    with pytest.raises(ProtocolError, match=f"message of {MAX_BODY_BYTES + 1} bytes announced") as broken:
        next(framer_reads)
    assert broken.value.offset == 8
