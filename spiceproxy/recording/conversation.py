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
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from dissectors.side import Side
from spiceproxy.recording.flow import (
    ACK,
    FIN,
    MAX_SEGMENT_BYTES,
    PSH,
    RST,
    SYN,
    SYN_OPTIONS,
    Flow,
    pack_addresses,
)

ACK_EVERY_BYTES: Final = 512 * 1024
"""What goes one way before a side that only listens acknowledges it: one bare packet in nine of a bulk transfer."""

MAX_BEGINNING_BYTES: Final = 16 * 1024
"""What is kept of a connection's beginning: link phase and MAIN_INIT have 2 KiB, with SASL some more."""

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
        self._endpoints = client, server
        self._beginning: list[tuple[Side, bytes, int]] | None = []  # and the number of its first byte
        self._linking = True
        self.comment: str | None = None
        """Of its first packet."""
        self._notes: list[str] = []  # for the next packet
        self._sink = _Annotated(sink, self._notes)
        source, destination = pack_addresses(client[0], server[0])
        ports, back = struct.pack(">HH", client[1], server[1]), struct.pack(">HH", server[1], client[1])
        self._flows = {
            Side.CLIENT: Flow(source, destination, ports, isn=client_isn),
            Side.SERVER: Flow(destination, source, back, isn=server_isn),
        }

    @property
    def ends(self) -> frozenset[bytes]:
        """Both addresses with their ports: what tells one conversation from another to whoever reads the file."""
        return frozenset((self.end_of(Side.CLIENT), self.end_of(Side.SERVER)))

    def end_of(self, side: Side) -> bytes:
        """Address and port of one side, as they stand in its packets."""
        addresses_and_ports = self._flows[side].addresses_and_ports
        return addresses_and_ports[: (len(addresses_and_ports) - 4) // 2] + addresses_and_ports[-4:-2]

    @property
    def closed(self) -> bool:
        """Both sides have closed."""
        return all(flow.closed for flow in self._flows.values())

    def open(self, time_ns: int, comment: str | None = None) -> None:
        """Write the handshake: SYN (with the comment), SYN and ACK, ACK."""
        self.comment = comment
        client, server = self._pair(Side.CLIENT)
        self._sink.packet(time_ns, client.header(SYN, 0, SYN_OPTIONS) + SYN_OPTIONS, b"", comment)
        client.next_seq = (client.next_seq + 1) & 0xFFFFFFFF
        answer = server.header(SYN | ACK, client.next_seq, SYN_OPTIONS) + SYN_OPTIONS
        self._sink.packet(time_ns, answer, b"", None)
        server.next_seq = (server.next_seq + 1) & 0xFFFFFFFF
        self._sink.packet(time_ns, client.header(ACK, server.next_seq, b""), b"", None)

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
        if self._linking:
            self.remember(side, bytes(data))
        flow, peer = self._pair(side)
        view = memoryview(data)
        start = 0
        for end in ends:
            if not start <= end <= len(view):
                raise ValueError(f"unit end {end} after {start} in {len(view)} bytes")
            if flow.held or end - start > MAX_SEGMENT_BYTES:
                self._hold(flow, peer, time_ns, view[start:end], comment)
                self._release(flow, peer, time_ns, PSH | ACK)
            elif end > start:
                self._send(flow, peer, time_ns, PSH | ACK, view[start:end], comment)
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
            self._release(self._flows[each], self._flows[each.other], time_ns, ACK)
        if reset and not self.closed:
            flow, peer = self._pair(side or Side.CLIENT)
            self._sink.packet(time_ns, flow.header(RST | ACK, peer.next_seq, b""), b"", None)
            flow.closed = peer.closed = True
        for each in Side if side is None else (side,):
            flow, peer = self._pair(each)
            if not flow.closed:
                flow.closed = True
                self._sink.packet(time_ns, flow.header(FIN | ACK, peer.next_seq, b""), b"", None)
                flow.next_seq = (flow.next_seq + 1) & 0xFFFFFFFF
                peer.unacknowledged = 0
                self._acknowledge(flow, peer, time_ns)

    # A file that begins in the middle ----------------------------------------------------------------

    def linked(self) -> None:
        """The link phase is over: what passed so far is its `beginning`."""
        self._linking = False

    def remember(self, side: Side, unit: bytes) -> None:
        """This unit belongs to the `beginning` as well."""
        if self._beginning is not None:
            flow = self._flows[side]
            self._beginning.append((side, unit, flow.next_seq + len(flow.held)))
            if sum(len(each) for _, each, _ in self._beginning) > MAX_BEGINNING_BYTES:
                self._beginning = None

    @property
    def between_units(self) -> bool:
        """Whether no side is in the middle of a unit of which segments have been written."""
        return not any(flow.midway for flow in self._flows.values())

    @property
    def endpoints(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """The client's address and port, and the server's, as given."""
        return self._endpoints

    def beginning(self, before: Mapping[Side, int]) -> tuple[tuple[Side, bytes], ...]:
        """The units of the link phase, and those that were remembered; none if they were too long to be kept.

        Args:
            before: Leave out what goes beyond each side's sequence number here.
        """
        return tuple(
            (side, unit)
            for side, unit, seq in self._beginning or ()
            if (before[side] - seq - len(unit)) & 0xFFFFFFFF < 2**31
        )

    @property
    def next_seq(self) -> dict[Side, int]:
        """Each side's sequence number behind its last byte."""
        return {side: flow.next_seq - flow.closed for side, flow in self._flows.items()}

    @property
    def closed_sides(self) -> tuple[Side, ...]:
        """Sides that have closed their direction."""
        return tuple(side for side, flow in self._flows.items() if flow.closed)

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
                self._release(flow, peer, flow.held_time_ns, ACK)
            flow.stale = bool(flow.held)

    def _pair(self, side: Side) -> tuple[Flow, Flow]:
        return self._flows[side], self._flows[side.other]

    def _hold(self, flow: Flow, peer: Flow, time_ns: int, piece: memoryview, comment: str | None) -> None:
        """Keep `piece` as the head of a unit; what is more than one segment is sent. At least a byte stays."""
        carried = comment
        if flow.held:
            if flow.held_comment is not None and flow.held_comment != comment:
                carried = flow.held_comment if comment is None else f"{flow.held_comment}\n{comment}"
            room = MAX_SEGMENT_BYTES - len(flow.held)
            flow.held += piece[:room]
            piece = piece[room:]
            if piece:
                self._send(flow, peer, time_ns, ACK, flow.held, carried)
                flow.held.clear()
                carried = comment
        while len(piece) > MAX_SEGMENT_BYTES:
            self._send(flow, peer, time_ns, ACK, piece[:MAX_SEGMENT_BYTES], comment)
            piece = piece[MAX_SEGMENT_BYTES:]
        flow.held += piece
        flow.held_comment, flow.held_time_ns = carried, time_ns

    def _release(self, flow: Flow, peer: Flow, time_ns: int, flags: int) -> None:
        """Send what is held."""
        if flow.held:
            self._send(flow, peer, time_ns, flags, flow.held, flow.held_comment)
            flow.held.clear()
        flow.held_comment, flow.stale = None, False

    def _send(
        self,
        flow: Flow,
        peer: Flow,
        time_ns: int,
        flags: int,
        payload: bytearray | memoryview,
        comment: str | None,
    ) -> None:
        size = len(payload)
        flow.midway = not flags & PSH
        self._sink.packet(time_ns, flow.header(flags, peer.next_seq, payload), payload, comment)
        flow.next_seq = (flow.next_seq + size) & 0xFFFFFFFF
        peer.unacknowledged = 0
        flow.unacknowledged += size
        if flow.unacknowledged >= ACK_EVERY_BYTES:
            self._acknowledge(flow, peer, time_ns)

    def _acknowledge(self, flow: Flow, peer: Flow, time_ns: int) -> None:
        """Have `peer` acknowledge all of `flow`."""
        flow.unacknowledged = 0
        self._sink.packet(time_ns, peer.header(ACK, flow.next_seq, b""), b"", None)
