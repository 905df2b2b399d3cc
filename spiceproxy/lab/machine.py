"""The guest as a machine for scripts: a boot sector that carries out what Python has written down.

The sector loads the disk behind it to 0x10000, goes to 32-bit protected mode with a flat address space, and interprets a
script of fixed-size instructions there: stores, port writes, PCI base addresses, sleeps, jumps, commands for the rings of
a QXL adapter. So a guest that drives devices as an operating system does needs 400 bytes of machine code, once, and its
behaviour is Python: `Script` puts it together.
"""

import struct
from typing import Final

from spiceproxy.lab.guest import SECTOR_BYTES, Line

# Loaded by the BIOS at 0x7c00. The tests assemble the third column and compare.
PROGRAM: Final = (
    Line("start", "ea 05 7c 00 00", "jmp 0:main"),  # some BIOSes come with cs=0x7c0: make it 0
    Line("main", "31 c0", "xor ax, ax"),
    Line("", "8e d8", "mov ds, ax"),
    Line("", "8e d0", "mov ss, ax"),
    Line("", "bc 00 7c", "mov sp, 0x7c00"),
    Line(
        "read", "be 83 7d", "mov si, packet"
    ),  # BIOS disk: extended read, dl is still the drive we came from
    Line("", "b4 42", "mov ah, 0x42"),
    Line("", "cd 13", "int 0x13"),
    Line("", "72 f7", "jc read"),
    Line(
        "", "81 06 89 7d 00 08", "add word [packet + 6], 0x0800"
    ),  # 64 sectors further in memory and on the disk
    Line("", "83 06 8b 7d 40", "add word [packet + 8], 64"),
    Line("", "ff 0e 93 7d", "dec word [chunks]"),
    Line("", "75 e6", "jnz read"),
    Line("", "fa", "cli"),
    Line("", "0f 01 16 6f 7d", "lgdt [gdt_pointer]"),
    Line("", "0f 20 c0", "mov eax, cr0"),
    Line("", "40", "inc ax"),  # cr0.PE: protected mode
    Line("", "0f 22 c0", "mov cr0, eax"),
    Line("", "ea 3a 7c 08 00", "jmp 8:protected"),
    # from here on 32-bit code
    Line("protected", "b0 10", "mov al, 16"),
    Line("", "8e d8", "mov ds, eax"),
    Line("", "8e c0", "mov es, eax"),
    Line("", "8e d0", "mov ss, eax"),
    Line(
        "", "c7 05 40 05 00 00 4a 7d 08 00", "mov dword [0x540], 0x80000 + tick"
    ),  # interrupt 8 is the timer, the only one that is let through
    Line("", "c7 05 44 05 00 00 00 8e 00 00", "mov dword [0x544], 0x8e00"),
    Line("", "0f 01 1d 75 7d 00 00", "lidt [idt_pointer]"),
    Line("", "b0 fe", "mov al, 0xfe"),
    Line("", "e6 21", "out 0x21, al"),  # interrupt controllers: mask of what is kept out
    Line("", "b0 ff", "mov al, 0xff"),
    Line("", "e6 a1", "out 0xa1, al"),
    Line("", "bd 00 00 01 00", "mov ebp, 0x10000"),  # ebp: the next instruction of the script
    Line("next", "8b 5d 04", "mov ebx, [ebp + 4]"),  # ebx = base + offset, edx = value
    Line("", "8b 1c 9d 95 7d 00 00", "mov ebx, [bases + ebx * 4]"),
    Line("", "03 5d 08", "add ebx, [ebp + 8]"),
    Line("", "8b 55 0c", "mov edx, [ebp + 12]"),
    Line("", "8b 45 00", "mov eax, [ebp]"),
    Line("", "83 c5 10", "add ebp, 16"),
    Line("", "ff e0", "jmp eax"),
    Line("store32", "89 13", "mov [ebx], edx"),
    Line("", "eb e4", "jmp next"),
    Line("store16", "66 89 13", "mov [ebx], dx"),
    Line("", "eb df", "jmp next"),
    Line("store", "89 3b", "mov [ebx], edi"),  # edi: the accumulator
    Line("", "eb db", "jmp next"),
    Line("load32", "8b 3b", "mov edi, [ebx]"),
    Line("", "eb d7", "jmp next"),
    Line("load16", "0f b7 3b", "movzx edi, word [ebx]"),
    Line("", "eb d2", "jmp next"),
    Line("sub16", "66 2b 3b", "sub di, [ebx]"),
    Line("", "eb cd", "jmp next"),
    Line("add16", "66 01 13", "add [ebx], dx"),
    Line("", "eb c8", "jmp next"),
    Line("address", "89 df", "mov edi, ebx"),
    Line("", "eb c4", "jmp next"),
    Line("out8", "87 d3", "xchg edx, ebx"),
    Line("", "89 d8", "mov eax, ebx"),
    Line("", "ee", "out dx, al"),
    Line("", "eb bd", "jmp next"),
    Line("out16", "87 d3", "xchg edx, ebx"),
    Line("", "89 d8", "mov eax, ebx"),
    Line("", "66 ef", "out dx, ax"),
    Line("", "eb b5", "jmp next"),
    Line("out32", "87 d3", "xchg edx, ebx"),
    Line("", "89 d8", "mov eax, ebx"),
    Line("", "ef", "out dx, eax"),
    Line("", "eb ae", "jmp next"),
    Line("pci", "89 d8", "mov eax, ebx"),  # bases[value] = a base address register
    Line("", "52", "push edx"),
    Line("", "ba f8 0c 00 00", "mov edx, 0xcf8"),
    Line("", "ef", "out dx, eax"),
    Line("", "b2 fc", "mov dl, 0xfc"),
    Line("", "ed", "in eax, dx"),
    Line("", "5a", "pop edx"),
    Line("", "24 f0", "and al, 0xf0"),
    Line("", "89 04 95 95 7d 00 00", "mov [bases + edx * 4], eax"),
    Line("", "eb 96", "jmp next"),
    Line("addbase", "01 3c 95 95 7d 00 00", "add [bases + edx * 4], edi"),
    Line("", "eb 8d", "jmp next"),
    Line("source", "89 de", "mov esi, ebx"),  # esi: where `copy` copies from
    Line("", "eb 89", "jmp next"),
    Line("copy", "89 d1", "mov ecx, edx"),
    Line("", "87 fb", "xchg edi, ebx"),
    Line("", "f3 a4", "rep movsb"),
    Line("", "89 df", "mov edi, ebx"),
    Line("", "e9 7c ff ff ff", "jmp next"),
    Line("sleep", "fb", "sti"),  # until `value` ticks have passed since the last sleep
    Line("", "f4", "hlt"),
    Line("", "a1 7b 7d 00 00", "mov eax, [ticks]"),
    Line("", "2b 05 7f 7d 00 00", "sub eax, [last]"),
    Line("", "39 d0", "cmp eax, edx"),
    Line("", "72 ef", "jb sleep"),
    Line("", "01 05 7f 7d 00 00", "add [last], eax"),
    Line("", "e9 60 ff ff ff", "jmp next"),
    Line("jump", "89 d5", "mov ebp, edx"),
    Line("", "e9 59 ff ff ff", "jmp next"),
    Line("jne", "39 df", "cmp edi, ebx"),
    Line("", "75 f5", "jne jump"),
    Line("", "e9 50 ff ff ff", "jmp next"),
    Line("full", "fb", "sti"),  # the server has not taken the oldest command of the ring yet
    Line("", "f4", "hlt"),
    Line(
        "push", "8b 43 04", "mov eax, [ebx + 4]"
    ),  # ring: size, producer, ..., consumer, ..., commands of 16 bytes
    Line("", "89 c1", "mov ecx, eax"),
    Line("", "2b 43 0c", "sub eax, [ebx + 12]"),
    Line("", "3b 03", "cmp eax, [ebx]"),
    Line("", "73 f2", "jae full"),
    Line("", "83 e1 1f", "and ecx, 31"),
    Line("", "c1 e1 04", "shl ecx, 4"),
    Line("", "8d 4c 0b 14", "lea ecx, [ebx + ecx + 20]"),
    Line("", "89 d0", "mov eax, edx"),
    Line("", "24 f8", "and al, 0xf8"),  # value: address of the command, its type in the lowest bits
    Line("", "89 01", "mov [ecx], eax"),
    Line("", "83 61 04 00", "and dword [ecx + 4], 0"),
    Line("", "83 e2 07", "and edx, 7"),
    Line("", "89 51 08", "mov [ecx + 8], edx"),
    Line("", "ff 43 04", "inc dword [ebx + 4]"),
    Line("", "e9 20 ff ff ff", "jmp next"),
    Line(
        "tick", "b0 20", "mov al, 0x20"
    ),  # comes in `hlt` only, so no register and no flag matters: end of interrupt
    Line("", "e6 20", "out 0x20, al"),
    Line("", "ff 05 7b 7d 00 00", "inc dword [ticks]"),
    Line(
        "", "c2 08 00", "ret 8"
    ),  # in the place of iret, which KVM cannot emulate; interrupts stay off until the next sti
    Line("gdt", "00 00 00 00 00 00 00 00", "dw 0, 0, 0, 0"),  # flat segments of 4 GiB: none, code, data
    Line("", "ff ff 00 00 00 9a cf 00", "dw 0xffff, 0, 0x9a00, 0xcf"),
    Line("", "ff ff 00 00 00 92 cf 00", "dw 0xffff, 0, 0x9200, 0xcf"),
    Line("gdt_pointer", "17 00", "dw 23"),
    Line("", "57 7d 00 00", "dd gdt"),
    Line("idt_pointer", "47 00", "dw 71"),
    Line("", "00 05 00 00", "dd 0x500"),
    Line("ticks", "00 00 00 00", "dd 0"),
    Line("last", "00 00 00 00", "dd 0"),
    Line(
        "packet", "10 00 40 00 00 00 00 10", "dw 16, 64, 0, 0x1000"
    ),  # 64 sectors to 0x1000:0, from sector 1
    Line("", "01 00 00 00 00 00 00 00", "dq 1"),
    Line("chunks", "01 00", "dw 1"),  # set by disk_image()
    Line("bases", "00 00 00 00", "dd 0"),
)

