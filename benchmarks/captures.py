"""Recordings to measure the reader with: a session of two channels, with large images or with small messages.

The bytes are those of the protocol, the packets those that a recorder or a sniffer writes.
"""

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from dissectors import link
from dissectors.channels import ChannelType
from dissectors.registry import build_named, find
from dissectors.side import Side
from spiceproxy.recording import pcapng
from spiceproxy.recording.conversation import Conversation

SESSION_ID: Final = 0x5E551011
SERVER: Final = ("192.0.2.1", 5900)
COMMON_CAPS: Final = (0b1101,)  # AUTH_SELECTION, AUTH_SASL as spice-gtk has it, MINI_HEADER
DESTINATION: Final = {
    "port": 5901, "sport": 0, "host_data": "192.0.2.3", "cert_subject_data": None,
}  # fmt: skip
START_NS: Final = 1_700_000_000_000_000_000
_MINI: Final = struct.Struct("<HI")


class Sent(NamedTuple):
    """A message on its way."""

    side: Side
    data: bytes


class File:
    """A pcapng file that conversations write to."""

    ended = False

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        head = pcapng.section_header(hardware="", operating_system="", application="spiceproxy benchmark")
        self._file.write(head + pcapng.interface_description(name="benchmark", description=""))
        self.size = 0

    def lose(self, size: int) -> None:
        """Never asked for."""
        raise AssertionError(size)

    def packet(
        self, time_ns: int, header: bytes, payload: bytes | bytearray | memoryview, comment: str | None
    ) -> None:
        """Write a packet."""
        block = bytearray()
        pcapng.append_packet(block, time_ns, header, payload, comment)
        self._file.write(block)
        self.size += len(block)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def message(name: str, **fields: Any) -> bytes:
    """One message with a mini header."""
    body = build_named(name, **fields)
    return _MINI.pack(find(name)[0][2].id, len(body)) + body


def link_phase(channel: ChannelType, connection_id: int) -> list[Sent]:
    """What comes before the first message: no password, no SASL."""
    channel_caps = (0b1111,) if channel is ChannelType.MAIN else ()  # all that there is for migrations
    mess = link.LinkMessage(connection_id, channel, 0, COMMON_CAPS, channel_caps, link.MINOR_VERSION)
    reply = link.LinkReplyMessage(link.LinkError.OK, b"\x30\x81\x9f\x30".ljust(162, b"\1"), (0b1011,), ())
    return [
        Sent(Side.CLIENT, link.build_link_mess(mess)),
        Sent(Side.SERVER, link.build_link_reply(reply)),
        Sent(Side.CLIENT, struct.pack("<I", link.AuthMech.SPICE)),
        Sent(Side.CLIENT, bytes(128)),
        Sent(Side.SERVER, bytes(4)),
    ]


def rect(width: int, height: int) -> dict[str, int]:
    """A rectangle in the upper left corner."""
    return {"top": 0, "left": 0, "bottom": height, "right": width}


def draw_copy(image: dict[str, Any], width: int, height: int, serial: int) -> bytes:
    """A DRAW_COPY of an image."""
    return message(
        "SPICE_MSG_DISPLAY_DRAW_COPY",
        base={"surface_id": 0, "box": rect(width, height), "clip": {"type": 0, "u": None}},
        data={
            "src_bitmap": {
                "descriptor": {
                    "id": serial,
                    "type": image["type"],
                    "flags": 0,
                    "width": width,
                    "height": height,
                },
                "u": image["u"],
            },
            "src_area": rect(width, height),
            "rop_descriptor": 8,
            "scale_mode": 0,
            "mask": {"flags": 0, "pos": {"x": 0, "y": 0}, "bitmap": None},
        },
    )


def images(total_bytes: int) -> Iterator[Sent]:
    """Frames of 1024x768: raw bitmaps of 3 MB and compressed ones of 100 to 400 kB."""
    chance, sent, serial = random.Random(1), 0, 0
    noise = chance.randbytes(1024 * 768 * 4)
    while sent < total_bytes:
        serial += 1
        if serial % 4 == 0:
            bitmap = {"format": 8, "flags": 4, "x": 1024, "y": 768, "stride": 4096}
            image = {"type": 0, "u": {"bitmap": bitmap | {"pal": {"palette": None}, "data": noise}}}
        else:
            image = {"type": 101, "u": {"lz_rgb": {"data": noise[: chance.randrange(100_000, 400_000)]}}}
        data = draw_copy(image, 1024, 768, serial)
        sent += len(data)
        yield Sent(Side.SERVER, data)


