"""One TCP connection as packets: what was relayed gets IP and TCP headers in front. Sans-I/O.

Nothing here was ever on a network. The packets are made so that a dissector follows them without a complaint:

- One unit (message, link block, ticket, link result) per segment, because tshark 4.0 loses its way in some streams
  otherwise. A unit above MAX_SEGMENT_BYTES is split. PSH stands on the segment a unit ends in, and only there.
  What follows a MIGRATE_DATA on the same side tshark names only with `-o tcp.desegment_tcp_streams:FALSE`.
- Every segment acknowledges all that went the other way before it, and a side that only listens acknowledges now and
  then, so that no window ever looks full.
- Checksums are right. They are sums of 16-bit words modulo 65535 (RFC 1071), so whatever stays the same for all
  packets of a direction is summed once.
"""

import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Protocol

from dissectors.side import Side

MAX_SEGMENT_BYTES: Final = 65535 - 20 - 20
"""The 16-bit total length of IPv4 less both headers; IPv6 does not count its own header, so it fits there too."""

ACK_EVERY_BYTES: Final = 512 * 1024
"""What goes one way before a side that only listens acknowledges it: one bare packet in nine of a bulk transfer."""

_WINDOW_SHIFT: Final = 14  # the most that RFC 7323 allows
_WINDOW: Final = 0xFFFF  # times 2**14: 1 GiB, 2000 times ACK_EVERY_BYTES

_FIN, _SYN, _RST, _PSH, _ACK = 0x01, 0x02, 0x04, 0x08, 0x10

# Maximum segment size; no-operation; window scale: 8 bytes.
_SYN_OPTIONS: Final = struct.pack(">BBHBBBB", 2, 4, MAX_SEGMENT_BYTES, 1, 3, 3, _WINDOW_SHIFT)

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


MAX_NOTES: Final = 100
"""What may be noted before the next packet."""


class PacketSink(Protocol):
    """Where a conversation's packets go."""

    @property
    def ended(self) -> bool:
        """Whether packets are thrown away by now: then it is not worth making any."""

    def lose(self, size: int) -> None:
        """Count `size` bytes that will be in no packet."""

    def packet(
        self, time_ns: int, header: bytes, payload: bytes | bytearray | memoryview, comment: str | None
    ) -> None:
        """Take one packet: `header` (IP and TCP) and `payload`, whose bytes are lent for the call only."""


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


def _pack_addresses(client: str, server: str) -> tuple[bytes, bytes]:
    pair = _address(client), _address(server)
    if pair[0].version == pair[1].version:
        return pair[0].packed, pair[1].packed
    # One end speaks IPv4 to the proxy and the other IPv6: a packet has room for one family only.
    mapped = [b"\0" * 10 + b"\xff\xff" + end.packed if end.version == 4 else end.packed for end in pair]
    return mapped[0], mapped[1]


