"""The lines that people read."""

import struct
from enum import IntEnum, IntFlag

import pytest

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC, Msg, MsgC
from spiceproxy.reading import fields
from spiceproxy.reading.style import Look, wants_colour
from spiceproxy.reading.tree import hexdump, tree
from tests.capture.wire import CLIENT, SERVER, Wire, announcement
from tests.reading.show import plain, show

DISPLAY = ChannelType.DISPLAY
PING = struct.pack("<IQ", 1, 2)


def migration() -> Wire:
    wire = Wire()
    wire.open(1)
    wire.link(1)
    wire.init(1, 77)
    wire.open(2)
    wire.link(2, channel=DISPLAY, connection_id=77, mini=False)
    wire.say(2, SERVER, 314, struct.pack("<IIIII", 0, 640, 480, 32, 1))
    wire.say(2, CLIENT, MsgC.ACK)
    kind = Main.MIGRATE_BEGIN_SEAMLESS
    wire.say(1, SERVER, kind, announcement(kind, "kvm2.example", 5900, sport=5901))
    wire.open(3, server="10.0.0.2")
    wire.link(3, connection_id=77)
    wire.say(3, CLIENT, MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
    wire.data(1, SERVER, wire.raw(1, SERVER, Msg.PING, PING)[:-5])
    wire.gap(1, SERVER, 5)
    wire.gap(2, SERVER, 5)
    wire.close(3, CLIENT, reset=True)
    return wire


def test_a_line_says_when_where_who_and_what_matters() -> None:
    assert (
        show(migration().events)
        == """\
   0.004000 s1/c1   source      main:0       *  channel_linked              10.0.0.9:40001 > 10.0.0.1:5900, mini header
   0.005000 s1/c1   source      main:0      s→c INIT                            32  session_id 77, mouse SERVER of SERVER|CLIENT, no agent, time 0
   0.010000 s1/c2   source      display:0    *  channel_linked              10.0.0.9:40002 > 10.0.0.1:5900, full header, connection id 77
   0.011000 s1/c2   source      display:0   s→c SURFACE_CREATE                  20  surface 0 640x480 32_xRGB PRIMARY
   0.012000 s1/c2   source      display:0   c→s ACK                              0
   0.013000 s1/c1   source      main:0      s→c MIGRATE_BEGIN_SEAMLESS          37  to kvm2.example:5900, TLS port 5901, version 1
   0.018000 s1/c3   destination main:0       *  channel_linked              10.0.0.9:40003 > 10.0.0.2:5900, mini header, connection id 77
   0.019000 s1/c3   destination main:0      c→s MIGRATE_DST_DO_SEAMLESS          4  src_version 1
   0.021000 s1/c1   source      main:0       *  gap                         server: 5 bytes are not in the capture
   0.021000 s1/c1   source      main:0      s→c PING                            12  error: 5 bytes of the body are not in the capture
   0.022000 s1/c2   source      display:0    *  gap                         server: 5 bytes are not in the capture
   0.022000 s1/c2   source      display:0    *  framing_lost                server: a header is among 5 bytes that are missing; where the next message begins is not known
   0.023000 s1/c3   destination main:0       *  connection_closed           reset by client after 0.009 s, messages: 1 from client, 0 from server
"""
    )


def test_what_does_not_decode_says_why_on_its_line() -> None:
    wire = migration()
    wire.say(1, SERVER, Msg.SET_ACK, b"short")
    last = show(wire.events).splitlines()[-1]
    assert "SET_ACK                          5  error: window: " in last


def test_on_a_terminal_every_line_fits() -> None:
    for width in (40, 80, 99, 100, 139, 140):
        lines = show(migration().events, look=Look(colour=True, width=width)).splitlines()
        # Below 80 columns nothing but what stands behind the name is shortened.
        assert max(map(len, map(plain, lines))) <= max(width, 80), width


def test_colours_change_nothing_but_colours() -> None:
    coloured = show(migration().events, look=Look(colour=True, width=None))
    assert "\x1b[" in coloured
    stripped = [line.rstrip() for line in plain(coloured).splitlines()]
    assert stripped == show(migration().events).splitlines()


def test_all_fields_are_shown_below_a_message() -> None:
    wire = migration()
    text = show(wire.events[-7:-5], detail=1)
    assert text == ""  # its connection was never opened
    text = show(wire.events, detail=1)
    assert """\
   0.011000 s1/c2   source      display:0   s→c SPICE_MSG_DISPLAY_SURFACE_CREATE  20 bytes, packet 10, serial 1
      surface_id: 0
      width: 640
      height: 480
      format: 32_xRGB (32)
      flags: PRIMARY (0x1)
   0.012000 s1/c2   source      display:0   c→s SPICE_MSGC_ACK  0 bytes, packet 11, serial 1
   0.013000 s1/c1   source      main:0      s→c SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS  37 bytes, packet 12
      dst_info
        port: 5900
        sport: 5901
        host_size: 13
        host_data: "kvm2.example"
        cert_subject_size: 0
        cert_subject_data: none
      src_mig_version: 1
""" in text  # fmt: skip


def drawing(magic: bytes = b"  ZL") -> Wire:
    """A DRAW_COPY of an image as spice-server's LZ encoder writes it."""
    wire = Wire()
    wire.open(1)
    wire.link(1, channel=DISPLAY, connection_id=77)
    # magic, version, type RGB32, width, height, stride, top_down: big-endian; then the pixels
    data = magic + struct.pack(">6I", 65537, 8, 4, 2, 16, 1) + b"secret pixels"
    box = struct.pack("<4i", 0, 0, 2, 4)
    image = struct.pack("<QBBIII", 7, 101, 0, 4, 2, len(data)) + data
    copy = struct.pack("<I", 57) + box + struct.pack("<HBBiiI", 8, 0, 0, 0, 0, 0)
    wire.say(1, SERVER, 304, struct.pack("<I", 0) + box + b"\0" + copy + image)
    return wire


def test_images_show_what_their_codec_wrote_and_not_their_pixels() -> None:
    text = show(drawing().events, detail=1)
    assert (
        """\
              data_size: 41
              data: 41 bytes
"""
        in text
    )
    assert """\
      image data begins with, as LZ_RGB (101)
        magic: 4 bytes: 20205a4c "  ZL"
        version: 65537
        type: RGB32 (8)
        width: 4
        height: 2
        stride: 16
        top_down: 1
""" in text  # fmt: skip
    assert b"secret".hex() not in text.replace(" ", "")
    assert b"secret".hex() in show(drawing().events, detail=1, bulk=True).replace(" ", "")


def test_an_image_without_its_codecs_header_says_so() -> None:
    text = show(drawing(magic=b"junk").events, detail=1)
    assert "image data begins with, as LZ_RGB (101)\n        error: " in text


def test_the_clipboard_is_its_length_unless_all_is_asked_for() -> None:
    wire = Wire()
    wire.open(1)
    wire.link(1)
    wire.init(1, 77)
    text = b"made-up clipboard"
    wire.say(
        1, SERVER, Main.AGENT_DATA, struct.pack("<IIQI", 1, 4, 0, 4 + len(text)) + struct.pack("<I", 1) + text
    )
    shown, all_of_it = (show(wire.events, detail=1, bulk=bulk) for bulk in (False, True))
    assert "VD_AGENT_CLIPBOARD" in shown
    assert f"raw: {4 + len(text)} bytes\n" in shown  # nobody said whether a selection stands in front
    assert text.decode() not in shown
    assert text[:6].hex() not in shown.replace(" ", "")
    assert text[:6].hex() in all_of_it.replace(" ", "")


def test_the_bytes_are_shown_below_the_fields() -> None:
    wire = migration()
    assert """\
      src_version: 1
      0000  01 00 00 00                                       ....
""" in show(wire.events, detail=2)  # fmt: skip


def test_times_of_day_are_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    import time

    time.tzset()
    lines = show(migration().events, absolute=True).splitlines()
    assert lines[1].startswith("2023-11-14 22:13:20.006000 s1/c1 ")


def test_what_a_peer_wrote_cannot_move_the_cursor() -> None:
    wire = migration()
    name = b"vm\x1b]0;evil\x07\r\n\0"
    wire.say(1, SERVER, Main.NAME, struct.pack("<I", len(name)) + name)
    for detail in (0, 1):
        text = show(wire.events, detail=detail)
        assert "\x1b" not in text
        assert "\r" not in text
        assert r"vm\x1b]0;evil\x07\r\n" in text


def test_an_encoding_without_arrows_is_no_error() -> None:
    assert "s?c" in show(migration().events, encoding="ascii")


def test_stats_sum_up_by_channel_sender_and_name() -> None:
    lines = show(migration().events, stats=True).splitlines()
    assert lines[0].split() == ["channel", "from", "message", "messages", "bytes", "undecoded"]
    assert ["main:0", "server", "SPICE_MSG_PING", "1", "12", "1"] in [line.split() for line in lines]
    assert lines[-1].split() == ["all", "6", "105", "1"]


@pytest.mark.parametrize(
    ("choice", "terminal", "no_color", "expected"),
    [
        ("auto", True, None, True),
        ("auto", False, None, False),
        ("auto", True, "1", False),
        ("auto", True, "", True),
        ("always", False, "1", True),
        ("never", True, None, False),
    ],
)
def test_colour_is_for_terminals_unless_somebody_says_otherwise(
    choice: str, terminal: bool, no_color: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    assert wants_colour(choice, terminal=terminal) is expected


# Field trees --------------------------------------------------------------------------------------


class Kind(IntEnum):
    ONE = 1


class Bits(IntFlag):
    LOW = 1
    HIGH = 4


class OtherBits(IntFlag):
    BIT = 1


def test_a_tree_names_what_has_names() -> None:
    values = {
        "kind": Kind.ONE,
        "unknown_kind": 9,
        "flags": Bits.LOW | Bits.HIGH,
        "no_flags": Bits(0),
        "point": {"x": 1, "y": -2},
        "text": 'a "b"',
        "pointer": None,
        "data": b"DCMD",
        "long": bytes(33),
        "empty": b"",
        "numbers": [1, 2],
        "nothing": [],
        "list": [{"a": {"b": b"\xff"}}],
    }
    assert (
        "\n".join(tree(values, indent=""))
        == """\
kind: ONE (1)
unknown_kind: 9
flags: LOW|HIGH (0x5)
no_flags: 0
point: x 1, y -2
text: "a \\"b\\""
pointer: none
data: 4 bytes: 44434d44 "DCMD"
long: 33 bytes: 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 …
empty: 0 bytes
numbers: 1, 2
nothing: none
list: 1
  [0]
    a
      b: 1 byte: ff"""
    )


def test_long_lists_are_cut_unless_all_is_asked_for() -> None:
    values = {"numbers": list(range(100)), "points": [{"x": n, "y": n} for n in range(100)]}
    short = list(tree(values))
    assert short[0].endswith("63, … 36 more")
    assert short[-1].endswith("… 36 more")
    assert len(short) == 1 + 1 + 64 + 1
    assert len(list(tree(values, bulk=True))) == 1 + 1 + 100


def test_flags_of_different_kinds_are_not_taken_for_each_other() -> None:
    assert [fields.short(Bits.LOW), fields.short(OtherBits.BIT)] == ["LOW", "BIT"]


def test_a_hexdump_has_offset_bytes_and_letters() -> None:
    assert list(hexdump(b"0123456789abcdefg\x00", indent="")) == [
        "0000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  0123456789abcdef",
        "0010  67 00                                             g.",
    ]
    assert list(hexdump(bytes(100), indent="", limit=16))[-1] == "…     84 bytes more"
    assert len(list(hexdump(bytes(100), bulk=True, limit=16))) == 7
