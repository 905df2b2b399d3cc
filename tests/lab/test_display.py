"""Screenshots, and a real X server."""

import struct
import zlib
from pathlib import Path

import pytest
import trio

from spiceproxy.address import Address
from spiceproxy.lab.display import HEIGHT, WIDTH, Display, Screenshot, client_command, start_display
from spiceproxy.lab.errors import single_error
from spiceproxy.lab.guest import COLOURS
from spiceproxy.lab.result import ClientKind
from tests.programs import require_programs


def screen(*, frame: int = 0, noise: int = 0, rows: int = 400, colours: int = 4) -> Screenshot:
    """A grey screen with the guest's picture in its corner, drawn as the boot sector does at twice its size."""
    grey = bytes((40, 40, 40, 255))
    lines = []
    for row in range(HEIGHT):
        if row < rows:
            red, green, blue = COLOURS[((row // 2 + frame) >> 4) % colours]
            pixel = bytes((abs(red - noise), abs(green - noise), abs(blue - noise), 255))
            lines.append(pixel * 640 + grey * (WIDTH - 640))
        else:
            lines.append(grey * WIDTH)
    return Screenshot(b"".join(lines))


def test_the_guest_is_seen_where_all_its_colours_are() -> None:
    assert screen().shows_guest()
    assert screen(noise=30).shows_guest()  # a lossy codec
    assert not screen(rows=0).shows_guest()
    assert not screen(colours=3).shows_guest()
    assert not screen(rows=80).shows_guest()  # not the whole of it
    assert not screen(noise=100).shows_guest()


def test_a_picture_that_moves_is_told_from_one_that_stands_still() -> None:
    earlier = screen(frame=5)
    assert screen(frame=9).moved_since(earlier)
    assert not screen(frame=5).moved_since(earlier)
    assert not screen(frame=5, noise=10).moved_since(earlier)
    assert not screen(rows=0).moved_since(earlier)  # gone is not moved


def test_the_png_has_the_pixels_of_the_screen(tmp_path: Path) -> None:
    screen().write_png(tmp_path / "shot.png")
    data = (tmp_path / "shot.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, offset = {}, 8
    while offset < len(data):
        size, kind = struct.unpack_from(">I4s", data, offset)
        body = data[offset + 8 : offset + 8 + size]
        (checksum,) = struct.unpack_from(">I", data, offset + 8 + size)
        assert checksum == zlib.crc32(kind + body)
        chunks[kind] = body
        offset += 12 + size
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">II5B", chunks[b"IHDR"]) == (WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    pixels = zlib.decompress(chunks[b"IDAT"])
    assert len(pixels) == HEIGHT * (1 + WIDTH * 3)
    assert pixels[:4] == bytes((0, *COLOURS[0]))
    assert pixels[1 + 640 * 3 : 4 + 640 * 3] == bytes((40, 40, 40))


def test_each_client_is_told_where_to_connect() -> None:
    address = Address("127.0.0.1", 5901)
    assert client_command(ClientKind.SPICY, address) == ["spicy", "-h", "127.0.0.1", "-p", "5901"]
    assert client_command(ClientKind.REMOTE_VIEWER, address) == ["remote-viewer", "spice://127.0.0.1:5901"]
    file = Path("/run/lab/lab.vv")
    assert client_command(ClientKind.REMOTE_VIEWER, address, vv=file) == ["remote-viewer", "/run/lab/lab.vv"]


def display_exists(display: Display) -> bool:
    return Path(f"/tmp/.X11-unix/X{display.number}").exists()


@pytest.mark.lab
async def test_two_displays_get_different_numbers_and_an_empty_one_shows_no_guest(tmp_path: Path) -> None:
    require_programs("Xvfb", "import")
    with single_error(), trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            first = await start_display(nursery, tmp_path)
            second = await start_display(nursery, tmp_path)
            assert first.number != second.number
            shot = await first.screenshot()
            assert not shot.shows_guest()
            assert display_exists(first)
            nursery.cancel_scope.cancel()
    assert not display_exists(first)
