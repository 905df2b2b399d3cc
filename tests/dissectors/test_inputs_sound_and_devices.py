"""Messages of the inputs, playback, record, smartcard, usbredir, port, webdav and tunnel channels, byte for byte."""

import struct
from typing import Any

import pytest

from dissectors import tunnel_channel
from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.inputs_channel import KeyboardModifiers, MouseButton, MouseButtonMask
from dissectors.port_channel import PortEvent
from dissectors.registry import build, dissect, lookup
from dissectors.side import Side
from dissectors.smartcard_channel import VscMessageType
from dissectors.sound import AudioDataMode, AudioFormat
from dissectors.spicevmc import DataCompression

SERVER, CLIENT = Side.SERVER, Side.CLIENT
INPUTS, PLAYBACK, RECORD = ChannelType.INPUTS, ChannelType.PLAYBACK, ChannelType.RECORD
SMARTCARD, USBREDIR, PORT, WEBDAV = (
    ChannelType.SMARTCARD,
    ChannelType.USBREDIR,
    ChannelType.PORT,
    ChannelType.WEBDAV,
)
VMC, PORTS = (USBREDIR, PORT, WEBDAV), (PORT, WEBDAV)
BOTH = (SERVER, CLIENT)
LOCKS = KeyboardModifiers.NUM_LOCK | KeyboardModifiers.CAPS_LOCK
HELD = MouseButtonMask.LEFT | MouseButtonMask.EXTRA
# As the wire had it: spice-server 0.15.1, port org.test.port.0, closed in the guest.
PORT_INIT = bytes.fromhex("10000000 09000000 00") + b"org.test.port.0\0"
USBREDIR_HELLO = struct.pack("<III64sI", 0, 68, 0, b"spice-gtk 0.42", 0xF7)

