"""Messages of the display channel but for the drawing operations, and what holds for all of them."""

import tracemalloc
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.display_channel import (
    CLIENT_MESSAGES,
    SERVER_MESSAGES,
    GlScanoutFlags,
    ImageCompression,
    ResourceType,
    SurfaceFlags,
    SurfaceFmt,
)
from dissectors.errors import DissectionError
from dissectors.geometry import MAX_RECTS
from dissectors.message import Dissection, MessageSpec
from dissectors.side import Side
from dissectors.stream import StreamFlags, VideoCodecType
from tests.dissectors.draw_samples import DRAWINGS
from tests.dissectors.pictures import AREA, BASE, CLIP, NO_CLIP, base, pack, point

# spice.proto and enums.h: id, name, and the fewest bytes the body may have
SERVER = [
    (101, "SPICE_MSG_DISPLAY_MODE", 12),
    (102, "SPICE_MSG_DISPLAY_MARK", 0),
    (103, "SPICE_MSG_DISPLAY_RESET", 0),
    (104, "SPICE_MSG_DISPLAY_COPY_BITS", 29),
    (105, "SPICE_MSG_DISPLAY_INVAL_LIST", 2),
    (106, "SPICE_MSG_DISPLAY_INVAL_ALL_PIXMAPS", 1),
    (107, "SPICE_MSG_DISPLAY_INVAL_PALETTE", 8),
    (108, "SPICE_MSG_DISPLAY_INVAL_ALL_PALETTES", 0),
    (122, "SPICE_MSG_DISPLAY_STREAM_CREATE", 51),
    (123, "SPICE_MSG_DISPLAY_STREAM_DATA", 12),
    (124, "SPICE_MSG_DISPLAY_STREAM_CLIP", 5),
    (125, "SPICE_MSG_DISPLAY_STREAM_DESTROY", 4),
    (126, "SPICE_MSG_DISPLAY_STREAM_DESTROY_ALL", 0),
    (302, "SPICE_MSG_DISPLAY_DRAW_FILL", 37),
    (303, "SPICE_MSG_DISPLAY_DRAW_OPAQUE", 58),
    (304, "SPICE_MSG_DISPLAY_DRAW_COPY", 57),
    (305, "SPICE_MSG_DISPLAY_DRAW_BLEND", 57),
    (306, "SPICE_MSG_DISPLAY_DRAW_BLACKNESS", 34),
    (307, "SPICE_MSG_DISPLAY_DRAW_WHITENESS", 34),
    (308, "SPICE_MSG_DISPLAY_DRAW_INVERS", 34),
    (309, "SPICE_MSG_DISPLAY_DRAW_ROP3", 57),
    (310, "SPICE_MSG_DISPLAY_DRAW_STROKE", 31),
    (311, "SPICE_MSG_DISPLAY_DRAW_TEXT", 47),
    (312, "SPICE_MSG_DISPLAY_DRAW_TRANSPARENT", 49),
    (313, "SPICE_MSG_DISPLAY_DRAW_ALPHA_BLEND", 43),
    (314, "SPICE_MSG_DISPLAY_SURFACE_CREATE", 20),
    (315, "SPICE_MSG_DISPLAY_SURFACE_DESTROY", 4),
    (316, "SPICE_MSG_DISPLAY_STREAM_DATA_SIZED", 36),
    (317, "SPICE_MSG_DISPLAY_MONITORS_CONFIG", 4),
    (318, "SPICE_MSG_DISPLAY_DRAW_COMPOSITE", 37),
    (319, "SPICE_MSG_DISPLAY_STREAM_ACTIVATE_REPORT", 16),
    (320, "SPICE_MSG_DISPLAY_GL_SCANOUT_UNIX", 20),
    (321, "SPICE_MSG_DISPLAY_GL_DRAW", 16),
    (322, "SPICE_MSG_DISPLAY_QUALITY_INDICATOR", 0),
]
CLIENT = [
    (101, "SPICE_MSGC_DISPLAY_INIT", 14),
    (102, "SPICE_MSGC_DISPLAY_STREAM_REPORT", 32),
    (103, "SPICE_MSGC_DISPLAY_PREFERRED_COMPRESSION", 1),
    (104, "SPICE_MSGC_DISPLAY_GL_DRAW_DONE", 0),
    (105, "SPICE_MSGC_DISPLAY_PREFERRED_VIDEO_CODEC_TYPE", 1),
]
EXPECTED = [(SERVER_MESSAGES, *row) for row in SERVER] + [(CLIENT_MESSAGES, *row) for row in CLIENT]
OBSOLETE = {"SPICE_MSG_DISPLAY_MODE", "SPICE_MSG_DISPLAY_RESET"}
# Pointers that may not be null, by message id: the byte where the offset stands
NOT_NULL = {310: 21, 311: 21}

