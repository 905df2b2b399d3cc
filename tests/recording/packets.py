"""Take apart what the recorder makes, without using any of its code."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def internet_checksum(data: bytes) -> int:
    """RFC 1071, word by word."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@dataclass(frozen=True)
class Segment:
    time_ns: int
    source: tuple[str, int]
    destination: tuple[str, int]
    seq: int
    ack: int
    flags: int
    window: int
    options: bytes
    payload: bytes
    comment: str | None

    @classmethod
    def parse(cls, time_ns: int, packet: bytes, comment: str | None) -> "Segment":
        if packet[0] >> 4 == 4:
            assert packet[0] == 0x45
            assert struct.unpack_from(">H", packet, 2)[0] == len(packet)
            assert internet_checksum(packet[:20]) == 0
            assert packet[9] == 6
            source, destination, tcp = packet[12:16], packet[16:20], packet[20:]
            pseudo = source + destination + struct.pack(">HH", 6, len(tcp))
        else:
            assert packet[0] == 0x60
            assert struct.unpack_from(">H", packet, 4)[0] == len(packet) - 40
            assert packet[6] == 6
            source, destination, tcp = packet[8:24], packet[24:40], packet[40:]
            pseudo = source + destination + struct.pack(">II", len(tcp), 6)
        assert internet_checksum(pseudo + tcp) == 0
        sport, dport, seq, ack, offset_flags, window = struct.unpack_from(">HHIIHH", tcp)
        size = (offset_flags >> 12) * 4
        return cls(
            time_ns,
            (str(ip_address(source)), sport),
            (str(ip_address(destination)), dport),
            seq,
            ack,
            offset_flags & 0xFF,
            window,
            tcp[20:size],
            tcp[size:],
            comment,
        )


@dataclass
class Sink:
    """Keeps every packet of a conversation, taken apart and with its checksums proved."""

    segments: list[Segment] = field(default_factory=list)
    lost: int = 0
    ended: bool = False

    def lose(self, size: int) -> None:
        self.lost += size

    def packet(
        self, time_ns: int, header: bytes, payload: bytes | bytearray | memoryview, comment: str | None
    ) -> None:
        self.segments.append(Segment.parse(time_ns, header + bytes(payload), comment))

    def take(self) -> list[Segment]:
        taken, self.segments = self.segments, []
        return taken


def pcapng_blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, body) of each block of a whole little-endian file; asserts what the format demands of every block."""
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0
        assert at + length <= len(data)
        assert struct.unpack_from("<I", data, at + length - 4)[0] == length
        yield kind, data[at + 8 : at + length - 4]
        at += length


def options(data: bytes) -> dict[int, bytes]:
    """The options at the end of a block's body."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        code, length = struct.unpack_from("<HH", data, at)
        if code == 0:
            assert at + 4 == len(data)
            break
        found[code] = data[at + 4 : at + 4 + length]
        padded = length + -length % 4
        assert not any(data[at + 4 + length : at + 4 + padded])
        at += 4 + padded
    return found


def recorded(data: bytes) -> list[Segment]:
    """Every packet of a recording."""
    segments = []
    for kind, body in pcapng_blocks(data):
        if kind == 6:
            interface, high, low, captured, original = struct.unpack_from("<IIIII", body)
            assert (interface, captured) == (0, original)
            end = 20 + captured
            comment = options(body[end + -captured % 4 :]).get(1)
            text = None if comment is None else comment.decode()
            segments.append(Segment.parse(high << 32 | low, body[20:end], text))
    return segments