Row = tuple[ChannelType, Side, int, str, bytes, dict[str, Any]]
# channel, sender, id, name, body, fields. A body of None is a layout whose last field takes the rest.
FIXED: list[Row] = [
    (INPUTS, SERVER, 101, "INPUTS_INIT", struct.pack("<H", 6), {"keyboard_modifiers": LOCKS}),
    (INPUTS, SERVER, 102, "INPUTS_KEY_MODIFIERS", struct.pack("<H", 6), {"modifiers": LOCKS}),
    (INPUTS, SERVER, 111, "INPUTS_MOUSE_MOTION_ACK", b"", {}),
    (INPUTS, CLIENT, 101, "INPUTS_KEY_DOWN", struct.pack("<I", 0x48E0), {"code": 0x48E0}),
    (INPUTS, CLIENT, 102, "INPUTS_KEY_UP", struct.pack("<I", 0xC8E0), {"code": 0xC8E0}),
    (INPUTS, CLIENT, 103, "INPUTS_KEY_MODIFIERS", struct.pack("<H", 6), {"modifiers": LOCKS}),
    (
        INPUTS,
        CLIENT,
        111,
        "INPUTS_MOUSE_MOTION",
        struct.pack("<iiH", -3, 2**31 - 1, 65),
        {"dx": -3, "dy": 2**31 - 1, "buttons_state": HELD},
    ),
    (
        INPUTS,
        CLIENT,
        112,
        "INPUTS_MOUSE_POSITION",
        struct.pack("<IIHB", 1023, 2**32 - 1, 65, 3),
        {"x": 1023, "y": 2**32 - 1, "buttons_state": HELD, "display_id": 3},
    ),
    *[
        (
            INPUTS,
            CLIENT,
            id_,
            name,
            struct.pack("<BH", 7, 65),
            {"button": MouseButton.EXTRA, "buttons_state": HELD},
        )
        for id_, name in ((113, "INPUTS_MOUSE_PRESS"), (114, "INPUTS_MOUSE_RELEASE"))
    ],
    (
        PLAYBACK,
        SERVER,
        103,
        "PLAYBACK_START",
        struct.pack("<IHII", 2, 1, 48000, 77),
        {"channels": 2, "format": AudioFormat.S16, "frequency": 48000, "time": 77},
    ),
    (PLAYBACK, SERVER, 104, "PLAYBACK_STOP", b"", {}),
    *[
        (
            channel,
            SERVER,
            id_,
            name,
            struct.pack("<BHH", 2, 65535, 1),
            {"nchannels": 2, "volume": [65535, 1]},
        )
        for channel, id_, name in ((PLAYBACK, 105, "PLAYBACK_VOLUME"), (RECORD, 103, "RECORD_VOLUME"))
    ],
    (PLAYBACK, SERVER, 106, "PLAYBACK_MUTE", b"\1", {"mute": 1}),
    (PLAYBACK, SERVER, 107, "PLAYBACK_LATENCY", struct.pack("<I", 400), {"latency_ms": 400}),
    (
        RECORD,
        SERVER,
        101,
        "RECORD_START",
        struct.pack("<IHI", 1, 1, 44100),
        {"channels": 1, "format": AudioFormat.S16, "frequency": 44100},
    ),
    (RECORD, SERVER, 102, "RECORD_STOP", b"", {}),
    (RECORD, SERVER, 104, "RECORD_MUTE", b"\0", {"mute": 0}),
    (RECORD, CLIENT, 103, "RECORD_START_MARK", struct.pack("<I", 9), {"time": 9}),
    *[
        (
            SMARTCARD,
            side,
            101,
            "SMARTCARD_DATA",
            struct.pack("<III", 7, 2**32 - 1, 3) + b"\0\xa4\4",
            {"type": VscMessageType.APDU, "reader_id": 2**32 - 1, "length": 3, "data": b"\0\xa4\4"},
        )
        for side in BOTH
    ],
    *[
        (
            channel,
            SERVER,
            201,
            "PORT_INIT",
            PORT_INIT,
            {"name_size": 16, "name": "org.test.port.0", "opened": 0},
        )
        for channel in PORTS
    ],
    *[(channel, SERVER, 202, "PORT_EVENT", b"\1", {"event": PortEvent.CLOSED}) for channel in PORTS],
    *[(channel, CLIENT, 201, "PORT_EVENT", b"\2", {"event": PortEvent.BREAK}) for channel in PORTS],
]
# The last field takes all that is left; and how many bytes there have to be at least.
TO_THE_END: list[tuple[*Row, int]] = [
    (INPUTS, CLIENT, 104, "INPUTS_KEY_SCANCODE", b"\xe0\x48", {"data": b"\xe0\x48"}, 0),
    *[
        (
            channel,
            side,
            101,
            name,
            struct.pack("<I", 4711) + b"opus",
            {"time": 4711, "data": b"opus"},
            4,
        )
        for channel, side, name in ((PLAYBACK, SERVER, "PLAYBACK_DATA"), (RECORD, CLIENT, "RECORD_DATA"))
    ],
    *[
        (
            channel,
            side,
            102,
            name,
            struct.pack("<IH", 5, 3),
            {"time": 5, "mode": AudioDataMode.OPUS, "data": b""},
            6,
        )
        for channel, side, name in ((PLAYBACK, SERVER, "PLAYBACK_MODE"), (RECORD, CLIENT, "RECORD_MODE"))
    ],
    *[
        row
        for channel in VMC
        for side in BOTH
        for row in (
            (channel, side, 101, "SPICEVMC_DATA", USBREDIR_HELLO, {"data": USBREDIR_HELLO}, 0),
            (
                channel,
                side,
                102,
                "SPICEVMC_COMPRESSED_DATA",
                struct.pack("<BI", 1, 2000) + b"lz4",
                {
                    "type": DataCompression.LZ4,
                    "u": {"uncompressed_size": 2000},
                    "compressed_data": b"lz4",
                },
                5,
            ),
        )
    ],
]


def full_name(side: Side, name: str) -> str:
    return f"SPICE_MSG{'C' if side is CLIENT else ''}_{name}"


@pytest.mark.parametrize(
    "row", [*FIXED, *TO_THE_END], ids=lambda row: f"{row[0].name}-{row[1].value}-{row[3]}"
)
def test_a_body_reads_as_what_it_says_and_builds_back(row: Row) -> None:
    channel, side, id_, name, body, fields = row[:6]
    found = dissect(channel, side, id_, body)
    assert (found.name, found.fields, found.trailing) == (full_name(side, name), fields, b"")
    assert build(channel, side, id_, found.fields) == body


@pytest.mark.parametrize("row", FIXED, ids=lambda row: f"{row[0].name}-{row[1].value}-{row[3]}")
def test_a_body_cut_anywhere_is_an_error_and_more_of_it_is_trailing(row: Row) -> None:
    channel, side, id_, _, body, fields = row
    for size in range(len(body)):
        with pytest.raises(DissectionError):
            dissect(channel, side, id_, body[:size])
    more = dissect(channel, side, id_, body + b"more")
    assert (more.fields, more.trailing) == (fields, b"more")