# (side, message id, body, fields)
S, C = Side.SERVER, Side.CLIENT
RECORDED: list[tuple[Side, int, bytes, dict[str, Any]]] = [
    (S, 101, pack("III", 1024, 768, 32), {"x_res": 1024, "y_res": 768, "bits": 32}),
    *[(S, id_, b"", {}) for id_ in (102, 103, 108, 126)],
    (S, 104, BASE.wire + point(-5, 6).wire, {"base": BASE.fields, "src_pos": {"x": -5, "y": 6}}),
    (
        S,
        104,
        base(CLIP, 2**32 - 1).wire + point(0, 0).wire,
        {"base": base(CLIP, 2**32 - 1).fields, "src_pos": {"x": 0, "y": 0}},
    ),
    (
        S,
        105,
        pack("HBQBQ", 2, 1, 2**64 - 1, 9, 4),
        {"count": 2, "resources": [{"type": ResourceType.PIXMAP, "id": 2**64 - 1}, {"type": 9, "id": 4}]},
    ),
    (
        S,
        106,
        pack("BBBQ", 1, 2, 3, 2**63),
        {
            "wait_count": 1,
            "wait_list": [{"channel_type": ChannelType.DISPLAY, "channel_id": 3, "message_serial": 2**63}],
        },
    ),
    (S, 107, pack("Q", 2**40), {"id": 2**40}),
    (
        S,
        122,
        pack("IIBBQIIII", 0, 63, 1, 3, 5, 640, 480, 320, 240) + AREA.wire + CLIP.wire,
        {
            "surface_id": 0,
            "id": 63,
            "flags": StreamFlags.TOP_DOWN,
            "codec_type": VideoCodecType.H264,
            "stamp": 5,
            "stream_width": 640,
            "stream_height": 480,
            "src_width": 320,
            "src_height": 240,
            "dest": AREA.fields,
            "clip": CLIP.fields,
        },
    ),
    (
        S,
        123,
        pack("III", 63, 2403384, 5) + b"frame",
        {"base": {"id": 63, "multi_media_time": 2403384}, "data_size": 5, "data": b"frame"},
    ),
    (S, 124, pack("I", 63) + NO_CLIP.wire, {"id": 63, "clip": NO_CLIP.fields}),
    (S, 124, pack("I", 63) + CLIP.wire, {"id": 63, "clip": CLIP.fields}),
    (S, 125, pack("I", 63), {"id": 63}),
    (
        S,
        314,
        pack("IIIII", 0, 1024, 768, 32, 1),
        {
            "surface_id": 0,
            "width": 1024,
            "height": 768,
            "format": SurfaceFmt["32_xRGB"],
            "flags": SurfaceFlags.PRIMARY,
        },
    ),
    (S, 315, pack("I", 2**31), {"surface_id": 2**31}),
    (
        S,
        316,
        pack("IIII", 1, 2, 640, 480) + AREA.wire + pack("I", 0),
        {
            "base": {"id": 1, "multi_media_time": 2},
            "width": 640,
            "height": 480,
            "dest": AREA.fields,
            "data_size": 0,
            "data": b"",
        },
    ),
    (
        S,
        317,
        pack("HH7I", 1, 4, 0, 1, 800, 600, 1024, 0, 0),
        {
            "count": 1,
            "max_allowed": 4,
            "heads": [
                {"monitor_id": 0, "surface_id": 1, "width": 800, "height": 600, "x": 1024, "y": 0, "flags": 0}
            ],
        },
    ),
    (
        S,
        319,
        pack("IIII", 1, 2, 5, 1000),
        {"stream_id": 1, "unique_id": 2, "max_window_size": 5, "timeout_ms": 1000},
    ),
    (
        S,
        320,
        pack("IIIII", 1024, 768, 4096, 0x34325258, 1),
        {
            "width": 1024,
            "height": 768,
            "stride": 4096,
            "drm_fourcc_format": 0x34325258,
            "flags": GlScanoutFlags.Y0TOP,
        },
    ),
    (S, 321, pack("IIII", 1, 2, 3, 4), {"x": 1, "y": 2, "w": 3, "h": 4}),
    (S, 322, b"anything", {"data": b"anything"}),
    (
        C,
        101,
        pack("BqBi", 1, -1, 2, -2),
        {
            "pixmap_cache_id": 1,
            "pixmap_cache_size": -1,
            "glz_dictionary_id": 2,
            "glz_dictionary_window_size": -2,
        },
    ),
    (
        C,
        102,
        pack("IIIIIIiI", 1, 2, 3, 4, 5, 6, -7, 2**32 - 1),
        {
            "stream_id": 1,
            "unique_id": 2,
            "start_frame_mm_time": 3,
            "end_frame_mm_time": 4,
            "num_frames": 5,
            "num_drops": 6,
            "last_frame_delay": -7,
            "audio_delay": 2**32 - 1,
        },
    ),
    (C, 103, b"\5", {"image_compression": ImageCompression.GLZ}),
    (C, 104, b"", {}),
    (
        C,
        105,
        b"\3\4\1\x63",
        {"num_of_codecs": 3, "codecs": [VideoCodecType.VP9, VideoCodecType.MJPEG, 99]},
    ),
]
TABLES = {S: SERVER_MESSAGES, C: CLIENT_MESSAGES}
EVERYTHING = RECORDED + [(S, id_, body, fields) for id_, body, fields in DRAWINGS]
PARAMETERS = [(TABLES[side][id_], body, fields) for side, id_, body, fields in EVERYTHING]
every_sample = pytest.mark.parametrize(
    ("spec", "body", "fields"),
    PARAMETERS,
    ids=[f"{spec.name}-{index}" for index, (spec, _, _) in enumerate(PARAMETERS)],
)


