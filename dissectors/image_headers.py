"""The headers inside image data: what the codecs of compressed images say of themselves.

They are not part of the messages' layout, so they stand apart from the schemas: a message reads and builds back the same
whatever its image data is. Sources: spice-common quic.c, quic_decode_begin(); lz.c, lz_decode_begin(); canvas_base.c,
canvas_get_lz4() and canvas_get_jpeg_alpha(); spice-server glz-encoder.c, glz_encode(), and lz4-encoder.c, lz4_encode();
spice-gtk decode-glz.c, decode_header(). JPEG: ITU-T T.81, annex B.
"""

import zlib
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from construct import Int16ub, Int32ub, Int64ub

from dissectors.errors import DissectionError
from dissectors.fields import U8, U32, Choice, Data, FixedBytes, Record, read
from dissectors.image import BitmapFmt, ImageType

__all__ = ["LzImageType", "QuicImageType", "header_of_image", "image_header"]

# An LZ4 image has a block for each piece of memory that it lies in at the server, some hundred for a large one. What has
# more is described up to here.
MAX_LZ4_BLOCKS: Final = 4096

# Segments before the frame header of a JPEG; encoders write five or six.
MAX_JPEG_SEGMENTS: Final = 256

# Of a zlib stream, so much is unpacked to get at the 33 bytes of the GLZ header; the tables of a deflate block, which may
# come first, take some 300 bytes.
ZLIB_START: Final = 4096


class QuicImageType(IntEnum):
    """QUIC_IMAGE_TYPE_*: the pixel format of a QUIC image."""

    INVALID = 0
    GRAY = 1
    RGB16 = 2
    RGB24 = 3
    RGB32 = 4
    RGBA = 5


class LzImageType(IntEnum):
    """LZ_IMAGE_TYPE_*: the pixel format of an LZ or GLZ image."""

    INVALID = 0
    PLT1_LE = 1
    PLT1_BE = 2
    PLT4_LE = 3
    PLT4_BE = 4
    PLT8 = 5
    RGB16 = 6
    RGB24 = 7
    RGB32 = 8
    RGBA = 9
    XXXA = 10
    A8 = 11


# Source: spice-common quic.c: words of 32 bits, each little-endian
QuicHeader: Final = Record(
    "magic" / FixedBytes(4) * "QUIC",
    "version" / U32 * "major version << 16 | minor version; 0",
    "type" / Choice(U32, QuicImageType),
    "width" / U32 * "pixels",
    "height" / U32 * "pixels",
)

# Source: spice-common lz.c: big-endian, so that the magic number of "LZ  " stands there backwards
LzHeader: Final = Record(
    "magic" / FixedBytes(4) * "two spaces, Z, L",
    "version" / Int32ub * "major version << 16 | minor version; 0x10001",
    "type" / Choice(Int32ub, LzImageType),
    "width" / Int32ub * "pixels",
    "height" / Int32ub * "pixels",
    "stride" / Int32ub * "bytes in a row",
    "top_down" / Int32ub * "0 or 1",
)

# Source: spice-server glz-encoder.c
GlzHeader: Final = Record(
    "magic" / FixedBytes(4) * "two spaces, Z, L",
    "version" / Int32ub * "major version << 16 | minor version; 0x10001",
    "type" / U8 * "LZ_IMAGE_TYPE in the low four bits, top_down above",
    "width" / Int32ub * "pixels",
    "height" / Int32ub * "pixels",
    "stride" / Int32ub * "bytes in a row",
    "id" / Int64ub * "of the image in the dictionary; counts up",
    "win_head_dist" / Int32ub * "images from the oldest one of the dictionary's window to this one",
)

# Source: spice-server lz4-encoder.c
Lz4Header: Final = Record("top_down" / U8 * "0 or 1", "format" / Choice(U8, BitmapFmt))
Lz4Block: Final = Record("size" / Int32ub * "bytes of LZ4 that follow")

# Source: ITU-T T.81, B.2.2
JpegSegment: Final = Record("marker" / U8, "code" / U8, "length" / Int16ub * "bytes, itself included")
JpegFrame: Final = Record(
    "precision" / U8 * "bits of a sample",
    "height" / Int16ub * "pixels",
    "width" / Int16ub * "pixels",
    "components" / U8,
)

_QUIC_MAGIC: Final = b"QUIC"
_LZ_MAGIC: Final = b"  ZL"
_GLZ_SIZE: Final = GlzHeader.sizeof()

