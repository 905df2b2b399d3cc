"""Ways to hide a secret in a capture where a redaction may not look: packets and blocks that lie about themselves.

Each way takes a capture in the making and a place in it. What it hides there is PLANT or PLANT_TEXT, which nobody may
find in the copy. None of them changes what a reader hears first of a stream, so whatever numbers a message has stay its
own.
"""

import gzip
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from dissectors.side import Side
from tests.capture.build import Captured, Talk, block, enhanced, ethernet, interface, option
from tests.redaction.world import Speech

# No text, no size that a message can have, no magic; every three bytes of it are found nowhere else.
PLANT: Final = bytes(range(0xF1, 0xE1, -1))
PLANT_TEXT: Final = "PlAnTeDsEcReTs!?"
SHORTEST: Final = 5
"""So many bytes of it in a row are no accident."""

REACHES_BACK: Final = "a segment that reaches back"
_FIN, _SYN, _RST, _URG = 1, 2, 4, 0x20
_NAMES, _OLD, _SIMPLE, _STATISTICS, _JOURNAL, _KEYS = 4, 2, 3, 5, 9, 10


def survives(data: bytes) -> bool:
    """Whether some of what was planted is there."""
    return any(
        plant[at : at + SHORTEST] in data
        for plant in (PLANT, PLANT_TEXT.encode())
        for at in range(len(plant) - SHORTEST + 1)
    )


@dataclass(frozen=True)
class Frame:
    """A packet of the file, and what the file has behind it."""

    packet: bytes  # from the IP header on
    captured: int | None = None  # bytes of that which the capture has, if not all
    padding: bytes = b""
    options: tuple[tuple[int, bytes], ...] = ()
    form: str = "enhanced"
    behind: tuple[tuple[int, bytes], ...] = ()  # blocks: kind and body
    section: bool = False  # a new section begins behind it

    @property
    def is_plain(self) -> bool:
        """A whole TCP segment, with nothing done to its headers."""
        packet = self.packet
        return self.captured is None and (
            packet[0] == 0x45 and packet[6:10:3] == b"\0\6" if packet[0] >> 4 == 4 else packet[6] == 6
        )

    @property
    def tcp(self) -> int:
        return (self.packet[0] & 15) << 2 if self.packet[0] >> 4 == 4 else 40

    @property
    def payload(self) -> int:
        return self.tcp + (self.packet[self.tcp + 12] >> 4 << 2)

    def carrying(self, data: bytes, *, shift: int = 0, flags: int = 0) -> "Frame":
        """The same packet with other bytes, `shift` further on in the stream."""
        tcp, head = self.tcp, bytearray(self.packet[: self.payload])
        seq = struct.unpack_from(">I", head, tcp + 4)[0]
        struct.pack_into(">I", head, tcp + 4, (seq + shift) % 2**32)
        head[tcp + 13] |= flags
        return Frame(_sized(bytes(head) + data))


def _sized(packet: bytes) -> bytes:
    if packet[0] >> 4 == 4:
        return packet[:2] + struct.pack(">H", len(packet)) + packet[4:]
    return packet[:4] + struct.pack(">H", len(packet) - 40) + packet[6:]


@dataclass
class Making:
    """A capture in the making."""

    frames: list[Frame] = field(default_factory=list)
    order: str = "<"

    def act(self, way: str, at: int) -> None:
        """Go one of the ways, if there is a TCP segment at this place and at the beginning."""
        if self.frames[at].is_plain and self.frames[0].is_plain:
            (WAYS | FORMS)[way](self, at)

    def file(self, *, link: int = 101, tags: tuple[int, ...] = (), packed: bool = False) -> bytes:
        """The pcapng file."""
        order = self.order
        out = bytearray(self._section(order, link))
        for number, frame in enumerate(self.frames):
            data = (ethernet(frame.packet, tags) if link == 1 else frame.packet) + frame.padding
            front = len(data) - len(frame.packet) - len(frame.padding)
            kept = data if frame.captured is None else data[: front + frame.captured]
            captured = Captured(kept, 1_700_000_000_000_000_000 + number * 1_000_000, len(data))
            out += self._packet(captured, frame, order)
            for kind, body in frame.behind:
                out += block(order, kind, body)
            if frame.section:
                order = ">" if order == "<" else "<"
                out += self._section(order, link)
        return gzip.compress(out, mtime=0) if packed else bytes(out)

    def _section(self, order: str, link: int) -> bytes:
        planted = option(order, 1, PLANT_TEXT.encode()) + option(order, 2, PLANT) + bytes(4)
        head = struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1) + planted
        described = b"".join(option(order, code, PLANT_TEXT.encode()) for code in (1, 2, 3, 11, 12, 15))
        return block(order, 0x0A0D0D0A, head) + interface(
            order, link=link, options=option(order, 9, b"\x09") + described
        )

    @staticmethod
    def _packet(captured: Captured, frame: Frame, order: str) -> bytes:
        padded = captured.data + bytes(-len(captured.data) % 4)
        if frame.form == "simple" and captured.original == len(captured.data):
            return block(order, _SIMPLE, struct.pack(f"{order}I", len(captured.data)) + padded)
        told = b"".join(option(order, code, value) for code, value in frame.options)
        stamp = (captured.time_ns >> 32, captured.time_ns & 0xFFFFFFFF, len(captured.data), captured.original)
        if frame.form == "old":
            return block(order, _OLD, struct.pack(f"{order}HHIIII", 0, 0, *stamp) + padded + told)
        if not told:
            return enhanced(captured, order)
        return block(order, 6, struct.pack(f"{order}IIIII", 0, *stamp) + padded + told + bytes(4))


