"""Where the bytes of streams inside messages go, once it is known that they may stay."""

from typing import Final, Protocol

from dissectors.compression import decompress
from dissectors.errors import DissectionError
from dissectors.fields import read
from dissectors.spicevmc import CompressedData
from spiceproxy.redaction.bodies import Bodies, Pieces
from spiceproxy.redaction.kinds import Kind
from spiceproxy.redaction.lz4block import block_of_size

MAX_WAITING_BYTES: Final = 32 * 2**20
"""Unpacked bytes of compressed messages that wait for the end of what they hold."""


class Region(Protocol):
    """Where the bytes of a stream are to go."""

    def put(self, at: int, data: bytes) -> None:
        """These bytes may be known."""

    def settled(self, size: int) -> None:
        """Nothing more is to be said of so many bytes of it."""


class Bytes:
    """Part of a body in memory.

    Args:
        pieces: Takes what may be known.
        start: Added to every offset.
    """

    def __init__(self, pieces: Pieces, start: int = 0) -> None:
        self._pieces, self._start = pieces, start

    def put(self, at: int, data: bytes) -> None:
        """As `Region` says."""
        self._pieces.append((self._start + at, data))

    def settled(self, size: int) -> None:
        """As `Region` says."""


class Block:
    """A compressed message: packed again when all of what it unpacks to is settled."""

    def __init__(self, desk: "Desk", into: Region, at: int, packed: bytes, stream: bytes) -> None:
        self._desk, self._into, self._at, self._packed, self._stream = desk, into, at, packed, stream
        self._public = bytearray(len(stream))
        self._left = len(stream)
        self.size = len(stream)
        self.done = False

    def put(self, at: int, data: bytes) -> None:
        """As `Region` says."""
        self._public[at : at + len(data)] = data

    def settled(self, size: int) -> None:
        """As `Region` says."""
        self._left -= size
        if self._left <= 0:
            self.finish()

    def keep(self) -> None:
        """All of it may be known."""
        self._public[:] = self._stream

    def finish(self) -> None:
        """Write it, with what is known by now."""
        if self.done:
            return
        self.done = True
        self._desk.forget(self)
        public = bytes(self._public)
        if public == self._stream:
            self._into.put(self._at, self._packed)
            return
        if self._stream == self._packed:  # as it is, by its type
            self._into.put(self._at, public)
            return
        block = block_of_size(public, len(self._packed))
        if block is None:  # never seen; what does not fit is left out, and a reader cannot unpack it
            block = block_of_size(bytes(len(public)), len(self._packed))
        if block is not None:
            self._into.put(self._at, block)


class Desk:
    """What the watchers of all channels share.

    Args:
        bodies: Says what may be known of fields, and counts.
    """

    def __init__(self, bodies: Bodies) -> None:
        self.bodies = bodies
        self.region: Region = Bytes([])  # of the message that is being read
        self._waiting: dict[Block, None] = {}
        self._waiting_bytes = 0
        self._fed: dict[Kind, int] = {}
        self._told: dict[Kind, int] = {}

    def fed(self, kind: Kind, size: int) -> None:
        """So many bytes of streams of this kind were seen."""
        self._fed[kind] = self._fed.get(kind, 0) + size

    def told(self, kind: Kind, size: int) -> None:
        """Of so many of them it is known what they were: they stay, or are counted."""
        self._told[kind] = self._told.get(kind, 0) + size

    def wait_for(self, block: Block) -> None:
        """A block has to wait; the oldest ones do not if they are too many."""
        self._waiting[block] = None
        self._waiting_bytes += block.size
        while self._waiting_bytes > MAX_WAITING_BYTES:
            next(iter(self._waiting)).finish()

    def forget(self, block: Block) -> None:
        """A block is written."""
        if block in self._waiting:
            del self._waiting[block]
            self._waiting_bytes -= block.size

    def finish(self) -> None:
        """The capture is over: write what waits, and count what was never put together."""
        for block in list(self._waiting):
            block.finish()
        for kind, fed in self._fed.items():
            self.bodies.account.add(kind, fed - self._told.get(kind, 0))


def block_in(desk: Desk, body: bytes) -> Block | None:
    """The block of a COMPRESSED_DATA; None if it cannot be unpacked."""
    try:
        fields, _ = read(CompressedData, body)
        packed: bytes = fields["compressed_data"]
        stream = decompress(fields["type"], fields["u"].get("uncompressed_size"), packed)
    except DissectionError:
        return None
    block = Block(desk, desk.region, len(body) - len(packed), packed, stream)
    desk.wait_for(block)
    return block
