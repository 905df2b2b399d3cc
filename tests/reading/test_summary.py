"""The words behind a message's name."""

from typing import Any

import pytest

from dissectors.channels import ChannelType
from dissectors.registry import build_named, dissect, find
from dissectors.side import Side
from spiceproxy.reading import summary as words
from spiceproxy.reading.summary import inner_summary, summary

RECT = {"top": 2, "left": 10, "bottom": 12, "right": 42}
BASE = {"surface_id": 3, "box": RECT, "clip": {"type": 0, "u": None}}
NO_MASK = {"flags": 0, "pos": {"x": 0, "y": 0}, "bitmap": None}
DESTINATION = {"port": 5900, "sport": 5901, "host_data": "kvm2", "cert_subject_data": "CN=x"}


def image(kind: int, width: int, height: int, inside: Any, flags: int = 0) -> dict[str, Any]:
    return {
        "descriptor": {"id": 1, "type": kind, "flags": flags, "width": width, "height": height},
        "u": inside,
    }


def copy(source: Any, **base: Any) -> dict[str, Any]:
    data = {"src_bitmap": source, "src_area": RECT, "rop_descriptor": 8, "scale_mode": 0, "mask": NO_MASK}
    return {"base": {**BASE, **base}, "data": data}


def told(name: str, fields: dict[str, Any]) -> str:
    channel_type, side, spec = find(name)[0]
    body = build_named(name, **fields)
    return summary(dissect(channel_type or ChannelType.MAIN, side, spec.id, body))


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("SPICE_MSG_SET_ACK", {"generation": 1, "window": 20}, "generation 1, window 20"),
        ("SPICE_MSG_MIGRATE", {"flags": 3}, "flags NEED_FLUSH|NEED_DATA_TRANSFER"),
        ("SPICE_MSG_PING", {"id": 3, "timestamp": 9, "data": bytes(5)}, "id 3, timestamp 9, 5 bytes of padding"),
        (
            "SPICE_MSG_WAIT_FOR_CHANNELS",
            {"wait_list": [{"channel_type": 2, "channel_id": 1, "message_serial": 7}]},
            "for display:1 up to 7",
        ),
        ("SPICE_MSG_MAIN_MIGRATE_BEGIN", {"dst_info": DESTINATION}, "to kvm2:5900, TLS port 5901, subject \"CN=x\""),
        (
            "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS",
            {"dst_info": {**DESTINATION, "port": 65535, "cert_subject_data": None}, "src_mig_version": 1},
            "to kvm2, no plain port, TLS port 5901, version 1",
        ),
        (
            "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST",
            {**DESTINATION, "sport": 0, "host_data": "a\x1bb", "cert_subject_data": None},
            r"to a\x1bb:5900",
        ),
        ("SPICE_MSG_MAIN_CHANNELS_LIST", {"channels": [{"type": 2, "id": 1}, {"type": 42, "id": 0}]},
         "display:1 channel_42:0"),
        ("SPICE_MSG_MAIN_MOUSE_MODE", {"supported_modes": 3, "current_mode": 2}, "CLIENT of SERVER|CLIENT"),
        ("SPICE_MSG_DISPLAY_DRAW_COPY", copy(image(101, 32, 10, {"lz_rgb": {"data": bytes(50)}}, 1)),
         "surface 3 box 32x10+10+2, LZ_RGB 50 bytes CACHE_ME"),
        ("SPICE_MSG_DISPLAY_DRAW_COPY", copy(image(104, 64, 64, {"surface": {"surface_id": 9}})),
         "surface 3 box 32x10+10+2, SURFACE 64x64 surface 9"),
        ("SPICE_MSG_DISPLAY_DRAW_COPY", copy(image(103, 32, 10, None)), "surface 3 box 32x10+10+2, FROM_CACHE"),
        (
            "SPICE_MSG_DISPLAY_DRAW_COPY",
            copy(None, clip={"type": 1, "u": {"rects": {"rects": [RECT, RECT]}}}),
            "surface 3 box 32x10+10+2 clipped to 2 rects, no image",
        ),
        (
            "SPICE_MSG_DISPLAY_DRAW_FILL",
            {
                "base": BASE,
                "data": {"brush": {"type": 1, "u": {"color": 0x204060}}, "rop_descriptor": 8, "mask": NO_MASK},
            },
            "surface 3 box 32x10+10+2, SOLID #204060",
        ),
        ("SPICE_MSG_DISPLAY_COPY_BITS", {"base": BASE, "src_pos": {"x": 1, "y": -2}},
         "surface 3 box 32x10+10+2 from 1,-2"),
        (
            "SPICE_MSG_DISPLAY_MONITORS_CONFIG",
            {"max_allowed": 4, "heads": [
                {"monitor_id": 0, "surface_id": 0, "width": 800, "height": 600, "x": 0, "y": 0, "flags": 0},
                {"monitor_id": 1, "surface_id": 2, "width": 640, "height": 480, "x": 800, "y": 0, "flags": 0},
            ]},
            "2 of at most 4, 0: 800x600+0+0 1: 640x480+800+0 on surface 2",
        ),
        (
            "SPICE_MSG_DISPLAY_STREAM_CREATE",
            {"surface_id": 0, "id": 4, "flags": 1, "codec_type": 1, "stamp": 0, "stream_width": 320,
             "stream_height": 200, "src_width": 320, "src_height": 200, "dest": RECT, "clip": BASE["clip"]},
            "stream 4 MJPEG 320x200 to 32x10+10+2",
        ),
        ("SPICE_MSG_DISPLAY_STREAM_DATA", {"base": {"id": 4, "multi_media_time": 77}, "data": bytes(9)},
         "stream 4 9 bytes, time 77"),
        ("SPICE_MSG_CURSOR_MOVE", {"position": {"x": -1, "y": 2}}, "at -1,2"),
        (
            "SPICE_MSG_CURSOR_SET",
            {"position": {"x": 1, "y": 2}, "visible": 1, "cursor": {
                "flags": 2, "u": {"header": {
                    "unique": 1, "type": 0, "width": 24, "height": 32, "hot_spot_x": 0, "hot_spot_y": 0}},
                "data": bytes(4)}},
            "ALPHA 24x32 CACHE_ME at 1,2 visible",
        ),
        ("SPICE_MSGC_INPUTS_KEY_DOWN", {"code": 0x1E}, "scan code 0x1e"),
        ("SPICE_MSGC_INPUTS_MOUSE_MOTION", {"dx": 3, "dy": -1, "buttons_state": 1}, "dx 3, dy -1, buttons_state LEFT"),
        ("SPICE_MSG_DISPLAY_INVAL_LIST", {"resources": [{"type": 1, "id": 5}] * 6}, "resources 6 of them"),
    ],
)  # fmt: skip
def test_what_matters_stands_on_the_line(name: str, fields: dict[str, Any], expected: str) -> None:
    assert told(name, fields) == expected


def test_every_message_of_the_table_exists() -> None:
    assert [name for name in words._TABLE if not find(name)] == []


def test_a_layout_that_the_table_does_not_know_is_shown_field_by_field() -> None:
    found = dissect(ChannelType.MAIN, Side.SERVER, 999, b"ab")
    assert summary(found) == "raw 6162"
    odd = type(found)("SPICE_MSG_MAIN_INIT", {"session_id": 1})
    assert summary(odd) == "session_id 1"


def test_a_line_has_an_end_however_many_fields_there_are() -> None:
    assert inner_summary({"header": {"type": 1}, **{f"f{n}": n for n in range(50)}}).endswith("f11 11, …")