def talk(speeches: Iterable[Speech], *, cut: int = 1400, **ends: Any) -> Making:
    """Connections that say this, one after the other."""
    making = Making()
    for number, speech in enumerate(speeches):
        made = Talk(**ends, client_isn=1000 + number * 70_000)
        made.client = (made.client[0], made.client[1] + number)
        made.greet()
        at = dict.fromkeys(Side, 0)
        for side, data in speech:
            other = Side.CLIENT if side is Side.SERVER else Side.SERVER
            for start in range(0, len(data), cut):
                made.say(side, at[side], data[start : start + cut], ack=at[other])
                at[side] += len(data[start : start + cut])
        making.frames += [Frame(packet.data) for packet in made.packets]
    return making


# Packets --------------------------------------------------------------------------------------------------


def _planted(size: int) -> bytes:
    return (PLANT * (size // len(PLANT) + 1))[:size]


def _other_data(making: Making, at: int) -> None:
    frame = making.frames[at]
    size = len(frame.packet) - frame.payload
    making.frames.insert(at + 1, frame.carrying(_planted(size)))


def _overlap_from_before(making: Making, at: int) -> None:
    frame = making.frames[at]
    size = len(frame.packet) - frame.payload
    making.frames.insert(at + 1, frame.carrying(_planted(size + 40), shift=-40))


def _part_of_it_again(making: Making, at: int) -> None:
    frame = making.frames[at]
    size = len(frame.packet) - frame.payload
    making.frames.insert(at + 1, frame.carrying(_planted(size - size // 2), shift=size // 2))


def _from_an_earlier_turn(making: Making, at: int) -> None:
    making.frames.insert(at + 1, making.frames[at].carrying(PLANT * 3, shift=-(2**31) + 5))


def _far_ahead(making: Making, at: int) -> None:
    making.frames.insert(at + 1, making.frames[at].carrying(PLANT * 3, shift=2**30 + 5))


def _before_the_syn(making: Making, at: int) -> None:
    making.frames.insert(0, making.frames[0].carrying(PLANT * 3, shift=-48))
    head = bytearray(making.frames[0].packet)
    head[making.frames[0].tcp + 13] = 0x10
    making.frames[0] = Frame(bytes(head))


def _in_a_second_syn(making: Making, at: int) -> None:
    making.frames.insert(1, making.frames[0].carrying(PLANT * 3))


def _behind_the_end(flag: int) -> Callable[[Making, int], None]:
    def end(making: Making, at: int) -> None:
        frame = making.frames[at]
        size = len(frame.packet) - frame.payload
        making.frames[at + 1 : at + 1] = [
            frame.carrying(b"", shift=size, flags=flag), frame.carrying(PLANT * 3, shift=size),
            frame.carrying(PLANT * 3, shift=size + 1),
        ]  # fmt: skip

    return end


def _in_the_end(flag: int) -> Callable[[Making, int], None]:
    """Bytes in a RST tell why; in a FIN they are the last ones, here ones that came before."""

    def end(making: Making, at: int) -> None:
        frame = making.frames[at]
        size = len(frame.packet) - frame.payload
        making.frames.insert(
            at + 1, frame.carrying(_planted(size) if flag == _FIN else PLANT * 2, flags=flag)
        )

    return end


def _urgent(making: Making, at: int) -> None:
    """Urgent bytes that the stream has already, as other ones."""
    frame = making.frames[at]
    size = len(frame.packet) - frame.payload
    made = bytearray(frame.carrying(_planted(size), flags=_URG).packet)
    struct.pack_into(">H", made, frame.tcp + 18, size)
    making.frames.insert(at + 1, Frame(bytes(made)))


def _in_fragments(making: Making, at: int) -> None:
    """Of IPv4: the head of TCP and 8 bytes in the first one."""
    frame = making.frames[at]
    if frame.packet[0] >> 4 != 4:
        return
    head, rest = frame.packet[: frame.tcp], frame.packet[frame.tcp : frame.payload] + PLANT * 4
    pieces = [(0x2000, rest[:24]), (0x2003, rest[24:48]), (0x0006, rest[48:])]
    making.frames[at + 1 : at + 1] = [
        Frame(_sized(head[:6] + struct.pack(">H", where) + head[8:] + piece)) for where, piece in pieces
    ]


def _in_a_tiny_fragment(making: Making, at: int) -> None:
    """The first one ends within the TCP header, so what follows is not where a header would be."""
    frame = making.frames[at]
    if frame.packet[0] >> 4 != 4:
        return
    head = frame.packet[: frame.tcp]
    making.frames[at + 1 : at + 1] = [
        Frame(_sized(head[:6] + struct.pack(">H", where) + head[8:] + piece))
        for where, piece in ((0x2000, frame.packet[frame.tcp : frame.tcp + 8]), (0x0001, PLANT * 3))
    ]


def _ip_options(making: Making, at: int) -> None:
    frame = making.frames[at]
    if frame.packet[0] >> 4 == 4:
        head = bytes([0x40 | 10]) + frame.packet[1:20] + b"\x44\x14" + PLANT + b"\0\0"
        making.frames[at] = replace(frame, packet=_sized(head + frame.packet[20:]))
        return
    extensions = (
        bytes([60, 2]) + b"\x1e\x14" + PLANT + bytes(4) + bytes([6, 2]) + b"\x1e\x14" + PLANT + bytes(4)
    )
    head = frame.packet[:6] + bytes([0]) + frame.packet[7:40]
    making.frames[at] = replace(frame, packet=_sized(head + extensions + frame.packet[40:]))


def _header_that_is_none(making: Making, at: int) -> None:
    frame = making.frames[at]
    making.frames.insert(at + 1, Frame(_sized(frame.packet[: frame.tcp] + PLANT * 3)))


def _ip_header_that_is_cut(making: Making, at: int) -> None:
    """An IP header that is longer than the packet: nothing but options, or so it says; and one without any length."""
    frame = making.frames[at]
    cuts = (30, 19, 5) if frame.packet[0] >> 4 == 4 else (39, 25, 9)
    for length, size in ((15, cuts[0]), (2, cuts[0]), (15, cuts[1]), (15, cuts[2])):
        is_four = frame.packet[0] >> 4 == 4
        data = bytes([0x40 | length]) + frame.packet[1:20] if is_four else frame.packet[:6] + b"\6\7"
        making.frames.insert(at + 1, Frame(data + PLANT * 3, captured=size))


def _tcp_options(options: bytes) -> Callable[[Making, int], None]:
    def add(making: Making, at: int) -> None:
        frame = making.frames[at]
        if frame.packet[frame.tcp + 12] >> 4 != 5:
            return
        tcp = bytearray(frame.packet[frame.tcp : frame.tcp + 20])
        padded = options + bytes(-len(options) % 4)
        tcp[12] = (20 + len(padded)) // 4 << 4
        rest = frame.packet[frame.tcp + 20 :]
        making.frames[at] = replace(frame, packet=_sized(frame.packet[: frame.tcp] + tcp + padded + rest))

    return add


def _padding(making: Making, at: int) -> None:
    making.frames[at] = replace(making.frames[at], padding=PLANT * 2)


def _cut_by_the_sniffer(making: Making, at: int) -> None:
    frame = making.frames[at]
    size = len(frame.packet) - frame.payload
    made = replace(frame.carrying(_planted(size)), captured=len(frame.packet) - min(3, size))
    making.frames.insert(at + 1, made)


def _to_another_protocol(making: Making, at: int) -> None:
    frame = making.frames[at]
    protocol = 9 if frame.packet[0] >> 4 == 4 else 6
    made = bytearray(frame.carrying(PLANT * 3).packet)
    made[protocol] = 17
    making.frames.insert(at + 1, Frame(bytes(made)))


# The file -------------------------------------------------------------------------------------------------


def _with_options(*codes: int) -> Callable[[Making, int], None]:
    def add(making: Making, at: int) -> None:
        told = tuple((code, PLANT_TEXT.encode() if code == 1 else PLANT) for code in codes)
        making.frames[at] = replace(making.frames[at], options=told)

    return add


def _behind(kind: int, body: bytes) -> Callable[[Making, int], None]:
    def add(making: Making, at: int) -> None:
        frame = making.frames[at]
        making.frames[at] = replace(frame, behind=(*frame.behind, (kind, body)))

    return add


def _form(form: str) -> Callable[[Making, int], None]:
    def change(making: Making, at: int) -> None:
        making.frames[at] = replace(making.frames[at], form=form)

    return change


def _new_section(making: Making, at: int) -> None:
    making.frames[at] = replace(making.frames[at], section=True)


def _as_a_packet_of_an_interface_that_is_not_there(making: Making, at: int) -> None:
    body = struct.pack("<IIIII", 7, 0, 0, 48, 48) + PLANT * 3
    _behind(6, body)(making, at)


_END = bytes(4)
_LINE = PLANT_TEXT.encode()

WAYS: Final[dict[str, Callable[[Making, int], None]]] = {
    "a retransmission with other data": _other_data,
    REACHES_BACK: _overlap_from_before,
    "the second half again with other data": _part_of_it_again,
    "a segment from long ago": _from_an_earlier_turn,
    "a segment from far ahead": _far_ahead,
    "data before the SYN": _before_the_syn,
    "data in a SYN that comes again": _in_a_second_syn,
    "data behind a FIN": _behind_the_end(_FIN),
    "data behind a RST": _behind_the_end(_RST),
    "data in a FIN": _in_the_end(_FIN),
    "data in a RST": _in_the_end(_RST),
    "urgent data": _urgent,
    "fragments": _in_fragments,
    "a fragment in the place of a TCP header": _in_a_tiny_fragment,
    "a TCP header that is none": _header_that_is_none,
    "an IP header that is cut": _ip_header_that_is_cut,
    "options of IPv4, extension headers of IPv6": _ip_options,
    "a TCP option that nobody knows": _tcp_options(bytes([253, 18]) + PLANT),
    "a cookie of TCP Fast Open": _tcp_options(bytes([34, 18]) + PLANT),
    "a signature of TCP": _tcp_options(bytes([19, 18]) + PLANT),
    "a segment size of 16 bytes": _tcp_options(bytes([2, 18]) + PLANT),
    "a window scale of 16 bytes": _tcp_options(bytes([1, 3, 18]) + PLANT),
    "SACK permitted with 16 bytes": _tcp_options(bytes([4, 18]) + PLANT),
    "time stamps of 16 bytes": _tcp_options(bytes([8, 18]) + PLANT),
    "bytes behind the end of TCP options": _tcp_options(b"\0" + PLANT),
    "padding behind the IP packet": _padding,
    "a packet cut by the sniffer": _cut_by_the_sniffer,
    "another protocol": _to_another_protocol,
    "a comment": _with_options(1),
    "several comments": _with_options(1, 1),
    "every option of a packet": _with_options(*range(2, 9), 2988, 2989, 19372, 19373),
    "a block of names": _behind(_NAMES, b"\1\0\x14\0" + b"\xc0\0\2\1" + PLANT + _END + b"\1\0\x10\0" + _LINE + _END),
    "a block of keys": _behind(_KEYS, b"KSLT" + struct.pack("<I", 16) + PLANT + b"\1\0\x10\0" + _LINE + _END),
    "a block of keys of WireGuard": _behind(_KEYS, b"LKGW" + struct.pack("<I", 16) + PLANT),
    "a custom block": _behind(0x00000BAD, struct.pack("<I", 32473) + PLANT + _LINE),
    "a custom block that is not to be copied": _behind(0x40000BAD, struct.pack("<I", 32473) + PLANT + _LINE),
    "a block of statistics": _behind(_STATISTICS, bytes(12) + b"\1\0\x10\0" + _LINE + b"\x0a\0\x10\0" + PLANT + _END),
    "a journal": _behind(_JOURNAL, b"MESSAGE=" + _LINE),
    "a block of no known kind": _behind(0x0BADCAFE, PLANT + _LINE),
    "another interface": _behind(1, struct.pack("<HHI", 147, 0, 0) + b"\2\0\x10\0" + _LINE + b"\x0b\0\x10\0" + PLANT + _END),
    "a packet of no interface": _as_a_packet_of_an_interface_that_is_not_there,
}  # fmt: skip
"""Where something is planted, always behind what the stream has there already."""

FORMS: Final[dict[str, Callable[[Making, int], None]]] = {
    "a simple packet block": _form("simple"),
    "a packet block of old": _form("old"),
    "a section in the other byte order": _new_section,
}  # fmt: skip
"""Other blocks for the packets that are there."""
