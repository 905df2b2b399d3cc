"""Captures for tests, byte by byte, without any code of the reader."""

import io
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from dissectors.side import Side
from spiceproxy.capture.streams import Closed, Data, Gap, Opened, StreamEvent, Summary, stream_events

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND

LINK_MESSAGE = b"REDQ" + struct.pack("<III", 2, 2, 18) + bytes(18)
LINK_REPLY = b"REDQ" + struct.pack("<III", 2, 2, 178) + bytes(178)


def tcp(
    sport: int, dport: int, seq: int, ack: int, flags: int, data: bytes = b"", options: bytes = b""
) -> bytes:
    offset = (20 + len(options)) // 4 << 4
    head = struct.pack(">HHIIBBHHH", sport, dport, seq % 2**32, ack % 2**32, offset, flags, 8192, 0, 0)
    return head + options + data


def ipv4(
    source: str,
    destination: str,
    payload: bytes,
    *,
    options: bytes = b"",
    total: int | None = None,
    fragment: int = 0,
    protocol: int = 6,
) -> bytes:
    size = 20 + len(options)
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x40 | size // 4,
        0,
        size + len(payload) if total is None else total,
        7,
        fragment,
        64,
        protocol,
        0,
        ip_address(source).packed,
        ip_address(destination).packed,
    )
    return head + options + payload


def ipv6(
    source: str, destination: str, payload: bytes, *, following: int = 6, size: int | None = None
) -> bytes:
    size = len(payload) if size is None else size
    addresses = ip_address(source).packed + ip_address(destination).packed
    return struct.pack(">IHBB", 6 << 28, size, following, 64) + addresses + payload


def ethernet(packet: bytes, tags: Sequence[int] = ()) -> bytes:
    kind = struct.pack(">H", 0x86DD if packet[0] >> 4 == 6 else 0x0800)
    return bytes(12) + b"".join(struct.pack(">HH", tag, 5) for tag in tags) + kind + packet


@dataclass(frozen=True)
class Captured:
    """A packet of a file."""

    data: bytes
    time_ns: int = START_NS
    original: int | None = None
    comment: str | None = None
    interface: int = 0

    @property
    def wire_bytes(self) -> int:
        return len(self.data) if self.original is None else self.original


def pcap(
    packets: Iterable[Captured],
    *,
    order: str = "<",
    nano: bool = False,
    modified: bool = False,
    link: int = 101,
) -> bytes:
    magic = 0xA1B2CD34 if modified else 0xA1B23C4D if nano else 0xA1B2C3D4
    out = bytearray(struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link))
    for packet in packets:
        seconds, rest = divmod(packet.time_ns, SECOND)
        fraction = rest if nano else rest // 1000
        out += struct.pack(f"{order}IIII", seconds, fraction, len(packet.data), packet.wire_bytes)
        out += bytes(8 if modified else 0) + packet.data
    return bytes(out)


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", 12 + len(body))
    return struct.pack(f"{order}I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str = "<", *, link: int = 101, snap: int = 0, options: bytes = b"") -> bytes:
    return block(order, 1, struct.pack(f"{order}HHI", link, 0, snap) + options)


NANOSECONDS = b"\x09"


def enhanced(packet: Captured, order: str = "<", *, stamp: int | None = None) -> bytes:
    """An enhanced packet block; the stamp is in nanoseconds if none is given."""
    stamp = packet.time_ns if stamp is None else stamp
    data = packet.data + bytes(-len(packet.data) % 4)
    options = b"" if packet.comment is None else option(order, 1, packet.comment.encode()) + bytes(4)
    head = (packet.interface, stamp >> 32, stamp & 0xFFFFFFFF, len(packet.data), packet.wire_bytes)
    return block(order, 6, struct.pack(f"{order}IIIII", *head) + data + options)


def pcapng(packets: Iterable[Captured], *, order: str = "<", link: int = 101) -> bytes:
    out = section(order) + interface(order, link=link, options=option(order, 9, NANOSECONDS))
    return out + b"".join(enhanced(packet, order) for packet in packets)


@dataclass
class Talk:
    """A connection whose segments a test makes; sequence numbers are offsets in each side's stream."""

    client: tuple[str, int] = ("192.0.2.1", 40000)
    server: tuple[str, int] = ("192.0.2.2", 5900)
    client_isn: int = 1000
    server_isn: int = 7_000_000
    packets: list[Captured] = field(default_factory=list)

    def segment(
        self,
        side: Side,
        at: int,
        data: bytes = b"",
        *,
        ack: int | None = 0,
        flags: int = 0,
        comment: str | None = None,
    ) -> Captured:
        """A segment whose first byte is number `at` of what the side sends; `ack` counts in the other's bytes."""
        ends = (self.client, self.server) if side is Side.CLIENT else (self.server, self.client)
        isns = (
            (self.client_isn, self.server_isn) if side is Side.CLIENT else (self.server_isn, self.client_isn)
        )
        if ack is not None:
            flags |= ACK
        segment = tcp(
            ends[0][1],
            ends[1][1],
            isns[0] + 1 + at,
            isns[1] + 1 + (ack or 0) if ack is not None else 0,
            flags,
            data,
        )
        make = ipv6 if ":" in ends[0][0] else ipv4
        return Captured(make(ends[0][0], ends[1][0], segment), comment=comment)

    def say(self, side: Side, at: int, data: bytes = b"", *, ack: int | None = 0, flags: int = 0) -> None:
        self.packets.append(self.segment(side, at, data, ack=ack, flags=flags))

    def greet(self, comment: str | None = None) -> "Talk":
        """SYN, SYN and ACK, ACK."""
        self.packets.append(self.segment(Side.CLIENT, -1, ack=None, flags=SYN, comment=comment))
        self.say(Side.SERVER, -1, ack=0, flags=SYN)
        self.say(Side.CLIENT, 0)
        return self


def stamped(packets: Iterable[Captured]) -> list[Captured]:
    """The same packets one millisecond apart."""
    return [
        Captured(
            packet.data, START_NS + number * 1_000_000, packet.original, packet.comment, packet.interface
        )
        for number, packet in enumerate(packets)
    ]


@dataclass
class Heard:
    """What the reader gave."""

    events: list[StreamEvent]
    summary: Summary

    def of(self, connection: int, side: Side) -> bytes:
        return b"".join(
            event.data
            for event in self.events
            if isinstance(event, Data) and (event.connection, event.side) == (connection, side)
        )

    def parts(self, connection: int, side: Side) -> list[bytes | int]:
        """Bytes that follow each other joined, and the sizes of gaps."""
        parts: list[bytes | int] = []
        for event in self.events:
            if not isinstance(event, Data | Gap) or (event.connection, event.side) != (connection, side):
                continue
            if isinstance(event, Gap):
                parts.append(event.size)
            elif parts and isinstance(parts[-1], bytes):
                parts[-1] += event.data
            else:
                parts.append(event.data)
        return parts

    @property
    def opened(self) -> list[Opened]:
        return [event for event in self.events if isinstance(event, Opened)]

    @property
    def closed(self) -> list[Closed]:
        return [event for event in self.events if isinstance(event, Closed)]


def hear(file: bytes, *, ports: Sequence[int] = ()) -> Heard:
    summary = Summary()
    return Heard(list(stream_events(io.BytesIO(file), ports=ports, summary=summary)), summary)


def hear_packets(packets: Iterable[Captured], *, ports: Sequence[int] = ()) -> Heard:
    return hear(pcapng(stamped(packets)), ports=ports)
