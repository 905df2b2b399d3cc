"""How an input says more than one thing: where a stream is cut, who speaks, which message it is."""

from collections.abc import Iterator
from typing import NamedTuple

from dissectors.side import Side


class Piece(NamedTuple):
    """Some bytes of one side, and a number to be used as one likes."""

    side: Side
    kind: int  # 0 to 63
    data: bytes


def split(data: bytes) -> Iterator[Piece]:
    """Read an input as pieces: a byte of side (the highest bit) and kind, a u16 length, as many bytes; to the end.

    A length beyond the end means what is left, so that every input means something.
    """
    at = 0
    while at + 3 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 3], "little")
        side = Side.CLIENT if data[at] & 0x80 else Side.SERVER
        yield Piece(side, data[at] & 0x3F, data[at + 3 : at + 3 + size])
        at += 3 + size


def join(pieces: list[Piece]) -> bytes:
    """The input that means these pieces."""
    return b"".join(
        bytes([(0x80 if side is Side.CLIENT else 0) | kind]) + len(data).to_bytes(2, "little") + data
        for side, kind, data in pieces
    )


def cut(data: bytes, rule: int) -> Iterator[bytes]:
    """Cut a stream as one byte says: 0 not at all, else into pieces of sizes that it makes up, of 1 byte and more."""
    at, state = 0, rule
    while at < len(data):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        size = len(data) if rule == 0 else 1 + (state >> 16) % rule
        yield data[at : at + size]
        at += size


def is_one_line(error: Exception) -> None:
    """Errors are one line each, whatever a peer sent."""
    assert str(error)
    assert "\n" not in str(error)
