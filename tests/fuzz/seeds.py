"""Inputs to begin with: bodies made from the schemas, link phases that the tests know, packets of the kept captures."""

import gzip
import hashlib
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, seed, settings

from dissectors import common, main_channel, registry, usbredir, vd_agent, vscard
from dissectors.compression import compress
from dissectors.message import MessageSpec
from dissectors.side import Side
from spiceproxy.capture.files import open_capture
from spiceproxy.capture.messages import CapturedMessage, read_messages
from spiceproxy.capture.streams import stream_events
from tests.dissectors.bodies import values
from tests.fuzz.copying_targets import FILES
from tests.fuzz.pieces import Piece, join
from tests.fuzz.targets import TARGETS
from tests.protocol.links import PLAYBOOKS, Playbook, side_of
from tests.redaction.smuggling import FORMS, WAYS, talk
from tests.redaction.world import speeches

CAPTURES: Final = Path(__file__).resolve().parents[2] / "captures"
BODIES: Final = 6  # of each message


def bodies(spec: MessageSpec, number: int = BODIES) -> list[bytes]:
    """The same different bodies every time."""
    made: list[bytes] = []

    @seed(1)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(values(spec.schema))
    def make(fields: Any) -> None:
        made.append(spec.build(fields))

    make()
    return sorted(set(made))


def _message() -> Iterator[bytes]:
    for channel_type, module in [(4, common), *registry.MODULES.items()]:
        for number, side in enumerate(Side):
            for id_, spec in getattr(module, f"{side.name}_MESSAGES").items():
                for body in bodies(spec):
                    yield bytes([channel_type, number]) + id_.to_bytes(2, "little") + body
    for path in _captures():
        yield from _messages_of(path)


def _messages_of(path: Path) -> Iterator[bytes]:
    """Of every message in a capture the shortest one."""
    shortest: dict[bytes, bytes] = {}
    with open_capture(str(path)) as source:
        for item in read_messages(stream_events(source)):
            if isinstance(item, CapturedMessage) and item.message.whole:
                side, id_, body = item.message.side, item.message.id, item.message.body
                head = bytes([item.connection.channel_type or 0, list(Side).index(side)]) + id_.to_bytes(
                    2, "little"
                )
                shortest[head] = min(shortest.get(head, body), body, key=len)
    for head, body in shortest.items():
        yield head + body


def _inside() -> Iterator[bytes]:
    for protocol, variant, table in (
        *(
            (0, each, vd_agent._messages(selection=bool(each & 1), grab_serial=bool(each & 2)))
            for each in range(4)
        ),
        (1, 0, usbredir.USBREDIR_PACKETS),
        (2, 0, vscard.VSC_MESSAGES),
    ):
        for type_, spec in table.items():
            for body in bodies(spec, 3):
                yield bytes([protocol]) + type_.to_bytes(2, "little") + bytes([variant]) + body
    for type_, variants in usbredir.USBREDIR_VARIANTS.items():
        for caps, spec in variants:
            for body in bodies(spec, 3):
                yield bytes([1]) + type_.to_bytes(2, "little") + bytes([int(caps) & 0xFF]) + body


def _framer() -> Iterator[bytes]:
    bits = random.Random(1)
    for options in range(8):
        stream = b""
        for id_ in (1, 3, 4, 5, 0x6F, 101, 4, 3):
            body = bits.randbytes(bits.choice((0, 1, 30, 300)))
            head = struct.pack("<QHII", 7, id_, len(body), 0)
            stream += (head if options & 1 else head[8:14]) + body
        yield bytes([options, bits.randrange(40)]) + stream[:900]


def _link() -> Iterator[bytes]:
    for playbook in PLAYBOOKS.values():
        steps = [Piece(side_of(phase), 0, data) for phase, data in playbook.steps]
        behind = [Piece(side, 0, data) for side, data in playbook.behind.items()]
        yield join([*steps, *behind])
        # Everything of one side, then of the other.
        yield join(sorted([*steps, *behind], key=lambda piece: piece.side.value))


