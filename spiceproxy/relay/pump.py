"""Move bytes between the two sockets of one connection.

Cut-through: what the framer lets pass goes out of the receive buffer as it came in, before its message is whole.
The kernel is asked first, and trio only when it says "not now"; while a send waits nothing is read, and that is
the back-pressure.
"""

import errno
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from dissectors.side import Side
from spiceproxy import sockets
from spiceproxy.errors import ProtocolError, first_of
from spiceproxy.protocol.framer import MAX_HEADER_BYTES, Framer
from spiceproxy.protocol.items import Broken, Held, Item, Message, Note, Noted, Pass, Seen
from spiceproxy.relay.buffers import BufferPool
from spiceproxy.relay.fairness import Share, pause
from spiceproxy.relay.turns import LIGHT_BYTES, LOOKING_TURN_S, MOST_RECORDED_S, MOST_S, Turns
from spiceproxy.tls.stream import TlsSocket

# After one peer has said goodbye the other may go on for as long as it says something now and then.
HALF_CLOSED_IDLE_S: Final = 60.0
# After a peer is gone altogether: time for what it sent before to be read.
GONE_GRACE_S: Final = 5.0
# A send that waits when the proxy is told to stop gets this long.
DRAIN_S: Final = 1.0


class Observer(Protocol):
    """Who looks on while bytes pass."""

    @property
    def tracing(self) -> bool:
        """Whether `passed` is called."""

    def noted(self, side: Side, notes: list[Note]) -> None:
        """Messages of which only that they pass is wanted; their bytes go out next."""

    def seen(self, message: Message) -> None:
        """A wanted message; its bytes go out next."""

    async def held(self, message: Message) -> bytes:
        """A message that waits; return what goes out in its place."""

    async def passed(self, side: Side, data: memoryview, ends: list[int]) -> None:
        """Bytes that go out next; copy what you keep."""

    def direction_ended(self, side: Side, *, reset: bool = False, unreadable: str | None = None) -> None:
        """Nothing more comes from this side: it has closed, or is gone (`reset`), or cannot be read any further."""


@dataclass(frozen=True, slots=True)
class End:
    """How a connection ended."""

    by: str  # "client", "server" or "proxy"
    reason: str
    reset: bool = False


class _DirectionEnd(Exception):  # noqa: N818  not an error: it ends the other direction as well
    def __init__(self, end: End) -> None:
        super().__init__(end.reason)
        self.end = end


async def relay_data(
    sides: dict[Side, socket.socket],
    framers: dict[Side, Framer] | None,
    early: dict[Side, bytes],
    pool: BufferPool,
    share: Share,
    observer: Observer,
    make: "MakePump | None" = None,
) -> End:
    """Relay until both peers have closed; say who began with it.

    Args:
        sides: The sockets; the caller closes them.
        framers: One for each direction, or None to pass bytes that nobody can read.
        early: Bytes that came behind the link phase.
        pool: Where buffers come from.
        share: What the session may use of the processor.
        observer: Who looks on.
        make: Makes the pumps, where plain ones will not do.
    """
    first: End | None = None
    make = make or Pump
    pumps = {
        side: make(
            side, sides[side], sides[side.other], framers[side] if framers else None, pool, share, observer
        )
        for side in Side
    }

    async def run(side: Side) -> None:
        nonlocal first
        end = await pumps[side].run(early[side])
        if first is None:
            first = end
            nursery.start_soon(expire, pumps[side.other], GONE_GRACE_S if end.reset else HALF_CLOSED_IDLE_S)
        else:
            nursery.cancel_scope.cancel()

    async def expire(pump: Pump, idle_s: float) -> None:
        before = None
        while before != (now := pump.progress):
            before = now
            await trio.sleep(idle_s)
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for side in Side:
                nursery.start_soon(run, side)
    except* _DirectionEnd as group:
        error = first_of(group)
        assert isinstance(error, _DirectionEnd)  # noqa: S101  except* selected it
        # The kernel says only once why a connection broke: whoever asks second hears that the pipe is broken.
        if first is None or (first.reset and first.by == error.end.by):
            first = error.end
    return first or End("proxy", "closed")


