"""LZ4 blocks of COMPRESSED_DATA, honest and hostile."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.compression import MAX_UNCOMPRESSED, compress, decompress
from dissectors.errors import DissectionError
from tests.dissectors.bodies import unhurried

# By the block format: a token of 1 literal and a match of 4 + 15 + 255 + 1 at distance 1, then 5 literals.
BLOCK = bytes.fromhex("1f 78 0100 ff 01 50 7878787878")
SIZE = 1 + 4 + 15 + 255 + 1 + 5


def test_a_block_packed_by_hand_unpacks() -> None:
    assert decompress(1, SIZE, BLOCK) == b"x" * SIZE


@unhurried
@given(st.binary(max_size=3000) | st.binary(max_size=5).map(lambda part: part * 2000))
def test_what_was_compressed_unpacks_to_the_same_bytes(stream: bytes) -> None:
    assert decompress(1, len(stream), compress(stream)) == stream


def test_compression_none_is_the_bytes_themselves() -> None:
    assert decompress(0, None, b"abc") == b"abc"


@pytest.mark.parametrize(
    ("compression", "size", "block", "why"),
    [
        (2, 5, BLOCK, "compression 2 is not known"),
        (1, None, BLOCK, "compression 1 is not known"),
        (1, SIZE - 1, BLOCK, "no LZ4 block"),
        (1, SIZE + 1, BLOCK, f"but the block has {SIZE}"),
        (1, SIZE, BLOCK[:-1], "no LZ4 block"),
        (1, SIZE, BLOCK + b"\0", "no LZ4 block"),
        (1, 0, b"", "no LZ4 block"),
        (1, 1, b"", "too much for 0 bytes"),
        (1, 255 * len(BLOCK) + 1, BLOCK, "too much for"),
        (1, MAX_UNCOMPRESSED + 1, bytes(MAX_UNCOMPRESSED // 255 + 9), "are not unpacked"),
        (1, 2**32 - 1, BLOCK, "are not unpacked"),
    ],
)
def test_a_block_that_does_not_make_exactly_its_size_is_an_error(
    compression: int, size: int | None, block: bytes, why: str
) -> None:
    with pytest.raises(DissectionError, match=why):
        decompress(compression, size, block)


def test_a_size_out_of_the_air_costs_no_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DissectionError):
            decompress(1, MAX_UNCOMPRESSED, BLOCK)
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()


@unhurried
@given(st.binary(max_size=200), st.integers(0, 2**32 - 1) | st.integers(0, 400))
def test_any_bytes_unpack_to_their_size_or_are_an_error(block: bytes, size: int) -> None:
    try:
        unpacked = decompress(1, size, block)
    except DissectionError:
        return
    assert len(unpacked) == size
