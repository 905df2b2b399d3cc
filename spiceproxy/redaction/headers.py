"""A packet's headers: where they are, what of them stays, and checksums that fit again.

A checksum tells something of what it was made over: of a key press all there is to know. So none stays beside a payload
that has changed. One that was right is right again; one that was wrong is wrong again; one that a network card was to
fill in holds only the addresses, and stays.
"""

import struct
from collections.abc import Container, Mapping
from typing import Final, NamedTuple

from spiceproxy.capture.headers import after_extensions
from spiceproxy.recording.flow import word_sum

_PROTOCOL_TCP: Final = 6
_NO_EXTENSION_DATA: Final = frozenset((44,))  # the fragment header has no room for data
_AUTHENTICATION: Final = 51
# TCP options that describe the connection: end, no-operation, segment size, window scale, SACK permitted, SACK,
# timestamps, with the sizes that they have. Others may hold what belongs to nobody else (signatures of a password:
# RFC 2385, RFC 5925; cookies). Source: RFC 9293, 2018, 7323.
_TCP_OPTIONS: Final[Mapping[int, Container[int]]] = {2: (4,), 3: (3,), 4: (2,), 5: (10, 18, 26, 34), 8: (10,)}
_END_OF_OPTIONS, _NO_OPERATION = 0, 1
_CHECKSUM_AT: Final = 16
_MAX_EXTENSIONS: Final = 16


class Headers(NamedTuple):
    """Offsets in a packet."""

    ip: int
    tcp: int


def find_headers(packet: bytes, ip: int) -> Headers:
    """Where IP and TCP begin in a packet that `tcp_segment` has read."""
    if packet[ip] >> 4 == 4:
        return Headers(ip, ip + ((packet[ip] & 15) << 2))
    if packet[ip + 6] == _PROTOCOL_TCP:
        return Headers(ip, ip + 40)
    tcp = after_extensions(packet, ip, len(packet))
    assert isinstance(tcp, int)  # noqa: S101  it has been read
    return Headers(ip, tcp)


def scrub_options(packet: bytearray, headers: Headers, payload_at: int) -> None:
    """Zero what options of IP and TCP hold, but for those that describe the connection."""
    ip, tcp = headers
    if packet[ip] >> 4 == 6:
        _scrub_extensions(packet, ip, tcp)
    else:
        scrub_ip_options(packet, ip)
    _scrub(packet, tcp + 20, min(payload_at, len(packet)), _TCP_OPTIONS)


def scrub_ip_options(packet: bytearray, ip: int) -> None:
    """The same for the options of IPv4, which hold routes, times and labels; the checksum of the header fits again."""
    before = bytes(packet[: ip + ((packet[ip] & 15) << 2)])
    if len(before) > ip + 20:
        _scrub(packet, ip + 20, len(before), {})
        mend_ip_checksum(before, packet, ip)


def _scrub(packet: bytearray, at: int, end: int, stay: Mapping[int, Container[int]]) -> None:
    """Zero the contents of options; kinds and lengths stay, as far as they make sense."""
    while at < end:
        kind = packet[at]
        if kind == _NO_OPERATION:
            at += 1
            continue
        size = packet[at + 1] if at + 1 < end else 0
        if kind == _END_OF_OPTIONS or size < 2 or at + size > end:
            packet[at:end] = bytes(end - at)
            return
        if size not in stay.get(kind, ()):
            packet[at + 2 : at + size] = bytes(size - 2)
        at += size


def _scrub_extensions(packet: bytearray, ip: int, tcp: int) -> None:
    """Next header and length of each stay."""
    kind, at = packet[ip + 6], ip + 40
    for _ in range(_MAX_EXTENSIONS):
        if at >= tcp:
            return
        following = packet[at]
        if kind == _AUTHENTICATION:
            size = (packet[at + 1] + 2) << 2
        else:
            size = 8 if kind in _NO_EXTENSION_DATA else (packet[at + 1] + 1) << 3
        if kind not in _NO_EXTENSION_DATA:
            packet[at + 2 : at + size] = bytes(size - 2)
        kind, at = following, at + size


def _pseudo_sum(packet: bytes | bytearray, ip: int, size: int) -> int:
    addresses = packet[ip + 12 : ip + 20] if packet[ip] >> 4 == 4 else packet[ip + 8 : ip + 40]
    return word_sum(addresses) + _PROTOCOL_TCP + size


def mend_checksum(before: bytes, after: bytearray, headers: Headers, end: int, *, uncaptured: bool) -> None:
    """Make the TCP checksum of `after` what that of `before` was: right, wrong, or not there.

    Args:
        before: The packet as it was captured.
        after: The packet as it will be written; the addresses may be others.
        headers: Of both.
        end: Where the TCP segment ends.
        uncaptured: Bytes of the segment are not there.
    """
    ip, tcp = headers
    at, size = tcp + _CHECKSUM_AT, end - tcp
    if at + 2 > len(after):
        return
    if uncaptured:
        after[at : at + 2] = b"\0\0"
        return
    told = int.from_bytes(before[at : at + 2])
    pseudo, new_pseudo = _pseudo_sum(before, ip, size), _pseudo_sum(after, ip, size)
    was_right = (pseudo + word_sum(before[tcp:end])) % 65535 == 0
    if not was_right and not told:
        return
    if not was_right and told % 65535 == pseudo % 65535:
        after[at : at + 2] = struct.pack(">H", new_pseudo % 65535)
        return
    after[at : at + 2] = b"\0\0"
    right = -(new_pseudo + word_sum(after[tcp:end])) % 65535
    after[at : at + 2] = _checksum(right, was_right=was_right)


def _checksum(right: int, *, was_right: bool) -> bytes:
    return struct.pack(">H", (right if was_right else right + 1) % 65535 or 0xFFFF)


def mend_ip_checksum(before: bytes, after: bytearray, ip: int) -> None:
    """The same for the header of IPv4, whose addresses may have changed."""
    if after[ip] >> 4 != 4:
        return
    at, tcp = ip + 10, ip + ((after[ip] & 15) << 2)
    was_right = word_sum(before[ip:tcp]) % 65535 == 0
    if not was_right and before[at : at + 2] == b"\0\0":
        return
    after[at : at + 2] = b"\0\0"
    after[at : at + 2] = _checksum(-word_sum(after[ip:tcp]) % 65535, was_right=was_right)
