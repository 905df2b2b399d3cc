"""A session full of secrets, as captures of it may look; and a search for what is left of them."""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import lz4.block

from dissectors.channels import ChannelType
from dissectors.compression import compress
from dissectors.link import LinkMessage, LinkReplyMessage, build_link_mess, build_link_reply
from dissectors.registry import build, build_named, find
from dissectors.side import Side
from dissectors.smartcard_channel import VscMessageType
from dissectors.usbredir import build_usbredir
from dissectors.vd_agent import build_agent
from spiceproxy.capture.messages import CapturedMessage, read_messages
from spiceproxy.capture.streams import Data, stream_events
from spiceproxy.redaction.redact import Options, Outcome, redact
from tests.capture.build import Captured, Talk, pcapng, stamped

CLIENT, SERVER = Side.CLIENT, Side.SERVER
SESSION = 0x5E55
SELECTS, MINI = 1, 8
AGENT_CAPS = 1 << 5 | 1 << 6  # CLIPBOARD_BY_DEMAND, CLIPBOARD_SELECTION

TICKET = bytes(range(100, 228))
CLIPBOARD = "the passphrase is Swordfish"
FILE_NAME, FILE = b"salaries-2026.ods", b"name,salary\nAlice Liddell,123456\n" * 3
WORD = "hunter"
KEYS = [0x23, 0x16, 0x31, 0x14, 0x12, 0x13]  # scan codes of h u n t e r
PICTURE = bytes((31 * i + 7) % 251 for i in range(16 * 16 * 4))
VIDEO, SOUND = b"\xff\xd8one frame of a video call\xff\xd9", b"two words of a conversation"
USB, DAV, PORT, APDU = (
    b"sector 0 of the stick",
    b"PUT /private/letter.txt",
    b"root:$6$salt$hash",
    b"\x00\x20\x00\x01PIN 1234",
)
GUEST, UUID = "payroll-server", bytes(range(200, 216))
GLYPH = b"\x18\x24\x42\x7e\x42\x42\x42\x43"
CURSOR = bytes((17 * i + 3) % 253 for i in range(64))
DEVICE = b"what the device had not read"

SECRETS: dict[str, bytes] = {
    "ticket": TICKET, "clipboard": CLIPBOARD.encode(), "clipboard as UTF-16": CLIPBOARD.encode("utf-16-le"),
    "file name": FILE_NAME, "file": b"Alice Liddell", "picture": PICTURE[:64], "end of the picture": PICTURE[-32:],
    "video": b"video call", "sound": b"a conversation", "usb": USB, "webdav": b"/private/letter", "port": b"$6$salt",
    "pin": b"PIN 1234", "guest": GUEST.encode(), "uuid": UUID, "glyph": GLYPH, "cursor": CURSOR[:16], "device": DEVICE,
    "word": WORD.encode(),
    "keys": bytes(KEYS),
    "key messages": b"".join(struct.pack("<I", key) for key in KEYS[:2]),
}  # fmt: skip


def raw(name: str, /, **fields: Any) -> bytes:
    """A message with a mini header."""
    body = build_named(name, **fields)
    return struct.pack("<HI", find(name)[0][2].id, len(body)) + body


def agent(type_: int, fields: dict[str, Any]) -> bytes:
    data = build_agent(type_, fields, selection=True, grab_serial=False)
    return struct.pack("<IIQI", 1, type_, 0, len(data)) + data


def in_chunks(name: str, stream: bytes, size: int) -> list[bytes]:
    return [raw(name, data=stream[at : at + size]) for at in range(0, len(stream), size)]


def usb(type_: int, fields: dict[str, Any]) -> bytes:
    body = build_usbredir(type_, fields, caps=0)
    return struct.pack("<III", type_, len(body), 0) + body


# COMPRESSED_DATA with the rest of its header and an uncompressed_size; zlib by its first two bytes; gzip
_PACKED = re.compile(rb"(?s)(?P<lz4>\x66\0.{9})|\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")

Speech = list[tuple[Side, bytes]]


