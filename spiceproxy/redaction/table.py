"""Which fields of which messages are secret: the table that all redaction goes by.

A row names a record of a message's layout and its secret fields; `u.color` is the case `color` of the switch `u`. A
field of bytes or text that is in no row is taken out as unread, so what nobody thought of is not published; numbers
that are in no row stay. The tests hold the table against every message there is: each field of bytes has a row or is
in KEPT, and the list of numbers that stay is a file that has to be changed with the schemas.
"""

import re
from enum import Enum
from typing import Final, NamedTuple

from dissectors import (
    cursor_channel,
    destination,
    draw,
    image,
    inputs_channel,
    migrate_data,
    smartcard_channel,
    sound,
    spicevmc,
    stream,
    usbredir,
    vd_agent,
    vscard,
    webdav_mux,
)
from dissectors.fields import Record
from dissectors.message import MessageSpec
from dissectors.registry import find
from spiceproxy.redaction.kinds import Kind


class How(Enum):
    """What stands in the place of a secret."""

    ZERO = "zeros"
    TEXT = "as many x"
    NUMBER = "a number, the same for the same bytes"  # keys of caches, which may be hashes of what is cached
    IMAGE = "zeros behind the header of the codec"
    STREAM = "what the stream's own messages keep"  # read over the borders of messages
    BLOCK = "an LZ4 block of what the stream keeps"
    DEVICE = "a filler that tells different contents apart, and keeps none of them"
    PART = "the same, of something that cannot be looked into"


class Rule(NamedTuple):
    """What becomes of a field."""

    kind: Kind
    how: How = How.ZERO
    known: re.Pattern[bytes] | None = None  # what fits it is no secret, and stays


def _schema(name: str) -> Record:
    """The layout of a message of the registry."""
    record = find(name)[0][2].schema
    assert isinstance(record, Record)  # noqa: S101  all of them are
    return record


_KEY, _POINTER, _PIXELS = Rule(Kind.KEYS), Rule(Kind.POINTER), Rule(Kind.PIXELS)
_ID = Rule(Kind.PIXELS, How.NUMBER)
_IMAGE, _SOUND, _UNREAD = Rule(Kind.PIXELS, How.IMAGE), Rule(Kind.SOUND), Rule(Kind.UNREAD)
_MAGIC: Final = Rule(Kind.UNREAD, How.ZERO, re.compile(rb"[A-Z]{4}"))
_HOST: Final = Rule(Kind.ADDRESSES, How.TEXT)
# Ports that programs know by name: spice-gtk, QEMU and libvirt's documentation.
_PORT_NAME: Final = Rule(
    Kind.PORT,
    How.TEXT,
    re.compile(rb"(?:org\.spice-space|org\.qemu|com\.redhat\.spice)\.[a-z0-9_.-]{1,40}\0?"),
)

# What spice-server says of every channel without TLS: reds.cpp, reds_handle_link().
_NOTICE: Final = Rule(Kind.NOTICES, How.TEXT, re.compile(rb"[a-z]{1,20} channel is insecure"))

_Rows = tuple[tuple[Record, dict[str, Rule]], ...]

_LINK_AND_COMMON: Final[_Rows] = (
    (_schema("SPICE_MSG_PING"), {"data": _UNREAD}),
    (_schema("SPICE_MSG_NOTIFY"), {"message": _NOTICE, "uncounted": Rule(Kind.NOTICES)}),
    (_schema("SPICE_MSG_LIST"), {"data": _UNREAD}),  # its sub-messages are messages of their own
    (migrate_data.Opaque, {"data": Rule(Kind.MIGRATION, How.PART)}),
    (migrate_data.CharDevice, {"write_data_ptr": Rule(Kind.MIGRATION, How.DEVICE)}),
    (migrate_data.MainState, {"magic": _MAGIC, "msg_header_ptr": Rule(Kind.MIGRATION, How.PART)}),
    (migrate_data.SmartcardState, {"magic": _MAGIC, "read_data_ptr": Rule(Kind.MIGRATION, How.PART)}),
    (migrate_data.DisplayState, {"magic": _MAGIC}),
    (migrate_data.InputsState, {"magic": _MAGIC}),
    (migrate_data.SpicevmcState, {"magic": _MAGIC}),
)

_MAIN: Final[_Rows] = (
    (_schema("SPICE_MSG_MAIN_AGENT_DATA"), {"data": Rule(Kind.AGENT, How.STREAM)}),
    (_schema("SPICE_MSGC_MAIN_AGENT_DATA"), {"data": Rule(Kind.AGENT, How.STREAM)}),
    (_schema("SPICE_MSG_MAIN_NAME"), {"name": Rule(Kind.GUEST, How.TEXT)}),
    (_schema("SPICE_MSG_MAIN_UUID"), {"uuid": Rule(Kind.GUEST)}),
    (_schema("SPICE_MSGC_MAIN_QUALITY_INDICATOR"), {"data": _UNREAD}),
    (destination.DstInfo, {"host_data": _HOST, "cert_subject_data": _HOST}),
    (destination.SwitchHost, {"host_data": _HOST, "cert_subject_data": _HOST}),
)

