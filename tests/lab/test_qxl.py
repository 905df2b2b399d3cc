"""What the guest's driver writes has the sizes and places that qxl_dev.h gives."""

import struct

from spiceproxy.lab import scenes
from spiceproxy.lab.qxl import BitmapFormat, Draw, Heap, Rect, solid

HEAP = 16 * 2**20
BOX = Rect(10, 20, 70, 80)


def at(heap: Heap, address: int, size: int) -> bytes:
    start, data = heap.contents()
    return data[(address & ~7) - start :][:size]


def test_the_heap_begins_behind_the_primary_surface_and_is_aligned() -> None:
    heap = Heap()
    assert heap.add(b"abc") == HEAP
    assert heap.add(b"d") == HEAP + 16
    assert heap.contents() == (HEAP, b"abc".ljust(16, b"\0") + b"d".ljust(16, b"\0"))


def test_a_fill_is_a_drawable_of_162_bytes() -> None:
    heap = Heap()
    command = heap.fill(BOX, solid(0x123456))
    assert command & 7 == 1  # QXL_CMD_DRAW
    assert len(heap.contents()[1]) == 176  # 123 + 39, in steps of 16
    drawable = at(heap, command, 162)
    assert drawable[8:15] == struct.pack("<IBBB", 0, 1, Draw.FILL, 0)
    assert struct.unpack_from("<4i", drawable, 31) == (20, 10, 80, 70)  # top, left, bottom, right
    assert struct.unpack_from("<II", drawable, 123) == (1, 0x123456)
    assert struct.unpack_from("<H", drawable, 143) == (8,)


def test_a_clipped_fill_is_not_opaque_and_names_its_rectangles() -> None:
    heap = Heap()
    drawable = at(heap, heap.fill(BOX, solid(0), clip=(BOX, BOX)), 162)
    assert drawable[12] == 0
    kind, address = struct.unpack_from("<IQ", drawable, 47)
    assert kind == 1
    assert struct.unpack_from("<II", at(heap, address, 8)) == (2, 32)


def test_a_copy_names_its_image_and_the_image_its_pixels_and_palette() -> None:
    heap = Heap()
    image = heap.image(60, 60, bytes(8 * 60), BitmapFormat.ONE_BIT_BE, palette=(1, 2), cache=True)
    drawable = at(heap, heap.copy(BOX, image), 167)
    assert struct.unpack_from("<Q", drawable, 123) == (image,)
    _, type_, flags, width, height = struct.unpack_from("<QBBII", at(heap, image, 18))
    assert (type_, flags, width, height) == (0, 1, 60, 60)
    format_, _, _, _, stride, palette, _ = struct.unpack_from("<BBIIIQQ", at(heap, image, 48), 18)
    assert (format_, stride) == (BitmapFormat.ONE_BIT_BE, 8)
    assert struct.unpack_from("<QHII", at(heap, palette, 18))[1:] == (2, 1, 2)


def test_commands_carry_their_type_in_the_lowest_bits() -> None:
    heap = Heap()
    assert heap.create_surface(1, 8, 8) & 7 == heap.destroy_surface(1) & 7 == 5
    assert heap.pointer(0, 1, 1, bytes(4), x=0, y=0) & 7 == heap.pointer_command(2) & 7 == 3


def test_the_scene_has_every_drawing_operation_in_each_round() -> None:
    heap = Heap()
    commands = [command for step in scenes.drawing(heap) for command in step if command & 7 == 1]
    assert {at(heap, command, 14)[13] for command in commands} == {int(type_) for type_ in Draw}


def test_the_video_is_drawn_at_one_place_from_a_part_that_moves() -> None:
    heap = Heap()
    drawables = [at(heap, command, 167) for step in scenes.video(heap) for command in step]
    assert len(drawables) == scenes.PHASES
    assert len({drawable[31:47] for drawable in drawables}) == 1
    assert len({drawable[131:147] for drawable in drawables}) == scenes.PHASES
