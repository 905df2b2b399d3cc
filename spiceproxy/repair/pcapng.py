"""The whole blocks of a pcapng file. Source: IETF draft-ietf-opsawg-pcapng.

A block has its length at both ends, so one that is whole is known by itself. Behind damage, blocks are taken again where
several follow one another, of kinds that there are, about interfaces that there are, at times that fit.
"""

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from spiceproxy.capture.pcapng import MAX_INTERFACES, Section, byte_order, read_interface
from spiceproxy.errors import CaptureError
from spiceproxy.repair.losses import Loss, Times
from spiceproxy.repair.window import Window

MAX_BLOCK_BYTES: Final = 16 * 2**20
"""A length beyond this is damage: packets have 1 MiB at most, and nobody writes names or keys of that size."""

CHAIN: Final = 4
"""Blocks in a row that are a beginning for sure; fewer do if the file ends with them."""

_SECTION, _INTERFACE, _OLD, _SIMPLE, _NAMES, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 2, 3, 4, 5, 6
_KNOWN: Final = frozenset(
    (_SECTION, _INTERFACE, _OLD, _SIMPLE, _NAMES, _STATISTICS, _PACKET, 10, 0xBAD, 0x40000BAD)
)
_LEAST: Final = {_SECTION: 28, _INTERFACE: 20, _OLD: 32, _SIMPLE: 16, _STATISTICS: 24, _PACKET: 32}
_PACKETS: Final = frozenset((_OLD, _SIMPLE, _PACKET))
_SECTION_LENGTH: Final = slice(16, 24)
_UNKNOWN_LENGTH: Final = b"\xff" * 8
_COMMENT, _START_TIME, _END_TIME, _DELIVERED = 1, 2, 3, 8  # options of interface statistics
_CANDIDATES: Final = {
    "little": re.compile(rb"(?s)(?=[\x01-\x06]\0\0\0..[\0-\xff]\0|\x0a\x0d\x0d\x0a)"),
    "big": re.compile(rb"(?s)(?=\0\0\0[\x01-\x06]\0[\0-\xff]..|\x0a\x0d\x0d\x0a)"),
}
_SEARCHED_BYTES: Final = 256 * 1024


class Block(NamedTuple):
    """A whole block."""

    start: int
    end: int
    kind: int
    data: bytes
    time_ns: int | None  # of a packet


class _Short(Exception):  # noqa: N818 - not an error: the file ends
    """The file ends within the block."""