_DISPLAY: Final[_Rows] = (
    (_schema("SPICE_MSG_DISPLAY_QUALITY_INDICATOR"), {"data": _UNREAD}),
    (_schema("SPICE_MSG_DISPLAY_INVAL_PALETTE"), {"id": _ID}),
    (dict(_schema("SPICE_MSG_DISPLAY_INVAL_LIST").members)["resources"].subcon, {"id": _ID}),
    (image.ImageDescriptor, {"id": _ID}),
    (image.Palette, {"unique": _ID, "ents": _PIXELS}),
    (image.BitmapData, {"pal.palette_id": _ID, "data": _PIXELS}),
    (image.LzPltData, {"pal.palette_id": _ID, "data": _IMAGE}),
    (image.BinaryData, {"data": _IMAGE}),
    (image.ZlibGlzRgbData, {"data": _IMAGE}),
    (image.JpegAlphaData, {"data": _IMAGE}),
    (draw.Brush, {"u.color": _PIXELS}),
    (draw.PointFix, {"x": _PIXELS, "y": _PIXELS}),  # a line drawn is a picture
    (draw.RasterGlyphA1, {"data": _PIXELS}),
    (draw.RasterGlyphA4, {"data": _PIXELS}),
    (draw.RasterGlyphA8, {"data": _PIXELS}),
    (draw.Transparent, {"src_color": _PIXELS, "true_color": _PIXELS}),
    (stream.StreamData, {"data": _PIXELS}),
    (stream.StreamDataSized, {"data": _PIXELS}),
)

_OTHERS: Final[_Rows] = (
    (inputs_channel.KeyCode, {"code": _KEY}),
    (_schema("SPICE_MSGC_INPUTS_KEY_SCANCODE"), {"data": _KEY}),
    # Lock lights tell when a lock key was pressed.
    (_schema("SPICE_MSG_INPUTS_INIT"), {"keyboard_modifiers": _KEY}),
    (_schema("SPICE_MSG_INPUTS_KEY_MODIFIERS"), {"modifiers": _KEY}),
    (_schema("SPICE_MSGC_INPUTS_KEY_MODIFIERS"), {"modifiers": _KEY}),
    (_schema("SPICE_MSGC_INPUTS_MOUSE_MOTION"), {"dx": _POINTER, "dy": _POINTER}),
    (_schema("SPICE_MSGC_INPUTS_MOUSE_POSITION"), {"x": _POINTER, "y": _POINTER}),
    (_schema("SPICE_MSG_CURSOR_INIT"), {"position": _POINTER}),
    (_schema("SPICE_MSG_CURSOR_SET"), {"position": _POINTER}),
    (_schema("SPICE_MSG_CURSOR_MOVE"), {"position": _POINTER}),
    (_schema("SPICE_MSG_CURSOR_INVAL_ONE"), {"id": _ID}),
    (cursor_channel.CursorHeader, {"unique": _ID}),
    (cursor_channel.Cursor, {"data": _PIXELS}),
    (sound.AudioData, {"data": _SOUND}),
    (sound.AudioMode, {"data": _SOUND}),
    (spicevmc.VmcData, {"data": Rule(Kind.PORT, How.STREAM)}),
    (spicevmc.CompressedData, {"compressed_data": Rule(Kind.PORT, How.BLOCK)}),
    (_schema("SPICE_MSG_PORT_INIT"), {"name": _PORT_NAME}),
    (smartcard_channel.SmartcardData, {"data": Rule(Kind.SMARTCARD, How.STREAM)}),
)


def _inside() -> _Rows:
    """What rides inside messages."""
    rows: list[tuple[Record, dict[str, Rule]]] = [
        (vd_agent.HEADER.schema, {"opaque": Rule(Kind.AGENT)}),
        (vscard.VSC_MESSAGES[3].schema, {"name": Rule(Kind.SMARTCARD)}),
        (vscard.VSC_MESSAGES[5].schema, {"atr": Rule(Kind.SMARTCARD)}),
        (vscard.VSC_MESSAGES[7].schema, {"data": Rule(Kind.SMARTCARD)}),
        (webdav_mux.FRAME.schema, {"data": Rule(Kind.WEBDAV)}),
    ]
    agent = {
        "VD_AGENT_CLIPBOARD": {"data": Rule(Kind.CLIPBOARD)},
        "VD_AGENT_FILE_XFER_START": {"data": Rule(Kind.FILES)},
        "VD_AGENT_FILE_XFER_DATA": {"data": Rule(Kind.FILES)},
        "VD_AGENT_MOUSE_STATE": {"x": _POINTER, "y": _POINTER},
    }
    for layouts in vd_agent.AGENT_VARIANTS.values():
        for spec in layouts.values():
            names = [name for name, _ in spec.schema.members]
            rules = dict(agent.get(spec.name, {}))
            if "reserved" in names:
                rules["reserved"] = Rule(Kind.AGENT)
            if rules:
                rows.append((spec.schema, rules))
    packets: list[MessageSpec] = [*usbredir.USBREDIR_PACKETS.values()]
    packets += [spec for variants in usbredir.USBREDIR_VARIANTS.values() for _, spec in variants]
    for spec in packets:
        names = [name for name, _ in spec.schema.members]
        rules = {name: Rule(Kind.USB) for name in ("data", "rules") if name in names}
        if rules:
            rows.append((spec.schema, rules))
    return tuple(rows)


RULES: Final[dict[Record, dict[str, Rule]]] = dict(
    (*_LINK_AND_COMMON, *_MAIN, *_DISPLAY, *_OTHERS, *_inside())
)

# Bytes and text that stay. What is in them is no secret, and who reads the capture needs them.
KEPT: Final[dict[Record, frozenset[str]]] = {
    dict(vd_agent.AGENT_MESSAGES[16].schema.members)["display_info"].subcon: frozenset({"device_address"}),
    usbredir.USBREDIR_PACKETS[0].schema: frozenset({"version"}),  # name and version of a program
}
