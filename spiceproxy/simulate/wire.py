"""One TCP connection between peers, after its link phase: whole messages in both directions, counted.

Full header: u64 serial, u16 type, u32 size, u32 sub_list. Mini header: u16 type, u32 size; the serial is implied.
"""

import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import trio

from dissectors.channels import ChannelType, channel_name
from dissectors.fields import read, write
from dissectors.headers import DataHeader, MiniDataHeader
from dissectors.registry import message_name
from dissectors.side import Side
from spiceproxy.address import Address
from spiceproxy.simulate.acks import ServerWindow
from spiceproxy.simulate.errors import ConnectionLost, SimulationError
from spiceproxy.simulate.secure import Stream

_READ_BYTES: Final = 256 * 1024
_AT_ONCE: Final = 64  # messages of 20 us each
# The largest body we know of is an uncompressed frame of 3840x2160 at 4 bytes a pixel, 33 MB; this is twice that.
MAX_BODY_BYTES: Final = 64 * 2**20


class ChannelKey(NamedTuple):
    """What names a channel of a session."""

    type: int
    id: int

    @property
    def name(self) -> str:
        """As people write it: ``display:0``."""
        return f"{channel_name(self.type)}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> "ChannelKey":
        """Read ``display`` or ``display:1``.

        Raises:
            SimulationError: There is no such channel.
        """
        name, _, number = text.partition(":")
        try:
            return cls(ChannelType[name.upper()], int(number or 0))
        except (KeyError, ValueError):
            raise SimulationError(
                f"no channel is called {text!r}; try display, inputs or usbredir:0"
            ) from None


MAIN: Final = ChannelKey(ChannelType.MAIN, 0)


class Message(NamedTuple):
    """One message as it arrived. `serial` is counted where the header does not carry it; `expected` is always counted."""

    type: int
    body: bytes
    serial: int
    expected: int


@dataclass(frozen=True, slots=True)
class Trace:
    """One message that a simulated peer sent or received, for observers. Bodies are left out: they may be key presses.

    Attributes:
        peer: Name of the peer that saw it.
        sent: Whether that peer sent it.
        side: Who sent it.
        local: The peer's own end of the connection.
        remote: The other end as the peer sees it.
        size: Bytes of the body.
        body: The body, on main and of the common messages only; else empty.
    """

    time_ns: int
    peer: str
    sent: bool
    channel: ChannelKey
    side: Side
    message_id: int
    size: int
    local: Address
    remote: Address
    body: bytes = b""

    @property
    def name(self) -> str:
        """C name of the message."""
        return message_name(self.channel.type, self.side, self.message_id)


Observer = Callable[[Trace], None]