def small_display(messages: int) -> Iterator[Sent]:
    """What a busy desktop sends between images: fills, copied areas, small images, acknowledgements."""
    chance = random.Random(2)
    base = {"surface_id": 0, "box": rect(64, 16), "clip": {"type": 0, "u": None}}
    mask = {"flags": 0, "pos": {"x": 0, "y": 0}, "bitmap": None}
    icon = {"type": 101, "u": {"lz_rgb": {"data": chance.randbytes(200)}}}
    clip = {"type": 1, "u": {"rects": {"rects": [rect(n, n) for n in range(4)]}}}
    brush = {"type": 1, "u": {"color": 0xFFFFFF}}
    kinds = [
        Sent(Side.SERVER, message("SPICE_MSG_DISPLAY_DRAW_FILL", base=base, data={"brush": brush, "rop_descriptor": 8, "mask": mask})),
        Sent(Side.SERVER, message("SPICE_MSG_DISPLAY_COPY_BITS", base=base | {"clip": clip}, src_pos={"x": 1, "y": 2})),
        Sent(Side.SERVER, draw_copy(icon, 64, 16, 7)),
        Sent(Side.SERVER, message("SPICE_MSG_PING", id=7, timestamp=1)),
        Sent(Side.CLIENT, message("SPICE_MSGC_PONG", id=7, timestamp=1)),
        Sent(Side.CLIENT, message("SPICE_MSGC_ACK")),
    ]  # fmt: skip
    for _ in range(messages):
        yield chance.choice(kinds)


def small_inputs(messages: int) -> Iterator[Sent]:
    """A moving pointer and its acknowledgements."""
    for number in range(messages):
        if number % 5 == 4:
            yield Sent(Side.SERVER, message("SPICE_MSG_INPUTS_MOUSE_MOTION_ACK"))
        else:
            yield Sent(Side.CLIENT, message("SPICE_MSGC_INPUTS_MOUSE_POSITION", x=number % 1024, y=7, buttons_state=0, display_id=0))  # fmt: skip


def write(
    path: Path, kind: str, amount: int, *, segment_bytes: int | None = None, migrating: bool = False
) -> None:
    """Write a capture.

    Args:
        path: A new pcapng file.
        kind: "images" (`amount` is bytes) or "messages" (`amount` is their number).
        amount: How much.
        segment_bytes: Cut the stream into segments of this size, as a network does; None for a message a segment.
        migrating: All of it is said while a migration goes on, to a destination that the client cannot reach.
    """
    file, clock = File(path), START_NS

    def conversation(port: int) -> Conversation:
        made = Conversation(file, ("192.0.2.2", port), SERVER, client_isn=port, server_isn=2 * port)
        made.open(clock)
        return made

    main, inputs, display = conversation(40001), conversation(40002), conversation(40003)
    pending = {(each, side): bytearray() for each in (main, inputs, display) for side in Side}

    def send(to: Conversation, sent: Sent, *, now: bool = False) -> None:
        nonlocal clock
        clock += 20_000
        if segment_bytes is None:
            to.data(sent.side, clock, sent.data, ends=[len(sent.data)])
            return
        waiting = pending[to, sent.side]
        waiting += sent.data
        while len(waiting) >= segment_bytes or (now and waiting):
            segment = bytes(waiting[:segment_bytes])
            del waiting[:segment_bytes]
            to.data(sent.side, clock, segment, ends=[len(segment)])

    def flush() -> None:
        for (each, side), waiting in pending.items():
            if waiting:
                send(each, Sent(side, b""), now=True)

    for each, channel, id_ in ((main, ChannelType.MAIN, 0), (inputs, ChannelType.INPUTS, SESSION_ID), (display, ChannelType.DISPLAY, SESSION_ID)):  # fmt: skip
        for sent in link_phase(channel, id_):
            send(each, sent, now=True)
        if channel is ChannelType.MAIN:
            init = message("SPICE_MSG_MAIN_INIT", session_id=SESSION_ID, display_channels_hint=1, supported_mouse_modes=3, current_mouse_mode=2, agent_connected=0, agent_tokens=10, multi_media_time=1, ram_hint=0)  # fmt: skip
            send(each, Sent(Side.SERVER, init), now=True)
    if migrating:
        send(main, Sent(Side.SERVER, message("SPICE_MSG_MAIN_MIGRATE_BEGIN", dst_info=DESTINATION)), now=True)
        send(main, Sent(Side.CLIENT, message("SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR")), now=True)
    if kind == "images":
        for sent in images(amount):
            send(display, sent)
    else:
        moves = small_inputs(amount // 4)
        for number, sent in enumerate(small_display(amount - amount // 4)):
            send(display, sent)
            if number % 3 == 0 and (move := next(moves, None)) is not None:
                send(inputs, move)
    if migrating:
        flush()
        send(main, Sent(Side.SERVER, message("SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST", **DESTINATION)), now=True)
    flush()
    for each in (display, inputs, main):
        each.close(None, clock)
    file.close()
