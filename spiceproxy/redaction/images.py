"""What stays of an image's data: the header that its codec writes in front of it, so that it still reads as one.

The layouts are those of `dissectors.image_headers`, which also judges: a header that does not read the same afterwards
is not kept.
"""

import struct
import zlib
from typing import Final

from dissectors.errors import DissectionError
from dissectors.image import ImageType
from dissectors.image_headers import (
    MAX_JPEG_SEGMENTS,
    MAX_LZ4_BLOCKS,
    ZLIB_START,
    GlzHeader,
    JpegFrame,
    LzHeader,
    QuicHeader,
    image_header,
)

_HEADS: Final = {
    ImageType.QUIC: QuicHeader.sizeof(),
    ImageType.LZ_RGB: LzHeader.sizeof(),
    ImageType.LZ_PLT: LzHeader.sizeof(),
    ImageType.GLZ_RGB: GlzHeader.sizeof(),
}
_LZ4_HEAD, _LZ4_BLOCK_HEAD = 2, 4
_STORED_HEAD: Final = 7  # the two bytes below, then type and length of a block. Source: RFC 1951, 3.2.4
_ZLIB_HEAD: Final = b"\x78\x01"  # deflate, window of 32 KiB, fastest

Pieces = list[tuple[int, bytes]]
"""Offset in the data, and the bytes that stand there."""


def public_pieces(image_type: int, data: bytes, jpeg_size: int | None) -> Pieces:
    """What may stay of an image's data; nothing of one whose header cannot be read.

    Args:
        image_type: `descriptor.type` of the image.
        data: Its field `data`.
        jpeg_size: Field `jpeg_size` of a JPEG_ALPHA image.
    """
    try:
        before = image_header(image_type, data, jpeg_size=jpeg_size)
        if before is None:
            return []
        pieces = _pieces(image_type, data, jpeg_size)
        blank = bytearray(len(data))
        for at, piece in pieces:
            blank[at : at + len(piece)] = piece
        same = (
            len(blank) == len(data) and image_header(image_type, bytes(blank), jpeg_size=jpeg_size) == before
        )
    except DissectionError:
        return []
    return pieces if same else []


def _pieces(image_type: int, data: bytes, jpeg_size: int | None) -> Pieces:
    size = _HEADS.get(ImageType(image_type))
    if size is not None:
        return [(0, data[:size])]
    if image_type == ImageType.LZ4:
        return _lz4(data)
    if image_type == ImageType.ZLIB_GLZ_RGB:
        return _zlib(data)
    pieces = _jpeg(data)
    if image_type == ImageType.JPEG_ALPHA and jpeg_size is not None:
        pieces.append((jpeg_size, data[jpeg_size : jpeg_size + LzHeader.sizeof()]))
    return pieces


def _lz4(data: bytes) -> Pieces:
    """The head, and the size in front of each block."""
    pieces, at = [(0, data[:_LZ4_HEAD])], _LZ4_HEAD
    while at < len(data) and len(pieces) <= MAX_LZ4_BLOCKS:
        pieces.append((at, data[at : at + _LZ4_BLOCK_HEAD]))
        at += _LZ4_BLOCK_HEAD + int.from_bytes(data[at : at + _LZ4_BLOCK_HEAD])
    return pieces


def _zlib(data: bytes) -> Pieces:
    """Another zlib stream that begins with the same GLZ header: stored as it is, or packed where there is no room."""
    header = zlib.decompressobj().decompress(data[:ZLIB_START], GlzHeader.sizeof())
    # One stored block that goes on over all zeros that follow, so that they are no broken block.
    length = min(len(data) - _STORED_HEAD, 0xFFFF)
    if length >= len(header):
        return [(0, _ZLIB_HEAD + struct.pack("<BHH", 0, length, length ^ 0xFFFF) + header)]
    packed = zlib.compress(header, 9)
    return [(0, packed)] if len(packed) <= len(data) else []


def _jpeg(data: bytes) -> Pieces:
    """Markers and lengths of the segments up to the frame header, and that: sizes of tables, none of their contents."""
    pieces, at = [(0, data[:2])], 2
    for _ in range(MAX_JPEG_SEGMENTS):
        code = data[at + 1]
        if code == 0xFF:  # a fill byte
            pieces.append((at, data[at : at + 1]))
            at += 1
            continue
        if 0xC0 <= code <= 0xCF and code not in {0xC4, 0xC8, 0xCC}:
            pieces.append((at, data[at : at + 4 + JpegFrame.sizeof()]))
            break
        pieces.append((at, data[at : at + 4]))
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return pieces
