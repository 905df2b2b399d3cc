"""Receive buffers, lent for as long as bytes are in them, so an idle channel has none."""

from typing import Final

from spiceproxy.protocol.framer import MAX_HEADER_BYTES

# Measured against haproxy (docs/performance.md): 256 KiB gives 1.25 times its throughput, 1 MiB 1.5 times.
LARGE_BUFFER_BYTES: Final = 2**20
SMALL_BUFFER_BYTES: Final = 64 * 2**10
# So many may be out at once, 16 MiB in all; whoever comes while as many peers stall gets a small one.
MAX_LARGE_BUFFERS: Final = 16
MAX_FREE_BUFFERS: Final = 4


class Buffer:
    """A receive buffer with room in front for the part of a header that was kept back."""

    __slots__ = ("body", "view")

    def __init__(self, size: int) -> None:
        self.view = memoryview(bytearray(MAX_HEADER_BYTES + size))
        self.body = self.view[MAX_HEADER_BYTES:]


class BufferPool:
    """Receive buffers, shared by all connections of a proxy."""

    def __init__(self) -> None:
        self._free: list[Buffer] = []
        self._large = 0

    def take(self) -> Buffer:
        """A buffer; give it back when nothing refers to its bytes any more."""
        if self._free:
            return self._free.pop()
        if self._large >= MAX_LARGE_BUFFERS:
            return Buffer(SMALL_BUFFER_BYTES)
        self._large += 1
        return Buffer(LARGE_BUFFER_BYTES)

    def give(self, buffer: Buffer) -> None:
        """Take a buffer back."""
        if len(buffer.body) == SMALL_BUFFER_BYTES:
            return
        if len(self._free) < MAX_FREE_BUFFERS:
            self._free.append(buffer)
        else:
            self._large -= 1
