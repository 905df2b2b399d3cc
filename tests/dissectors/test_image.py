"""Images of every type, and the headers of the codecs inside their data."""

import struct
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.errors import DissectionError
from dissectors.fields import read, write
from dissectors.image import BitmapFlags, BitmapFmt, Image, ImageType, JpegAlphaFlags
from dissectors.image_headers import (
    MAX_JPEG_SEGMENTS,
    MAX_LZ4_BLOCKS,
    LzImageType,
    QuicImageType,
    header_of_image,
    image_header,
)
from tests.dissectors.pictures import CACHED, PALETTE, PLAIN, QUIC, SURFACE, Piece, bitmap, image, pack

DATA = b"\0\1\2\3\4"
BINARY = pack("I", 5) + DATA


def binary(type_: ImageType, case: str) -> Piece:
    return image(type_, BINARY, {case: {"data_size": 5, "data": DATA}})


def _bitmap(wire: bytes, **fields: Any) -> Piece:
    return image(ImageType.BITMAP, wire, {"bitmap": fields})


IMAGES: dict[str, Piece] = {
    "a bitmap without palette": PLAIN,
    "a bitmap with one": Piece(
        bitmap(44, PALETTE.fields).wire + PALETTE.wire, bitmap(44, PALETTE.fields).fields
    ),
    "a bitmap with a palette from the cache": _bitmap(
        pack("BBIIIQ", 1, 2, 9, 1, 2, 2**64 - 2) + b"\xff\x80",
        format=BitmapFmt["1BIT_LE"],
        flags=BitmapFlags.PAL_FROM_CACHE,
        x=9,
        y=1,
        stride=2,
        pal={"palette_id": 2**64 - 2},
        data=b"\xff\x80",
    ),
    "a bitmap without pixels": _bitmap(
        pack("BBIIII", 8, 0, 2**32 - 1, 0, 2**32 - 1, 0),
        format=BitmapFmt["32BIT"],
        flags=0,
        x=2**32 - 1,
        y=0,
        stride=2**32 - 1,
        pal={"palette": None},
        data=b"",
    ),
    "quic": QUIC,
    "lz_rgb": binary(ImageType.LZ_RGB, "lz_rgb"),
    "glz_rgb": binary(ImageType.GLZ_RGB, "lz_rgb"),
    "jpeg": binary(ImageType.JPEG, "jpeg"),
    "lz4": binary(ImageType.LZ4, "lz4"),
    "lz_plt": image(
        ImageType.LZ_PLT,
        pack("BII", 5, 5, 32) + DATA + PALETTE.wire,
        {
            "lz_plt": {
                "flags": BitmapFlags.PAL_CACHE_ME | BitmapFlags.TOP_DOWN,
                "data_size": 5,
                "pal": {"palette": PALETTE.fields},
                "data": DATA,
            }
        },
    ),
    "lz_plt with a palette from the cache": image(
        ImageType.LZ_PLT,
        pack("BIQ", 2, 5, 3) + DATA,
        {
            "lz_plt": {
                "flags": BitmapFlags.PAL_FROM_CACHE,
                "data_size": 5,
                "pal": {"palette_id": 3},
                "data": DATA,
            }
        },
    ),
    "zlib_glz": image(
        ImageType.ZLIB_GLZ_RGB,
        pack("I", 999) + BINARY,
        {"zlib_glz": {"glz_data_size": 999, "data_size": 5, "data": DATA}},
    ),
    "jpeg_alpha": image(
        ImageType.JPEG_ALPHA,
        pack("BI", 1, 3) + BINARY,
        {"jpeg_alpha": {"flags": JpegAlphaFlags.TOP_DOWN, "jpeg_size": 3, "data_size": 5, "data": DATA}},
    ),
    "surface": SURFACE,
    "from_cache": CACHED,
    "from_cache_lossless": image(ImageType.FROM_CACHE_LOSSLESS, b"", None),
    "reserved": image(ImageType.RESERVED, b"", None),
    "a type that nobody knows": image(200, b"", None),
}
every_image = pytest.mark.parametrize("piece", IMAGES.values(), ids=IMAGES)


