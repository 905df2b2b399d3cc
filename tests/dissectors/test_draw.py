"""Drawing messages of the display channel."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.display_channel import SERVER_MESSAGES
from dissectors.draw import MAX_SEGMENTS, ImageScaleMode, Ropd, StringFlags
from dissectors.errors import DissectionError
from dissectors.message import Dissection, MessageSpec
from tests.dissectors.draw_samples import DRAWINGS, drawing, glyph, text
from tests.dissectors.pictures import AREA, BASE, CACHED, NO_MASK, PALETTE, QUIC, bitmap, mask, pack

COPY = SERVER_MESSAGES[304]
every_drawing = pytest.mark.parametrize(
    ("spec", "body", "fields"),
    [(SERVER_MESSAGES[id_], body, fields) for id_, body, fields in DRAWINGS],
    ids=[f"{SERVER_MESSAGES[id_].name}-{index}" for index, (id_, _, _) in enumerate(DRAWINGS)],
)


def copy_body(src: int, mask_at: int, behind: bytes, *, area: bytes = AREA.wire) -> bytes:
    return BASE.wire + pack("I", src) + area + pack("HB", 8, 1) + mask(mask_at, None).wire + behind


def copy_fields(data: dict[str, Any], masked: dict[str, Any]) -> dict[str, Any]:
    rest = {"src_area": AREA.fields, "rop_descriptor": Ropd.OP_PUT, "scale_mode": ImageScaleMode.NEAREST}
    return drawing({**data, **rest, "mask": {**NO_MASK.fields, **masked}})


def assert_reads_as(spec: MessageSpec, body: bytes, fields: dict[str, Any]) -> None:
    assert spec.dissect(body) == Dissection(spec.name, fields, b"")
    assert spec.build(fields) == body
    assert spec.dissect(body + b"more") == Dissection(spec.name, fields, b"more")


@every_drawing
def test_a_drawing_reads_as_what_it_says_and_builds_back(
    spec: MessageSpec, body: bytes, fields: dict[str, Any]
) -> None:
    assert_reads_as(spec, body, fields)


@every_drawing
def test_a_drawing_cut_anywhere_is_an_error(spec: MessageSpec, body: bytes, fields: dict[str, Any]) -> None:
    for size in range(len(body)):
        with pytest.raises(DissectionError, match=f"^{spec.name}: [^\n]*$"):
            spec.dissect(body[:size])
    assert spec.dissect(body).fields == fields


@every_drawing
@settings(deadline=None)  # a busy machine is not a failure
@given(st.data())
def test_a_drawing_with_any_bytes_changed_is_an_error_or_builds_back(
    spec: MessageSpec, body: bytes, fields: dict[str, Any], data: st.DataObject
) -> None:
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        new = data.draw(st.binary(min_size=1, max_size=4))
        changed[at : at + len(new)] = new
    try:
        found = spec.dissect(changed)
    except DissectionError:
        return
    assert spec.build(found.fields, found.trailing) == changed
    assert spec.dissect(body).fields == fields


def test_two_pointers_to_one_image_read_as_two_images_and_build_to_one() -> None:
    body = copy_body(57, 57, QUIC.wire)
    fields = copy_fields({"src_bitmap": QUIC.fields}, {"bitmap": QUIC.fields, "bitmap_offset": 57})
    assert_reads_as(COPY, body, fields)


def test_images_in_the_other_order_keep_their_offsets() -> None:
    body = copy_body(75, 57, CACHED.wire + QUIC.wire)
    fields = copy_fields(
        {"src_bitmap": QUIC.fields, "src_bitmap_offset": 75}, {"bitmap": CACHED.fields, "bitmap_offset": 57}
    )
    assert_reads_as(COPY, body, fields)


def test_bytes_that_no_pointer_names_are_kept() -> None:
    body = copy_body(60, 0, b"xyz" + CACHED.wire)
    found = COPY.dissect(body)
    assert found.fields["data"]["src_bitmap"] == CACHED.fields
    assert found.fields["data"]["src_bitmap_offset"] == 60
    assert COPY.build(found.fields, found.trailing) == body


def test_a_pointer_into_another_image_reads_and_builds() -> None:
    inner = CACHED.wire
    outer = pack("QBBII", 1, 1, 0, 1, 1) + pack("I", len(inner)) + inner
    found = COPY.dissect(copy_body(57, 57 + 22, outer))
    assert found.fields["data"]["src_bitmap"]["u"] == {"quic": {"data_size": 18, "data": inner}}
    assert found.fields["data"]["mask"]["bitmap"] == CACHED.fields
    assert found.fields["data"]["mask"]["bitmap_offset"] == 79
    assert found.trailing == b""
    assert COPY.build(found.fields) == copy_body(57, 79, outer)


def test_a_pointer_into_the_fixed_part_reads_and_builds() -> None:
    # At byte 4 is the box: -1 and 2 make an id, then 0xE0 is a type that nobody knows.
    body = copy_body(4, 0, b"")
    found = COPY.dissect(body)
    src = found.fields["data"]["src_bitmap"]
    assert src["descriptor"]["id"] == 2 << 32 | 0xFFFFFFFF
    assert (src["descriptor"]["type"], src["u"]) == (0xE0, None)
    assert found.fields["data"]["src_bitmap_offset"] == 4
    assert COPY.build(found.fields, found.trailing) == body


def test_one_palette_for_image_and_mask_is_built_once() -> None:
    first, second = bitmap(57 + 88, PALETTE.fields), bitmap(57 + 88, PALETTE.fields, palette_offset=57 + 88)
    body = copy_body(57, 57 + 44, first.wire + second.wire + PALETTE.wire)
    fields = copy_fields({"src_bitmap": first.fields}, {"bitmap": second.fields})
    assert_reads_as(COPY, body, fields)


@pytest.mark.parametrize("offset", [57 + 18, 57 + 19, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_pointer_beyond_the_body_is_an_error(offset: int) -> None:
    with pytest.raises(DissectionError, match=rf"src_bitmap: points to {offset} in a body of 75 bytes"):
        COPY.dissect(copy_body(offset, 0, CACHED.wire))


@pytest.mark.parametrize("offset", [74, 60, 58])
def test_an_image_that_is_cut_by_the_end_of_the_body_is_an_error(offset: int) -> None:
    with pytest.raises(DissectionError, match="src_bitmap"):
        COPY.dissect(copy_body(offset, 0, CACHED.wire))


@pytest.mark.parametrize(("id_", "name"), [(310, "path"), (311, "str")])
def test_a_null_pointer_is_an_error_where_the_protocol_forbids_it(id_: int, name: str) -> None:
    spec = SERVER_MESSAGES[id_]
    body = next(body for each, body, _ in DRAWINGS if each == id_)
    with pytest.raises(DissectionError, match=f"{name}: is a null pointer"):
        spec.dissect(body[:21] + bytes(4) + body[25:])


def test_a_pattern_without_its_image_is_an_error() -> None:
    body = BASE.wire + b"\2" + bytes(12) + pack("H", 8) + NO_MASK.wire
    with pytest.raises(DissectionError, match="pat: is a null pointer"):
        SERVER_MESSAGES[302].dissect(body)


def test_names_that_nobody_knows_are_kept_as_numbers() -> None:
    body = copy_body(0, 0, b"").replace(pack("HB", 8, 1), pack("HB", 0x8008, 200))
    data = COPY.dissect(body).fields["data"]
    assert (data["rop_descriptor"], data["scale_mode"]) == (0x8008, 200)
    assert type(data["rop_descriptor"]) is type(data["scale_mode"]) is int
    assert COPY.build(COPY.dissect(body).fields) == body


def test_a_brush_of_an_unknown_type_has_no_more_bytes() -> None:
    body = BASE.wire + b"\x09" + pack("H", 8) + NO_MASK.wire
    found = SERVER_MESSAGES[302].dissect(body)
    assert found.fields["data"]["brush"] == {"type": 9, "u": None}
    assert SERVER_MESSAGES[302].build(found.fields) == body


def test_a_text_of_an_unknown_kind_keeps_its_length_and_has_no_glyphs() -> None:
    body, fields = text(StringFlags.RASTER_TOP_DOWN, length=500)
    assert fields["data"]["str"]["u"] is None
    assert_reads_as(SERVER_MESSAGES[311], body, fields)


def test_the_first_raster_bit_wins() -> None:
    body, fields = text(StringFlags.RASTER_A1 | StringFlags.RASTER_A8, glyph(9, 2, b"abcd"))
    assert_reads_as(SERVER_MESSAGES[311], body, fields)


@pytest.mark.parametrize("flags", [1, 2, 4])
def test_a_glyph_larger_than_the_body_is_an_error(flags: int) -> None:
    body, _ = text(flags, glyph(65535, 65535, b""))
    with pytest.raises(DissectionError, match=r"width times height is \d+, but only 0 bytes are left"):
        SERVER_MESSAGES[311].dissect(body)


def test_a_length_beyond_the_glyphs_is_an_error() -> None:
    body, _ = text(StringFlags.RASTER_A8, glyph(1, 1, b"a"), length=65535)
    with pytest.raises(DissectionError, match="length is 65535"):
        SERVER_MESSAGES[311].dissect(body)


def stroke_body(style_flags: bytes, path: bytes) -> bytes:
    at = 21 + 4 + len(style_flags) + 1 + 4
    return BASE.wire + pack("I", at) + style_flags + b"\0" + pack("HH", 8, 0) + path


def test_a_line_without_style_has_no_style_fields() -> None:
    body = stroke_body(b"\0", pack("I", 0))
    found = SERVER_MESSAGES[310].dissect(body)
    assert found.fields["data"]["attr"] == {"flags": 0, "u1": None, "u2": None}
    assert SERVER_MESSAGES[310].build(found.fields) == body


def test_a_null_style_keeps_its_count() -> None:
    body = stroke_body(pack("BBI", 8, 200, 0), pack("I", 0))
    found = SERVER_MESSAGES[310].dissect(body)
    assert found.fields["data"]["attr"] == {"flags": 8, "u1": {"style_nseg": 200}, "u2": {"style": None}}
    assert SERVER_MESSAGES[310].build(found.fields) == body


@pytest.mark.parametrize("count", [2, 2**16, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_more_segments_or_points_than_there_are_bytes_is_an_error(count: int) -> None:
    spec = SERVER_MESSAGES[310]
    with pytest.raises(DissectionError, match=f"num_segments is {count}"):
        spec.dissect(stroke_body(b"\0", pack("IBI", count, 0, 0)))
    with pytest.raises(DissectionError, match=f"count is {count}"):
        spec.dissect(stroke_body(b"\0", pack("IBI", 1, 0, count) + bytes(8)))


def test_a_path_of_more_segments_than_we_decode_is_an_error() -> None:
    spec = SERVER_MESSAGES[310]
    full = spec.dissect(stroke_body(b"\0", pack("I", MAX_SEGMENTS) + bytes(5 * MAX_SEGMENTS)))
    assert len(full.fields["data"]["path"]["segments"]) == MAX_SEGMENTS
    with pytest.raises(DissectionError, match="more than 16384 are not decoded"):
        spec.dissect(stroke_body(b"\0", pack("I", MAX_SEGMENTS + 1) + bytes(5 * (MAX_SEGMENTS + 1))))


def test_counts_and_offsets_may_be_left_out_when_building() -> None:
    body, fields = next((body, deepcopy(fields)) for id_, body, fields in DRAWINGS if id_ == 310)
    del fields["data"]["path"]["num_segments"]
    fields["data"]["attr"]["u1"] = {"style_nseg": None}
    assert SERVER_MESSAGES[310].build(fields) == body


def test_a_case_that_the_discriminator_does_not_name_cannot_be_built() -> None:
    _, fields = next((body, fields) for id_, body, fields in DRAWINGS if id_ == 302)
    wrong = {**fields, "data": {**fields["data"], "brush": {"type": 1, "u": {"pattern": {}}}}}
    with pytest.raises(DissectionError, match=r"brush -> u: wants \{'color'"):
        SERVER_MESSAGES[302].build(wrong)
