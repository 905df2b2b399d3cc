"""What a driver writes into the memory of a QXL adapter: commands, drawables, images, pointer shapes.

Everything is little-endian and packed. Addresses are offsets in memory slot 0, which covers the whole of the adapter's
RAM, so they are known before the guest runs. Source: spice-protocol qxl_dev.h, the structures named in the docstrings.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from spiceproxy.lab.machine import Script

RAM_BYTES: Final = 64 * 2**20  # QEMU's default, ram_size_mb
# The primary surface lies at the start; QEMU keeps vgamem_mb, 16 MiB by default, for it.
_HEAP: Final = 16 * 2**20

# QXLRam, from its start: where the guest and QEMU meet.
_COMMAND_RING: Final = 4108
_CURSOR_RING: Final = 4640
_MEM_SLOT: Final = 5276
_CREATE_SURFACE: Final = 5292
_MONITORS_CONFIG: Final = 5340
_RAM_HEADER_OFFSET: Final = 44  # in QXLRom

# Ports of the I/O range: QXL_IO_...
_NOTIFY_CMD: Final = 0
_NOTIFY_CURSOR: Final = 1
_RESET: Final = 5
_MEMSLOT_ADD: Final = 8
_CREATE_PRIMARY: Final = 12
_MONITORS_CONFIG_ASYNC: Final = 24

# QXLCmdType
_DRAW: Final = 1
_CURSOR: Final = 3
_SURFACE: Final = 5

PUT: Final = 8  # SPICE_ROPD_OP_PUT
_NO_MASK: Final = bytes(17)  # QXLQMask
XRGB: Final = 32  # SPICE_SURFACE_FMT_32_xRGB
ARGB: Final = 96


class Draw(IntEnum):
    """Type of a drawable: QXL_DRAW_..."""

    FILL = 1
    OPAQUE = 2
    COPY = 3
    COPY_BITS = 4
    BLEND = 5
    BLACKNESS = 6
    WHITENESS = 7
    INVERS = 8
    ROP3 = 9
    STROKE = 10
    TEXT = 11
    TRANSPARENT = 12
    ALPHA_BLEND = 13
    COMPOSITE = 14


class BitmapFormat(IntEnum):
    """SPICE_BITMAP_FMT_..."""

    ONE_BIT_BE = 2
    FOUR_BIT_BE = 4
    EIGHT_BIT = 5
    SIXTEEN_BIT = 6
    TWENTY_FOUR_BIT = 7
    THIRTY_TWO_BIT = 8
    RGBA = 9

    @property
    def bits(self) -> int:
        """Bits of a pixel."""
        return (0, 0, 1, 4, 4, 8, 16, 24, 32, 32)[self]


class Rect(NamedTuple):
    """Pixels, from left and top to just before right and bottom."""

    left: int
    top: int
    right: int
    bottom: int

    def pack(self) -> bytes:
        """As QXLRect: top, left, bottom, right."""
        return struct.pack("<4i", self.top, self.left, self.bottom, self.right)

    @property
    def size(self) -> "Rect":
        """The same with its corner at 0, 0."""
        return Rect(0, 0, self.right - self.left, self.bottom - self.top)


def solid(colour: int) -> bytes:
    """A brush (QXLBrush) of one colour, 0xRRGGBB."""
    return struct.pack("<II12x", 1, colour)


def pattern(image: int, x: int, y: int) -> bytes:
    """A brush of an image repeated in both directions, its corner at x, y."""
    return struct.pack("<IQii", 2, image, x, y)


class Heap:
    """What a driver keeps in the RAM of an adapter; addresses are fixed as it grows."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._serial = 0
        self._top = RAM_BYTES // 2  # surfaces that need no contents of their own

    def add(self, data: bytes) -> int:
        """Place `data`; return its address, a multiple of 16."""
        address = _HEAP + len(self._data)
        self._data += data.ljust(-(-len(data) // 16) * 16, b"\0")
        return address

    def room(self, size: int) -> int:
        """Return the address of `size` bytes that nobody writes at first."""
        address, self._top = self._top, self._top + -(-size // 4096) * 4096
        return address

    def chunk(self, data: bytes, head: bytes = b"") -> int:
        """Place `head` and behind it a QXLDataChunk."""
        return self.add(head + struct.pack("<IQQ", len(data), 0, 0) + data)

    def image(
        self,
        width: int,
        height: int,
        pixels: bytes,
        format_: BitmapFormat = BitmapFormat.THIRTY_TWO_BIT,
        *,
        palette: Sequence[int] = (),
        cache: bool = False,
    ) -> int:
        """Place a QXLImage of type bitmap, its rows from top to bottom without a gap, and its palette."""
        self._serial += 1
        colours = (
            self.add(struct.pack(f"<QH{len(palette)}I", self._serial, len(palette), *palette))
            if palette
            else 0
        )
        stride = (width * format_.bits + 7) // 8
        assert len(pixels) == stride * height  # noqa: S101 - a slip in our own guest
        descriptor = struct.pack("<QBBII", self._serial << 32, 0, cache, width, height)
        direct_top_down = 5
        bitmap = struct.pack(
            "<BBIIIQQ", format_, direct_top_down, width, height, stride, colours, self.add(pixels)
        )
        return self.add(descriptor + bitmap)

    def surface_image(self, surface: int, width: int, height: int) -> int:
        """Place a QXLImage that stands for what is on a surface."""
        self._serial += 1
        return self.add(struct.pack("<QBBIII26x", self._serial << 32, 104, 0, width, height, surface))

    def drawable(
        self,
        type_: Draw,
        box: Rect,
        operation: bytes,
        *,
        opaque: bool = True,
        surface: int = 0,
        source: tuple[int, Rect] | None = None,
        clip: Sequence[Rect] = (),
    ) -> int:
        """Place a QXLDrawable; return what `Adapter.draw` takes.

        Args:
            type_: What to draw.
            box: Where.
            operation: The part that depends on the type, such as a QXLCopy.
            opaque: Nothing of what was in the box is left.
            surface: On which surface.
            source: A surface that is read, and where.
            clip: Draw inside these rectangles only.
        """
        clip_type, clip_data = 0, 0
        if clip:
            rects = b"".join(rect.pack() for rect in clip)
            clip_type, clip_data = 1, self.chunk(rects, struct.pack("<I", len(clip)))
        read, area = source or (-1, Rect(0, 0, 0, 0))
        return _DRAW | self.add(
            struct.pack("<QIBBB16x", 0, surface, opaque, type_, 0)
            + box.pack()
            + struct.pack("<IQI3i", clip_type, clip_data, 0, read, -1, -1)
            + area.pack()
            + bytes(32)
            + operation
        )

    def fill(
        self, box: Rect, brush: bytes, *, rop: int = PUT, surface: int = 0, clip: Sequence[Rect] = ()
    ) -> int:
        """Place a QXLFill."""
        operation = brush + struct.pack("<H", rop) + _NO_MASK
        return self.drawable(
            Draw.FILL, box, operation, opaque=rop == PUT and not clip, surface=surface, clip=clip
        )

    def copy(
        self,
        box: Rect,
        image: int,
        *,
        area: Rect | None = None,
        type_: Draw = Draw.COPY,
        rop: int = PUT,
        mask: int = 0,
        surface: int = 0,
        source: int | None = None,
    ) -> int:
        """Place a QXLCopy or QXLBlend."""
        area = area or box.size
        operation = struct.pack("<Q", image) + area.pack() + struct.pack("<HB", rop, 0)
        return self.drawable(
            type_,
            box,
            operation + (struct.pack("<B8xQ", 0, mask)),
            opaque=rop == PUT and not mask,
            surface=surface,
            source=None if source is None else (source, area),
        )

    def pointer(self, type_: int, width: int, height: int, data: bytes, *, x: int, y: int) -> int:
        """Place a QXLCursorCmd that gives the pointer a shape (SPICE_CURSOR_TYPE_...) and a place."""
        self._serial += 1
        header = struct.pack("<QHHHHHI", self._serial, type_, width, height, 1, 1, len(data))
        shape = self.chunk(data, header)
        return _CURSOR | self.add(struct.pack("<QBhhBQ128x", 0, 0, x, y, 1, shape))

    def pointer_command(self, type_: int, first: int = 0, second: int = 0) -> int:
        """Place a QXLCursorCmd of another type: 1 moves the pointer, 2 hides it, 3 gives it a trail."""
        return _CURSOR | self.add(struct.pack("<QBhh9x128x", 0, type_, first, second))

    def create_surface(self, surface: int, width: int, height: int, format_: int = XRGB) -> int:
        """Place a QXLSurfaceCmd that creates a surface of 32 bits a pixel."""
        data = self.room(width * height * 4)
        return _SURFACE | self.add(
            struct.pack("<QIBIIIIiQ", 0, surface, 0, 0, format_, width, height, width * 4, data)
        )

    def destroy_surface(self, surface: int) -> int:
        """Place a QXLSurfaceCmd that destroys it."""
        return _SURFACE | self.add(struct.pack("<QIBI24x", 0, surface, 1, 0))

    def monitors(self, heads: Sequence[Rect]) -> int:
        """Place a QXLMonitorsConfig."""
        body = b"".join(
            struct.pack(
                "<7I", number, 0, head.right - head.left, head.bottom - head.top, head.left, head.top, 0
            )
            for number, head in enumerate(heads)
        )
        return self.add(struct.pack("<HH", len(heads), len(heads)) + body)

    def contents(self) -> tuple[int, bytes]:
        """Return the address of the first byte, and all of them."""
        return _HEAP, bytes(self._data)


class Adapter:
    """A QXL adapter, as a script drives it."""

    def __init__(self, script: Script, slot: int) -> None:
        """Take the adapter in a slot of PCI bus 0 out of VGA mode, and give it one memory slot."""
        self._script = script
        self._ram = script.pci_base(slot, 0)
        rom = script.pci_base(slot, 2)
        self._io = script.pci_base(slot, 3)
        self._header = script.pci_base(slot, 0)
        script.op("load32", rom, _RAM_HEADER_OFFSET)
        script.op("addbase", value=self._header)
        script.op("out8", self._io, _RESET)
        for field, address in ((0, 0), (8, RAM_BYTES)):
            script.op("address", self._ram, address)
            script.op("store", self._header, _MEM_SLOT + field)
            script.op("store32", self._header, _MEM_SLOT + field + 4)
        script.op("out8", self._io, _MEMSLOT_ADD)

    def fill_heap(self, heap: Heap) -> None:
        """Copy what the commands are made of into the adapter's RAM."""
        start, data = heap.contents()
        self._script.copy_in(self._ram, start, data)

    def create_primary(self, width: int, height: int) -> None:
        """Make the surface that is seen, black, of 32 bits a pixel."""
        fields = (width, height, width * 4, XRGB, 0, 0, 0, 0, 0, 0)
        for index, value in enumerate(fields):
            self._script.op("store32", self._header, _CREATE_SURFACE + 4 * index, value)
        self._script.op("out8", self._io, _CREATE_PRIMARY)

    def set_monitors(self, address: int) -> None:
        """Say which part of the primary surface each monitor shows."""
        self._script.op("store32", self._header, _MONITORS_CONFIG, address)
        self._script.op("store32", self._header, _MONITORS_CONFIG + 4)
        self._script.op("out8", self._io, _MONITORS_CONFIG_ASYNC)

    def draw(self, command: int) -> None:
        """Hand over a command made by a `Heap`; the guest waits while the ring is full."""
        ring, notify = (
            (_CURSOR_RING, _NOTIFY_CURSOR) if command & 7 == _CURSOR else (_COMMAND_RING, _NOTIFY_CMD)
        )
        self._script.op("push", self._header, ring, command)
        self._script.op("out8", self._io, notify)