@pytest.mark.parametrize(("side", "id_", "body", "fields"), RECORDED)
def test_a_message_reads_as_what_it_says_and_builds_back(
    side: Side, id_: int, body: bytes, fields: dict[str, Any]
) -> None:
    spec = TABLES[side][id_]
    assert spec.dissect(body) == Dissection(spec.name, fields, b"")
    assert spec.build(fields) == body
    if id_ != 322:  # which takes all there is
        assert spec.dissect(body + b"\0more") == Dissection(spec.name, fields, b"\0more")


@pytest.mark.parametrize(("messages", "id_", "name", "least"), EXPECTED, ids=[row[2] for row in EXPECTED])
def test_a_message_of_the_protocol_has_its_name_and_no_body_shorter_than_it_can_be(
    messages: dict[int, MessageSpec], id_: int, name: str, least: int
) -> None:
    spec = messages[id_]
    assert (spec.id, spec.name, spec.obsolete) == (id_, name, name in OBSOLETE)
    sizes = []
    for size in range(least + 5):
        body = bytearray(size)
        if NOT_NULL.get(id_, size) < size:
            body[NOT_NULL[id_]] = 1  # anywhere will do but 0, the null pointer
        try:
            spec.dissect(body)
        except DissectionError:
            continue
        sizes.append(size)
    assert sizes == list(range(least, least + 5))


@pytest.mark.parametrize(("side", "rows"), [(S, SERVER), (C, CLIENT)])
def test_there_is_no_message_that_the_protocol_does_not_have_and_a_sample_of_each(
    side: Side, rows: list[tuple[int, str, int]]
) -> None:
    ids = {row[0] for row in rows}
    assert {id_ for id_ in TABLES[side] if id_ > 100} == ids  # below are those of every channel
    assert {id_ for each, id_, _, _ in EVERYTHING if each is side} == ids


def dissected(spec: MessageSpec, body: bytes) -> Dissection | DissectionError:
    try:
        return spec.dissect(body)
    except DissectionError as error:
        return error


