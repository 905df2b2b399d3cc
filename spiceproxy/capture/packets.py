"""Packets out of a file of any of the formats that are read."""

from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from spiceproxy.capture import pcap, pcapng
from spiceproxy.capture.events import Summary
from spiceproxy.capture.files import pieces_of
from spiceproxy.capture.packet import Packet
from spiceproxy.errors import CaptureError

_MAGIC_BYTES: Final = 4


def packets_of(source: BinaryIO, follow: Callable[[], bool] | None, summary: Summary) -> Iterator[Packet]:
    """The packets of `source`, in its order.

    Args:
        source: pcap or pcapng, plain or compressed.
        follow: Called at the end: waits for more and returns True, or returns False to stop.
        summary: Counts packets, and takes what is wrong but does not end the reading.

    Raises:
        CaptureError: It is none of these, or damaged from some offset on.
    """
    pieces = pieces_of(source, follow, summary)
    head = b""
    while len(head) < _MAGIC_BYTES:
        more = pieces.read()
        if not more:
            what = f"only {len(head)} bytes: no capture" if head else "the capture is empty"
            raise CaptureError(what, offset=len(head))
        head += more
    magic = head[:_MAGIC_BYTES]
    if magic == pcapng.MAGIC:
        return pcapng.packets(head, pieces, summary)
    if magic in pcap.MAGICS:
        return pcap.packets(head, pieces, summary)
    raise CaptureError("neither pcap nor pcapng, nor one of them packed by gzip or zstd", offset=0)
