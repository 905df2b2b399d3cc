"""The way back into a stream of messages after bytes of it were lost."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.capture import resync
from spiceproxy.capture.resync import CHAIN, WINDOW_BYTES, Resync
from tests.protocol.streams import pieces, unhurried

PLAYBACK = ChannelType.PLAYBACK


def sound(size: int, serial: int = 0, *, mini: bool = True) -> bytes:
    """SPICE_MSG_PLAYBACK_DATA: whatever its bytes, it decodes."""
    body = struct.pack("<I", 5) + b"\xee" * size
    if mini:
        return struct.pack("<HI", 101, len(body)) + body
    return struct.pack("<QHII", serial, 101, len(body), 0) + body


def search(*, mini: bool = True) -> Resync:
    return Resync(PLAYBACK, Side.SERVER, mini_header=mini)


@unhurried
@given(
    st.booleans(),
    st.integers(0, 300),
    st.lists(st.integers(0, 300), min_size=4, max_size=8),
    st.integers(1, 200),
)
def test_the_first_message_of_a_chain_is_found_however_the_stream_is_cut(
    mini: bool, garbage: int, sizes: list[int], step: int
) -> None:
    chain = b"".join(sound(size, n, mini=mini) for n, size in enumerate(sizes, start=1))
    stream = b"\xff" * garbage + chain
    wanted = search(mini=mini)
    given_ = b""
    for piece in pieces(stream, range(0, len(stream), step)):
        given_ += piece
        if found := wanted.feed(piece):
            assert (found.lost, found.data) == (garbage, given_[garbage:])
            return
    pytest.fail("not found")


def test_full_headers_have_to_count() -> None:
    wanted = search(mini=False)
    assert wanted.feed(b"".join(sound(3, serial, mini=False) for serial in (1, 2, 4, 5, 6))) is None
    found = wanted.feed(sound(3, 7, mini=False))
    assert found is not None
    assert found.lost == 2 * len(sound(3, mini=False))


def test_a_size_that_is_not_there_yet_keeps_nobody_from_looking_further_on() -> None:
    wanted = search()
    trap = struct.pack("<HI", 101, WINDOW_BYTES - 1)
    found = wanted.feed(trap + sound(3) * CHAIN)
    assert found is not None
    assert found.lost == len(trap)


def test_a_gap_begins_the_search_anew() -> None:
    wanted = search()
    assert wanted.feed(sound(3) * (CHAIN - 1)) is None
    wanted.gap(10)
    assert wanted.feed(sound(3) * (CHAIN - 1)) is None
    found = wanted.feed(sound(3))
    assert found is not None
    assert found.lost == len(sound(3)) * (CHAIN - 1) + 10


def test_what_is_kept_is_bounded_and_all_of_it_is_counted() -> None:
    wanted = search()
    noise = random.Random(1)
    for number in range(80):
        assert wanted.feed(noise.randbytes(65536)) is None
        assert wanted.skipped == (number + 1) * 65536
    assert len(wanted._buffer) <= WINDOW_BYTES + WINDOW_BYTES // 4
    found = wanted.feed(sound(100) * CHAIN)
    assert found is not None
    assert found.lost == 80 * 65536


def test_bytes_that_look_like_headers_everywhere_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resync, "MAX_TRIES", 100)
    wanted = search()
    assert wanted.feed(struct.pack("<HI", 101, 1) * 200) is None
    assert wanted.hopeless
    assert wanted.feed(sound(3) * 10) is None
    assert wanted.skipped == 6 * 200 + len(sound(3)) * 10


def test_on_a_channel_that_nobody_knows_only_the_common_messages_make_a_chain() -> None:
    unknown = Resync(42, Side.SERVER, mini_header=True)
    assert unknown.feed(struct.pack("<HI", 101, 1) * 20) is None
    found = unknown.feed(struct.pack("<HIII", 3, 8, 1, 20) * CHAIN)
    assert found is not None
    assert found.lost == 120
