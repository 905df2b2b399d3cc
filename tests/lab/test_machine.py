"""The boot sector that carries out scripts."""

import struct
import subprocess
from pathlib import Path

import pytest

from spiceproxy.lab.machine import LOAD_ADDRESS, MAX_BASES, PROGRAM, Label, Script, disk_image
from tests.programs import require_programs

_FIRST_32_BIT = "protected"


@pytest.mark.lab
def test_the_bytes_are_what_the_assembly_beside_them_says(tmp_path: Path) -> None:
    require_programs("nasm")
    lines = ["bits 16", "org 0x7c00"]
    for line in PROGRAM:
        if line.label == _FIRST_32_BIT:
            lines.append("bits 32")
        lines.append(f"{line.label}: {line.assembly}" if line.label else line.assembly)
    source = tmp_path / "machine.asm"
    source.write_text("\n".join(lines) + "\n")
    subprocess.run(["nasm", "-f", "bin", "-o", tmp_path / "machine.bin", source], check=True, timeout=30)
    assert (tmp_path / "machine.bin").read_bytes() == b"".join(bytes.fromhex(line.code) for line in PROGRAM)


def test_a_bios_takes_the_first_sector_for_a_boot_sector() -> None:
    image = disk_image(Script())
    assert image[510:512] == b"\x55\xaa"
    assert len(image) == 1474560


def test_the_bases_end_before_the_signature_of_the_boot_sector() -> None:
    program = b"".join(bytes.fromhex(line.code) for line in PROGRAM)
    assert len(program) + 4 * (MAX_BASES - 1) <= 510
    assert PROGRAM[-1].label == "bases"


def instructions(script: Script, count: int) -> list[tuple[int, int, int, int]]:
    return list(struct.iter_unpack("<IIiI", script.build()[: 16 * count]))


def test_an_instruction_names_its_handler_by_address() -> None:
    script = Script()
    script.op("jump", value=LOAD_ADDRESS)
    ((handler, base, offset, value),) = instructions(script, 1)
    before = 0
    for line in PROGRAM:
        if line.label == "jump":
            break
        before += len(bytes.fromhex(line.code))
    assert (handler, base, offset, value) == (0x7C00 + before, 0, 0, LOAD_ADDRESS)


def test_a_jump_finds_a_label_that_comes_later() -> None:
    script, end = Script(), Label()
    script.jump_unless(0xFFFFFFFF, end)
    script.op("store32", 1, 4, 7)
    script.place(end)
    jump, store = instructions(script, 2)
    assert jump[1:] == (0, -1, LOAD_ADDRESS + 32)
    assert store[1:] == (1, 4, 7)


def test_data_travels_behind_the_instructions() -> None:
    script = Script()
    script.copy_in(2, 0x100, b"hello")
    source, copy = instructions(script, 2)
    assert source[1:] == (0, LOAD_ADDRESS + 32, 0)
    assert copy[1:] == (2, 0x100, 5)
    assert script.build()[32:] == b"hello\0\0\0"


def test_the_disk_says_how_many_pieces_are_to_be_loaded() -> None:
    script = Script()
    script.copy_in(0, 0x100000, bytes(100_000))
    image = disk_image(script)
    at = image.index(struct.pack("<HHHHQ", 16, 64, 0, 0x1000, 1)) + 16
    assert struct.unpack_from("<H", image, at) == (4,)  # of 32 KiB each
    assert image[512 : 512 + 32] == script.build()[:32]
