"""From a packet to its TCP segment: link layers, IPv4 and IPv6 with what may stand before TCP.

Sources: the registry of link types at tcpdump.org; IEEE 802.1Q; RFC 791, 8200, 9293.
"""

import struct
from collections.abc import Callable
from typing import Final

Segment = tuple[bytes, int, int, int, int, int, int]
"""Addresses and ports (source address, destination address, source port, destination port as they are in the packet);
sequence number; acknowledgement number; flags; where the payload begins and ends in the buffer; bytes of it that
were sent and are not in the capture. A plain tuple, for speed."""

FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10

_TCP: Final = struct.Struct(">IIH").unpack_from  # sequence, acknowledgement, data offset and flags
_U16: Final = struct.Struct(">H").unpack_from
_IPV4, _IPV6 = 0x0800, 0x86DD
_TAGS: Final = frozenset((0x8100, 0x88A8, 0x9100))  # 802.1Q, 802.1ad, and what came before that
_MAX_TAGS: Final = 4
_PROTOCOL_TCP: Final = 6
# Extension headers by length: hop-by-hop, routing, destination, mobility, HIP, shim6 count units of 8 bytes.
_EXTENSIONS: Final = frozenset((0, 43, 60, 135, 139, 140))
_FRAGMENT, _AUTHENTICATION = 44, 51
_MAX_EXTENSIONS: Final = 16

# `af` of the loopback header for IPv6 is 10 on Linux, 24 on OpenBSD and NetBSD, 28 on FreeBSD, 30 on macOS. The IP
# header says its version itself, so any of them will do, in any byte order.
_LOOPBACK_FAMILIES: Final = frozenset(
    family.to_bytes(4, order) for family in (2, 10, 24, 28, 30) for order in ("little", "big")
)


def _ethernet(buffer: bytes, at: int, end: int) -> int:
    return _after_type(buffer, at + 12, end)


def _after_type(buffer: bytes, at: int, end: int) -> int:
    """Where the packet begins whose EtherType is at `at`; -1 if it is not IP."""
    for _ in range(_MAX_TAGS + 1):
        if end - at < 2:
            return -1
        kind = buffer[at] << 8 | buffer[at + 1]
        if kind in (_IPV4, _IPV6):
            return at + 2
        if kind not in _TAGS:
            return -1
        at += 4
    return -1


def _cooked(buffer: bytes, at: int, end: int) -> int:
    return _after_type(buffer, at + 14, end)


def _cooked_2(buffer: bytes, at: int, end: int) -> int:
    if end - at < 20:
        return -1
    kind = buffer[at] << 8 | buffer[at + 1]
    if kind in _TAGS:
        return _after_type(buffer, at + 22, end)
    return at + 20 if kind in (_IPV4, _IPV6) else -1


def _loopback(buffer: bytes, at: int, end: int) -> int:
    return at + 4 if buffer[at : min(at + 4, end)] in _LOOPBACK_FAMILIES else -1


def _raw(_buffer: bytes, at: int, _end: int) -> int:
    return at


LINKS: Final[dict[int, Callable[[bytes, int, int], int]]] = {
    0: _loopback,  # NULL: the byte order is that of the machine that captured
    1: _ethernet,
    12: _raw,  # RAW on most systems
    14: _raw,  # RAW on OpenBSD
    101: _raw,
    108: _loopback,  # LOOP: network byte order
    113: _cooked,  # Linux cooked, version 1
    228: _raw,  # IPv4 only
    229: _raw,  # IPv6 only
    276: _cooked_2,
}
"""Link types that are read. Each function gives the offset of the IP header, -1 if the packet is not IP."""


def tcp_segment(buffer: bytes, at: int, end: int, uncaptured: int) -> Segment | str | None:
    """The TCP segment in an IP packet.

    Args:
        buffer: Holds the packet.
        at: Where the IP header begins.
        end: Where the captured bytes of the packet end.
        uncaptured: Bytes of the packet that came after them.

    Returns:
        The segment; None if it is not TCP; what is wrong with it in words if it may be TCP and cannot be read.
    """
    captured = end - at
    if captured < 20:
        return "cut in the IP header" if captured > 0 else None
    first = buffer[at]
    if first >> 4 == 4:
        if buffer[at + 9] != _PROTOCOL_TCP:
            return None
        tcp = at + ((first & 15) << 2)
        total = buffer[at + 2] << 8 | buffer[at + 3]
        if _U16(buffer, at + 6)[0] & 0x3FFF:
            return "a fragment of an IPv4 packet is left out"
        # 0: the card was to cut it into packets (TSO), and its length is not known but from the capture.
        stop = at + total if total else end + max(uncaptured, 0)
        if end - tcp < 20 or first & 15 < 5:
            return "cut in the TCP header" if first & 15 >= 5 else "an impossible IPv4 header"
        # Without IP options the ports stand right behind the addresses.
        key = (
            buffer[at + 12 : at + 24] if first == 0x45 else buffer[at + 12 : at + 20] + buffer[tcp : tcp + 4]
        )
    elif first >> 4 == 6:
        if captured < 40:
            return "cut in the IPv6 header"
        size = buffer[at + 4] << 8 | buffer[at + 5]
        stop = at + 40 + size if size else end + max(uncaptured, 0)
        if buffer[at + 6] == _PROTOCOL_TCP:
            tcp = at + 40
            key = buffer[at + 8 : at + 44]
        else:
            found = after_extensions(buffer, at, end)
            if not isinstance(found, int):
                return found
            tcp = found
            key = buffer[at + 8 : at + 40] + buffer[tcp : tcp + 4]
        if end - tcp < 20:
            return "cut in the TCP header"
    else:
        return None
    seq, ack, flags = _TCP(buffer, tcp + 4)
    start = tcp + (flags >> 12 << 2)
    if flags < 0x5000 or start > stop:
        return "an impossible length in the IP or TCP header"
    if start >= end:
        return key, seq, ack, flags, end, end, stop - start
    if stop > end:
        return key, seq, ack, flags, start, end, stop - end
    return key, seq, ack, flags, start, stop, 0  # what is behind `stop` is padding of the link layer


def after_extensions(buffer: bytes, at: int, end: int) -> int | str | None:
    """Where TCP begins in an IPv6 packet with extension headers."""
    kind = buffer[at + 6]
    at += 40
    for _ in range(_MAX_EXTENSIONS):
        if kind == _PROTOCOL_TCP:
            return at
        if kind not in _EXTENSIONS and kind not in (_FRAGMENT, _AUTHENTICATION):
            return None
        if end - at < 8:
            return "cut in an IPv6 extension header"
        following = buffer[at]
        if kind == _FRAGMENT:
            # Offset 0 and no more to come: a whole packet all the same (RFC 6946).
            if _U16(buffer, at + 2)[0] & 0xFFF9:
                return "a fragment of an IPv6 packet is left out" if following == _PROTOCOL_TCP else None
            at += 8
        elif kind == _AUTHENTICATION:
            at += (buffer[at + 1] + 2) << 2
        else:
            at += (buffer[at + 1] + 1) << 3
        kind = following
    return "too many IPv6 extension headers"
