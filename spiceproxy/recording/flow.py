"""IP and TCP headers of one direction of a recorded connection. Sans-I/O."""

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

MAX_SEGMENT_BYTES: Final = 65535 - 20 - 20
"""The 16-bit total length of IPv4 less both headers; IPv6 does not count its own header, so it fits there too."""

_WINDOW_SHIFT: Final = 14  # the most that RFC 7323 allows
_WINDOW: Final = 0xFFFF  # times 2**14: 1 GiB, 2000 times ACK_EVERY_BYTES

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

# Maximum segment size; no-operation; window scale: 8 bytes.
SYN_OPTIONS: Final = struct.pack(">BBHBBBB", 2, 4, MAX_SEGMENT_BYTES, 1, 3, 3, _WINDOW_SHIFT)

# IPv4: version .. class | total length | id 0, don't fragment, TTL 64, TCP | checksum | addresses and ports
_TCP_OVER_IPV4: Final = struct.Struct(">2sH6sH12sIIHHHH")
_IPV4_START, _IPV4_MIDDLE = b"\x45\x00", b"\x00\x00\x40\x00\x40\x06"
# IPv6: version, class, label | payload length | TCP, hop limit 64 | addresses and ports
_TCP_OVER_IPV6: Final = struct.Struct(">4sH2s36sIIHHHH")
_IPV6_START, _IPV6_MIDDLE = b"\x60\x00\x00\x00", b"\x06\x40"
# Both go on with: sequence, acknowledgement | data offset and flags | window | checksum | urgent pointer

_PROTOCOL_TCP: Final = 6
_SUM_STEP_BYTES: Final = (
    4096  # measured: 64 KiB in steps of 4 or 8 KiB take half the time of one huge division
)


def word_sum(data: bytes | bytearray | memoryview) -> int:
    """A number that is congruent modulo 65535 to the sum of the big-endian 16-bit words of `data`.

    A last odd byte counts as the upper half of a word, as RFC 1071 wants it.
    """
    # 2**16 is 1 modulo 65535, so an integer of any length is congruent to the sum of its words. Python reads
    # little-endian integers a third quicker; the words then come out swapped, and 256 times as much swaps them back.
    size = len(data)
    if size <= _SUM_STEP_BYTES:
        return int.from_bytes(data, "little") % 65535 << 8
    read, step = int.from_bytes, _SUM_STEP_BYTES
    return sum([read(data[at : at + step], "little") for at in range(0, size, step)]) % 65535 << 8


def payload_bytes(packet: bytes | bytearray) -> int:
    """How many bytes follow the headers of a packet that a conversation made; 0 for an empty one."""
    if not packet:
        return 0
    ip_bytes = 20 if packet[0] >> 4 == 4 else 40
    return len(packet) - ip_bytes - 4 * (packet[ip_bytes + 12] >> 4)


def _address(host: str) -> IPv4Address | IPv6Address:
    address = ip_address(host.partition("%")[0])  # no zone: it means something on one host only
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped  # so a dual-stack socket names an IPv4 peer
    return address


def pack_addresses(client: str, server: str) -> tuple[bytes, bytes]:
    """Both addresses as packets have them; if one end is IPv4 and the other IPv6, both as IPv6."""
    pair = _address(client), _address(server)
    if pair[0].version == pair[1].version:
        return pair[0].packed, pair[1].packed
    # One end speaks IPv4 to the proxy and the other IPv6: a packet has room for one family only.
    mapped = [b"\0" * 10 + b"\xff\xff" + end.packed if end.version == 4 else end.packed for end in pair]
    return mapped[0], mapped[1]


class Flow:
    """One direction: what its sender has said so far."""

    __slots__ = (
        "addresses_and_ports",
        "closed",
        "held",
        "held_comment",
        "held_time_ns",
        "ip_sum",
        "is_ipv6",
        "midway",
        "next_seq",
        "stale",
        "tcp_sum",
        "unacknowledged",
    )

    def __init__(self, source: bytes, destination: bytes, ports: bytes, *, isn: int) -> None:
        addresses = source + destination
        self.is_ipv6 = len(source) == 16
        self.addresses_and_ports = addresses + ports
        self.ip_sum = word_sum(_IPV4_START + _IPV4_MIDDLE + addresses)
        self.tcp_sum = word_sum(addresses + ports) + _PROTOCOL_TCP + _WINDOW
        self.next_seq = isn & 0xFFFFFFFF  # of the byte this side sends next
        self.unacknowledged = 0  # bytes this side sent and the other did not acknowledge yet
        self.held = bytearray()  # part of a unit whose end has not passed yet
        self.held_comment: str | None = None
        self.held_time_ns = 0  # when the last of them passed
        self.stale = False  # they were here at the last release_stale() already
        self.closed = False  # by FIN or RST
        self.midway = False  # the last segment did not end a unit

    def header(self, flags: int, acknowledge: int, payload: bytes | bytearray | memoryview) -> bytes:
        """IP and TCP header for a segment at `next_seq`. What follows the header of a SYN is its TCP options."""
        size = 20 + len(payload)
        flags |= 0x7000 if flags & SYN else 0x5000  # data offset in 32-bit words
        total = self.tcp_sum + size + self.next_seq + acknowledge + flags + word_sum(payload)
        if self.is_ipv6:
            return _TCP_OVER_IPV6.pack(
                _IPV6_START,
                size,
                _IPV6_MIDDLE,
                self.addresses_and_ports,
                self.next_seq,
                acknowledge,
                flags,
                _WINDOW,
                -total % 65535,
                0,
            )
        size += 20
        return _TCP_OVER_IPV4.pack(
            _IPV4_START,
            size,
            _IPV4_MIDDLE,
            -(self.ip_sum + size) % 65535,
            self.addresses_and_ports,
            self.next_seq,
            acknowledge,
            flags,
            _WINDOW,
            -total % 65535,
            0,
        )
