"""The fields that matter, in a few words: what stands behind a message's name on its line.

A message that is not in the table below shows its own fields in order, without the counts of what follows.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from dissectors.channels import channel_name
from dissectors.fields import Count
from dissectors.registry import Dissection, find
from spiceproxy.protocol.announcement import NO_PORT
from spiceproxy.reading.fields import short
from spiceproxy.reading.style import printable

Fields = Mapping[str, Any]
# A line holds no more than this, whatever its message.
MAX_WORDS: Final = 12

_HEADER: Final = frozenset({"header"})


def summary(dissection: Dissection) -> str:
    """What the message says, on one line."""
    tell = _TABLE.get(dissection.name)
    if tell is not None:
        try:
            return tell(dissection.fields)
        except (KeyError, TypeError, AttributeError):  # the layout has another form here
            pass
    return _generic(dissection.name, dissection.fields)


def inner_summary(fields: Fields) -> str:
    """The same for what is inside a message. Its header says what is known already: type and size."""
    return _words(fields, _HEADER)


def _generic(name: str, fields: Fields) -> str:
    return _words(fields, _counts(name))


def _words(fields: Fields, left_out: frozenset[str]) -> str:
    words: list[str] = []
    for key, value in fields.items():
        if key in left_out or key.endswith("_offset") or value is None:
            continue
        if isinstance(value, dict):
            inner = _words(value, left_out)
            if inner:
                words.append(f"{key} ({inner})" if len(value) > 1 else f"{key} {inner}")
        else:
            words.append(f"{key} {short(value)}")
        if len(words) == MAX_WORDS:
            words.append("…")
            break
    return ", ".join(words)


@cache
def _counts(name: str) -> frozenset[str]:
    """Fields that only count what follows."""
    found = find(name)
    members = getattr(found[0][2].schema, "members", ()) if found else ()
    return frozenset(member for member, schema in members if isinstance(schema, Count))


def _size(width: int, height: int) -> str:
    return f"{width}x{height}"


def _box(rect: Fields) -> str:
    """As X writes it: width x height + left + top."""
    width, height = rect["right"] - rect["left"], rect["bottom"] - rect["top"]
    return f"{width}x{height}{rect['left']:+d}{rect['top']:+d}"


def _clip(clip: Fields) -> str:
    inside = clip["u"]
    return f" clipped to {len(inside['rects']['rects'])} rects" if inside else ""


def _base(fields: Fields) -> str:
    base = fields["base"]
    return f"surface {base['surface_id']} box {_box(base['box'])}{_clip(base['clip'])}"


def _image(image: Fields | None, box: Fields) -> str:
    if image is None:
        return "no image"
    descriptor = image["descriptor"]
    size = descriptor["width"], descriptor["height"]
    text = short(descriptor["type"])
    if size != (box["right"] - box["left"], box["bottom"] - box["top"]):
        text += f" {_size(*size)}"
    inside = image["u"]
    data = next(iter(inside.values())) if inside else None
    if data and isinstance(data.get("data"), bytes):
        text += f" {len(data['data'])} bytes"
    elif data and "surface_id" in data:
        text += f" surface {data['surface_id']}"
    if descriptor["flags"]:
        text += f" {short(descriptor['flags'])}"
    return text


def _draw_image(fields: Fields) -> str:
    return f"{_base(fields)}, {_image(fields['data']['src_bitmap'], fields['base']['box'])}"


def _draw_fill(fields: Fields) -> str:
    brush = fields["data"]["brush"]
    inside = brush["u"] or {}
    colour = f" #{inside['color']:06x}" if "color" in inside else ""
    return f"{_base(fields)}, {short(brush['type'])}{colour}"


def _copy_bits(fields: Fields) -> str:
    return f"{_base(fields)} from {fields['src_pos']['x']},{fields['src_pos']['y']}"


def _surface_create(fields: Fields) -> str:
    size = _size(fields["width"], fields["height"])
    return f"surface {fields['surface_id']} {size} {short(fields['format'])} {short(fields['flags'])}"


def _monitors(fields: Fields) -> str:
    heads = " ".join(
        f"{head['monitor_id']}: {head['width']}x{head['height']}{head['x']:+d}{head['y']:+d}"
        + (f" on surface {head['surface_id']}" if head["surface_id"] else "")
        for head in fields["heads"][:4]
    )
    return f"{len(fields['heads'])} of at most {fields['max_allowed']}, {heads}"


def _stream_create(fields: Fields) -> str:
    size = _size(fields["stream_width"], fields["stream_height"])
    return f"stream {fields['id']} {short(fields['codec_type'])} {size} to {_box(fields['dest'])}"


def _stream_data(fields: Fields) -> str:
    base = fields["base"]
    size = f" {_size(fields['width'], fields['height'])}" if "width" in fields else ""
    return f"stream {base['id']}{size} {len(fields['data'])} bytes, time {base['multi_media_time']}"


def _cursor(fields: Fields) -> str:
    cursor, position = fields["cursor"], fields["position"]
    header = cursor["u"]["header"] if cursor["u"] else None
    shape = f"{short(header['type'])} {_size(header['width'], header['height'])}" if header else "no shape"
    seen = "visible" if fields["visible"] else "hidden"
    return f"{shape} {short(cursor['flags'])} at {position['x']},{position['y']} {seen}"


def _at(fields: Fields) -> str:
    return f"at {fields['position']['x']},{fields['position']['y']}"


def _destination(fields: Fields) -> str:
    info = fields.get("dst_info", fields)
    host = info["host"] if "host" in info else info["host_data"]
    subject = info["cert_subject"] if "cert_subject" in info else info["cert_subject_data"]
    text = "to " + (printable(host) if isinstance(host, str) else short(host))
    port, tls = (None if info[key] in NO_PORT else info[key] for key in ("port", "sport"))
    text += f":{port}" if port else ", no plain port"
    if tls:
        text += f", TLS port {tls}"
    if subject:
        text += f", subject {short(subject)}"
    if "src_mig_version" in fields:
        text += f", version {fields['src_mig_version']}"
    return text


def _init(fields: Fields) -> str:
    agent = f"agent with {fields['agent_tokens']} tokens" if fields["agent_connected"] else "no agent"
    return (
        f"session_id {fields['session_id']}, mouse {short(fields['current_mouse_mode'])} "
        f"of {short(fields['supported_mouse_modes'])}, {agent}, time {fields['multi_media_time']}"
    )


def _channels(fields: Fields) -> str:
    return " ".join(f"{channel_name(channel['type'])}:{channel['id']}" for channel in fields["channels"])


def _wait(fields: Fields) -> str:
    return "for " + ", ".join(
        f"{channel_name(item['channel_type'])}:{item['channel_id']} up to {item['message_serial']}"
        for item in fields["wait_list"]
    )


def _notify(fields: Fields) -> str:
    message = fields["message"]
    text = message if isinstance(message, str) else bytes(message).decode("utf-8", "backslashreplace")
    return f"{short(fields['severity'])} {short(text)}"


def _ping(fields: Fields) -> str:
    text = f"id {fields['id']}, timestamp {fields['timestamp']}"
    return f"{text}, {len(fields['data'])} bytes of padding" if fields.get("data") else text


def _key(fields: Fields) -> str:
    return f"scan code {fields['code']:#x}"


def _mode(fields: Fields) -> str:
    return f"{short(fields['current_mode'])} of {short(fields['supported_modes'])}"


def _migrate_data(fields: Fields) -> str:
    magic = fields["magic"]
    name = magic.decode("ascii", "backslashreplace") if isinstance(magic, bytes) else str(magic)
    words = [f"{printable(name)} version {fields['version']}"]
    if device := fields.get("char_device"):
        words.append("connected" if device["connected"] else "not connected")
        words.append(f"{len(device['write_data_ptr'] or b'')} bytes unwritten")
    told = ("message_serial", "pixmap_cache_size", "motion_count", "c2a_msg_remaining", "a2c_msg_remaining")
    words += [f"{key} {fields[key]}" for key in told if key in fields]
    return ", ".join(words)


_TABLE: Final[dict[str, Callable[[Fields], str]]] = {
    "SPICE_MSG_MIGRATE_DATA": _migrate_data,
    "SPICE_MSGC_MIGRATE_DATA": _migrate_data,
    "SPICE_MSG_PING": _ping,
    "SPICE_MSG_WAIT_FOR_CHANNELS": _wait,
    "SPICE_MSG_NOTIFY": _notify,
    "SPICE_MSG_MAIN_INIT": _init,
    "SPICE_MSG_MAIN_CHANNELS_LIST": _channels,
    "SPICE_MSG_MAIN_MOUSE_MODE": _mode,
    "SPICE_MSG_MAIN_MIGRATE_BEGIN": _destination,
    "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS": _destination,
    "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST": _destination,
    "SPICE_MSG_DISPLAY_COPY_BITS": _copy_bits,
    "SPICE_MSG_DISPLAY_DRAW_FILL": _draw_fill,
    "SPICE_MSG_DISPLAY_DRAW_OPAQUE": _draw_image,
    "SPICE_MSG_DISPLAY_DRAW_COPY": _draw_image,
    "SPICE_MSG_DISPLAY_DRAW_BLEND": _draw_image,
    "SPICE_MSG_DISPLAY_DRAW_ROP3": _draw_image,
    "SPICE_MSG_DISPLAY_DRAW_TRANSPARENT": _draw_image,
    "SPICE_MSG_DISPLAY_DRAW_ALPHA_BLEND": _draw_image,
    "SPICE_MSG_DISPLAY_DRAW_COMPOSITE": _draw_image,
    "SPICE_MSG_DISPLAY_DRAW_STROKE": _base,
    "SPICE_MSG_DISPLAY_DRAW_TEXT": _base,
    "SPICE_MSG_DISPLAY_DRAW_BLACKNESS": _base,
    "SPICE_MSG_DISPLAY_DRAW_WHITENESS": _base,
    "SPICE_MSG_DISPLAY_DRAW_INVERS": _base,
    "SPICE_MSG_DISPLAY_SURFACE_CREATE": _surface_create,
    "SPICE_MSG_DISPLAY_MONITORS_CONFIG": _monitors,
    "SPICE_MSG_DISPLAY_STREAM_CREATE": _stream_create,
    "SPICE_MSG_DISPLAY_STREAM_DATA": _stream_data,
    "SPICE_MSG_DISPLAY_STREAM_DATA_SIZED": _stream_data,
    "SPICE_MSG_CURSOR_INIT": _cursor,
    "SPICE_MSG_CURSOR_SET": _cursor,
    "SPICE_MSG_CURSOR_MOVE": _at,
    "SPICE_MSGC_INPUTS_KEY_DOWN": _key,
    "SPICE_MSGC_INPUTS_KEY_UP": _key,
}