@every_image
def test_an_image_reads_as_what_it_says_and_builds_back(piece: Piece) -> None:
    assert read(Image, piece.wire) == (piece.fields, len(piece.wire))
    assert write(Image, piece.fields) == piece.wire


@every_image
def test_an_image_cut_anywhere_is_an_error(piece: Piece) -> None:
    for size in range(len(piece.wire)):
        with pytest.raises(DissectionError):
            read(Image, piece.wire[:size])


@every_image
def test_numbers_at_their_extremes_cost_no_memory(piece: Piece) -> None:
    tracemalloc.start()
    try:
        for at in range(len(piece.wire) - 3):
            for extreme in (b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80"):
                changed = piece.wire[:at] + extreme + piece.wire[at + 4 :]
                try:
                    found, end = read(Image, changed)
                except DissectionError:
                    continue
                assert read(Image, write(Image, found)) == (found, end)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("type_", [ImageType.QUIC, ImageType.LZ_RGB, ImageType.JPEG, ImageType.LZ4])
@pytest.mark.parametrize("size", [6, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_more_data_than_there_is_is_an_error(type_: int, size: int) -> None:
    with pytest.raises(DissectionError, match=f"data_size is {size}, but only 5 bytes are left"):
        read(Image, image(type_, pack("I", size) + DATA, None).wire)


def test_a_palette_of_lz_plt_may_not_be_null_while_that_of_a_bitmap_may() -> None:
    with pytest.raises(DissectionError, match="palette: is a null pointer"):
        read(Image, image(ImageType.LZ_PLT, pack("BII", 0, 0, 0), None).wire)
    assert read(Image, PLAIN.wire)[0]["u"]["bitmap"]["pal"] == {"palette": None}


def test_a_palette_that_is_not_next_keeps_its_offset() -> None:
    wire = bitmap(46, None).wire + b"??" + PALETTE.wire
    found, end = read(Image, wire)
    assert found["u"]["bitmap"]["pal"] == {"palette": PALETTE.fields, "palette_offset": 46}
    assert end == len(wire)


def test_pixels_are_stride_times_rows_whatever_the_width_says() -> None:
    wire = image(ImageType.BITMAP, pack("BBIIII", 5, 0, 1000, 2, 3, 0) + b"abcdef", None).wire
    assert read(Image, wire)[0]["u"]["bitmap"]["data"] == b"abcdef"
    with pytest.raises(DissectionError, match="stride times y is 6, but only 5"):
        read(Image, wire[:-1])


def test_an_unknown_bitmap_format_and_unknown_flags_are_kept() -> None:
    wire = image(ImageType.BITMAP, pack("BBIIII", 99, 0x84, 0, 0, 0, 0), None).wire
    found, _ = read(Image, wire)
    assert (found["u"]["bitmap"]["format"], found["u"]["bitmap"]["flags"]) == (99, 0x84)
    assert write(Image, found) == wire


# ---- headers inside the data

QUIC_DATA = pack("4sIIII", b"QUIC", 0, 4, 640, 480)
LZ_DATA = struct.pack(">4sIIIIII", b"  ZL", 0x10001, 8, 640, 480, 2560, 1)
GLZ_DATA = struct.pack(">4sIBIIIQI", b"  ZL", 0x10001, 0x18, 640, 480, 2560, 2**40, 17)
ALPHA_DATA = struct.pack(">4sIIIIII", b"  ZL", 0x10001, 10, 8, 16, 32, 0)
JPEG_DATA = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    b"\xff\xdb\x00\x05abc"
    b"\xff"  # a fill byte
    b"\xff\xc4\x00\x02"  # tables may come first, and their code looks like a frame's
    b"\xff\xc0\x00\x11\x08\x00\x10\x00\x08\x03"
)
LZ4_DATA = b"\1\x08" + struct.pack(">I", 3) + b"abc" + struct.pack(">I", 0) + struct.pack(">I", 1) + b"d"

QUIC_HEADER = {"magic": b"QUIC", "version": 0, "type": QuicImageType.RGB32, "width": 640, "height": 480}
LZ_HEADER = {
    "magic": b"  ZL",
    "version": 0x10001,
    "type": LzImageType.RGB32,
    "width": 640,
    "height": 480,
    "stride": 2560,
    "top_down": 1,
}
GLZ_HEADER = {**LZ_HEADER, "id": 2**40, "win_head_dist": 17}
ALPHA_HEADER = {
    **LZ_HEADER,
    "type": LzImageType.XXXA,
    "width": 8,
    "height": 16,
    "stride": 32,
    "top_down": 0,
}
JPEG_HEADER = {"frame_type": 0, "precision": 8, "height": 16, "width": 8, "components": 3}
LZ4_HEADER = {"top_down": 1, "format": BitmapFmt["32BIT"], "block_sizes": [3, 0, 1]}

HEADERS = [
    (ImageType.QUIC, QUIC_DATA, QUIC_HEADER),
    (ImageType.LZ_RGB, LZ_DATA, LZ_HEADER),
    (ImageType.LZ_PLT, LZ_DATA, LZ_HEADER),
    (ImageType.GLZ_RGB, GLZ_DATA, GLZ_HEADER),
    (ImageType.ZLIB_GLZ_RGB, zlib.compress(GLZ_DATA + bytes(99)), GLZ_HEADER),
    (ImageType.JPEG, JPEG_DATA, JPEG_HEADER),
    (ImageType.JPEG_ALPHA, JPEG_DATA, {"jpeg": JPEG_HEADER}),
    (ImageType.LZ4, LZ4_DATA, LZ4_HEADER),
]
every_header = pytest.mark.parametrize(
    ("type_", "data", "header"), HEADERS, ids=[type_.name for type_, _, _ in HEADERS]
)


@every_header
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_header_reads_as_what_it_says(
    type_: ImageType, data: bytes, header: dict[str, Any], kind: Any
) -> None:
    assert image_header(type_, kind(data)) == header


@every_header
def test_a_header_that_is_cut_is_an_error(type_: ImageType, data: bytes, header: dict[str, Any]) -> None:
    for size in range(len(data)):
        try:
            found = image_header(type_, data[:size])
        except DissectionError:
            continue
        # LZ4 may end after any block, and of zlib the header's part is enough
        if type_ == ImageType.LZ4:
            assert found is not None
            assert found["block_sizes"] in ([], [3], [3, 0])
        else:
            assert type_ == ImageType.ZLIB_GLZ_RGB
            assert found == header


@pytest.mark.parametrize("type_", [each for each in ImageType if each != ImageType.LZ4])
@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"\xff" * 64, b"\xff\xd8" + b"\xff\xd9" * 9])
def test_data_of_another_codec_is_an_error_or_has_no_header(type_: ImageType, data: bytes) -> None:
    without = {
        ImageType.BITMAP,
        ImageType.RESERVED,
        ImageType.SURFACE,
        ImageType.FROM_CACHE,
        ImageType.FROM_CACHE_LOSSLESS,
    }
    if type_ in without:
        assert image_header(type_, data) is None
    else:
        with pytest.raises(DissectionError):
            image_header(type_, data)


