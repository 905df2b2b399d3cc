"""The guest: a boot sector that draws. No operating system, no disk, 97 bytes of real-mode code.

It sets VGA mode 13h (320x200, 256 colours), gives the first four colours values that no user interface has, and paints
horizontal bands of 16 rows that move up by one row with every tick of the BIOS clock (18.2 a second). So a SPICE server
has something to say on its display channel all the time, and a screenshot shows whether a client still sees the guest
(the four colours are there) and whether what it sees is alive (the bands have moved).
"""

from typing import Final, NamedTuple


class Line(NamedTuple):
    """One instruction: its bytes, and the same in assembly."""

    label: str
    code: str
    assembly: str


# Loaded by the BIOS at 0x7c00. The tests assemble the third column and compare.
PROGRAM: Final = (
    Line("start", "ea 05 7c 00 00", "jmp 0:main"),  # some BIOSes come with cs=0x7c0: make it 0
    Line("main", "31 c0", "xor ax, ax"),
    Line("", "8e d8", "mov ds, ax"),
    Line("", "8e d0", "mov ss, ax"),
    Line("", "bc 00 7c", "mov sp, 0x7c00"),  # the stack grows down from our first byte
    Line("", "fb", "sti"),
    Line("", "fc", "cld"),
    Line("", "b8 13 00", "mov ax, 0x13"),  # BIOS video: set mode 13h
    Line("", "cd 10", "int 0x10"),
    Line("", "ba c8 03", "mov dx, 0x3c8"),  # VGA palette: first index to write ...
    Line("", "30 c0", "xor al, al"),
    Line("", "ee", "out dx, al"),
    Line("", "42", "inc dx"),  # ... and 0x3c9 takes red, green, blue, red, ...
    Line("", "be 54 7c", "mov si, palette"),
    Line("", "b9 0c 00", "mov cx, 12"),
    Line("", "f3 6e", "rep outsb"),
    Line("", "b8 00 a0", "mov ax, 0xa000"),  # the frame buffer, one byte a pixel
    Line("", "8e c0", "mov es, ax"),
    Line("", "31 db", "xor bx, bx"),  # bx: frame number
    Line("frame", "31 ff", "xor di, di"),
    Line("", "31 d2", "xor dx, dx"),  # dx: row
    Line("row", "88 d0", "mov al, dl"),
    Line("", "00 d8", "add al, bl"),
    Line("", "c0 e8 04", "shr al, 4"),
    Line("", "24 03", "and al, 3"),  # colour = (row + frame) / 16 mod 4
    Line("", "88 c4", "mov ah, al"),
    Line("", "b9 a0 00", "mov cx, 160"),  # 320 pixels as 160 words
    Line("", "f3 ab", "rep stosw"),
    Line("", "42", "inc dx"),
    Line("", "81 fa c8 00", "cmp dx, 200"),
    Line("", "75 e9", "jne row"),
    Line("", "43", "inc bx"),
    Line("", "8b 36 6c 04", "mov si, [0x46c]"),  # BIOS data area: ticks since midnight, low word
    Line("tick", "f4", "hlt"),  # sleep until the next interrupt
    Line("", "3b 36 6c 04", "cmp si, [0x46c]"),
    Line("", "74 f9", "je tick"),
    Line("", "eb d7", "jmp frame"),
    Line("palette", "3f 00 15", "db 63, 0, 21"),  # 6 bits a channel
    Line("", "00 3f 2a", "db 0, 63, 42"),
    Line("", "15 15 3f", "db 21, 21, 63"),
    Line("", "3f 3f 00", "db 63, 63, 0"),
)

SECTOR_BYTES: Final = 512
_IMAGE_BYTES: Final = (
    80 * 2 * 18 * SECTOR_BYTES
)  # 1.44 MB: a floppy for QEMU, and SeaBIOS refuses disks of 1 sector

# What the palette gives on a screen of 8 bits a channel, as (red, green, blue).
COLOURS: Final = ((255, 0, 87), (0, 255, 168), (87, 87, 255), (255, 255, 0))


def boot_sector() -> bytes:
    """Return the 512 bytes: the program, zeros, and the signature by which a BIOS knows a boot sector."""
    code = b"".join(bytes.fromhex(line.code) for line in PROGRAM)
    return code.ljust(SECTOR_BYTES - 2, b"\0") + b"\x55\xaa"


def floppy_image() -> bytes:
    """Return a 1.44 MB image that boots the program, from a floppy drive or as a disk."""
    return boot_sector().ljust(_IMAGE_BYTES, b"\0")
