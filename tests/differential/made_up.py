"""Messages that real peers rarely send, or always with the same numbers: here no two fields have the same value."""

from typing import Any, Final

from dissectors.channels import ChannelType


def _rect(first: int) -> dict[str, int]:
    return {"top": first, "left": first + 1, "bottom": first + 10, "right": first + 21}


def _clip(*rects: dict[str, int]) -> dict[str, Any]:
    return {"type": 1, "u": {"rects": {"rects": list(rects)}}}


_CLIPPED: Final = {"surface_id": 3, "box": _rect(100), "clip": _clip(_rect(200), _rect(-300), _rect(400))}
_NO_MASK: Final = {"flags": 1, "pos": {"x": -5, "y": 6}, "bitmap": None}
_HEAD: Final = {"monitor_id": 2, "surface_id": 3, "width": 401, "height": 502, "x": 60, "y": 70, "flags": 8}

MADE_UP: Final[dict[ChannelType, list[tuple[str, dict[str, Any]]]]] = {
    ChannelType.MAIN: [
        ("SPICE_MSG_MAIN_INIT", {
            "session_id": 0x11111111, "display_channels_hint": 2, "supported_mouse_modes": 3, "current_mouse_mode": 1,
            "agent_connected": 1, "agent_tokens": 12, "multi_media_time": 0x01020304, "ram_hint": 0x05060708,
        }),
        ("SPICE_MSG_MAIN_MOUSE_MODE", {"supported_modes": 3, "current_mode": 2}),
        ("SPICE_MSG_MAIN_UUID", {"uuid": bytes(range(0x10, 0x20))}),
        ("SPICE_MSG_MAIN_AGENT_DISCONNECTED", {"error_code": 4}),
        ("SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS", {"num_tokens": 9}),
        ("SPICE_MSG_SET_ACK", {"generation": 0x01020304, "window": 0x05060708}),
        ("SPICE_MSG_PING", {"id": 0x01020304, "timestamp": 0x05060708090A0B0C, "data": b"data"}),
        ("SPICE_MSG_NOTIFY", {
            "time_stamp": 0x0102030405060708, "severity": 2, "visibilty": 1, "what": 7, "message": "a text", "uncounted": b"\0",
        }),
        ("SPICE_MSGC_PONG", {"id": 0x01020304, "timestamp": 0x05060708090A0B0C}),
    ],
    ChannelType.DISPLAY: [
        ("SPICE_MSG_DISPLAY_MODE", {"x_res": 801, "y_res": 602, "bits": 32}),
        ("SPICE_MSG_DISPLAY_MONITORS_CONFIG", {
            "max_allowed": 4, "heads": [_HEAD, {key: value + 1000 for key, value in _HEAD.items()}],
        }),
        ("SPICE_MSG_DISPLAY_SURFACE_CREATE", {"surface_id": 5, "width": 61, "height": 72, "format": 96, "flags": 0}),
        ("SPICE_MSG_DISPLAY_SURFACE_DESTROY", {"surface_id": 0x01020304}),
        ("SPICE_MSG_DISPLAY_INVAL_LIST", {
            "resources": [{"type": 1, "id": 0x0102030405060708}, {"type": 2, "id": 0x1112131415161718}],
        }),
        ("SPICE_MSG_DISPLAY_COPY_BITS", {"base": _CLIPPED, "src_pos": {"x": -7, "y": 8}}),
        ("SPICE_MSG_DISPLAY_DRAW_FILL", {"base": _CLIPPED, "data": {
            "brush": {"type": 1, "u": {"color": 0x112233}}, "rop_descriptor": 0x41, "mask": _NO_MASK,
        }}),
        ("SPICE_MSG_DISPLAY_DRAW_BLACKNESS", {"base": _CLIPPED, "data": {"mask": _NO_MASK}}),
        ("SPICE_MSG_DISPLAY_DRAW_INVERS", {"base": _CLIPPED, "data": {"mask": _NO_MASK}}),
        ("SPICE_MSG_DISPLAY_STREAM_CREATE", {
            "surface_id": 1, "id": 2, "flags": 1, "codec_type": 2, "stamp": 0x0102030405060708, "stream_width": 11,
            "stream_height": 12, "src_width": 13, "src_height": 14, "dest": _rect(500), "clip": _clip(_rect(600)),
        }),
        ("SPICE_MSG_DISPLAY_STREAM_CLIP", {"id": 3, "clip": _clip(_rect(700), _rect(800))}),
        ("SPICE_MSG_DISPLAY_STREAM_DATA", {"base": {"id": 4, "multi_media_time": 0x01020304}, "data": b"picture"}),
        ("SPICE_MSG_DISPLAY_STREAM_ACTIVATE_REPORT", {
            "stream_id": 5, "unique_id": 6, "max_window_size": 7, "timeout_ms": 8,
        }),
        ("SPICE_MSG_DISPLAY_STREAM_DESTROY", {"id": 9}),
        ("SPICE_MSGC_DISPLAY_INIT", {
            "pixmap_cache_id": 1, "pixmap_cache_size": 0x0102030405060708, "glz_dictionary_id": 2,
            "glz_dictionary_window_size": 0x01020304,
        }),
    ],
    ChannelType.INPUTS: [
        ("SPICE_MSG_INPUTS_INIT", {"keyboard_modifiers": 1}),
        ("SPICE_MSG_INPUTS_KEY_MODIFIERS", {"modifiers": 2}),
        ("SPICE_MSGC_INPUTS_KEY_MODIFIERS", {"modifiers": 4}),
        ("SPICE_MSGC_INPUTS_MOUSE_MOTION", {"dx": -3, "dy": 4, "buttons_state": 5}),
        ("SPICE_MSGC_INPUTS_MOUSE_POSITION", {"x": 300, "y": 401, "buttons_state": 2, "display_id": 6}),
    ],
    ChannelType.CURSOR: [
        ("SPICE_MSG_CURSOR_MOVE", {"position": {"x": -8, "y": 9}}),
        ("SPICE_MSG_CURSOR_TRAIL", {"length": 10, "frequency": 11}),
        ("SPICE_MSG_CURSOR_INVAL_ONE", {"id": 0x0102030405060708}),
        ("SPICE_MSG_CURSOR_SET", {"position": {"x": 12, "y": -13}, "visible": 1, "cursor": {
            "flags": 2, "data": bytes(range(48)), "u": {"header": {
                "unique": 0x0102030405060708, "type": 0, "width": 4, "height": 3, "hot_spot_x": 2, "hot_spot_y": 1,
            }},
        }}),
    ],
    ChannelType.PLAYBACK: [
        ("SPICE_MSG_PLAYBACK_START", {"channels": 2, "format": 1, "frequency": 44_100, "time": 0x01020304}),
        ("SPICE_MSG_PLAYBACK_DATA", {"time": 0x05060708, "data": b"sound"}),
        ("SPICE_MSG_PLAYBACK_VOLUME", {"nchannels": 3, "volume": [100, 2000, 30_000]}),
        ("SPICE_MSG_PLAYBACK_MUTE", {"mute": 1}),
        ("SPICE_MSG_PLAYBACK_LATENCY", {"latency_ms": 120}),
    ],
}  # fmt: skip
