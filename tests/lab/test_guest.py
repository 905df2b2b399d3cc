"""The boot sector."""

import subprocess
from pathlib import Path

import pytest

from spiceproxy.lab.guest import COLOURS, PROGRAM, boot_sector, floppy_image
from tests.programs import require_programs


def test_a_bios_takes_it_for_a_boot_sector() -> None:
    sector = boot_sector()
    assert len(sector) == 512
    assert sector[510:] == b"\x55\xaa"
    assert sector.startswith(bytes.fromhex("ea057c0000"))


def test_the_image_is_a_144_floppy_with_the_sector_in_front() -> None:
    image = floppy_image()
    assert len(image) == 1474560
    assert image.startswith(boot_sector())
    assert not any(image[512:])


@pytest.mark.lab
def test_the_bytes_are_what_the_assembly_beside_them_says(tmp_path: Path) -> None:
    require_programs("nasm")
    source = tmp_path / "guest.asm"
    lines = [f"{line.label}: {line.assembly}" if line.label else line.assembly for line in PROGRAM]
    # strict: nasm would otherwise take shorter forms where one of the bytes here is deliberate
    source.write_text("\n".join(["bits 16", "org 0x7c00", *lines]) + "\n")
    subprocess.run(["nasm", "-f", "bin", "-o", tmp_path / "guest.bin", source], check=True, timeout=30)
    assembled = (tmp_path / "guest.bin").read_bytes()
    assert assembled == b"".join(bytes.fromhex(line.code) for line in PROGRAM)


def test_the_colours_to_look_for_are_those_of_the_palette() -> None:
    palette = b"".join(bytes.fromhex(line.code) for line in PROGRAM[-4:])
    # QEMU widens 6 bits to 8 by repeating the lowest bit (vga.c, c6_to_8).
    widened = [channel << 2 | (channel & 1) * 3 for channel in palette]
    assert [tuple(widened[i : i + 3]) for i in range(0, 12, 3)] == list(COLOURS)