class Blocks:
    """Reads the blocks of a file that begins with a section header.

    Args:
        window: The file.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._section = Section("little")
        self._times = Times()
        self._stamps: dict[int, tuple[int, int, int]] = {}  # by interface: first and last time stamp, packets
        self._has_statistics = False
        self.losses: list[Loss] = []
        self.packets = 0

    def read(self) -> Iterator[bytes]:
        """The whole blocks, ready to be written.

        Raises:
            CaptureError: The first block is not whole: nothing of what follows could be read.
        """
        at = 0
        while self._window.reach(at + 1):
            try:
                block = self._block(at)
            except _Short:
                block = None
            if block is None:
                if not at:
                    raise CaptureError("its section header is damaged: nothing can be saved", offset=0)
                at = self._lose(at)
                continue
            yield self._taken(block)
            at = block.end
            self._window.let_go(at)

    def closing(self, comment: str) -> bytes:
        """Interface statistics for the end of the last section, if it has none: what is known of each interface."""
        if self._has_statistics:
            return b""
        sign = "<" if self._section.order == "little" else ">"
        out = b""
        for interface, (first, last, packets) in sorted(self._stamps.items()):
            stamps = [struct.pack(f"{sign}II", stamp >> 32, stamp & 0xFFFFFFFF) for stamp in (first, last)]
            text = comment.encode()
            options = [
                (_COMMENT, text), (_START_TIME, stamps[0]), (_END_TIME, stamps[1]),
                (_DELIVERED, struct.pack(f"{sign}Q", packets)), (0, b""),
            ]  # fmt: skip
            body = struct.pack(f"{sign}I", interface) + stamps[1]
            for code, value in options:
                body += struct.pack(f"{sign}HH", code, len(value)) + value + bytes(-len(value) % 4)
            length = struct.pack(f"{sign}I", 12 + len(body))
            out += struct.pack(f"{sign}I", _STATISTICS) + length + body + length
        return out

    # One block ----------------------------------------------------------------------------------------------

    def _block(self, at: int, section: Section | None = None) -> Block | None:
        """The block that begins at `at`; None if none does.

        Raises:
            _Short: The file ends within it, as far as can be told.
        """
        section = section or self._section
        window = self._window
        if not window.reach(at + 12):
            raise _Short
        head = window.bytes(at, at + 12)
        kind = section.u32(head, 0)[0]
        if kind == _SECTION:
            try:
                section = Section(byte_order(head, 0, at))
            except CaptureError:
                return None
        length = section.u32(head, 4)[0]
        if length < _LEAST.get(kind, 12) or length & 3 or length > MAX_BLOCK_BYTES:
            return None
        if not window.reach(at + length):
            raise _Short
        data = window.bytes(at, at + length)
        if section.u32(data, length - 4)[0] != length:
            return None
        time_ns: int | None = None
        if kind in _PACKETS:
            time_ns = _time_of(section, kind, data)
            if time_ns is None:
                return None
        return Block(at, at + length, kind, data, time_ns)

    def _taken(self, block: Block) -> bytes:
        """Learn from a block, and give what is to be written."""
        data = block.data
        if block.kind == _SECTION:
            # Another length may be wrong after the repair, and nobody needs it.
            self._section = Section(byte_order(data, 0, block.start))
            self._stamps, self._has_statistics = {}, False
            return data[: _SECTION_LENGTH.start] + _UNKNOWN_LENGTH + data[_SECTION_LENGTH.stop :]
        if block.kind == _INTERFACE and len(self._section.interfaces) < MAX_INTERFACES:
            self._section.interfaces.append(read_interface(self._section, data, 8, len(data) - 4))
        elif block.kind == _STATISTICS:
            self._has_statistics = True
        elif block.time_ns is not None:
            self.packets += 1
            self._has_statistics = False
            self._times.seen(block.time_ns, self.losses)
            if block.kind == _PACKET:
                which, high, low = (self._section.u32(data, offset)[0] for offset in (8, 12, 16))
                stamp = high << 32 | low
                first, _, packets = self._stamps.get(which, (stamp, stamp, 0))
                self._stamps[which] = first, stamp, packets + 1
        return data

    # Damage -------------------------------------------------------------------------------------------------

    def _lose(self, at: int) -> int:
        """Nothing can be read at `at`: say so, and return where blocks begin again, or the end of the file."""
        found = self._search(at + 1)
        end = self._window.end if found is None else found
        self.losses.append(self._times.lost(at, end - at, to_end=found is None))
        return end

    def _search(self, start: int) -> int | None:
        window, candidates = self._window, _CANDIDATES[self._section.order]
        while True:
            more = window.reach(start + _SEARCHED_BYTES)
            end = min(window.end, start + _SEARCHED_BYTES)
            data = window.bytes(start, min(window.end, end + 12))
            for match in candidates.finditer(data):
                if match.start() >= end - start:
                    break
                if self._is_beginning(start + match.start()):
                    return start + match.start()
            if not more:
                return None
            start = end
            window.let_go(start)

    def _is_beginning(self, at: int) -> bool:
        """Whether blocks follow one another from here on."""
        section: Section | None = None
        count, last_ns = 0, self._times.last_ns
        while count < CHAIN:
            try:
                block = self._block(at, section)
            except _Short:
                return count >= CHAIN // 2 or (count > 0 and not self._window.reach(at + 1))
            if block is None or block.kind not in _KNOWN:
                return False
            if block.kind == _SECTION:
                section = Section(byte_order(block.data, 0, at))
                last_ns = None
            elif block.kind == _INTERFACE and section is not None:
                section.interfaces.append(read_interface(section, block.data, 8, len(block.data) - 4))
            elif block.time_ns is not None:
                if not Times.fits(last_ns, block.time_ns):
                    return False
                last_ns = block.time_ns
            count, at = count + 1, block.end
        return True


def _time_of(section: Section, kind: int, data: bytes) -> int | None:
    """The time of a packet; None if what the block says of it cannot be."""
    end = len(data) - 4
    if kind == _PACKET:
        which, high, low, captured, original = section.packet(data, 8)
        packet = section.packet_at(which, high << 32 | low, captured, original, data, 28, end)
    else:
        packet = section.other_packet(kind, data, 0, end)
    return None if packet is None else packet[0]