LOAD_ADDRESS: Final = 0x10000  # of the first byte behind the boot sector: the script
_ORIGIN: Final = 0x7C00
_CHUNK_BYTES: Final = 64 * SECTOR_BYTES
# SeaBIOS keeps its own data at the end of the first 640 KiB.
_MAX_BYTES: Final = 0x90000 - LOAD_ADDRESS
# SeaBIOS takes the geometry of a disk from its size, and refuses one without a cylinder.
_MIN_IMAGE_BYTES: Final = 1_474_560
MAX_BASES: Final = 24

_INSTRUCTION: Final = struct.Struct("<IIiI")  # handler, index of the base, offset, value
INSTRUCTION_BYTES: Final = _INSTRUCTION.size


def _labels() -> dict[str, int]:
    labels, address = {}, _ORIGIN
    for line in PROGRAM:
        if line.label:
            labels[line.label] = address
        address += len(bytes.fromhex(line.code))
    return labels


_LABELS: Final = _labels()


class Label:
    """A place in a script to jump to, perhaps further down."""

    def __init__(self) -> None:
        self.index: int | None = None


class Script:
    """A guest's program in the making, with the data that it uses.

    An address is a base and an offset. Base 0 is absolute; `base` takes another one from a PCI device.
    """

    def __init__(self) -> None:
        self._code: list[tuple[str, int, int, int | Label | bytes]] = []
        self._bases = 1

    def op(self, name: str, base: int = 0, offset: int = 0, value: int | Label = 0) -> None:
        """Append an instruction: the label of a handler of PROGRAM, with address and value."""
        assert name in _LABELS, name  # noqa: S101 - a slip in our own guest
        self._code.append((name, base, offset, value))

    def new_base(self) -> int:
        """Return the index of a base that nobody uses."""
        assert self._bases < MAX_BASES  # noqa: S101 - a slip in our own guest
        self._bases += 1
        return self._bases - 1

    def pci_base(self, slot: int, bar: int) -> int:
        """Let the guest read base address register `bar` of the device in `slot` of bus 0; return its index."""
        base = self.new_base()
        self.op("pci", 0, _to_signed(_pci_address(slot, 0x10 + 4 * bar)), base)
        return base

    def enable_bus_master(self, slot: int) -> None:
        """Let a PCI device read and write memory; the BIOS leaves that to drivers."""
        self.op("out32", 0, 0xCF8, _pci_address(slot, 4))
        self.op("out16", 0, 0xCFC, 7)  # I/O, memory, bus master

    def place(self, label: Label) -> None:
        """Let `label` be here."""
        label.index = len(self._code)

    def copy_in(self, base: int, offset: int, data: bytes) -> None:
        """Copy `data`, which travels on the disk, to an address."""
        self._code.append(("source", 0, 0, data))
        self.op("copy", base, offset, len(data))

    def jump_unless(self, value: int, label: Label) -> None:
        """Jump if the accumulator is not `value`."""
        self.op("jne", 0, _to_signed(value), label)

    def build(self) -> bytes:
        """Return what the disk has behind the boot sector."""
        code, data = bytearray(), bytearray()
        placed: dict[bytes, int] = {}  # two adapters show the same pictures
        data_address = LOAD_ADDRESS + len(self._code) * INSTRUCTION_BYTES
        for name, base, offset, value in self._code:
            if isinstance(value, bytes):
                if value not in placed:
                    placed[value] = data_address + len(data)
                    data += value.ljust(-(-len(value) // 4) * 4, b"\0")
                offset, number = placed[value], 0  # noqa: PLW2901
            elif isinstance(value, Label):
                assert value.index is not None  # noqa: S101 - a slip in our own guest
                number = LOAD_ADDRESS + value.index * INSTRUCTION_BYTES
            else:
                number = value
            code += _INSTRUCTION.pack(_LABELS[name], base, offset, number)
        return bytes(code + data)


def _pci_address(slot: int, register: int) -> int:
    return 0x80000000 | slot << 11 | register


def _to_signed(number: int) -> int:
    return number - 2**32 if number >= 2**31 else number


def disk_image(script: Script) -> bytes:
    """Return a disk that boots the machine with a script."""
    payload = script.build()
    assert len(payload) <= _MAX_BYTES, len(payload)  # noqa: S101 - a slip in our own guest
    chunks = -(-len(payload) // _CHUNK_BYTES)
    code = b"".join(bytes.fromhex(line.code) for line in PROGRAM)
    start = _LABELS["chunks"] - _ORIGIN
    code = code[:start] + struct.pack("<H", chunks) + code[start + 2 :]
    assert len(code) + 4 * (MAX_BASES - 1) <= SECTOR_BYTES - 2  # noqa: S101 - the bases go on behind the program
    sector = code.ljust(SECTOR_BYTES - 2, b"\0") + b"\x55\xaa"
    return (sector + payload.ljust(chunks * _CHUNK_BYTES, b"\0")).ljust(_MIN_IMAGE_BYTES, b"\0")