class FreeDirection:
    """What there is in a direction beside its two peers: nothing. Who puts something in has a `Direction` of his own.

    Attributes:
        attention: Something is to go in between, or holds: nothing passes without a look.
        shaped: Somebody else reads from here on.
    """

    attention = shaped = False

    def is_shaped(self) -> bool:
        """As `shaped`, after a wait."""
        return self.shaped


class Pump:
    """One direction. The code is flat where every read passes through it: a small message costs microseconds."""

    def __init__(
        self,
        side: Side,
        source: socket.socket,
        sink: socket.socket,
        framer: Framer | None,
        pool: BufferPool,
        share: Share,
        observer: Observer,
    ) -> None:
        self._side, self._source, self._sink, self._framer = side, source, sink, framer
        self._pool, self._observer, self._tracing = pool, observer, observer.tracing
        # Peers wait for the socket though their TLS has another message decrypted: spice-gtk always (spice-channel.c,
        # spice_channel_iterate_read()), spice-server where a device has taken a while to drain (red-channel-client.cpp,
        # unblock_read()). Neither puts two messages into one record, so nobody may find two in one here.
        self._splits = isinstance(sink, TlsSocket)
        if self._splits and framer is not None:
            framer.trace = True
        tls = isinstance(source, TlsSocket) or isinstance(sink, TlsSocket)
        self._turns = Turns(share, tls=tls, apart=self._splits or self._tracing)
        self._direction = FreeDirection()
        self._moved_bytes = 0  # read, and written where that took a wait

    @property
    def progress(self) -> tuple[int, int]:
        """Something that changes while there is life: a slow reader is no silent one."""
        return self._moved_bytes, sockets.unsent_bytes(self._sink)

    async def run(self, early: bytes) -> End:
        """Pass bytes on until the source closes; the sink is told.

        Raises:
            _DirectionEnd: The source is gone or unreadable, so the other direction has no purpose either.
        """
        try:
            if early:
                data = memoryview(early)
                if self._framer is not None:
                    self._framer.time_ns = time.monotonic_ns()
                await self._forward(data, None if self._framer is None else self._framer.walk(data))
            reset = await self._read()
            if self._framer is not None and (rest := self._framer.end()):
                await self._pass(memoryview(rest), [len(rest)])
            self._observer.direction_ended(self._side, reset=reset is not None)
            if reset is None:
                self._sink.shutdown(socket.SHUT_WR)
        except ProtocolError as error:
            self._observer.direction_ended(self._side, unreadable=str(error))
            raise _DirectionEnd(End(self._side.value, str(error))) from error
        except OSError as error:  # the sink is gone; what it sent before may still be waiting for us
            self._observer.direction_ended(self._side.other, reset=True)
            return End(self._side.other.value, _reason(error), reset=True)
        if reset is not None:
            raise _DirectionEnd(End(self._side.value, _reason(reset), reset=True))
        return End(self._side.value, "closed")

    async def _read(self) -> OSError | None:
        """The loop. Return how the source ended: None for a proper end of its stream, or where the direction is shaped."""
        source, framer, pool, turns = self._source, self._framer, self._pool, self._turns
        direction, tracing = self._direction, self._tracing or self._splits
        wait_readable, recv_into, send = sockets.wait_readable, source.recv_into, self._sink.send
        clock_ns, monotonic = time.monotonic_ns, time.monotonic
        wait_s, messages, before, began = 0.0, 0, 0, 0.0
        while not direction.shaped:
            if wait_s:
                await pause(wait_s)
                wait_s = 0.0
            await wait_readable(source)
            if direction.is_shaped():
                break
            buffer = pool.take()
            try:
                while not direction.shaped:
                    asked = min(turns.read_bytes, len(buffer.body))
                    try:
                        received = recv_into(buffer.body, asked)
                    except BlockingIOError:
                        break
                    except OSError as error:
                        return error
                    if not received:
                        return None
                    self._moved_bytes += received
                    start, items = MAX_HEADER_BYTES, None
                    if framer is not None and framer.pending:
                        start -= len(framer.pending)
                        buffer.view[start:MAX_HEADER_BYTES] = framer.pending
                    data = buffer.view[start : MAX_HEADER_BYTES + received]
                    if framer is not None:
                        framer.time_ns = clock_ns()
                        framer.trace = tracing or direction.attention
                        before = framer.messages
                        began = monotonic() if received >= LIGHT_BYTES else 0.0
                        items = framer.walk(data)
                    if items is not None or tracing or direction.attention:
                        if began:
                            turns.unpaid_s += monotonic() - began
                        await self._forward(data, items)
                    else:
                        try:
                            sent = send(data)
                        except BlockingIOError:
                            sent = 0
                        if began:
                            turns.unpaid_s += monotonic() - began
                        if sent != len(data):
                            await self._finish(data[sent:])
                    if framer is not None:
                        messages = framer.messages - before
                    wait_s = turns.read(received, messages, full=received == asked)
                    if received < asked or wait_s:
                        break  # the kernel has no more; waiting is also where other tasks get their turn
                    await trio.lowlevel.checkpoint()
            finally:
                pool.give(buffer)
        return None

    async def _finish(self, data: memoryview) -> None:
        """Pass on what the sink did not take at once."""
        await self._send(data)

    async def _forward(self, data: memoryview, items: Iterator[Item] | None) -> None:
        if items is None:
            await self._pass(data, [len(data)] if self._framer is None else [])
            return
        turns, monotonic = self._turns, time.monotonic
        began = monotonic()
        for item in items:
            match item:
                case Pass():
                    turns.unpaid_s += monotonic() - began
                    await self._between(item)
                    began = monotonic()
                    continue
                case Noted(notes):
                    self._observer.noted(self._side, notes)
                case Seen(message):
                    turns.looked = True
                    self._see(message)
                case Held(message):
                    turns.looked = True
                    turns.unpaid_s += monotonic() - began
                    await self._hold(message)
                    began = monotonic()
                case Broken(error):
                    raise error
            if monotonic() - began + turns.unpaid_s >= LOOKING_TURN_S:
                turns.unpaid_s += monotonic() - began
                await self._give_way()
                began = monotonic()
        turns.unpaid_s += monotonic() - began

    async def _between(self, item: Pass) -> None:
        """Pass messages on between which nothing is put in."""
        await self._pass(item.data, item.ends)

    def _see(self, message: Message) -> None:
        self._observer.seen(message)

    async def _hold(self, message: Message) -> None:
        began = time.monotonic()
        data = await self._observer.held(message)
        self._turns.unpaid_s += min(time.monotonic() - began, MOST_S)
        await self._send(memoryview(data))

    async def _give_way(self) -> None:
        """One read may hold a hundred thousand messages that are looked at: others get their turn in between."""
        wait_s = self._turns.looked_at()
        with trio.CancelScope(shield=True):
            await pause(wait_s)

    async def _pass(self, data: memoryview, ends: list[int]) -> None:
        if self._tracing:
            began = time.monotonic()
            await self._observer.passed(self._side, data, ends)
            # More than that it waited for the disk.
            most_s = MOST_S + len(ends) * MOST_RECORDED_S
            self._turns.unpaid_s += min(time.monotonic() - began, most_s)
        if isinstance(self._sink, TlsSocket):
            await self._send_apart(self._sink, data, ends)
        else:
            await self._send(data)

    async def _send_apart(self, sink: TlsSocket, data: memoryview, ends: list[int]) -> None:
        try:
            await sink.send_apart(data, ends)
        except trio.Cancelled:
            with trio.move_on_after(DRAIN_S, shield=True):
                await sink.send_apart(memoryview(b""), [])
            raise
        self._moved_bytes += len(data)

    async def _send(self, data: memoryview) -> None:
        try:
            while data:
                try:
                    sent = self._sink.send(data)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._sink)
                else:
                    self._moved_bytes += sent
                    data = data[sent:]
        except trio.Cancelled:
            with trio.move_on_after(DRAIN_S, shield=True):
                await sockets.send_all(self._sink, data)
            raise


MakePump = Callable[[Side, socket.socket, socket.socket, Framer | None, BufferPool, Share, Observer], Pump]


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionResetError | BrokenPipeError) or error.errno == errno.ENOTCONN:
        return "reset"
    return (error.strerror or str(error)).lower()