def _sub_list() -> Iterator[bytes]:
    sub = struct.pack("<HI", 102, 3) + b"abc"
    for count in (0, 1, 2, 64):
        start = 2 + 4 * count
        listed = struct.pack("<H", count) + b"".join(struct.pack("<I", start) for _ in range(count)) + sub
        yield bytes([2, 1, 0, 0]) + listed
        yield bytes([2, 0]) + struct.pack("<H", 4) + b"body" + listed


def _agent_message(type_: int, body: bytes) -> bytes:
    return vd_agent.HEADER.build({"protocol": 1, "type": type_, "opaque": 0, "size": len(body)}) + body


def _payload() -> Iterator[bytes]:
    # Kinds are places in protocol_targets._IDS: 0 data of a device, 1 the same compressed, 6 and 8 AGENT_DATA.
    for type_, spec in vd_agent.AGENT_MESSAGES.items():
        for body in bodies(spec, 2):
            whole = _agent_message(type_, body)
            caps = _agent_message(6, struct.pack("<II", 1, 0xFFFF))
            pieces = [
                Piece(Side.CLIENT, 6, caps),
                Piece(Side.SERVER, 8, caps),
                Piece(Side.CLIENT, 6, whole[:30]),
            ]
            yield b"\1" + join([*pieces, Piece(Side.CLIENT, 6, whole[30:]), Piece(Side.SERVER, 8, whole)])
    hello = struct.pack("<III", 0, 68, 0) + b"fuzz".ljust(64, b"\0") + struct.pack("<I", 0x7F)
    started = [Piece(side, 0, hello) for side in Side]
    for type_, spec in usbredir.USBREDIR_PACKETS.items():
        for body in bodies(spec, 2):
            packet = struct.pack("<IIQ", type_, len(body), 1) + body
            squeezed = b"\1" + struct.pack("<I", len(packet)) + compress(packet)
            yield b"\x09" + join([*started, Piece(Side.SERVER, 0, packet), Piece(Side.CLIENT, 1, squeezed)])
    for type_, spec in vscard.VSC_MESSAGES.items():
        for body in bodies(spec, 2):
            yield b"\x08" + join([Piece(Side.CLIENT, 0, struct.pack("<III", type_, 1, len(body)) + body)])
    frame = struct.pack("<qH", 1, 4) + b"GET " + struct.pack("<qH", 1, 0)
    init = struct.pack("<IIB", 1, 9, 1) + b"x\0"
    yield b"\x0b" + join([Piece(Side.SERVER, 9, init), *(Piece(side, 0, frame) for side in Side)])


def _guest_port() -> Iterator[bytes]:
    message = _agent_message(4, b"\0\0\0\0clipboard")
    chunk = struct.pack("<II", 1, len(message)) + message
    for start in (0, 2, 5, 12):
        yield b"\7" + (chunk + chunk)[start:]


def _image_headers() -> Iterator[bytes]:
    lz = b"  ZL" + struct.pack(">6I", 0x10001, 8, 4, 4, 16, 1)
    glz = b"  ZL" + struct.pack(">IBIIIQI", 0x10001, 0x18, 4, 4, 16, 9, 1)
    jpeg = bytes.fromhex("ffd8 ffe0 0004 0000 ffc0 000b 08 0010 0020 01 011100 ffda")
    quic = b"QUIC" + struct.pack("<IIII", 0, 4, 3, 3)
    for type_ in range(109):
        for image in (
            lz,
            glz,
            zlib.compress(glz),
            jpeg,
            jpeg + lz,
            quic,
            b"\1\7" + struct.pack(">I", 2) + b"ab",
        ):
            if type_ == 0 or type_ >= 100 or type_ < 4:
                yield bytes([type_]) + struct.pack("<H", len(jpeg)) + image


def _lz4() -> Iterator[bytes]:
    for stream in (b"", b"a", b"ab" * 300, bytes(2000), random.Random(1).randbytes(100)):
        for size in (len(stream), len(stream) + 1, 2**31):
            yield b"\1" + struct.pack("<I", size) + compress(stream)
    yield b"\0\0\0\0\0plain"


def _data_of(playbook: Playbook, connection: int) -> list[Piece]:
    return [Piece(side_of(phase), connection << 2, data) for phase, data in playbook.steps]