@settings(deadline=None)
@given(st.sampled_from(list(ImageType)), st.binary(max_size=200), st.none() | st.integers(0, 300))
def test_any_data_has_a_header_or_is_an_error_of_ours(
    type_: ImageType, data: bytes, jpeg_size: int | None
) -> None:
    for start in (b"", *(each for kind, each, _ in HEADERS if kind == type_)):
        try:
            header = image_header(type_, start + data, jpeg_size=jpeg_size)
        except DissectionError:
            continue
        assert header is None or len(header) >= 1


def test_jpeg_alpha_has_both_headers_where_the_size_of_the_jpeg_is_known() -> None:
    data = JPEG_DATA + b"the rest of it" + ALPHA_DATA + b"pixels"
    size = len(JPEG_DATA) + 14
    both = {"jpeg": JPEG_HEADER, "alpha": ALPHA_HEADER}
    assert image_header(ImageType.JPEG_ALPHA, data, jpeg_size=size) == both
    with pytest.raises(DissectionError, match="jpeg_size is 999, but the data has only"):
        image_header(ImageType.JPEG_ALPHA, data, jpeg_size=999)
    with pytest.raises(DissectionError, match="image data begins with"):
        image_header(ImageType.JPEG_ALPHA, data, jpeg_size=size - 1)
    wire = image(ImageType.JPEG_ALPHA, pack("BII", 0, size, len(data)) + data, None).wire
    assert header_of_image(read(Image, wire)[0]) == both


