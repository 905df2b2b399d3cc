"""LZ4 blocks of exactly so many bytes: what a compressed message holds can be replaced without changing its size.

What is left of a stream when its secrets are zeros packs better than before, so there is room to fill. A block is a row
of sequences, each some literal bytes and then a match, a copy of earlier output; the last one has literals only.
Writing bytes of a match as literals makes a block longer by one for each, and by one more where a length needs another
byte. Source: the LZ4 block format, lz4_Block_format.md.
"""

from itertools import product
from typing import NamedTuple

import lz4.block

_LEAST_MATCH = 4
_LEAST_LAST_LITERALS = 5
_NO_MATCH_IN_LAST = 12


class _Sequence(NamedTuple):
    """Some literals, then a match."""

    literals: bytes
    distance: int
    length: int  # of the match


def block_of_size(stream: bytes, size: int) -> bytes | None:
    """Pack `stream` into a block of exactly `size` bytes; None if that cannot be done.

    Args:
        stream: What the block is to unpack to.
        size: Of the block.
    """
    packed: bytes = lz4.block.compress(stream, mode="high_compression", compression=12, store_size=False)
    if len(packed) == size:
        return packed
    if len(packed) > size:
        return None
    sequences, last = _taken_apart(packed)
    at = len(stream) - len(last)  # where the last literals begin
    while sequences:
        literals, distance, length = sequences.pop()
        start = at - length
        # Some sizes are stepped over where a length takes a byte more; a match that begins later, or is cut in two, which
        # takes three bytes more, steps elsewhere.
        for later, splits in product(range(_LEAST_MATCH), (0, 1)):
            last_match = _Sequence(literals + stream[start : start + later], distance, length - later)
            found = _shortened(stream, sequences, last_match, start + later, size, splits)
            if found is not None:
                return found
        at = start - len(literals)  # all of it as literals is still too short: go on with the sequence before
    whole = _ending(stream)
    return whole if len(whole) == size else None


def _shortened(
    stream: bytes, before: list[_Sequence], last: _Sequence, start: int, size: int, splits: int
) -> bytes | None:
    """The block with `last` as its last match, as much shorter as it takes; None if no length gives that size."""
    head = b"".join(map(_written, before))
    least = _LEAST_MATCH * (splits + 1)

    def made(length: int) -> bytes:
        match = _Sequence(last.literals, last.distance, length)
        if splits:
            cut = [match._replace(length=_LEAST_MATCH), _Sequence(b"", last.distance, length - _LEAST_MATCH)]
            return head + b"".join(map(_written, cut)) + _ending(stream[start + length :])
        return head + _written(match) + _ending(stream[start + length :])

    low, high = least, min(last.length, len(stream) - start - _LEAST_LAST_LITERALS)
    if len(stream) - start < _NO_MATCH_IN_LAST or low > high or len(made(low)) < size:
        return None
    while low <= high:  # the shorter the match, the longer the block
        middle = (low + high) // 2
        block = made(middle)
        if len(block) == size:
            return block
        if len(block) > size:
            low = middle + 1
        else:
            high = middle - 1
    return None


def _taken_apart(block: bytes) -> tuple[list[_Sequence], bytes]:
    """The sequences of a block, and its last literals."""
    sequences: list[_Sequence] = []
    at = 0
    while True:
        token = block[at]
        count, at = _length(block, at + 1, token >> 4)
        literals, at = block[at : at + count], at + count
        if at == len(block):
            return sequences, literals
        distance = int.from_bytes(block[at : at + 2], "little")
        length, at = _length(block, at + 2, token & 15)
        sequences.append(_Sequence(literals, distance, length + _LEAST_MATCH))


def _length(block: bytes, at: int, nibble: int) -> tuple[int, int]:
    if nibble < 15:
        return nibble, at
    total = 15
    while True:
        byte = block[at]
        at += 1
        total += byte
        if byte != 255:
            return total, at


def _more(length: int) -> bytes:
    """The bytes that a length of 15 or more goes on in."""
    if length < 15:
        return b""
    full, rest = divmod(length - 15, 255)
    return b"\xff" * full + bytes([rest])


def _written(sequence: _Sequence) -> bytes:
    count, length = len(sequence.literals), sequence.length - _LEAST_MATCH
    token = min(count, 15) << 4 | min(length, 15)
    distance = sequence.distance.to_bytes(2, "little")
    return bytes([token]) + _more(count) + sequence.literals + distance + _more(length)


def _ending(literals: bytes) -> bytes:
    return bytes([min(len(literals), 15) << 4]) + _more(len(literals)) + literals
