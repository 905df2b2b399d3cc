"""From a damaged capture to one that every program reads."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from spiceproxy.capture import pcap, pcapng
from spiceproxy.capture.events import Summary
from spiceproxy.capture.files import pieces_of
from spiceproxy.errors import CaptureError
from spiceproxy.repair.losses import Loss
from spiceproxy.repair.pcap import Packets
from spiceproxy.repair.pcapng import Blocks
from spiceproxy.repair.window import Window

WRITTEN_BYTES: Final = 256 * 1024
PACKED_BYTES: Final = 128
"""So many compressed bytes in front of damage are lost with it, at most."""


@dataclass
class Repaired:
    """What was found."""

    format: str  # "pcapng" or "pcap"
    packets: int = 0  # that are whole
    size: int = 0  # bytes of the file, unpacked
    losses: list[Loss] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether there was nothing to repair."""
        return not self.losses and not self.notes

    @property
    def lost_bytes(self) -> int:
        """Of all losses."""
        return sum(loss.size for loss in self.losses)

    @property
    def lost_packets(self) -> int:
        """At least so many."""
        return sum(loss.packets for loss in self.losses)


def repair(source: BinaryIO, out: BinaryIO | None) -> Repaired:
    """Copy what is whole of a capture.

    Args:
        source: pcap or pcapng, plain or compressed; as much of it as there is.
        out: Takes a file of the same format, not compressed; None only looks.

    Raises:
        CaptureError: It is no capture, or so damaged at its beginning that nothing can be saved.
        UsageError: It cannot be read.
        OSError: `out` cannot be written.
    """
    summary = Summary()
    window = Window(pieces_of(source, None, summary, packed_bytes=PACKED_BYTES))
    window.reach(4)
    magic = window.bytes(0, min(4, window.end))
    reader: Blocks | Packets
    if magic == pcapng.MAGIC:
        reader, result = Blocks(window), Repaired("pcapng")
    elif magic in pcap.MAGICS:
        reader, result = Packets(window), Repaired("pcap")
    else:
        raise CaptureError("neither pcap nor pcapng begins here: nothing can be saved", offset=0)
    for chunk in _joined(reader.read()):
        if out is not None:
            out.write(chunk)
    result.packets, result.size, result.losses = reader.packets, window.end, reader.losses
    result.notes = [*summary.problems, *([window.broken] if window.broken else [])]
    if out is not None and not result.is_whole:
        lost = f"repaired: {result.lost_bytes} bytes lost in {len(result.losses)} places"
        out.write(reader.closing(lost))
    return result


def _joined(pieces: Iterator[bytes]) -> Iterator[bytearray]:
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        if len(buffer) >= WRITTEN_BYTES:
            yield buffer
            buffer = bytearray()
    yield buffer