def link(channel: int, connection_id: int = SESSION) -> Speech:
    """The link phase, with a ticket."""
    mess = LinkMessage(connection_id, channel, 0, (SELECTS | MINI,), (15,))
    return [
        (CLIENT, build_link_mess(mess)),
        (SERVER, build_link_reply(LinkReplyMessage(0, bytes(162), (SELECTS | MINI,), (9,)))),
        (CLIENT, struct.pack("<I", 1) + TICKET),
        (SERVER, struct.pack("<I", 0)),
    ]


def main() -> Speech:
    announce = {"request": 0, "caps": [AGENT_CAPS]}
    text = {"selection": 0, "reserved": bytes(3), "type": 1, "data": CLIPBOARD.encode()}
    utf16 = {"selection": 0, "reserved": bytes(3), "type": 1, "data": CLIPBOARD.encode("utf-16-le")}
    from_agent = agent(6, announce) + agent(4, text)
    to_agent = (
        agent(6, announce) + agent(4, utf16) + agent(10, {"id": 1, "data": b"[vdagent-file-xfer]\nname=" + FILE_NAME + b"\0"})
        + agent(12, {"id": 1, "data": FILE})
    )  # fmt: skip
    init = {
        "session_id": SESSION, "display_channels_hint": 1, "supported_mouse_modes": 3, "current_mouse_mode": 2,
        "agent_connected": 1, "agent_tokens": 10, "multi_media_time": 1, "ram_hint": 0,
    }  # fmt: skip
    said: Speech = [*link(ChannelType.MAIN, 0), (SERVER, raw("SPICE_MSG_MAIN_INIT", **init))]
    said += [
        (SERVER, raw("SPICE_MSG_MAIN_NAME", name=GUEST)),
        (SERVER, raw("SPICE_MSG_MAIN_UUID", uuid=UUID)),
    ]
    said += [(SERVER, each) for each in in_chunks("SPICE_MSG_MAIN_AGENT_DATA", from_agent[:28], 28)]
    said += [(CLIENT, raw("SPICE_MSGC_MAIN_AGENT_START", num_tokens=10))]
    said += [(CLIENT, each) for each in in_chunks("SPICE_MSGC_MAIN_AGENT_DATA", to_agent, 37)]
    said += [(SERVER, each) for each in in_chunks("SPICE_MSG_MAIN_AGENT_DATA", from_agent[28:], 23)]
    return said


def inputs() -> Speech:
    said = link(ChannelType.INPUTS)
    for key in KEYS:
        said += [
            (CLIENT, raw("SPICE_MSGC_INPUTS_KEY_DOWN", code=key)),
            (CLIENT, raw("SPICE_MSGC_INPUTS_KEY_UP", code=key | 0x80)),
        ]
    said += [(CLIENT, raw("SPICE_MSGC_INPUTS_KEY_SCANCODE", data=bytes(KEYS)))]
    said += [(CLIENT, raw("SPICE_MSGC_INPUTS_KEY_SCANCODE", data=WORD.encode()))]
    return said


RECT = dict.fromkeys(("top", "left", "bottom", "right"), 16)
BASE = {"surface_id": 0, "box": RECT, "clip": {"type": 0}}
MASK = {"flags": 0, "pos": {"x": 0, "y": 0}, "bitmap": None}


def image(type_: int, case: str, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "descriptor": {"id": 0xFACE, "type": type_, "flags": 0, "width": 16, "height": 16},
        "u": {case: data},
    }


def copy(source: dict[str, Any]) -> bytes:
    operands = {"src_bitmap": source, "src_area": RECT, "rop_descriptor": 8, "scale_mode": 0, "mask": MASK}
    return raw("SPICE_MSG_DISPLAY_DRAW_COPY", base=BASE, data=operands)


def glz_header() -> bytes:
    return b"  ZL" + struct.pack(">IBIIIQI", 0x10001, 0x18, 16, 16, 64, 5, 1)


