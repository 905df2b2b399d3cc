"""The packets of a pcap file. Source: IETF draft-ietf-opsawg-pcap."""

import struct
from collections.abc import Iterator
from typing import Final

from spiceproxy.capture.events import Summary
from spiceproxy.capture.files import Pieces
from spiceproxy.capture.packet import MAX_PACKET_BYTES, Packet
from spiceproxy.errors import CaptureError

FILE_HEADER_BYTES: Final = 24

# Magic: nanoseconds in one unit of the fraction, bytes of a packet's header. The "modified" format (Kuznetzov's
# patch of libpcap) puts interface index, protocol and packet type behind the lengths.
KINDS: Final = {0xA1B2C3D4: (1000, 16), 0xA1B23C4D: (1, 16), 0xA1B2CD34: (1000, 24)}

MAGICS: Final = frozenset(magic.to_bytes(4, order) for magic in KINDS for order in ("little", "big"))
"""What such a file begins with."""


def packets(head: bytes, pieces: Pieces, summary: Summary) -> Iterator[Packet]:
    """The packets of a file.

    Args:
        head: The first bytes, beginning with one of MAGICS.
        pieces: The bytes that follow.
        summary: Counts packets, and takes what is wrong but does not end the reading.

    Raises:
        CaptureError: A packet has an impossible length; from there on nothing can be found.
    """
    order = "<" if int.from_bytes(head[:4], "little") in KINDS else ">"
    fraction_ns, header_bytes = KINDS[struct.unpack(f"{order}I", head[:4])[0]]
    buffer = head
    while len(buffer) < FILE_HEADER_BYTES:
        more = pieces.read()
        if not more:
            raise CaptureError("the pcap header is cut", offset=len(buffer))
        buffer += more
    # The upper bits tell about checksums behind the packets, which the IP length leaves out.
    link_type: int = struct.unpack_from(f"{order}I", buffer, 20)[0] & 0xFFFF
    unpack = struct.Struct(f"{order}IIII").unpack_from  # seconds, fraction, captured and original length
    offset, at = 0, FILE_HEADER_BYTES
    while True:
        size = len(buffer)
        while size - at >= header_bytes:
            seconds, fraction, captured, original = unpack(buffer, at)
            if captured > MAX_PACKET_BYTES:
                raise CaptureError(
                    f"packet {summary.packets + 1} has {captured} bytes: damaged", offset=offset + at
                )
            start = at + header_bytes
            end = start + captured
            if end > size:
                break
            summary.packets += 1
            time_ns = seconds * 1_000_000_000 + fraction * fraction_ns
            yield time_ns, link_type, buffer, start, end, original - captured, end, "little"
            at = end
        more = pieces.read()
        if not more:
            if at < size:
                summary.problem(f"packet {summary.packets + 1}: the file ends within it")
            return
        offset += at
        buffer = buffer[at:] + more if at < size else more
        at = 0
