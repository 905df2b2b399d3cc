"""The whole packets of a pcap file. Source: IETF draft-ietf-opsawg-pcap.

A packet's header has nothing to be known by, so it takes several in a row, at times that fit, to be sure of one.
"""

import re
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from spiceproxy.capture.packet import MAX_PACKET_BYTES, Order
from spiceproxy.capture.pcap import FILE_HEADER_BYTES, KINDS
from spiceproxy.errors import CaptureError
from spiceproxy.repair.losses import Loss, Times
from spiceproxy.repair.window import Window

CHAIN: Final = 5
"""Packets in a row that are a beginning for sure; two do if the file ends with them."""

_SECOND_NS: Final = 1_000_000_000
_SEARCHED_BYTES: Final = 256 * 1024


class _Packet(NamedTuple):
    start: int
    end: int
    time_ns: int


class _Short(Exception):  # noqa: N818 - not an error: the file ends
    """The file ends within the packet."""


class Packets:
    """Reads the packets of a file that begins with the magic of pcap.

    Args:
        window: The file.
    """

    def __init__(self, window: Window) -> None:
        self._window = window
        self._times = Times()
        self.losses: list[Loss] = []
        self.packets = 0
        self._order = "<"
        self._fraction_ns, self._header_bytes = 1, 16

    def read(self) -> Iterator[bytes]:
        """The header of the file and the whole packets, ready to be written.

        Raises:
            CaptureError: The header of the file is not whole.
        """
        window = self._window
        if not window.reach(FILE_HEADER_BYTES):
            raise CaptureError("its header is cut: nothing can be saved", offset=0)
        head = window.bytes(0, FILE_HEADER_BYTES)
        self._order = "<" if int.from_bytes(head[:4], "little") in KINDS else ">"
        self._fraction_ns, self._header_bytes = KINDS[struct.unpack(f"{self._order}I", head[:4])[0]]
        yield head
        at = FILE_HEADER_BYTES
        held: _Packet | None = None  # one whose length is proved by what follows it
        while window.reach(at + 1):
            packet = self._try(at, self._times.last_ns if held is None else held.time_ns)
            if packet is not None:
                if held is not None:
                    yield self._taken(held)
                held, at = packet, packet.end
                continue
            begin = at if held is None else held.start
            found = self._search(begin + 1)
            if held is not None and (found is None or found >= held.end):
                yield self._taken(held)  # its length was right, as far as anybody can tell
                begin = held.end
            held = None
            at = window.end if found is None else found
            self.losses.append(self._times.lost(begin, at - begin, to_end=found is None))
        if held is not None:
            yield self._taken(held)

    def closing(self, comment: str) -> bytes:  # noqa: ARG002 - the format has no place for it
        """Nothing: packets are all there is in such a file."""
        return b""

    def _try(self, at: int, last_ns: int | None) -> _Packet | None:
        try:
            return self._packet(at, last_ns)
        except _Short:
            return None

    def _packet(self, at: int, last_ns: int | None) -> _Packet | None:
        """The packet whose header is at `at`; None if none can be.

        Raises:
            _Short: The file ends within it.
        """
        window = self._window
        if not window.reach(at + self._header_bytes):
            raise _Short
        head = window.bytes(at, at + 16)
        seconds, fraction, captured, original = struct.unpack(f"{self._order}IIII", head)
        time_ns = seconds * _SECOND_NS + fraction * self._fraction_ns
        if captured > MAX_PACKET_BYTES or original > 2**30 or fraction * self._fraction_ns >= _SECOND_NS:
            return None
        if not Times.fits(last_ns, time_ns):
            return None
        end = at + self._header_bytes + captured
        if not window.reach(end):
            raise _Short
        return _Packet(at, end, time_ns)

    def _taken(self, packet: _Packet) -> bytes:
        self.packets += 1
        self._times.seen(packet.time_ns, self.losses)
        data = self._window.bytes(packet.start, packet.end)
        self._window.let_go(packet.end)
        return data

    def _search(self, start: int) -> int | None:
        """Where packets begin again."""
        window = self._window
        last_ns = self._times.last_ns
        if last_ns is None:
            return None  # nothing tells a header from anything else
        upper = last_ns // _SECOND_NS >> 16
        order: Order = "little" if self._order == "<" else "big"
        words = [re.escape(((upper + more) & 0xFFFF).to_bytes(2, order)) for more in range(12)]
        of_time = b"(?:%s)" % b"|".join(words)
        pattern = re.compile(rb"(?s)(?=..%s)" % of_time if order == "little" else rb"(?s)(?=%s..)" % of_time)
        while True:
            more = window.reach(start + _SEARCHED_BYTES)
            end = min(window.end, start + _SEARCHED_BYTES)
            for match in pattern.finditer(window.bytes(start, min(window.end, end + 4))):
                if match.start() >= end - start:
                    break
                if self._is_beginning(start + match.start(), last_ns):
                    return start + match.start()
            if not more:
                return None
            start = end

    def _is_beginning(self, at: int, last_ns: int) -> bool:
        for count in range(CHAIN):
            try:
                packet = self._packet(at, last_ns)
            except _Short:
                return count >= 2
            if packet is None:
                return False
            at, last_ns = packet.end, packet.time_ns
        return True