# Start of image; frame headers are 0xC0 to 0xCF but for the tables and the reserved code among them (T.81, table B.1).
_SOI: Final = b"\xff\xd8"
_NOT_FRAMES: Final = {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM, RST0 to RST7, SOI, EOI; after SOS comes the image itself
_BARE: Final = {0x01, *range(0xD0, 0xDA)}
_SOS: Final = 0xDA


def image_header(image_type: int, data: Data, *, jpeg_size: int | None = None) -> dict[str, Any] | None:
    """Read the header of an image's data.

    Args:
        image_type: `descriptor.type` of the image.
        data: Field `data` of the image; the first bytes of it will do, except for JPEG_ALPHA and the blocks of LZ4.
        jpeg_size: Field `jpeg_size` of a JPEG_ALPHA image; without it the alpha plane is not described.

    Returns:
        The header's fields: sizes in pixels, `stride` in bytes, `top_down` 0 or 1. JPEG_ALPHA has two headers, `jpeg`
        and `alpha`. None for a type whose data has no header.

    Raises:
        DissectionError: The data ends inside the header, or is not of this codec.
    """
    if image_type == ImageType.QUIC:
        return _with_magic(read(QuicHeader, data[: QuicHeader.sizeof()])[0], _QUIC_MAGIC)
    if image_type in (ImageType.LZ_RGB, ImageType.LZ_PLT):
        return _lz(data)
    if image_type == ImageType.GLZ_RGB:
        return _glz(data)
    if image_type == ImageType.ZLIB_GLZ_RGB:
        return _zlib_glz(data)
    if image_type == ImageType.JPEG:
        return _jpeg(data)
    if image_type == ImageType.JPEG_ALPHA:
        return _jpeg_alpha(data, jpeg_size)
    if image_type == ImageType.LZ4:
        return _lz4(data)
    return None


def header_of_image(image: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the header inside the data of an image as the messages' schemas return it (`src_bitmap`, `pat` ...).

    Raises:
        DissectionError: As `image_header`.
    """
    for value in (image["u"] or {}).values():
        if "data" in value:
            return image_header(image["descriptor"]["type"], value["data"], jpeg_size=value.get("jpeg_size"))
    return None


def _with_magic(header: dict[str, Any], magic: bytes) -> dict[str, Any]:
    if header["magic"] != magic:
        raise DissectionError(f"image data begins with {header['magic'].hex(' ')}, not {magic.hex(' ')}")
    return header


def _lz(data: Data) -> dict[str, Any]:
    return _with_magic(read(LzHeader, data[: LzHeader.sizeof()])[0], _LZ_MAGIC)


def _glz(data: Data) -> dict[str, Any]:
    header = _with_magic(read(GlzHeader, data[:_GLZ_SIZE])[0], _LZ_MAGIC)
    type_, top_down = header["type"] & 0x0F, header["type"] >> 4
    header["type"] = LzImageType(type_) if type_ <= LzImageType.A8 else type_
    return header | {"top_down": top_down}


def _zlib_glz(data: Data) -> dict[str, Any]:
    """Unpack as much as the header of the GLZ inside needs, and no more."""
    try:
        start = zlib.decompressobj().decompress(data[:ZLIB_START], _GLZ_SIZE)
    except zlib.error as error:
        raise DissectionError(f"image data is not zlib: {error}") from error
    return _glz(start)


def _lz4(data: Data) -> dict[str, Any]:
    header: dict[str, Any] = read(Lz4Header, data[: Lz4Header.sizeof()])[0]
    at = Lz4Header.sizeof()
    sizes: list[int] = []
    while at < len(data) and len(sizes) < MAX_LZ4_BLOCKS:
        size = read(Lz4Block, data[at : at + Lz4Block.sizeof()])[0]["size"]
        at += Lz4Block.sizeof() + size
        if at > len(data):
            raise DissectionError(f"LZ4 block {len(sizes)} is cut: {size} bytes, {at - len(data)} too few")
        sizes.append(size)
    return header | {"block_sizes": sizes}


def _jpeg(data: Data) -> dict[str, Any]:
    """Walk the segments to the frame header, which has the size."""
    if data[:2] != _SOI:
        raise DissectionError(f"image data begins with {bytes(data[:2]).hex(' ')}, not {_SOI.hex(' ')}")
    at = len(_SOI)
    for _ in range(MAX_JPEG_SEGMENTS):
        segment, size = read(JpegSegment, data[at : at + JpegSegment.sizeof()])
        code = segment["code"]
        if segment["marker"] == code == 0xFF:  # a fill byte
            at += 1
            continue
        if segment["marker"] != 0xFF or code in _BARE or code == _SOS or segment["length"] < 2:
            raise DissectionError(f"JPEG has no frame header up to byte {at}")
        if 0xC0 <= code <= 0xCF and code not in _NOT_FRAMES:
            start = at + size
            frame: dict[str, Any] = read(JpegFrame, data[start : start + JpegFrame.sizeof()])[0]
            return {"frame_type": code - 0xC0} | frame
        at += 2 + segment["length"]
    raise DissectionError(f"JPEG has no frame header in its first {MAX_JPEG_SEGMENTS} segments")


def _jpeg_alpha(data: Data, jpeg_size: int | None) -> dict[str, Any]:
    if jpeg_size is None:
        return {"jpeg": _jpeg(data)}
    if jpeg_size > len(data):
        raise DissectionError(f"jpeg_size is {jpeg_size}, but the data has only {len(data)} bytes")
    return {"jpeg": _jpeg(data[:jpeg_size]), "alpha": _lz(data[jpeg_size:])}
