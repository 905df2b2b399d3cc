"""The last seconds of all connections, in memory, written to a file when somebody wants to see them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import trio

from dissectors.side import Side
from spiceproxy import clock
from spiceproxy.errors import RecordingError, UsageError
from spiceproxy.recording import pcapng
from spiceproxy.recording.beginning import Beginning
from spiceproxy.recording.conversation import Conversation
from spiceproxy.recording.conversations import Conversations
from spiceproxy.recording.names import Names
from spiceproxy.recording.options import RecordingOptions
from spiceproxy.recording.recorder import FLUSH_INTERVAL_S, file_head
from spiceproxy.recording.writer import create_file

PACKET_COST_BYTES: Final = 250
"""What Python needs for a packet beside its bytes."""

_FIN, _SYN, _RST, _PSH = 0x01, 0x02, 0x04, 0x08


class _Packet(NamedTuple):
    time_ns: int
    header: bytes
    payload: bytes
    comment: str | None

    @property
    def cost_bytes(self) -> int:
        return len(self.header) + len(self.payload) + PACKET_COST_BYTES


class _Tcp(NamedTuple):
    """What a header made by `conversation` says."""

    source: bytes  # address and port
    destination: bytes
    seq: int
    flags: int


def _tcp(header: bytes) -> _Tcp:
    at, size = (20, 4) if header[0] >> 4 == 4 else (40, 16)
    source = header[at - 2 * size : at - size] + header[at : at + 2]
    destination = header[at - size : at] + header[at + 2 : at + 4]
    return _Tcp(source, destination, int.from_bytes(header[at + 4 : at + 8]), header[at + 13])


@dataclass(slots=True)
class _Known:
    """A connection whose packets may be in the ring."""

    conversation: Conversation
    client: bytes  # address and port
    midway: set[bytes] = field(default_factory=set)  # senders whose last packet that has gone ended no unit


class Ring(Conversations):
    """Keeps the last packets. `open_recordings` makes one.

    Args:
        path: What files are named after.
        options: How many seconds, and bytes.
    """

    def __init__(self, path: Path, options: RecordingOptions) -> None:
        super().__init__()
        assert options.ring_s is not None  # noqa: S101  else nobody makes one
        self._keep_ns, self._keep_bytes = round(options.ring_s * 1e9), options.ring_bytes
        self._names, self._keep_files, self._files = Names(path), options.keep, deque[Path]()
        self._packets: deque[_Packet] = deque()
        self._bytes = 0
        self._known: dict[frozenset[bytes], _Known] = {}
        self._last_ns = 0

    @property
    def ended(self) -> bool:
        """A ring has no end."""
        return False

    @property
    def held_bytes(self) -> int:
        """What is in memory."""
        return self._bytes

    def packet(
        self, time_ns: int, header: bytes, payload: bytes | bytearray | memoryview, comment: str | None
    ) -> None:
        """Keep a packet, and let go of older ones."""
        self._last_ns = max(self._last_ns, time_ns)
        packet = _Packet(self._last_ns, header, bytes(payload), comment)
        self._packets.append(packet)
        self._bytes += packet.cost_bytes
        self._trim()

    def begun(self, conversation: Conversation) -> None:
        """A conversation begins; called before its first packet."""
        self._known[conversation.ends] = _Known(conversation, conversation.end_of(Side.CLIENT))

    def _trim(self) -> None:
        oldest_ns = self._last_ns - self._keep_ns
        while self._packets and (self._bytes > self._keep_bytes or self._packets[0].time_ns < oldest_ns):
            packet = self._packets.popleft()
            self._bytes -= packet.cost_bytes
            tcp = _tcp(packet.header)
            known = self._known.get(frozenset((tcp.source, tcp.destination)))
            if known is None:
                continue
            if tcp.flags & (_FIN | _RST) and known.conversation.closed:
                del self._known[known.conversation.ends]
            elif packet.payload and tcp.flags & _PSH:
                known.midway.discard(tcp.source)
            elif packet.payload:
                known.midway.add(tcp.source)

    async def dump(self) -> Path:
        """Write what is there to a new file.

        Raises:
            RecordingError: It cannot be written.
        """
        for conversation in self._conversations.values():
            conversation.release_stale()
        self._last_ns = max(self._last_ns, clock.now_ns())
        self._trim()
        path = await trio.to_thread.run_sync(
            self._write, self._names.next(), list(self._packets), self._plans(), self._last_ns
        )
        self._files.append(path)
        if self._keep_files is not None and len(self._files) > self._keep_files:
            with suppress(OSError):  # somebody has taken it away
                self._files.popleft().unlink()
        return path

    def _plans(self) -> "dict[frozenset[bytes], _Plan]":
        return {
            ends: _Plan(
                known.conversation, known.client, frozenset(known.midway), dict(known.conversation.next_seq)
            )
            for ends, known in self._known.items()
        }

    @staticmethod
    def _write(
        path: Path, packets: Sequence[_Packet], plans: "dict[frozenset[bytes], _Plan]", now_ns: int
    ) -> Path:
        """In a thread."""
        try:
            descriptor = create_file(path, file_head())
        except UsageError as error:
            raise RecordingError(str(error)) from error
        with open(descriptor, "wb") as file:  # noqa: PTH123
            try:
                file.writelines(_blocks(packets, plans, now_ns))
            except OSError as error:
                with suppress(OSError):
                    path.unlink()
                raise RecordingError(f"cannot write {path}: {error.strerror}") from error
        return path

    async def run(self) -> None:
        """Let time pass."""
        while True:
            await trio.sleep(FLUSH_INTERVAL_S)
            for ends, conversation in list(self._conversations.items()):
                conversation.release_stale()
                if conversation.closed:
                    del self._conversations[ends]
            self._last_ns = max(self._last_ns, clock.now_ns())
            self._trim()


@dataclass(slots=True)
class _Plan:
    """How one connection is written."""

    conversation: Conversation
    client: bytes
    midway: frozenset[bytes]
    next_seq: dict[Side, int]
    starts: dict[Side, int] = field(default_factory=dict)  # where each side's first whole unit begins
    begun: bool = False  # its handshake is in the ring

    def side(self, source: bytes) -> Side:
        """Who this is."""
        return Side.CLIENT if source == self.client else Side.SERVER

    def look(self, packets: Iterable[tuple[_Packet, _Tcp]]) -> None:
        """Find out where to begin."""
        waiting = {self.side(source) for source in self.midway}
        for packet, tcp in packets:
            side = self.side(tcp.source)
            if tcp.flags & _SYN and side is Side.CLIENT:
                self.begun = True
                self.starts = {}
                return
            if not packet.payload or side in self.starts:
                continue
            if side not in waiting:
                self.starts[side] = tcp.seq
            elif tcp.flags & _PSH:
                waiting.discard(side)  # the rest of a unit that began too early: not written
        self.starts = {
            **self.next_seq,
            **self.starts,
        }  # of who has sent nothing whole there is nothing to write

    def left_over(self, packet: _Packet, tcp: _Tcp) -> bool:
        """Whether it is the rest of something whose head has gone: of a unit, or of the handshake."""
        if tcp.flags & _SYN:
            return not self.begun
        start = self.starts.get(self.side(tcp.source))
        return bool(packet.payload) and start is not None and (tcp.seq - start) & 0xFFFFFFFF >= 2**31


def _blocks(packets: Sequence[_Packet], plans: dict[frozenset[bytes], _Plan], now_ns: int) -> Iterator[bytes]:
    parsed = [(packet, _tcp(packet.header)) for packet in packets]
    of: dict[frozenset[bytes], list[tuple[_Packet, _Tcp]]] = {}
    for packet, tcp in parsed:
        of.setdefault(frozenset((tcp.source, tcp.destination)), []).append((packet, tcp))
    for ends, plan in plans.items():
        plan.look(of.get(ends, ()))
    # All connections that are open where the file begins, before any packet, in the order in which they were opened: main,
    # whose MAIN_INIT says whose the others are, may be the last one to say something.
    begins_ns = packets[0].time_ns if packets else now_ns
    for ends, plan in plans.items():
        if not plan.begun and (ends in of or not plan.conversation.closed):
            out = _Collected()
            Beginning.of(plan.conversation, plan.starts).repeat(out, begins_ns)
            yield bytes(out.data)
    for packet, tcp in parsed:
        found = plans.get(frozenset((tcp.source, tcp.destination)))
        if found is not None and found.left_over(packet, tcp):
            continue
        out = _Collected()
        out.packet(packet.time_ns, packet.header, packet.payload, packet.comment)
        yield bytes(out.data)


class _Collected:
    """A sink whose packets are blocks."""

    ended = False

    def __init__(self) -> None:
        self.data = bytearray()

    def lose(self, size: int) -> None:
        """Nothing is lost."""

    def packet(
        self, time_ns: int, header: bytes, payload: bytes | bytearray | memoryview, comment: str | None
    ) -> None:
        """Append it."""
        pcapng.append_packet(self.data, time_ns, header, payload, comment)
