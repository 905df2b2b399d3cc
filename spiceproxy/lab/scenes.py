"""What the guest with a QXL adapter draws: bands that move, a video, and one of everything that QXL can draw."""

import math
import struct
from collections.abc import Callable, Iterator
from typing import Final

from spiceproxy.lab.guest import COLOURS
from spiceproxy.lab.qxl import ARGB, PUT, BitmapFormat, Draw, Heap, Rect, pattern, solid

WIDTH: Final = 640
HEIGHT: Final = 480
PHASES: Final = 32  # of the loop in which everything is drawn, one a tick: 1.8 s

_BAND_ROWS: Final = 50  # four of them fill the upper part of the screen
_TILE_WIDTH: Final = 4
# spice-server takes for a video what is drawn at one place 20 times in a row, 200 ms apart at most, and has 96 x 96 pixels
# or more (video-stream.cpp, RED_STREAM_...).
_VIDEO: Final = Rect(400, 240, 528, 336)
_FILM_WIDTH: Final = 192  # the video shows a part that moves along it
_CELL: Final = 64
_CELLS: Final = (5, 4)  # columns and rows, left of the video
_NO_MASK: Final = bytes(17)

Steps = list[list[int]]  # for each phase, the commands


def photo(width: int, height: int) -> bytes:
    """Return pixels (blue, green, red, unused) that compress like a photograph: smooth, with some noise."""
    pixels = bytearray(width * height * 4)
    seed = 1
    for y in range(height):
        for x in range(width):
            seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF  # rand() of the C standard: the same on every run
            noise = seed >> 29
            at = (y * width + x) * 4
            pixels[at] = 100 + noise + int(40 * math.sin(x / 30))
            pixels[at + 1] = 100 + noise + int(40 * math.sin(y / 25))
            pixels[at + 2] = 100 + noise + int(40 * math.sin((x + y) / 40))
    return bytes(pixels)


def user_interface(width: int, height: int) -> bytes:
    """Return pixels that compress like a user interface: few colours, straight edges."""
    rows = [
        b"".join(
            struct.pack(
                "<I", 0x303030 if x % 16 == 0 or y % 16 == 0 else 0xC0C0D0 if (x ^ y) & 32 else 0xF0F0F0
            )
            for x in range(width)
        )
        for y in range(height)
    ]
    return b"".join(rows)


def bands(heap: Heap, width: int = WIDTH) -> Steps:
    """Return four bands in the colours by which a screenshot knows the guest, one place further with each phase.

    They are one drawable, so that no screenshot sees half of a phase: a fill with a pattern.
    """
    rows = b"".join(
        struct.pack("<I", red << 16 | green << 8 | blue) * _TILE_WIDTH * _BAND_ROWS
        for red, green, blue in COLOURS
    )
    tile = heap.image(_TILE_WIDTH, len(COLOURS) * _BAND_ROWS, rows, cache=True)
    box = Rect(0, 0, width, len(COLOURS) * _BAND_ROWS)
    return [[heap.fill(box, pattern(tile, 0, phase * _BAND_ROWS))] for phase in range(PHASES)]


def video(heap: Heap) -> Steps:
    """Return a photograph that moves behind a window."""
    width, height = _VIDEO.size[2:]
    film = heap.image(_FILM_WIDTH, height, photo(_FILM_WIDTH, height))
    steps = []
    for phase in range(PHASES):
        left = phase * (_FILM_WIDTH - width) // PHASES
        steps.append([heap.copy(_VIDEO, film, area=Rect(left, 0, left + width, height))])
    return steps