@every_image
def test_the_header_of_an_image_is_that_of_its_data(piece: Piece) -> None:
    found = read(Image, piece.wire)[0]
    type_ = found["descriptor"]["type"]
    for known, data, header in HEADERS:
        if type_ == known != ImageType.JPEG_ALPHA:
            (value,) = found["u"].values()
            value["data"] = data
            assert header_of_image(found) == header
            return
    if type_ == ImageType.JPEG_ALPHA:
        with pytest.raises(DissectionError):
            header_of_image(found)
    else:
        assert header_of_image(found) is None


def test_a_zlib_stream_is_unpacked_no_further_than_the_header() -> None:
    bomb = zlib.compress(GLZ_DATA + bytes(2**26), 9)
    tracemalloc.start()
    try:
        assert image_header(ImageType.ZLIB_GLZ_RGB, bomb) == GLZ_HEADER
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_an_lz4_image_of_very_many_blocks_is_described_as_far_as_we_go() -> None:
    header = image_header(ImageType.LZ4, b"\0\x08" + bytes(4) * (MAX_LZ4_BLOCKS + 1))
    assert header is not None
    assert header["block_sizes"] == [0] * MAX_LZ4_BLOCKS


@pytest.mark.parametrize("size", [2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_an_lz4_block_beyond_the_data_is_an_error(size: int) -> None:
    with pytest.raises(DissectionError, match=f"LZ4 block 0 is cut: {size} bytes, {size - 1} too few"):
        image_header(ImageType.LZ4, b"\0\x08" + struct.pack(">I", size) + b"a")


def test_a_jpeg_of_segments_without_end_is_an_error() -> None:
    endless = b"\xff\xd8" + b"\xff\xe0\x00\x02" * (MAX_JPEG_SEGMENTS + 1) + JPEG_DATA[2:]
    with pytest.raises(DissectionError, match="no frame header in its first 256 segments"):
        image_header(ImageType.JPEG, endless)


@pytest.mark.parametrize(
    "segment", [b"\xff\xda\x00\x02", b"\xff\xe0\x00\x01", b"\x00\xe0\x00\x02", b"\xff\xd9\x00\x02"]
)
def test_a_jpeg_whose_image_begins_without_a_frame_header_is_an_error(segment: bytes) -> None:
    with pytest.raises(DissectionError, match="JPEG has no frame header up to byte 2"):
        image_header(ImageType.JPEG, b"\xff\xd8" + segment + JPEG_DATA[2:])


def test_an_unknown_pixel_format_is_kept_as_a_number() -> None:
    header = image_header(ImageType.GLZ_RGB, GLZ_DATA[:8] + b"\x0f" + GLZ_DATA[9:])
    assert header is not None
    assert (header["type"], header["top_down"]) == (15, 0)
    header = image_header(ImageType.QUIC, QUIC_DATA[:8] + b"\x63\0\0\0" + QUIC_DATA[12:])
    assert header is not None
    assert header["type"] == 99
