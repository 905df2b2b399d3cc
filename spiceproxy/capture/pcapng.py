"""The packets of a pcapng file. Source: IETF draft-ietf-opsawg-pcapng.

All of a file is blocks: type, total length, body, total length again. Blocks that are not about packets (names,
statistics, keys) are skipped by their length.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from spiceproxy.capture.events import Summary
from spiceproxy.capture.files import Pieces
from spiceproxy.capture.packet import MAX_PACKET_BYTES, Order, Packet
from spiceproxy.errors import CaptureError

MAGIC: Final = b"\x0a\x0d\x0d\x0a"
"""Type of the section header, the same in both byte orders: what a file begins with."""

MAX_INTERFACES: Final = 4096
MAX_BLOCK_BYTES: Final = MAX_PACKET_BYTES + 256 * 1024
"""Of those that are read; each option has at most 64 KiB. Longer blocks are skipped piece by piece."""

_SECTION_HEADER, _INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 2, 3, 5, 6
RECORDING_ENDED: Final = "recording ended: "
"""What the comment begins with that our recorder leaves where it has to stop."""
ORIGINAL_DAMAGED: Final = "the original is damaged: "
"""What the comments begin with that stand in a copy of a damaged capture."""
_LEAST_BYTES: Final = {
    _SECTION_HEADER: 28,
    _INTERFACE: 20,
    _OLD_PACKET: 32,
    _SIMPLE_PACKET: 16,
    _STATISTICS: 24,
    _PACKET: 32,
}
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_COMMENT, _TIME_RESOLUTION, _TIME_OFFSET = 1, 9, 14


class _Interface(NamedTuple):
    link_type: int
    snap_length: int
    # A time stamp times `multiplier` divided by `divisor`, plus `offset_ns`, is nanoseconds since 1970.
    multiplier: int
    divisor: int
    offset_ns: int


class Section:
    """What holds from one section header to the next."""

    def __init__(self, order: Order, time_ns: int = 0) -> None:
        self.order = order
        sign = "<" if order == "little" else ">"
        self.head = struct.Struct(f"{sign}II").unpack_from  # block type, total length
        self.u32 = struct.Struct(f"{sign}I").unpack_from
        # interface, time stamp high and low, captured and original length
        self.packet = struct.Struct(f"{sign}IIIII").unpack_from
        self.old_packet = struct.Struct(f"{sign}HHIIII").unpack_from  # interface, packets lost; the same
        self.interface = struct.Struct(f"{sign}HHI").unpack_from  # link type, reserved, snap length
        self.interfaces: list[_Interface] = []
        self.time_ns = time_ns  # of the latest packet

    def packet_at(
        self, which: int, stamp: int, captured: int, original: int, buffer: bytes, start: int, end: int
    ) -> Packet | None:
        """The packet at `start` in a block whose body ends at `end`; None if it contradicts itself."""
        stop = start + captured
        if stop > end or which >= len(self.interfaces):
            return None
        link_type, _, multiplier, divisor, offset_ns = self.interfaces[which]
        time_ns = stamp * multiplier
        if divisor != 1:
            time_ns //= divisor
        self.time_ns = time_ns = time_ns + offset_ns
        options_end = end if end - stop >= 4 else stop  # up to 3 bytes are padding
        return time_ns, link_type, buffer, start, stop, original - captured, options_end, self.order

    def other_packet(self, kind: int, buffer: bytes, at: int, end: int) -> Packet | None:
        """The same for the simple block and for that of old writers, which begins at `at`."""
        if kind == _OLD_PACKET:
            which, _, high, low, captured, original = self.old_packet(buffer, at + 8)
            return self.packet_at(which, high << 32 | low, captured, original, buffer, at + 28, end)
        if not self.interfaces:
            return None
        interface = self.interfaces[0]
        original = self.u32(buffer, at + 8)[0]
        captured = min(original, interface.snap_length or original)
        start = at + 12
        stop = start + captured
        if stop > end:
            return None
        # It has no time: that of the packet before is the best guess.
        return self.time_ns, interface.link_type, buffer, start, stop, original - captured, stop, self.order


def options(data: bytes, order: Order) -> Iterator[tuple[int, bytes]]:
    """The options in `data`, (code, value) each; stops where they stop making sense."""
    at = 0
    while len(data) - at >= 4:
        code = int.from_bytes(data[at : at + 2], order)
        size = int.from_bytes(data[at + 2 : at + 4], order)
        at += 4
        if code == 0 or size > len(data) - at:
            return
        yield code, data[at : at + size]
        at += size + (-size & 3)


def comment(data: bytes, order: Order) -> str | None:
    """The comments among the options of a packet, one line each; None if there are none."""
    comments = [value.decode("utf-8", "replace") for code, value in options(data, order) if code == _COMMENT]
    return "\n".join(comments) if comments else None


def read_interface(section: Section, buffer: bytes, start: int, end: int) -> _Interface:
    """What the body of an interface description says; it stands at `start` to `end` of the buffer."""
    link_type, _, snap_length = section.interface(buffer, start)
    multiplier, divisor, offset_ns = 1000, 1, 0  # microseconds, if nothing else is said
    for code, value in options(buffer[start + 8 : end], section.order):
        if code == _TIME_RESOLUTION and len(value) == 1:
            power = value[0] & 0x7F
            per_second = 2**power if value[0] & 0x80 else 10**power
            multiplier, divisor = 1_000_000_000, per_second
            if not value[0] & 0x80 and power <= 9:
                multiplier, divisor = 10 ** (9 - power), 1
        elif code == _TIME_OFFSET and len(value) == 8:
            offset_ns = int.from_bytes(value, section.order, signed=True) * 1_000_000_000
    return _Interface(link_type, snap_length, multiplier, divisor, offset_ns)


def byte_order(buffer: bytes, at: int, offset: int) -> Order:
    """The byte order of the section whose header is at `at`; `offset` is that of the buffer, for the error.

    Raises:
        CaptureError: It does not say.
    """
    magic = buffer[at + 8 : at + 12]
    if int.from_bytes(magic, "little") == _BYTE_ORDER_MAGIC:
        return "little"
    if int.from_bytes(magic, "big") == _BYTE_ORDER_MAGIC:
        return "big"
    raise CaptureError("a section header without its byte-order magic", offset=offset + at)


def packets(head: bytes, pieces: Pieces, summary: Summary) -> Iterator[Packet]:
    """The packets of a file.

    Args:
        head: The first bytes, beginning with MAGIC.
        pieces: The bytes that follow.
        summary: Counts packets, and takes what is wrong but does not end the reading.

    Raises:
        CaptureError: What should be a block is none; from there on nothing can be found.
    """
    section = Section("little")
    buffer, at, offset = head, 0, 0
    skip = 0  # bytes still to come of a block that nobody reads
    while True:
        size = len(buffer)
        while size - at >= 12:
            kind, length = section.head(buffer, at)
            if kind == _SECTION_HEADER:
                order = byte_order(buffer, at, offset)
                if order != section.order or section.interfaces:
                    section = Section(order, section.time_ns)
                    length = section.u32(buffer, at + 4)[0]
            if length < 12 or length & 3 or length < _LEAST_BYTES.get(kind, 0):
                raise CaptureError(f"a block of {length} bytes is impossible", offset=offset + at)
            if length > size - at:
                if length > MAX_BLOCK_BYTES:
                    _note_long(kind, length, offset + at, summary)
                    skip = length - (size - at)
                    at = size
                break
            end = at + length - 4
            if section.u32(buffer, end)[0] != length:
                raise CaptureError(f"the two lengths of a block of {length} bytes differ", offset=offset + at)
            if kind == _PACKET:
                summary.packets += 1
                which, high, low, captured, original = section.packet(buffer, at + 8)
                packet = section.packet_at(which, high << 32 | low, captured, original, buffer, at + 28, end)
                if packet is not None:
                    yield packet
                else:
                    summary.problem(
                        f"packet {summary.packets}: interface {which} or {captured} bytes: impossible"
                    )
            elif kind in (_SIMPLE_PACKET, _OLD_PACKET):
                summary.packets += 1
                packet = section.other_packet(kind, buffer, at, end)
                if packet is not None:
                    yield packet
                else:
                    summary.problem(f"packet {summary.packets}: its interface or length is impossible")
            elif kind == _INTERFACE:
                if len(section.interfaces) == MAX_INTERFACES:
                    raise CaptureError(f"more than {MAX_INTERFACES} interfaces", offset=offset + at)
                section.interfaces.append(read_interface(section, buffer, at + 8, end))
            elif kind == _STATISTICS:
                said = comment(buffer[at + 20 : end], section.order)
                if said is not None and said.startswith((RECORDING_ENDED, ORIGINAL_DAMAGED)):
                    summary.problem(said)
            at += length
        more = pieces.read()
        if not more:
            if at < size or skip:
                summary.problem(f"the file ends within the block at byte {offset + at}")
            return
        offset += at
        buffer = buffer[at:] + more if at < size else more
        at = min(skip, len(buffer))
        skip -= at


def _note_long(kind: int, length: int, offset: int, summary: Summary) -> None:
    """Judge a block that is too long to be kept in memory."""
    if kind in (_SECTION_HEADER, _INTERFACE):
        raise CaptureError(f"a header of {length} bytes is impossible", offset=offset)
    if kind in (_PACKET, _SIMPLE_PACKET, _OLD_PACKET):
        summary.packets += 1
        summary.problem(f"packet {summary.packets}: a block of {length} bytes is left out")