@pytest.mark.parametrize("row", TO_THE_END, ids=lambda row: f"{row[0].name}-{row[1].value}-{row[3]}")
def test_a_body_without_an_end_of_its_own_is_an_error_only_below_its_fixed_part(row: Any) -> None:
    channel, side, id_, _, body, fields, least = row
    for size in range(least):
        with pytest.raises(DissectionError):
            dissect(channel, side, id_, body[:size])
    for cut in (body[:least], body + b"more"):
        found = dissect(channel, side, id_, cut)
        assert found.trailing == b""
        assert list(found.fields) == list(fields)
        assert build(channel, side, id_, found.fields) == cut


@pytest.mark.parametrize("side", BOTH)
@pytest.mark.parametrize("channel", VMC)
def test_data_that_is_not_compressed_after_all_has_no_size_of_its_own(
    channel: ChannelType, side: Side
) -> None:
    found = dissect(channel, side, 102, b"\0raw")
    assert found.fields == {"type": DataCompression.NONE, "u": {"empty": {}}, "compressed_data": b"raw"}
    assert build(channel, side, 102, found.fields) == b"\0raw"


def test_compression_of_a_kind_that_does_not_exist_yet_is_read_like_any_other() -> None:
    found = dissect(USBREDIR, CLIENT, 102, b"\x07\4\3\2\1z")
    assert found.fields == {"type": 7, "u": {"uncompressed_size": 0x01020304}, "compressed_data": b"z"}
    assert build(USBREDIR, CLIENT, 102, found.fields) == b"\x07\4\3\2\1z"


def test_the_two_port_events_have_ids_of_their_own() -> None:
    for channel in PORTS:
        assert lookup(channel, CLIENT, 202) is None
        found = lookup(channel, SERVER, 201)
        assert found is not None
        assert found.name == "SPICE_MSG_PORT_INIT"
    assert lookup(USBREDIR, SERVER, 201) is None
    assert lookup(USBREDIR, CLIENT, 201) is None


def test_the_tunnel_channel_has_no_messages() -> None:
    assert tunnel_channel.SERVER_MESSAGES == tunnel_channel.CLIENT_MESSAGES == {}
    assert dissect(ChannelType.TUNNEL, SERVER, 101, b"x").name == "unknown_101"


def test_a_port_without_a_name_is_an_error() -> None:
    with pytest.raises(DissectionError, match="name: is a null pointer"):
        dissect(PORT, SERVER, 201, struct.pack("<IIB", 0, 0, 1))
    with pytest.raises(DissectionError, match="name: points to 4294967295"):
        dissect(PORT, SERVER, 201, struct.pack("<IIB", 1, 2**32 - 1, 1) + b"\0")


@pytest.mark.parametrize(
    ("channel", "side", "id_", "body"),
    [
        (SMARTCARD, CLIENT, 101, struct.pack("<III", 7, 0, 2**32 - 1) + b"x"),
        (SMARTCARD, SERVER, 101, struct.pack("<III", 7, 0, 2)),
        (PLAYBACK, SERVER, 105, b"\xff" + bytes(509)),
        (RECORD, SERVER, 103, b"\1\0"),
        (WEBDAV, SERVER, 201, struct.pack("<IIB", 2**32 - 1, 9, 1) + b"\0"),
    ],
)
def test_a_count_beyond_the_body_is_an_error(channel: ChannelType, side: Side, id_: int, body: bytes) -> None:
    with pytest.raises(DissectionError, match=r"but only .* left"):
        dissect(channel, side, id_, body)


def test_values_and_bits_without_a_name_are_kept() -> None:
    found = dissect(INPUTS, CLIENT, 113, struct.pack("<BH", 200, 0xFFFF)).fields
    assert found == {"button": 200, "buttons_state": 0xFFFF}
    assert dissect(PLAYBACK, SERVER, 102, struct.pack("<IH", 0, 99)).fields["mode"] == 99
    assert dissect(SMARTCARD, SERVER, 101, struct.pack("<III", 77, 0, 0)).fields["type"] == 77
    assert dissect(PORT, SERVER, 202, b"\x80").fields == {"event": 128}


def test_a_port_whose_name_is_no_text_keeps_its_bytes() -> None:
    body = struct.pack("<IIB", 4, 9, 1) + b"caf\xe9"
    found = dissect(PORT, SERVER, 201, body)
    assert found.fields["name"] == b"caf\xe9"
    assert build(PORT, SERVER, 201, found.fields) == body
