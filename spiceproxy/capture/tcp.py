"""The TCP connections of a capture: which of them carry SPICE, who is who, and what each end says.

Connections of another kind are found out by the first bytes of their client and cost two entries of a table from then
on. What waits for bytes before it is bounded for each connection and in all.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Final

from dissectors.side import Side
from spiceproxy.capture.connections import End, Flow, Route, endpoints, reverse
from spiceproxy.capture.events import MAX_PROBLEMS, Closed, Commented, Data, Gap, Opened, StreamEvent, Summary
from spiceproxy.capture.headers import ACK, FIN, LINKS, RST, SYN, tcp_segment
from spiceproxy.capture.packet import Packet
from spiceproxy.capture.pcapng import comment
from spiceproxy.capture.reassembly import MAX_AHEAD_BYTES, PIECE_OVERHEAD_BYTES, Pieces

MAX_KEPT_BYTES_OF_ONE: Final = 4 * 2**20
"""Bytes of one direction that wait for those before them: the largest receive window of Linux as it comes, nearly."""

MAX_KEPT_BYTES: Final = 8 * 2**20
"""The same of all connections."""

MAX_UNDECIDED_BYTES: Final = 64 * 1024
"""What is kept of a connection until it is known whether it carries SPICE."""

MAX_SPICE_CONNECTIONS: Final = 1024
"""Followed at a time. Those that were silent for longest are given up."""

MAX_OTHERS: Final = 8192
"""Directions of connections, half of that in connections, that are remembered as something else or undecided."""

PATIENCE_PACKETS: Final = 8
"""Bytes that were acknowledged and not seen count as missing after so many more packets of their connection: captures
from several queues or interfaces show an acknowledgement before what it acknowledges now and then."""

_MAGIC: Final = b"REDQ"
_LINK_HEADER_BYTES: Final = 16  # magic, major and minor version, size of what follows
_LEAST_REPLY_BYTES: Final = 178
"""Size that a server's link reply announces at least: an RSA key of 162 bytes and four numbers. A client's link message
with as much would announce 160 bytes of capabilities. Source: spice-protocol protocol.h, SpiceLinkReply, SpiceLinkMess."""

_MASK: Final = 0xFFFFFFFF


_NEW: Final = End(b"", -1)
_OTHER: Final = End(b"", -1)
_FINISHED: Final = End(b"", -1)


class TcpStreams:
    """Takes packets, gives events.

    Args:
        ports: Connections with one of these TCP ports are taken whatever they carry.
        summary: Counts.
        routes: Takes where every SPICE connection is, if somebody wants to know.
    """

    def __init__(
        self,
        ports: Collection[int],
        summary: Summary,
        routes: list[Route] | None = None,
        *,
        comments: bool = False,
    ) -> None:
        self._routes, self._comments = routes, comments
        self._events: list[StreamEvent] = []
        self._ports = frozenset(ports)
        self._summary = summary
        self._ends: dict[bytes, End] = {}
        self._spice: dict[Flow, None] = {}  # a set in the order in which they were opened
        self._hoarders: dict[Flow, None] = {}  # the same, of those that keep bytes
        self._kept_bytes = 0
        self._time_ns = 0
        self._unread_links: set[int] = set()

    def read(self, packets: Iterable[Packet]) -> Iterator[StreamEvent]:
        """Take packets and give what happened. The summary has counted to each packet when it comes."""
        comments = self._comments
        summary, events, end_of, link_of = self._summary, self._events, self._ends.get, LINKS.get
        new_tuple = tuple.__new__  # half the time of the constructor that NamedTuple makes
        for packet in packets:
            time_ns, link_type, buffer, at, stop, uncaptured, options_end, order = packet
            begin, end, said = at, stop, None
            link = link_of(link_type)
            if link is None:
                self._note_link(link_type)
                continue
            at = link(buffer, at, stop)
            segment = tcp_segment(buffer, at, stop, uncaptured) if at >= 0 else None
            if segment is None:
                continue
            if isinstance(segment, str):
                summary.problem(f"packet {summary.packets}: {segment}")
                continue
            key, seq, ack, flags, start, stop, lost = segment
            self._time_ns = time_ns
            sender = end_of(key, _NEW)
            if sender.connection < 0:
                if not self._is_new(sender, key, flags, buffer[start : min(stop, start + 4)]):
                    continue
                sender = self._add_flow(key)
            if flags & SYN:
                sender = self._syn(sender, seq, ack, flags, packet)
                seq += 1
            peer = sender.peer
            number = sender.flow.last_packet = summary.packets
            if flags & ACK and peer.next >= 0:
                beyond = (ack - peer.next) & _MASK
                if 0 < beyond <= MAX_AHEAD_BYTES:
                    peer.acked = max(peer.acked, peer.next + beyond)
                    if not peer.patience and peer.lacks:
                        peer.patience, peer.waits_at = PATIENCE_PACKETS + 1, peer.next
            if peer.patience:
                self._wait(peer)
            if sender.patience:
                self._wait(sender)
            if sender.next < 0 or peer.next < 0:
                self._begin(sender, seq, ack, flags, buffer[start:stop])
            if comments and options_end > end:
                said = comment(buffer[end + (begin - end & 3) : options_end], order)
                if said is not None and sender.connection > 0:
                    events.append(Commented(sender.connection, time_ns, sender.side, said))
                    said = None
            data: Data | None = None
            if start < stop or lost:
                if (
                    (seq ^ sender.next) & _MASK
                    or sender.kept
                    or lost
                    or sender.connection <= 0
                    or sender.fin >= 0
                ):
                    self._segment(sender, seq, buffer[start:stop], lost)
                else:
                    sender.next += stop - start
                    data = new_tuple(
                        Data, (sender.connection, time_ns, sender.side, buffer[start:stop], number)
                    )
            if events:
                yield from events
                events.clear()
            if data is not None:
                yield data
            if said is not None and sender.connection > 0:  # it became known by this packet
                yield Commented(sender.connection, time_ns, sender.side, said)
            if flags & (FIN | RST):
                self._last(sender, seq + stop - start + lost, flags)
                yield from events
                events.clear()

    def finish(self) -> Iterator[StreamEvent]:
        """The capture ends: give what waited, with what is missing before it, and close what is open."""
        undecided = {end.flow: None for end in self._ends.values() if not end.connection}
        for flow in undecided:
            if flow.is_wanted and flow.held:
                self._open(flow)
        for flow in list(self._spice):
            self._abandon(flow)
        yield from self._events
        self._events.clear()

    # -- who is it ---------------------------------------------------------------------------------------------

    def _is_new(self, sentinel: End, key: bytes, flags: int, first: bytes) -> bool:
        """Whether a packet begins a connection that is not followed yet."""
        if key == reverse(key):
            return False  # to itself: both directions would be one
        if flags & (SYN | ACK) == SYN:
            return True
        if sentinel is _FINISHED:  # its ports were taken again, and the SYN is not in the capture
            return first == _MAGIC
        return sentinel is _NEW and not flags & RST

    def _add_flow(self, key: bytes) -> End:
        back = reverse(key)
        one, other = End(key), End(back)
        one.peer, other.peer = other, one
        is_wanted = bool(self._ports) and (
            int.from_bytes(key[-2:]) in self._ports or int.from_bytes(key[-4:-2]) in self._ports
        )
        one.flow = other.flow = Flow(one, other, self._time_ns, is_wanted=is_wanted)
        one.flow.first_packet = self._summary.packets
        self._ends[key], self._ends[back] = one, other
        self._summary.tcp_connections += 1
        if len(self._ends) > MAX_OTHERS + 2 * len(self._spice):
            self._forget_others()
        return one

    def _syn(self, sender: End, seq: int, ack: int, flags: int, packet: Packet) -> End:
        """Take what a SYN tells. It returns the end that sent it, which is another one if a connection begins."""
        flow, seq = sender.flow, seq + 1
        if flags & ACK:
            if sender.next < 0 or (sender.next == sender.begin and sender.fin < 0 and not sender.kept):
                sender.start(seq)
            if sender.peer.next < 0:
                sender.peer.start(ack)
            if not flow.roles_known:
                flow.one, flow.other, flow.roles_known = sender.peer, sender, True
        else:
            if sender.next >= 0 and (seq - sender.begin) & _MASK:
                self._abandon(flow)
                sender = self._add_flow(sender.key)
                flow = sender.flow
            if sender.next < 0:
                sender.start(seq)
            flow.one, flow.other, flow.roles_known = sender, sender.peer, True
            if flow.comment is None:
                _, _, buffer, start, end, _, options_end, order = packet
                if options_end > end:
                    flow.comment = comment(buffer[end + (start - end & 3) : options_end], order)
        if flow.is_wanted and not sender.connection:
            self._open(flow)
        return sender

    def _begin(self, sender: End, seq: int, ack: int, flags: int, data: bytes) -> None:
        """Find out where a stream begins whose SYN is not in the capture."""
        peer = sender.peer
        if sender.connection < 0:
            return
        if sender.next < 0 and (data or flags & FIN):
            sender.start(seq)
        if peer.next < 0 and flags & ACK and (sender.flow.roles_known or data.startswith(_MAGIC)):
            peer.start(ack)

    def _judge(self, sender: End) -> None:
        """Decide whether a connection is SPICE, now that `sender` has said more, or not yet."""
        flow = sender.flow
        asked = sender
        if flow.roles_known:
            asked = flow.one if flow.one.first is not None else flow.other
        if asked.first is None:
            self._reject(flow)
        elif asked.first.startswith(_MAGIC):
            if not flow.roles_known:
                size = int.from_bytes(asked.first[12:16], "little")
                is_reply = len(asked.first) == _LINK_HEADER_BYTES and size >= _LEAST_REPLY_BYTES
                flow.one, flow.other = (asked.peer, asked) if is_reply else (asked, asked.peer)
            self._open(flow)
        elif not _MAGIC.startswith(asked.first) or not _MAGIC.startswith((sender.first or b"")[:4]):
            self._reject(flow)

    def _reject(self, flow: Flow) -> None:
        """It is something else; taken all the same if it was asked for."""
        if flow.is_wanted:
            self._open(flow)
            return
        self._summary.other_connections += 1
        self._drop(flow, _OTHER)

    def _open(self, flow: Flow) -> None:
        client = flow.one
        is_spoken = (client.first or b"").startswith(_MAGIC)
        if not (flow.roles_known or is_spoken) and int.from_bytes(client.key[-4:-2]) in self._ports:
            flow.one, flow.other = flow.other, flow.one
        client, server = flow.ends
        self._summary.spice_connections += 1
        number = self._summary.spice_connections
        client.connection = server.connection = number
        client.side, server.side = Side.CLIENT, Side.SERVER
        self._spice[flow] = None
        if self._routes is not None:
            self._routes.append(Route(number, flow.first_packet, client, server))
        ends = endpoints(client.key)
        from_start = flow.roles_known or is_spoken
        self._events.append(Opened(number, flow.time_ns, *ends, from_start, flow.comment))
        for sender, time_ns, packet, piece in flow.held:
            self._append(sender, time_ns, packet, piece)
        flow.held, flow.held_bytes = [], 0
        for end in flow.ends:
            if end.closed:
                self._events.append(Closed(number, self._time_ns, end.side, reset=False))
        self._balance(flow)
        if len(self._spice) > MAX_SPICE_CONNECTIONS:
            self._forget_silent()

    # -- what does it say --------------------------------------------------------------------------------------

    def _segment(self, sender: End, seq: int, data: bytes, lost: int) -> None:
        """Take bytes that are not just the next ones of a SPICE connection."""
        if sender.connection < 0:
            return
        start = sender.number(seq)
        if start > sender.next + MAX_AHEAD_BYTES:
            self._summary.problem(
                f"packet {self._summary.packets}: its sequence number is far from all others"
            )
            return
        self._give(sender, sender.add(start, data, lost))
        while sender.kept_bytes > MAX_KEPT_BYTES_OF_ONE:
            self._give(sender, sender.skip_hole())
        self._balance(sender.flow)

    def _wait(self, end: End) -> None:
        """One packet more without the bytes that `end` lacks."""
        end.patience -= 1
        if not end.patience and end.lacks:
            if end.waits_at != end.next:  # they came, and others are missing
                end.patience, end.waits_at = PATIENCE_PACKETS, end.next
                return
            self._give(end, end.give_up(everything=False))
            self._balance(end.flow)

    def _last(self, sender: End, seq: int, flags: int) -> None:
        """Take a FIN or RST that stands at `seq`."""
        if sender.connection < 0 or (
            sender.next >= 0 and abs(sender.number(seq) - sender.next) > MAX_AHEAD_BYTES
        ):
            return
        if not flags & RST:
            sender.end_at(sender.number(seq))
            self._give(sender, [])
            return
        flow = sender.flow
        if sender.connection:
            for end in flow.ends:
                self._give(end, end.give_up(everything=True))
            if flow in self._spice:
                self._events.append(Closed(sender.connection, self._time_ns, sender.side, reset=True))
        if self._ends.get(sender.key) is sender:
            self._drop(flow, _FINISHED)

    def _give(self, sender: End, pieces: Pieces) -> None:
        """What `sender` has said goes out, or is held back until somebody knows what it is."""
        number = self._summary.packets
        if sender.connection < 0:
            return
        if sender.connection:
            for piece in pieces:
                self._append(sender, self._time_ns, number, piece)
        elif pieces:
            flow = sender.flow
            for piece in pieces:
                flow.held.append((sender, self._time_ns, number, piece))
                flow.held_bytes += PIECE_OVERHEAD_BYTES + (0 if isinstance(piece, int) else len(piece))
                if sender.first is not None and len(sender.first) < _LINK_HEADER_BYTES:
                    if not isinstance(piece, int):
                        sender.first = (sender.first + piece)[:_LINK_HEADER_BYTES]
                    elif len(sender.first) < len(_MAGIC):
                        sender.first = None
            self._judge(sender)
            if sender.connection < 0:
                return
        if sender.ended and not sender.closed:
            sender.closed = True
            if sender.connection:
                self._events.append(Closed(sender.connection, self._time_ns, sender.side, reset=False))
            if sender.peer.closed and self._ends.get(sender.key) is sender:
                self._drop(sender.flow, _FINISHED)

    def _append(self, sender: End, time_ns: int, packet: int, piece: bytes | int) -> None:
        if isinstance(piece, int):
            self._events.append(Gap(sender.connection, time_ns, sender.side, piece))
        elif piece:
            self._events.append(Data(sender.connection, time_ns, sender.side, piece, packet))

    # -- what does it cost -------------------------------------------------------------------------------------

    def _balance(self, flow: Flow) -> None:
        """Count what a connection keeps, and see to the bounds."""
        kept = flow.one.kept_bytes + flow.other.kept_bytes + flow.held_bytes
        self._kept_bytes += kept - flow.kept_bytes
        flow.kept_bytes = kept
        if not kept:
            self._hoarders.pop(flow, None)
            return
        if self._ends.get(flow.one.key) is not flow.one:  # it was dropped meanwhile
            return
        self._hoarders[flow] = None
        if kept > MAX_UNDECIDED_BYTES and not flow.one.connection:
            self._decide_now(flow)
        if self._kept_bytes > MAX_KEPT_BYTES:
            for hoarder in list(self._hoarders):
                if self._kept_bytes <= MAX_KEPT_BYTES // 2:
                    break
                self._relieve(hoarder)

    def _decide_now(self, flow: Flow) -> None:
        """No more is kept of a connection that nobody knows: what its server says must do."""
        if flow.roles_known and flow.one.first == b"" and (flow.other.first or b"").startswith(_MAGIC):
            self._open(flow)
        else:
            self._reject(flow)

    def _relieve(self, flow: Flow) -> None:
        """Let go of what a connection keeps."""
        if not flow.one.connection:
            self._decide_now(flow)
        if flow.one.connection > 0:
            for end in flow.ends:
                while end.kept:
                    self._give(end, end.skip_hole())
            self._balance(flow)

    def _forget_others(self) -> None:
        """Forget half of the connections that are not SPICE, or not yet, oldest first.

        Both directions of one stand side by side, and an even number goes.
        """
        keys = [key for key, end in self._ends.items() if end.connection <= 0]
        for key in keys[: len(keys) // 4 * 2]:
            end = self._ends.pop(key, _OTHER)
            if not end.connection:
                self._drop(end.flow, None)

    def _forget_silent(self) -> None:
        silent = sorted(self._spice, key=lambda flow: flow.last_packet)[: MAX_SPICE_CONNECTIONS // 4]
        self._summary.problem(
            f"packet {self._summary.packets}: more than {MAX_SPICE_CONNECTIONS} SPICE connections at a time: "
            f"the {len(silent)} that were silent for longest are given up"
        )
        for flow in silent:
            self._abandon(flow)

    def _abandon(self, flow: Flow) -> None:
        """Nothing more will come of a connection: give what waits, close it, forget it."""
        if flow.one.connection > 0:
            for end in flow.ends:
                self._give(end, end.give_up(everything=True))
            if flow in self._spice:
                self._events.append(Closed(flow.one.connection, self._time_ns, None, reset=False))
        self._drop(flow, None)

    def _drop(self, flow: Flow, sentinel: End | None) -> None:
        """Keep nothing of a connection but that it was there, or not even that."""
        self._kept_bytes -= flow.kept_bytes
        flow.kept_bytes = flow.held_bytes = 0
        flow.held.clear()
        self._hoarders.pop(flow, None)
        self._spice.pop(flow, None)
        for end in flow.ends:
            if sentinel is not None:
                self._ends[end.key] = sentinel
            else:
                self._ends.pop(end.key, None)
            end.connection = -1
            end.kept, end.kept_bytes = None, 0
            end.peer = _FINISHED
        flow.one = flow.other = _FINISHED  # no cycles: the memory is free at once

    def _note_link(self, link_type: int) -> None:
        if link_type not in self._unread_links and len(self._unread_links) < MAX_PROBLEMS:
            self._unread_links.add(link_type)
            self._summary.problem(
                f"packet {self._summary.packets}: packets of link type {link_type} are not read"
            )