def _reading() -> Iterator[bytes]:
    opened = Piece(Side.CLIENT, 3, b"main:0 hop 0")
    closed = [Piece(side, 2, b"") for side in Side]
    for options, playbook in enumerate(PLAYBOOKS.values()):
        yield bytes([options & 31]) + join([opened, *_data_of(playbook, 0), *closed])
    linked = [opened, *_data_of(PLAYBOOKS["a ticket with auth selection"], 0)]
    for id_, spec in (common.SERVER_MESSAGES | main_channel.SERVER_MESSAGES).items():
        for body in bodies(spec, 1):
            message = struct.pack("<HI", id_, len(body)) + body
            gap = Piece(Side.SERVER, 1, b"\5")
            for options in (1, 2, 4, 9):
                yield bytes([options]) + join(
                    [
                        *linked,
                        Piece(Side.SERVER, 0, message * 2),
                        gap,
                        Piece(Side.SERVER, 0, message),
                        *closed,
                    ]
                )


def _files() -> Iterator[bytes]:
    """The first packets of every kept capture, plain and packed again."""
    for path in _captures():
        with gzip.open(path) as source:
            raw = source.read(3000)
        for size in (500, 1500, 3000):
            yield b"\1" + raw[:size]
            yield b"\x81" + gzip.compress(raw[:size], mtime=0)


def _redaction() -> Iterator[bytes]:
    """Those, and every way to smuggle in a session of one channel."""
    yield from _files()
    for number, way in enumerate(WAYS | FORMS):
        making = talk([speeches()[1]])
        making.act(way, 6)
        yield bytes([number & 7 | 2]) + making.file()[:4000]


def _smuggling() -> Iterator[bytes]:
    """Every way alone, in captures of every kind, and some with a network that loses and repeats."""
    bits = random.Random(1)
    for way in range(len(WAYS) + len(FORMS)):
        for _ in range(3):
            yield bits.randbytes(4) + bytes([way]) + bits.randbytes(2)
            yield bits.randbytes(4) + bits.randbytes(15)


def _repairing() -> Iterator[bytes]:
    """Small files of every format with something wrong in the middle, and what may be done to such files."""
    bits = random.Random(1)
    for which in range(5):
        for kind in range(4):
            yield bytes([which]) + join([Piece(Side.CLIENT, kind | 20, bits.randbytes(2 + 10 * kind))])
            yield bytes([which]) + join(
                [Piece(Side.CLIENT, bits.randrange(64), bits.randbytes(9)) for _ in range(3)]
            )
    for file in FILES:
        for at in (100, 500, 1200):
            yield file[:2500]
            yield file[:at] + b"\xff" * 7 + file[at + 7 : 2500]
            yield gzip.compress(file, mtime=0)[: at * 2]


def _captures() -> list[Path]:
    return sorted(CAPTURES.glob("*/capture.*.gz"))


def _filter() -> Iterator[bytes]:
    for text in (
        'channel == "display" and name =~ "MIGRATE*" and fields.flags & 2',
        'fields.rects[0].top < -0x4 or not (size >= 64KiB && id in [1, 2.5e3, "x\\u0041"])',
        "event =~ '*' || duration_s > 500ms and by != null",
        "name !~ 'a?[bc]' and true and not in",
        'leg not in ["destination"] and id | 1 == 3',
    ):
        yield text.encode()


_MAKERS: Final[dict[str, Callable[[], Iterator[bytes]]]] = {
    "framer": _framer,
    "link": _link,
    "sub-list": _sub_list,
    "payload": _payload,
    "guest-port": _guest_port,
    "message": _message,
    "inside": _inside,
    "image-header": _image_headers,
    "lz4": _lz4,
    "reading": _reading,
    "streams": _files,
    "whole-reader": _files,
    "redaction": _redaction,
    "smuggling": _smuggling,
    "repairing": _repairing,
    "filter": _filter,
}


def write_seeds(target: str, folder: Path) -> int:
    """Write the seeds of a target, each under the SHA-1 of what is in it, as libFuzzer names inputs; how many."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {data for data in _MAKERS[target]() if len(data) <= TARGETS[target].max_bytes}
    for data in made:
        (folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    return len(made)
