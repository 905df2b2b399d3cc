"""pcapng blocks: section header, interface description, enhanced packet. Sans-I/O; written, hardly read.

Source: IETF draft-ietf-opsawg-pcapng. All blocks are little-endian; `Block Total Length` stands at both ends of a
block, and every part of a block is padded to 32 bits.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

LINKTYPE_RAW: Final = 101
"""Packets begin with an IPv4 or IPv6 header; the first four bits tell which."""

MAX_COMMENT_BYTES: Final = 4096
"""Longer comments are cut. The format would allow 65535; nobody reads that in a packet list."""

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_INTERFACE_STATISTICS: Final = 5
_ENHANCED_PACKET: Final = 6

ENHANCED_PACKET_TYPE: Final = b"\6\0\0\0"
"""As the first four bytes of a block."""

_OPT_COMMENT: Final = 1
_SHB_HARDWARE, _SHB_OS, _SHB_USERAPPL = 2, 3, 4
_IF_NAME, _IF_DESCRIPTION, _IF_TSRESOL = 2, 3, 9

# Block type and total length; then interface, time stamp high and low, captured length, original length.
_PACKET_HEAD: Final = struct.Struct("<IIIIIII")
_U32: Final = struct.Struct("<I")
_TYPE_AND_LENGTH: Final = struct.Struct("<II")
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")  # by length % 4


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + _PADDING[len(value) & 3]


def _block(block_type: int, body: bytes) -> bytes:
    length = 12 + len(body)
    return _TYPE_AND_LENGTH.pack(block_type, length) + body + _U32.pack(length)


def _text(value: str, limit: int = MAX_COMMENT_BYTES) -> bytes:
    """UTF-8 of at most `limit` bytes, cut between characters; a lone surrogate becomes a question mark."""
    return value.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode()


def section_header(
    *, application: str, hardware: str = "", operating_system: str = "", comments: Iterable[str] = ()
) -> bytes:
    """The block a file begins with: who wrote it, on what; and what there is to say of all of it."""
    # Byte-order magic, version 1.0, section length unknown (-1): we are still writing it.
    fixed = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    told = [
        *((_OPT_COMMENT, comment) for comment in comments),
        (_SHB_HARDWARE, hardware),
        (_SHB_OS, operating_system),
        (_SHB_USERAPPL, application),
    ]
    options = b"".join(_option(code, _text(text)) for code, text in told if text)
    return _block(_SECTION_HEADER, fixed + options + _option(0, b""))


def interface_description(*, name: str, description: str, link_type: int = LINKTYPE_RAW) -> bytes:
    """An interface: time stamps are in nanoseconds since 1970 (UTC). Recordings have one, of raw IP."""
    fixed = struct.pack("<HHI", link_type, 0, 0)  # snap length 0: packets are never cut
    options = (
        _option(_IF_NAME, _text(name))
        + _option(_IF_DESCRIPTION, _text(description))
        + _option(_IF_TSRESOL, b"\x09")  # 10**-9 s
        + _option(0, b"")
    )
    return _block(_INTERFACE_DESCRIPTION, fixed + options)


def remark(time_ns: int, comment: str) -> bytes:
    """Something to be said at this place of the file: interface statistics that have a comment and no numbers.

    Readers that do not show comments of this block pass over it.
    """
    fixed = struct.pack("<III", 0, time_ns >> 32 & 0xFFFFFFFF, time_ns & 0xFFFFFFFF)
    return _block(_INTERFACE_STATISTICS, fixed + _option(_OPT_COMMENT, _text(comment)) + _option(0, b""))


def append_packet(
    out: bytearray,
    time_ns: int,
    header: bytes,
    payload: bytes | bytearray | memoryview,
    comment: str | None = None,
    *,
    interface: int = 0,
    uncaptured: int = 0,
) -> None:
    """Append one enhanced packet block to `out`.

    Args:
        out: Grows by the block.
        time_ns: Nanoseconds since 1970 (UTC), 0 or more.
        header: IP and TCP header.
        payload: What follows them. Copied.
        comment: Shown by Wireshark with the packet; cut at MAX_COMMENT_BYTES.
        interface: Number of its description in the file.
        uncaptured: Bytes that the packet had on the wire and has not here.
    """
    size = len(header) + len(payload)
    padding = _PADDING[size & 3]
    if comment is None:
        length = 32 + size + len(padding)
        options = b""
    else:
        options = _option(_OPT_COMMENT, _text(comment)) + b"\0\0\0\0"
        length = 32 + size + len(padding) + len(options)
    out += _PACKET_HEAD.pack(
        _ENHANCED_PACKET,
        length,
        interface,
        time_ns >> 32 & 0xFFFFFFFF,
        time_ns & 0xFFFFFFFF,
        size,
        size + uncaptured,
    )
    out += header
    out += payload
    out += padding + options + _U32.pack(length)


def blocks(data: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """Walk the whole blocks at the head of what this module wrote: (offset, total length) of each."""
    offset = 0
    while len(data) - offset >= 12:
        length = _TYPE_AND_LENGTH.unpack_from(data, offset)[1]
        if length > len(data) - offset:
            return
        yield offset, length
        offset += length


def packet_at(data: bytes | bytearray, offset: int) -> bytes | bytearray:
    """The packet (IP header on) inside the enhanced packet block at `offset`; empty for any other block."""
    if _U32.unpack_from(data, offset)[0] != _ENHANCED_PACKET:
        return b""
    captured = _U32.unpack_from(data, offset + 20)[0]
    return data[offset + 28 : offset + 28 + captured]