@every_sample
@settings(deadline=None)
@given(st.data())
def test_a_cut_and_changed_message_is_an_error_of_one_line_or_builds_back(
    spec: MessageSpec, body: bytes, fields: dict[str, Any], data: st.DataObject
) -> None:
    changed = bytearray(body[: data.draw(st.integers(0, len(body)))])
    for at in data.draw(st.lists(st.integers(0, len(changed)), max_size=3)):
        changed[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
    found = dissected(spec, bytes(changed))
    if isinstance(found, DissectionError):
        assert str(found).startswith(f"{spec.name}: ")
        assert "\n" not in str(found)
    else:
        assert spec.build(found.fields, found.trailing) == changed
    assert spec.dissect(body).fields == fields


@every_sample
def test_numbers_at_their_extremes_cost_neither_time_nor_memory(
    spec: MessageSpec, body: bytes, fields: dict[str, Any]
) -> None:
    begun = perf_counter()
    tracemalloc.start()
    try:
        for at in range(len(body)):
            for extreme in (b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff\xff"):
                changed = (body[:at] + extreme + body[at + len(extreme) :])[: len(body)]
                found = dissected(spec, changed)
                if isinstance(found, Dissection):
                    assert spec.build(found.fields, found.trailing) == changed
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert (
        perf_counter() - begun < 20
    )  # seconds, for up to 1000 bodies; a walk over 2**31 items would take hours
    assert spec.dissect(body).fields == fields


@pytest.mark.parametrize("count", [3, 2**16, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_clip_of_more_rectangles_than_there_are_bytes_is_an_error(count: int) -> None:
    body = pack("IBI", 1, 1, count) + AREA.wire * 2
    with pytest.raises(
        DissectionError, match=f"num_rects is {count}, at 16 bytes each, but only 32 bytes are left"
    ):
        SERVER_MESSAGES[124].dissect(body)


def test_a_clip_of_more_rectangles_than_we_decode_is_an_error() -> None:
    with pytest.raises(DissectionError, match=f"more than {MAX_RECTS} are not decoded"):
        SERVER_MESSAGES[124].dissect(pack("IBI", 1, 1, MAX_RECTS + 1) + bytes(16 * (MAX_RECTS + 1)))


@pytest.mark.parametrize(
    ("id_", "head", "name"),
    [(105, b"\xff\xff", "count"), (106, b"\xff", "wait_count"), (317, b"\xff\xff\0\0", "count")],
)
def test_a_list_longer_than_the_body_is_an_error(id_: int, head: bytes, name: str) -> None:
    with pytest.raises(DissectionError, match=f"{name} is {2 ** (8 * len(head.rstrip(bytes(1)))) - 1}"):
        SERVER_MESSAGES[id_].dissect(head + bytes(40))


@pytest.mark.parametrize("id_", [123, 316])
@pytest.mark.parametrize("size", [1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_frame_longer_than_the_body_is_an_error(id_: int, size: int) -> None:
    least = {row[0]: row[2] for row in SERVER}[id_]
    with pytest.raises(DissectionError, match=f"data_size is {size}, but only 0 bytes are left"):
        SERVER_MESSAGES[id_].dissect(bytes(least - 4) + pack("I", size))


def test_unknown_values_and_bits_are_kept_as_numbers() -> None:
    body = pack("IIIII", 0, 1, 1, 33, 0x80000001)
    fields = SERVER_MESSAGES[314].dissect(body).fields
    assert (fields["format"], fields["flags"]) == (33, 0x80000001)
    assert type(fields["format"]) is type(fields["flags"]) is int
    assert SERVER_MESSAGES[314].build(fields) == body
    assert CLIENT_MESSAGES[103].dissect(b"\xff").fields == {"image_compression": 255}


def test_a_clip_of_an_unknown_type_has_no_more_bytes() -> None:
    body = pack("IB", 1, 77)
    assert SERVER_MESSAGES[124].dissect(body).fields == {"id": 1, "clip": {"type": 77, "u": None}}
    assert SERVER_MESSAGES[124].build({"id": 1, "clip": {"type": 77, "u": None}}) == body


def test_names_that_begin_with_a_digit_are_those_of_the_protocol() -> None:
    assert SurfaceFmt(96).name == "32_ARGB"
    assert SERVER_MESSAGES[314].dissect(pack("5I", 0, 1, 1, 80, 0)).fields["format"].name == "16_565"
