"""The second reading: every packet of a SPICE connection, with what the store has in the place of its payload.

Payload never comes from the packet. So it does not matter which packets a reader would use: retransmissions, overlaps
and what comes late hold the same bytes as the first copy.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from dissectors.side import Side
from spiceproxy.capture.connections import Route, reverse
from spiceproxy.capture.headers import ACK, LINKS, SYN, Segment, tcp_segment
from spiceproxy.capture.packet import Packet
from spiceproxy.capture.pcapng import comment
from spiceproxy.capture.reassembly import MAX_AHEAD_BYTES
from spiceproxy.redaction.addresses import StandIns
from spiceproxy.redaction.comments import public_comment
from spiceproxy.redaction.headers import (
    find_headers,
    mend_checksum,
    mend_ip_checksum,
    scrub_ip_options,
    scrub_options,
)
from spiceproxy.redaction.kinds import Account, Kind
from spiceproxy.redaction.store import Store
from spiceproxy.redaction.survey import stream_number

MAX_BEGUN: Final = 65536
"""Other connections of which it is remembered that their beginning is in the capture."""

_MASK, _HALF, _TURN = 0xFFFFFFFF, 1 << 31, 1 << 32
_ETHERNET, _COOKED, _COOKED_2 = 1, 113, 276
# Where link layer addresses stand. Sources: IEEE 802.3; tcpdump.org, LINKTYPE_LINUX_SLL and LINKTYPE_LINUX_SLL2.
_LINK_ADDRESSES: Final = {_ETHERNET: (0, 12), _COOKED: (6, 14), _COOKED_2: (12, 20)}
_IPV6_FRAGMENT: Final = 44
_OFFSET_AND_MORE, _MORE = 0x3FFF, 0x2000  # of IPv4 fragments
_FIRST_FRAGMENT: Final = 20  # bytes of TCP header that the first fragment of a packet shows


class Written(NamedTuple):
    """A packet to be written."""

    data: bytearray
    comment: str | None


class _Direction:
    """Where packets of one sender lie in a stream of the store."""

    __slots__ = ("begin", "last", "stream")

    def __init__(self, begin: int, stream: int) -> None:
        self.begin, self.stream = begin & _MASK, stream
        self.last = 0  # the farthest offset so far

    def offset(self, seq: int, size: int) -> int:
        """Offset of the byte with this sequence number: the one nearest to the farthest so far."""
        offset = self.last + ((seq - self.begin - self.last + _HALF) & _MASK) - _HALF
        if self.last < offset + size <= self.last + MAX_AHEAD_BYTES:
            self.last = offset + size
        return offset


class Packets:
    """Writes packets anew.

    Args:
        store: What may be known of each stream.
        routes: Which packets belong to which stream.
        account: Counts.
        stand_ins: For addresses; None leaves them.
        keep_others: Leave packets that are not SPICE as they are, instead of leaving them out.
        keep_comments: Leave comments as they are.
    """

    def __init__(
        self,
        store: Store,
        routes: Sequence[Route],
        account: Account,
        *,
        stand_ins: StandIns | None,
        keep_others: bool,
        keep_comments: bool,
    ) -> None:
        self.account = account
        self._store, self._stand_ins = store, stand_ins
        self._keep_others, self._keep_comments = keep_others, keep_comments
        self._routes: dict[bytes, list[tuple[int, _Direction]]] = {}
        for route in sorted(routes, key=lambda route: route.first_packet):
            for end, side in ((route.client, Side.CLIENT), (route.server, Side.SERVER)):
                direction = _Direction(end.begin, stream_number(route.connection, side))
                self._routes.setdefault(end.key, []).append((route.first_packet, direction))
        self._begun: OrderedDict[bytes, None] = OrderedDict()
        self._last_dropped: tuple[Packet, int, Segment] | None = None

    def rewrite(self, packet: Packet, number: int) -> Written | None:
        """The packet without its secrets; None if it is left out.

        Args:
            packet: As it was read.
            number: In the file, from 1.
        """
        _, link_type, buffer, start, end, uncaptured, options_end, order = packet
        before = buffer[start:end]
        link = LINKS.get(link_type)
        told = (
            self._comment(comment(buffer[end + (start - end & 3) : options_end], order))
            if options_end > end
            else None
        )
        if link is None:
            return self._blank(bytearray(len(before)), before, told)
        ip = link(before, 0, len(before))
        segment = tcp_segment(before, ip, len(before), uncaptured) if ip >= 0 else None
        if segment is None:
            return self._other(before, told)
        if isinstance(segment, str):
            return self._unread(before, ip, link_type, told)
        direction = self._direction(segment[0], number)
        if direction is None and self._is_begun(segment):
            other = self._other(before, told)
            self._last_dropped = (packet, ip, segment) if other is None else None
            return other
        self._last_dropped = None
        return Written(self._rewritten(before, ip, segment, direction, link_type), told)

    def last(self) -> tuple[Packet, Written] | None:
        """The last packet of the capture without its payload, if it was left out: a capture ends when that came."""
        if self._last_dropped is None:
            return None
        packet, ip, segment = self._last_dropped
        _, link_type, buffer, start, end, *_ = packet
        self.account.dropped -= 1
        return packet, Written(self._rewritten(buffer[start:end], ip, segment, None, link_type), None)

    def _direction(self, key: bytes, number: int) -> _Direction | None:
        routes = self._routes.get(key)
        if not routes:
            return None
        at = bisect_right(routes, number, key=lambda route: route[0])
        return routes[at - 1][1] if at else None

    def _is_begun(self, segment: Segment) -> bool:
        """Whether the beginning of a connection that is not SPICE is in the capture, so that this is known of it."""
        key, flags = segment[0], segment[3]
        pair = min(key, reverse(key))
        if flags & (SYN | ACK) == SYN:
            self._begun[pair] = None
            if len(self._begun) > MAX_BEGUN:
                self._begun.popitem(last=False)
        return pair in self._begun

    def _rewritten(
        self, before: bytes, ip: int, segment: Segment, direction: _Direction | None, link_type: int
    ) -> bytearray:
        _, seq, _, flags, start, stop, lost = segment
        headers = find_headers(before, ip)
        after = bytearray(len(before))
        after[:start] = before[:start]
        padding = before[stop:]
        if padding.strip(b"\0"):
            self.account.add(Kind.UNREAD, len(padding))
        if direction is None:
            self.account.unread_packets += 1
            self.account.add(Kind.UNREAD, stop - start)
        elif stop > start:
            offset = direction.offset(seq + (flags & SYN > 0), stop - start)
            skip = min(max(0, -offset), stop - start)
            after[start + skip : stop] = self._store.get(direction.stream, offset + skip, stop - start - skip)
        scrub_options(after, headers, start)
        self._anonymize(before, after, ip, link_type)
        if after != before or lost:
            mend_checksum(before, after, headers, stop, uncaptured=lost > 0)
        return after

    def _anonymize(self, before: bytes, packet: bytearray, ip: int, link_type: int) -> None:
        if self._stand_ins is None:
            return
        self._blank_link(packet, link_type)
        size, at = (4, ip + 12) if packet[ip] >> 4 == 4 else (16, ip + 8)
        for place in (at, at + size):
            packet[place : place + size] = self._stand_ins.packed(bytes(packet[place : place + size]))
        if packet[ip] >> 4 == 4 and packet[ip] & 15 > 5:  # options may hold a route
            end = min(ip + ((packet[ip] & 15) << 2), len(packet))
            packet[ip + 20 : end] = bytes(end - ip - 20)
        if len(packet) >= ip + 20:
            mend_ip_checksum(before, packet, ip)

    def _blank_link(self, packet: bytearray, link_type: int) -> None:
        if self._stand_ins is not None:
            first, last = _LINK_ADDRESSES.get(link_type, (0, 0))
            packet[first:last] = bytes(last - first)

    def _other(self, before: bytes, told: str | None) -> Written | None:
        """Not SPICE."""
        if self._keep_others:
            return Written(bytearray(before), told)
        self.account.dropped += 1
        return None

    def _unread(self, before: bytes, ip: int, link_type: int, told: str | None) -> Written:
        """It may be SPICE, and nobody can say what is in it: a fragment, a packet cut short."""
        if len(before) < ip + (20 if before[ip] >> 4 == 4 else 40):
            short = bytearray(len(before))
            short[: ip + 1] = before[: ip + 1]  # with its version, so that a reader says the same of it
            self._blank_link(short, link_type)
            return self._blank(short, before, told)
        if before[ip] >> 4 == 4:
            head = ip + (max(5, before[ip] & 15) << 2)
            is_first = int.from_bytes(before[ip + 6 : ip + 8]) & _OFFSET_AND_MORE == _MORE
            tcp = head + _FIRST_FRAGMENT if is_first else head  # of anything else: who knows where TCP begins
        else:
            head = tcp = ip + (48 if before[ip + 6] == _IPV6_FRAGMENT else 40)
        after = bytearray(len(before))
        after[:tcp] = before[:tcp]
        if before[ip] >> 4 == 4:
            scrub_ip_options(after, ip)
        if tcp > head and len(after) >= tcp:
            after[head + 16 : head + 18] = b"\0\0"  # a checksum over what is not here any more
        self._anonymize(before, after, ip, link_type)
        return self._blank(after, before, told)

    def _blank(self, after: bytearray, before: bytes, told: str | None) -> Written:
        self.account.unread_packets += 1
        self.account.add(Kind.UNREAD, len(before) - len(bytes(after).rstrip(b"\0")))
        return Written(after, told)

    def _comment(self, text: str | None) -> str | None:
        """What of a comment says nothing secret."""
        if text is None or self._keep_comments:
            return text
        kept, changed = public_comment(text, addresses=self._stand_ins is None)
        self.account.comments += changed
        return kept