def display() -> Speech:
    said = link(ChannelType.DISPLAY)
    bitmap = {
        "format": 8,
        "flags": 4,
        "x": 16,
        "y": 16,
        "stride": 64,
        "pal": {"palette": None},
        "data": PICTURE,
    }
    quic = b"QUIC" + struct.pack("<IIII", 0, 4, 16, 16) + PICTURE
    packed = zlib.compress(glz_header() + PICTURE)
    blocks = b"\x01\x08" + struct.pack(">I", len(PICTURE)) + PICTURE
    glyph = {
        "render_pos": {"x": 0, "y": 0},
        "glyph_origin": {"x": 0, "y": 0},
        "width": 8,
        "height": 8,
        "data": GLYPH,
    }
    text = {
        "str": {"flags": 1, "u": {"glyphs": [glyph]}}, "back_area": RECT, "fore_brush": {"type": 1, "u": {"color": 0xABCDEF}},
        "back_brush": {"type": 0}, "fore_mode": 8, "back_mode": 8,
    }  # fmt: skip
    said += [(SERVER, each) for each in (
        copy(image(0, "bitmap", bitmap)), copy(image(1, "quic", {"data": quic})),
        copy(image(107, "zlib_glz", {"glz_data_size": 33 + len(PICTURE), "data": packed})),
        copy(image(109, "lz4", {"data": blocks})),
        raw("SPICE_MSG_DISPLAY_DRAW_TEXT", base=BASE, data=text),
        raw("SPICE_MSG_DISPLAY_STREAM_DATA", base={"id": 1, "multi_media_time": 2}, data=VIDEO),
    )]  # fmt: skip
    return said


def cursor() -> Speech:
    header = {"unique": 77, "type": 0, "width": 4, "height": 4, "hot_spot_x": 1, "hot_spot_y": 1}
    shape = {"flags": 2, "u": {"header": header}, "data": CURSOR}
    return [
        *link(ChannelType.CURSOR),
        (SERVER, raw("SPICE_MSG_CURSOR_SET", position={"x": 7, "y": 8}, visible=1, cursor=shape)),
    ]


def usbredir() -> Speech:
    hello = usb(0, {"version": b"test".ljust(64, b"\0"), "capabilities": [0]})
    bulk = usb(101, {"endpoint": 1, "status": 0, "length": len(USB) * 20, "stream_id": 0, "data": USB * 20})
    state = {
        "magic": b"SVMD", "version": 1,
        "char_device": {
            "version": 1, "connected": 1, "num_client_tokens": 1, "num_send_tokens": 1, "write_num_client_tokens": 0,
            "write_data_ptr": DEVICE,
        },
    }  # fmt: skip
    said = [*link(ChannelType.USBREDIR), (SERVER, raw("SPICE_MSG_SPICEVMC_DATA", data=hello))]
    said += [(CLIENT, raw("SPICE_MSGC_SPICEVMC_DATA", data=hello))]
    for part in (bulk[:300], bulk[300:] + bulk):  # compressed messages whose packets go on in the next one
        fields = {"type": 1, "u": {"uncompressed_size": len(part)}, "compressed_data": compress(part)}
        said += [(CLIENT, raw("SPICE_MSGC_SPICEVMC_COMPRESSED_DATA", **fields))]
    body = build(ChannelType.USBREDIR, SERVER, 2, state)
    return [*said, (SERVER, struct.pack("<HI", 2, len(body)) + body)]


def webdav() -> Speech:
    frame = struct.pack("<qH", 1, len(DAV)) + DAV
    said = [
        *link(ChannelType.WEBDAV),
        (SERVER, raw("SPICE_MSG_PORT_INIT", name="org.spice-space.webdav.0", opened=1)),
    ]
    return said + [(SERVER, each) for each in in_chunks("SPICE_MSG_SPICEVMC_DATA", frame, 15)]


def port() -> Speech:
    packed = {"type": 1, "u": {"uncompressed_size": len(PORT) * 9}, "compressed_data": compress(PORT * 9)}
    said = [*link(ChannelType.PORT), (SERVER, raw("SPICE_MSG_PORT_INIT", name="com.acme.backdoor", opened=1))]
    said += [(SERVER, raw("SPICE_MSG_SPICEVMC_DATA", data=PORT))]
    return [*said, (SERVER, raw("SPICE_MSG_SPICEVMC_COMPRESSED_DATA", **packed))]


def smartcard() -> Speech:
    return [
        *link(ChannelType.SMARTCARD),
        (SERVER, raw("SPICE_MSG_SMARTCARD_DATA", type=int(VscMessageType.APDU), reader_id=1, data=APDU)),
    ]


def sound() -> Speech:
    return [*link(ChannelType.PLAYBACK), (SERVER, raw("SPICE_MSG_PLAYBACK_DATA", time=5, data=SOUND))]