class _Flow:
    """One direction: what its sender has said so far."""

    __slots__ = (
        "addresses_and_ports",
        "closed",
        "held",
        "held_comment",
        "held_time_ns",
        "ip_sum",
        "is_ipv6",
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

    def header(self, flags: int, acknowledge: int, payload: bytes | bytearray | memoryview) -> bytes:
        """IP and TCP header for a segment at `next_seq`. What follows the header of a SYN is its TCP options."""
        size = 20 + len(payload)
        flags |= 0x7000 if flags & _SYN else 0x5000  # data offset in 32-bit words
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


class _Annotated:
    """A sink that gives the next packet what has been noted."""

    def __init__(self, sink: PacketSink, notes: list[str]) -> None:
        self._sink, self._notes = sink, notes

    @property
    def ended(self) -> bool:
        return self._sink.ended

    def lose(self, size: int) -> None:
        self._sink.lose(size)

    def packet(
        self, time_ns: int, header: bytes, payload: bytes | bytearray | memoryview, comment: str | None
    ) -> None:
        if self._notes:
            comment = "\n".join([*self._notes, *([comment] if comment is not None else [])])
            self._notes.clear()
        self._sink.packet(time_ns, header, payload, comment)


class Conversation:
    """A recorded connection between a client and a server.

    Holds at most MAX_SEGMENT_BYTES a side: the head of a unit whose end has not passed.

    Args:
        sink: Takes the packets.
        client: Address and port of the client.
        server: Address and port of the server. If one end is IPv4 and the other IPv6, both are written as IPv6.
        client_isn: Sequence number of the client's SYN.
        server_isn: The same for the server.

    Raises:
        ValueError: An address is not an IP address or a port is out of range.
    """

    def __init__(
        self,
        sink: PacketSink,
        client: tuple[str, int],
        server: tuple[str, int],
        *,
        client_isn: int,
        server_isn: int,
    ) -> None:
        if not (0 <= client[1] <= 65535 and 0 <= server[1] <= 65535):
            raise ValueError(f"port out of range: {client[1]}, {server[1]}")
        self._notes: list[str] = []  # for the next packet
        self._sink = _Annotated(sink, self._notes)
        source, destination = _pack_addresses(client[0], server[0])
        ports, back = struct.pack(">HH", client[1], server[1]), struct.pack(">HH", server[1], client[1])
        self._flows = {
            Side.CLIENT: _Flow(source, destination, ports, isn=client_isn),
            Side.SERVER: _Flow(destination, source, back, isn=server_isn),
        }

    @property
    def ends(self) -> frozenset[bytes]:
        """Both addresses with their ports: what tells one conversation from another to whoever reads the file."""
        addresses_and_ports = self._flows[Side.CLIENT].addresses_and_ports
        addresses, ports = addresses_and_ports[:-4], addresses_and_ports[-4:]
        half = len(addresses) // 2
        return frozenset((addresses[:half] + ports[:2], addresses[half:] + ports[2:]))

    @property
    def closed(self) -> bool:
        """Both sides have closed."""
        return all(flow.closed for flow in self._flows.values())

    def open(self, time_ns: int, comment: str | None = None) -> None:
        """Write the handshake: SYN (with the comment), SYN and ACK, ACK."""
        client, server = self._pair(Side.CLIENT)
        self._sink.packet(time_ns, client.header(_SYN, 0, _SYN_OPTIONS) + _SYN_OPTIONS, b"", comment)
        client.next_seq = (client.next_seq + 1) & 0xFFFFFFFF
        answer = server.header(_SYN | _ACK, client.next_seq, _SYN_OPTIONS) + _SYN_OPTIONS
        self._sink.packet(time_ns, answer, b"", None)
        server.next_seq = (server.next_seq + 1) & 0xFFFFFFFF
        self._sink.packet(time_ns, client.header(_ACK, server.next_seq, b""), b"", None)

    def data(
        self,
        side: Side,
        time_ns: int,
        data: bytes | bytearray | memoryview,
        *,
        ends: Sequence[int],
        comment: str | None = None,
    ) -> None:
        """Record what `side` sent. Secrets are the caller's to blank out before.

        Args:
            side: The sender.
            time_ns: When it passed, nanoseconds since 1970 (UTC).
            data: Bytes as they passed. Copied; the caller may reuse the buffer.
            ends: Offsets in `data`, rising, at which a unit ends; 0 ends one that came whole before. Bytes after
                the last belong to a unit that goes on in a later call.
            comment: For every packet that carries bytes of this call.

        Raises:
            ValueError: `ends` falls or points outside `data`.
        """
        if self._sink.ended:
            self._sink.lose(len(data))
            return
        flow, peer = self._pair(side)
        view = memoryview(data)
        start = 0
        for end in ends:
            if not start <= end <= len(view):
                raise ValueError(f"unit end {end} after {start} in {len(view)} bytes")
            if flow.held or end - start > MAX_SEGMENT_BYTES:
                self._hold(flow, peer, time_ns, view[start:end], comment)
                self._release(flow, peer, time_ns, _PSH | _ACK)
            elif end > start:
                self._send(flow, peer, time_ns, _PSH | _ACK, view[start:end], comment)
            start = end
        if start < len(view):
            self._hold(flow, peer, time_ns, view[start:], comment)

    def close(self, side: Side | None, time_ns: int, *, reset: bool = False) -> None:
        """Record that `side` closed its direction: FIN, and the other side's ACK. What it held goes out first.

        Args:
            side: Who closed; None for both, in one go.
            time_ns: When, nanoseconds since 1970 (UTC).
            reset: RST from `side` (None: the client) instead, which ends both directions.
        """
        for each in Side if side is None or reset else (side,):
            self._release(self._flows[each], self._flows[each.other], time_ns, _ACK)
        if reset and not self.closed:
            flow, peer = self._pair(side or Side.CLIENT)
            self._sink.packet(time_ns, flow.header(_RST | _ACK, peer.next_seq, b""), b"", None)
            flow.closed = peer.closed = True
        for each in Side if side is None else (side,):
            flow, peer = self._pair(each)
            if not flow.closed:
                flow.closed = True
                self._sink.packet(time_ns, flow.header(_FIN | _ACK, peer.next_seq, b""), b"", None)
                flow.next_seq = (flow.next_seq + 1) & 0xFFFFFFFF
                peer.unacknowledged = 0
                self._acknowledge(flow, peer, time_ns)

    def note(self, comment: str) -> None:
        """Say something with the next packet, whoever sends it: about what no byte shows.

        A packet of its own would be an acknowledgement that says nothing new, at which readers wonder.
        """
        if len(self._notes) < MAX_NOTES:
            self._notes.append(comment)

    def release_stale(self) -> None:
        """Write what was held at the last call already, though its unit has not ended.

        A recorder calls this now and then, so that a message which stops half way is in the file all the same.
        """
        for side in Side:
            flow, peer = self._pair(side)
            if flow.stale:
                self._release(flow, peer, flow.held_time_ns, _ACK)
            flow.stale = bool(flow.held)

    def _pair(self, side: Side) -> tuple[_Flow, _Flow]:
        return self._flows[side], self._flows[side.other]

    def _hold(self, flow: _Flow, peer: _Flow, time_ns: int, piece: memoryview, comment: str | None) -> None:
        """Keep `piece` as the head of a unit; what is more than one segment is sent. At least a byte stays."""
        carried = comment
        if flow.held:
            if flow.held_comment is not None and flow.held_comment != comment:
                carried = flow.held_comment if comment is None else f"{flow.held_comment}\n{comment}"
            room = MAX_SEGMENT_BYTES - len(flow.held)
            flow.held += piece[:room]
            piece = piece[room:]
            if piece:
                self._send(flow, peer, time_ns, _ACK, flow.held, carried)
                flow.held.clear()
                carried = comment
        while len(piece) > MAX_SEGMENT_BYTES:
            self._send(flow, peer, time_ns, _ACK, piece[:MAX_SEGMENT_BYTES], comment)
            piece = piece[MAX_SEGMENT_BYTES:]
        flow.held += piece
        flow.held_comment, flow.held_time_ns = carried, time_ns

    def _release(self, flow: _Flow, peer: _Flow, time_ns: int, flags: int) -> None:
        """Send what is held."""
        if flow.held:
            self._send(flow, peer, time_ns, flags, flow.held, flow.held_comment)
            flow.held.clear()
        flow.held_comment, flow.stale = None, False

    def _send(
        self,
        flow: _Flow,
        peer: _Flow,
        time_ns: int,
        flags: int,
        payload: bytearray | memoryview,
        comment: str | None,
    ) -> None:
        size = len(payload)
        self._sink.packet(time_ns, flow.header(flags, peer.next_seq, payload), payload, comment)
        flow.next_seq = (flow.next_seq + size) & 0xFFFFFFFF
        peer.unacknowledged = 0
        flow.unacknowledged += size
        if flow.unacknowledged >= ACK_EVERY_BYTES:
            self._acknowledge(flow, peer, time_ns)

    def _acknowledge(self, flow: _Flow, peer: _Flow, time_ns: int) -> None:
        """Have `peer` acknowledge all of `flow`."""
        flow.unacknowledged = 0
        self._sink.packet(time_ns, peer.header(_ACK, flow.next_seq, b""), b"", None)