class Wire:
    """A linked connection. Owns the stream.

    Attributes:
        key: The channel that this connection carries.
        mini_header: Which header is in force, both ways.
        received, sent: Messages by id.
        next_send_serial: Serial of the next message we send.
        next_receive_serial: Serial that the next message should have.
    """

    def __init__(
        self,
        stream: Stream,
        key: ChannelKey,
        *,
        side: Side,
        mini_header: bool,
        peer_name: str = "",
        observer: Observer | None = None,
        rest: bytes = b"",
    ) -> None:
        self.key, self.mini_header = key, mini_header
        self._header = MiniDataHeader if mini_header else DataHeader
        self.local, self.remote = _addresses(stream)
        self.received: Counter[int] = Counter()
        self.sent: Counter[int] = Counter()
        self.next_send_serial = self.next_receive_serial = 1
        self.closed = False
        self._handled_at_once = 0
        self._stream, self._side, self._peer_name, self._observer = stream, side, peer_name, observer
        self._buffer = bytearray(rest)

    async def receive(self) -> Message | None:
        """Return the next message, or None if the other side has closed.

        Raises:
            ConnectionLost: The connection broke, or ended inside a message.
            SimulationError: The other side announced a body over 64 MiB.
        """
        expected, header_bytes = self.next_receive_serial, self._header.sizeof()
        if self._handled_at_once >= _AT_ONCE:  # a full buffer must not keep the other tasks waiting
            self._handled_at_once = 0
            await trio.lowlevel.checkpoint()
        self._handled_at_once += 1
        if not await self._fill(header_bytes):
            return None
        header, _ = read(self._header, self._buffer[:header_bytes])
        kind, size, serial = header["type"], header["size"], header.get("serial", expected)
        if size > MAX_BODY_BYTES:
            raise SimulationError(f"{self.key.name}: message {kind} announces a body of {size} bytes")
        end = header_bytes + size
        await self._fill(end)
        body = bytes(memoryview(self._buffer)[header_bytes:end])
        del self._buffer[:end]
        self.next_receive_serial = serial + 1
        self.received[kind] += 1
        self._observe(kind, body, sent=False)
        return Message(kind, body, serial, expected)

    async def send(self, kind: int, body: bytes = b"") -> None:
        """Write one message. One task at a time.

        Raises:
            ConnectionLost: The other side has gone.
        """
        fields = {"type": int(kind), "size": len(body)}
        if not self.mini_header:
            fields |= {"serial": self.next_send_serial, "sub_list": 0}
        header = write(self._header, fields)
        self.next_send_serial += 1
        self.sent[kind] += 1
        self._observe(kind, body, sent=True)
        try:
            await self._stream.send_all(header + body)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionLost(f"{self.key.name}: the other side has gone") from error

    def has_unread(self) -> bool:
        """Whether a byte has arrived that nobody has looked at; the end of the stream does not count."""
        if self._buffer:
            return True
        if self.closed:
            return False
        with socket.fromfd(self._stream.socket.fileno(), socket.AF_INET, socket.SOCK_STREAM) as copy:
            try:
                return bool(copy.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
            except OSError:  # nothing there, or the connection broke
                return False

    def close(self) -> None:
        """Close now. Whoever is reading gets ConnectionLost."""
        if not self.closed:
            self.closed = True
            self._stream.socket.close()

    def abort(self) -> None:
        """Close with a reset, as a process that dies does."""
        if not self.closed:
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    async def _fill(self, count: int) -> bool:
        """Have at least `count` bytes in the buffer; False if the stream ended before the first of them."""
        while len(self._buffer) < count:
            try:
                data = await self._stream.receive_some(_READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionLost(f"{self.key.name}: the connection broke") from error
            if not data:
                if self._buffer:
                    raise ConnectionLost(f"{self.key.name}: the other side closed inside a message")
                return False
            self._buffer += data
        return True

    def _observe(self, kind: int, body: bytes, *, sent: bool) -> None:
        if self._observer is not None:
            side = self._side if sent else self._side.other
            shown = body if self.key.type == ChannelType.MAIN or kind < 100 else b""
            self._observer(
                Trace(
                    time.time_ns(),
                    self._peer_name,
                    sent,
                    self.key,
                    side,
                    kind,
                    len(body),
                    self.local,
                    self.remote,
                    shown,
                )
            )


class Outbox:
    """Messages that wait for their turn on a wire, in order, urgent ones first.

    Attributes:
        wire: Where they go; may be replaced while messages wait.
        held: While true only urgent messages are written.
    """

    def __init__(self, wire: Wire, window: ServerWindow | None = None) -> None:
        """Set up an empty queue.

        Args:
            wire: Where the messages go.
            window: Counts what is sent and makes ordinary messages wait while it is shut.
        """
        self.wire, self.held, self._window = wire, False, window
        self._urgent: deque[tuple[int, bytes]] = deque()
        self._queue: deque[tuple[int, bytes]] = deque()
        self._changed = trio.Event()
        self._writing = self._ended = False

    def __len__(self) -> int:
        return len(self._queue) + len(self._urgent) + self._writing

    def put(self, kind: int, body: bytes = b"", *, urgent: bool = False) -> None:
        """Add a message; an urgent one overtakes those that are not."""
        (self._urgent if urgent else self._queue).append((kind, body))
        self.kick()

    def clear(self) -> None:
        """Forget what waits."""
        self._queue.clear()
        self._urgent.clear()

    def kick(self) -> None:
        """Look again: `held` or the window has changed."""
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        """Write until cancelled.

        Raises:
            ConnectionLost: The other side has gone.
        """
        self._ended = self._writing = False
        try:
            while True:
                while (next_one := self._take()) is not None:
                    self._writing = True
                    await self.wire.send(*next_one)
                    self._writing = False
                self.kick()  # for those in `below`
                await self._changed.wait()
        finally:
            self._ended = True
            self.kick()

    async def below(self, count: int) -> None:
        """Wait until fewer than `count` messages wait or are being written.

        Raises:
            ConnectionLost: Nobody writes them any more.
        """
        while len(self) >= count:
            if self._ended:
                raise ConnectionLost(f"{self.wire.key.name}: the other side has gone")
            await self._changed.wait()

    def _take(self) -> tuple[int, bytes] | None:
        if self._urgent:
            taken = self._urgent.popleft()
        elif self._queue and not self.held and (self._window is None or self._window.is_open):
            taken = self._queue.popleft()
        else:
            return None
        if self._window is not None:
            self._window.count_sent(taken[0])
        return taken


def _addresses(stream: Stream) -> tuple[Address, Address]:
    try:
        local, remote = stream.socket.getsockname(), stream.socket.getpeername()
    except OSError as error:
        raise ConnectionLost("the other side has gone") from error
    if stream.socket.family == trio.socket.AF_UNIX:
        return Address("unix:", 0), Address("unix:", 0)
    return Address(*local[:2]), Address(*remote[:2])