def drawing(heap: Heap) -> Steps:
    """Return one of everything, spread over the phases of the loop: a cell for each drawing operation."""
    columns, rows = _CELLS
    boxes = (
        Rect(x, y, x + 60, y + 60)
        for row in range(rows)
        for column in range(columns)
        for x, y in [(column * _CELL, 210 + row * _CELL)]
    )
    cells: list[list[int]] = []
    for make in (_image_cells, _operation_cells, _surface_cells):
        cells += make(heap, boxes)
    steps: Steps = [[] for _ in range(PHASES)]
    for index, commands in enumerate(cells):
        steps[index * PHASES // len(cells)] += commands
    pointer = _pointer(heap)
    for index, command in enumerate(pointer):
        steps[index * PHASES // len(pointer)].append(command)
    return steps


def _image_cells(heap: Heap, boxes: Iterator[Rect]) -> list[list[int]]:
    """Images in all formats of pixels."""
    plain, noisy = user_interface(60, 60), photo(60, 60)
    grey = [level * 0x010101 for level in range(0, 256, 17)]
    ramp = [0x100 * index + 0x40 for index in range(256)]
    alpha = b"".join(noisy[at : at + 3] + bytes((at // 4 % 60 * 4,)) for at in range(0, len(noisy), 4))
    indices = bytes((x // 4 * 16 + y // 4) & 0xFF for y in range(60) for x in range(60))
    images = [
        heap.image(60, 60, noisy),
        heap.image(60, 60, plain),
        heap.image(60, 60, plain[::-1], cache=True),
        heap.image(60, 60, alpha, BitmapFormat.RGBA),
        heap.image(
            60, 60, bytes(noisy[at] for at in range(len(noisy)) if at % 4 != 3), BitmapFormat.TWENTY_FOUR_BIT
        ),
        heap.image(60, 60, noisy[: 60 * 60 * 2], BitmapFormat.SIXTEEN_BIT),
        heap.image(60, 60, indices, BitmapFormat.EIGHT_BIT, palette=ramp),
        heap.image(60, 60, indices[::2], BitmapFormat.FOUR_BIT_BE, palette=grey),
        heap.image(60, 60, indices[: 8 * 60], BitmapFormat.ONE_BIT_BE, palette=(0x2040A0, 0xFFFFFF)),
    ]
    return [[heap.copy(box, image)] for image, box in zip(images, boxes, strict=False)]


def _operation_cells(heap: Heap, boxes: Iterator[Rect]) -> list[list[int]]:
    """The drawing operations other than COPY, mostly over a picture."""
    image = heap.image(60, 60, user_interface(60, 60))
    mask = heap.image(60, 60, bytes((0xF0,)) * 8 * 60, BitmapFormat.ONE_BIT_BE, palette=(0, 0xFFFFFF))
    area = Rect(0, 0, 60, 60).pack()
    source = struct.pack("<Q", image) + area
    red, masked = solid(0xC03030), struct.pack("<B8xQ", 0, mask)
    tiles = pattern(heap.image(8, 8, photo(8, 8)), 0, 0)
    dashes = heap.add(struct.pack("<4i", 6 << 4, 3 << 4, 2 << 4, 3 << 4))
    line = struct.pack("<4B2iQ", 8, 0, 0, 4, 1 << 4, 10 << 4, dashes)  # SPICE_LINE_FLAGS_STYLED
    operations: list[Callable[[Rect], list[int]]] = [
        lambda box: [
            heap.drawable(Draw.OPAQUE, box, source + tiles + struct.pack("<HB", PUT, 0) + _NO_MASK),
            heap.copy(box, image, type_=Draw.BLEND, rop=64),  # SPICE_ROPD_OP_XOR
        ],
        lambda box: [
            heap.drawable(Draw.BLACKNESS, box, _NO_MASK),
            heap.drawable(Draw.WHITENESS, box, masked, opaque=False),
            heap.drawable(
                Draw.INVERS, Rect(box.left + 10, box.top + 10, box.right, box.bottom), _NO_MASK, opaque=False
            ),
        ],
        lambda box: [
            heap.copy(box, image),
            # 0xca: source where the brush is 1, else destination
            heap.drawable(
                Draw.ROP3, box, source + red + struct.pack("<BB", 0xCA, 0) + _NO_MASK, opaque=False
            ),
        ],
        lambda box: [
            heap.fill(box, solid(0x205020)),
            heap.drawable(
                Draw.STROKE, box, _path(heap, box) + line + red + struct.pack("<HH", PUT, PUT), opaque=False
            ),
        ],
        lambda box: [
            heap.fill(box, solid(0xE0E0C0)),
            heap.drawable(
                Draw.TEXT,
                box,
                _text(heap, box) + bytes(16) + red + bytes(20) + struct.pack("<HH", PUT, 0),
                opaque=False,
            ),
        ],
        lambda box: [
            heap.fill(box, solid(0x602060), clip=(Rect(box.left, box.top, box.left + 30, box.bottom), box)),
            heap.drawable(
                Draw.TRANSPARENT, box, source + struct.pack("<II", 0xC0C0D0, 0xC0C0D0), opaque=False
            ),
        ],
        lambda box: [
            heap.drawable(Draw.COPY_BITS, box, struct.pack("<ii", box.left - 64, box.top)),
            heap.drawable(Draw.ALPHA_BLEND, box, struct.pack("<HB", 0, 100) + source, opaque=False),
        ],
    ]
    return [operation(box) for operation, box in zip(operations, boxes, strict=False)]


def _text(heap: Heap, box: Rect) -> bytes:
    """The address of a QXLString of two glyphs of one bit a pixel: a picture, no characters."""
    rows = bytes.fromhex("18244242 7e424242")
    glyphs = b"".join(struct.pack("<4i2H", box.left + x, box.top + 20, 0, -8, 8, 8) + rows for x in (12, 24))
    return struct.pack("<Q", heap.chunk(glyphs, struct.pack("<IHH", len(glyphs), 2, 1)))


def _path(heap: Heap, box: Rect) -> bytes:
    """The address of a QXLPath: a triangle; points are fixed-point numbers, 28.4."""
    points = ((5, 5), (55, 15), (25, 55))
    segment = struct.pack("<II", 1 | 2 | 8, len(points))  # begin, end, close
    segment += b"".join(struct.pack("<ii", box.left + x << 4, box.top + y << 4) for x, y in points)
    return struct.pack("<Q", heap.chunk(segment, struct.pack("<I", len(segment))))


def _surface_cells(heap: Heap, boxes: Iterator[Rect]) -> list[list[int]]:
    """Surfaces that are not seen: made, drawn on, copied and composed from, destroyed."""
    whole = Rect(0, 0, 60, 60)
    copied, composed = next(boxes), next(boxes)
    composite = struct.pack(
        "<IQQQQ4h",
        3,
        heap.surface_image(2, 60, 60),
        0,
        0,
        0,
        0,
        0,
        0,
        0,  # operator OVER, no mask
    )
    return [
        [
            heap.create_surface(1, 60, 60),
            heap.fill(whole, solid(0x8040C0), surface=1),
            heap.copy(Rect(10, 10, 40, 40), heap.image(30, 30, photo(30, 30)), surface=1),
            heap.copy(copied, heap.surface_image(1, 60, 60), source=1),
            heap.destroy_surface(1),
        ],
        [
            heap.fill(composed, solid(0x404040)),
            heap.create_surface(2, 60, 60, ARGB),
            heap.fill(whole, solid(0x80008000), surface=2),
            heap.drawable(Draw.COMPOSITE, composed, composite, opaque=False, source=(2, whole)),
            heap.destroy_surface(2),
        ],
    ]


def _pointer(heap: Heap) -> list[int]:
    """The pointer in several types of shapes, moving, hidden, with a trail."""
    arrow = b"".join(
        struct.pack("<I", 0xFF000000 | 0xFFFFFF * (x < y) if x <= y else 0)
        for y in range(16)
        for x in range(16)
    )
    mono = bytes((0xF0, 0x0F)) * 16 + bytes((0x0F, 0xF0)) * 16  # an AND mask, then a XOR mask
    colour = arrow + bytes(2 * 16)
    return [
        heap.pointer(0, 16, 16, arrow, x=20, y=20),
        heap.pointer_command(1, 60, 90),
        heap.pointer(1, 16, 16, mono, x=40, y=30),
        heap.pointer_command(3, 4, 2),
        heap.pointer(6, 16, 16, colour, x=50, y=30),
        heap.pointer_command(2),
        heap.pointer(0, 16, 16, arrow[::-1], x=70, y=20),
        heap.pointer_command(1, 90, 70),
    ]