CHANNELS: tuple[Callable[[], Speech], ...] = (
    main, inputs, display, cursor, usbredir, webdav, port, smartcard, sound,
)  # fmt: skip


@cache
def speeches() -> tuple[Speech, ...]:
    return tuple(speech() for speech in CHANNELS)


@dataclass
class Network:
    """Makes packets of what was said: cut, repeated and reordered as told by numbers, which hypothesis draws."""

    cuts: Sequence[int] = (1460,)
    repeats: Sequence[int] = ()  # segments after which earlier bytes come once more, by other cuts
    swaps: Sequence[int] = ()  # segments that come after the next one
    packets: list[Captured] = field(default_factory=list)
    _segments: int = 0

    def carry(self, speech: Iterable[tuple[Side, bytes]], number: int) -> None:
        talk = Talk(client=("192.0.2.9", 40000 + number), client_isn=2**32 - 50 * number - 1)
        talk.greet()
        at = {CLIENT: 0, SERVER: 0}
        said = {CLIENT: b"", SERVER: b""}
        sent: list[Captured] = []
        for side, data in speech:
            said[side] += data
            for piece in self._pieces(data):
                other = CLIENT if side is SERVER else SERVER
                talk.say(side, at[side], piece, ack=at[other])
                at[side] += len(piece)
                self._segments += 1
                if self._segments in self.repeats:
                    start = max(0, at[side] - len(piece) - 33)
                    talk.say(side, start, said[side][start : at[side]], ack=at[other])
        sent = talk.packets
        for index in range(3, len(sent) - 1):
            if index in self.swaps and sent[index].data[12:20] == sent[index + 1].data[12:20]:
                sent[index], sent[index + 1] = sent[index + 1], sent[index]
        self.packets += sent

    def _pieces(self, data: bytes) -> Iterable[bytes]:
        at = 0
        while at < len(data):
            size = self.cuts[self._segments % len(self.cuts)]
            yield data[at : at + size]
            at += size


def capture(network: Network | None = None) -> bytes:
    """A pcapng file of all channels."""
    network = network or Network()
    for number, speech in enumerate(speeches()):
        network.carry(speech, number + 1)
    return pcapng(stamped(network.packets))


def redacted(file: bytes, **options: Any) -> tuple[bytes, Outcome]:
    """The copy, and what was done."""
    out = io.BytesIO()
    outcome = redact(lambda: io.BytesIO(file), out, Options(**options))
    return out.getvalue(), outcome


def unpacked(data: bytes) -> Iterable[bytes]:
    """Everything in these bytes that may be compressed, unpacked."""
    for match in _PACKED.finditer(data):
        at = match.start()
        if match["lz4"]:
            size, stream = (
                struct.unpack_from("<I", data, at + 2)[0],
                struct.unpack_from("<I", data, at + 7)[0],
            )
            if 5 < size < 2**17 and 0 < stream < 2**17:
                with suppress(lz4.block.LZ4BlockError):
                    yield lz4.block.decompress(data[at + 11 : at + 6 + size], uncompressed_size=stream)
        else:
            with suppress(zlib.error):
                yield zlib.decompressobj(wbits=47).decompress(data[at:], 2**20)  # zlib or gzip


def found_in(data: bytes) -> set[str]:
    """The secrets that are there, packed or not."""
    everything = [data, *unpacked(data)]
    return {name for name, secret in SECRETS.items() if any(secret in each for each in everything)}


def views(file: bytes) -> bytes:
    """The same file as whoever looks for secrets would see it: also with its segments put together to streams, and with
    the bodies of each kind of message put together, where no header stands between the pieces of a secret."""
    said: dict[tuple[int, Side], list[bytes]] = {}
    bodies: dict[tuple[str, Side, int], list[bytes]] = {}
    for event in stream_events(io.BytesIO(file)):
        if isinstance(event, Data):
            said.setdefault((event.connection, event.side), []).append(event.data)
    for item in read_messages(stream_events(io.BytesIO(file))):
        if isinstance(item, CapturedMessage):
            message = item.message
            bodies.setdefault((item.connection.id, message.side, message.id), []).append(message.body)
    return b"".join([file, *(b"".join(each) + bytes(8) for kind in (said, bodies) for each in kind.values())])
