"""Move bytes between the two sockets of one connection.

Cut-through: what the framer lets pass goes out of the receive buffer as it came in, before its message is whole.
The kernel is asked first, and trio only when it says "not now"; while a send waits nothing is read, and that is
the back-pressure.
"""

import errno
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from dissectors.side import Side
from spiceproxy import sockets
from spiceproxy.buffers import BufferPool
from spiceproxy.errors import ProtocolError
from spiceproxy.limits import LOOKING_BURST_S, LOOKING_SHARE, Allowance
from spiceproxy.protocol.framer import MAX_HEADER_BYTES, MAX_NOTES, Framer
from spiceproxy.protocol.items import Broken, Held, Item, Message, Note, Noted, Pass, Seen
from spiceproxy.protocol.link import LinkPhase, Phase, Unit
from spiceproxy.tls.stream import TlsSocket

LINK_READ_BYTES: Final = 16 * 2**10
# After one peer has said goodbye the other may go on for as long as it says something now and then.
HALF_CLOSED_IDLE_S: Final = 60.0
# After a peer is gone altogether: time for what it sent before to be read.
GONE_GRACE_S: Final = 5.0
# Less is not worth a wait: others come between two messages anyway.
GIVE_WAY_S: Final = 0.01
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


async def relay_link(
    link: LinkPhase, sides: dict[Side, socket.socket], pass_on: "PassOn", receive: "Receive | None" = None
) -> None:
    """Relay the link phase, beginning with units that `link` has found already.

    Args:
        link: Its state.
        sides: The sockets.
        pass_on: Has each unit go out.
        receive: Reads what a side sends, where its socket will not do.

    Raises:
        ProtocolError: A peer sent what is no link phase.
        ClosedEarlyError: A peer closed before the end of it.
        OSError: A connection broke.
    """
    waiting: list[Unit] = []
    ended: set[Side] = set()
    lock = trio.Lock()

    async def flush() -> None:
        async with lock:  # one writer at a time: units of both sides may come out of either reader
            while waiting:
                await pass_on(waiting.pop(0))

    async def read(side: Side) -> None:
        while not link.finished:
            data = await (receive(side) if receive else sockets.receive(sides[side], LINK_READ_BYTES))
            if data:
                try:
                    waiting.extend(link.receive(side, data))
                finally:
                    await flush()
            else:
                ended.add(side)
            if not link.finished and link.turn in ended:  # what is awaited will not come
                raise ClosedEarlyError(link.turn, link)
            if not data:  # it may still read the other's answer
                sides[side.other].shutdown(socket.SHUT_WR)
                return
        scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            for side in Side:
                nursery.start_soon(read, side)
    except* (ProtocolError, ClosedEarlyError, OSError) as group:
        raise _first(group) from None


PassOn = Callable[[Unit], Awaitable[None]]
Receive = Callable[[Side], Awaitable[bytes]]


class ClosedEarlyError(Exception):
    """A peer closed its side during the link phase."""

    def __init__(self, side: Side, link: LinkPhase) -> None:
        meant = _MEANT_BY_CLOSING.get((side, link.phase), "")
        super().__init__(f"the {side.value} closed the connection, the {link.phase.value} was awaited{meant}")
        self.side = side


# Neither peer says what it does not like about SASL. Sources: spice-server red-stream.cpp, red_sasl_start_auth() and
# red_sasl_handle_auth_step(); spice-gtk spice-channel.c, spice_channel_perform_auth_sasl().
_MEANT_BY_CLOSING: Final = {
    (Side.SERVER, Phase.SASL_MECHLIST): ": it has no mechanism that it could offer",
    (Side.SERVER, Phase.SASL_SERVER_DATA): ": it does not accept the user or the password",
    (Side.SERVER, Phase.SASL_RESULT): ": it does not accept the user or the password",
    (Side.CLIENT, Phase.SASL_MECHNAME): ": it may know none of those that the server offers",
    (Side.CLIENT, Phase.SASL_CLIENT_DATA): ": it may have no user and password, or not accept what the server has said",
}  # fmt: skip


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)  # noqa: S101  except* selected by these classes
    return error


async def relay_data(
    sides: dict[Side, socket.socket],
    framers: dict[Side, Framer] | None,
    early: dict[Side, bytes],
    pool: BufferPool,
    observer: Observer,
    make: "MakePump | None" = None,
) -> End:
    """Relay until both peers have closed; say who began with it.

    Args:
        sides: The sockets; the caller closes them.
        framers: One for each direction, or None to pass bytes that nobody can read.
        early: Bytes that came behind the link phase.
        pool: Where buffers come from.
        observer: Who looks on.
        make: Makes the pumps, where plain ones will not do.
    """
    first: End | None = None
    make = make or Pump
    pumps = {
        side: make(side, sides[side], sides[side.other], framers[side] if framers else None, pool, observer)
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
        error = _first(group)
        assert isinstance(error, _DirectionEnd)  # noqa: S101  except* selected it
        # The kernel says only once why a connection broke: whoever asks second hears that the pipe is broken.
        if first is None or (first.reset and first.by == error.end.by):
            first = error.end
    return first or End("proxy", "closed")


class _Blind:
    """Observes nothing."""

    tracing = False

    def noted(self, side: Side, notes: list[Note]) -> None:
        """Nobody wanted it."""

    def seen(self, message: Message) -> None:
        """Nobody wanted it."""

    async def held(self, message: Message) -> bytes:
        """As it was."""
        return message.header + message.body

    async def passed(self, side: Side, data: memoryview, ends: list[int]) -> None:
        """Nobody records it."""

    def direction_ended(self, side: Side, *, reset: bool = False, unreadable: str | None = None) -> None:
        """Nobody asks."""


async def relay_opaque(client: socket.socket, server: socket.socket, pool: BufferPool) -> End:
    """Relay bytes that nobody here can read, until both peers have closed."""
    sides = {Side.CLIENT: client, Side.SERVER: server}
    return await relay_data(sides, None, dict.fromkeys(Side, b""), pool, _Blind())


class Pump:
    """One direction. The code is flat where every read passes through it: a small message costs microseconds."""

    def __init__(
        self,
        side: Side,
        source: socket.socket,
        sink: socket.socket,
        framer: Framer | None,
        pool: BufferPool,
        observer: Observer,
    ) -> None:
        self._side, self._source, self._sink, self._framer = side, source, sink, framer
        self._pool, self._observer, self._tracing = pool, observer, observer.tracing
        self._looking = Allowance(LOOKING_BURST_S, LOOKING_SHARE)
        # Peers wait for the socket though their TLS has another message decrypted: spice-gtk always (spice-channel.c,
        # spice_channel_iterate_read()), spice-server where a device has taken a while to drain (red-channel-client.cpp,
        # unblock_read()). Neither puts two messages into one record, so nobody may find two in one here.
        self._splits = isinstance(sink, TlsSocket)
        if self._splits and framer is not None:
            framer.trace = True
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
        """The loop. Return how the source ended: None for a proper end of its stream."""
        source, framer, pool = self._source, self._framer, self._pool
        tracing = self._tracing or self._splits
        wait_readable, recv_into, send = sockets.wait_readable, source.recv_into, self._sink.send
        clock_ns = time.monotonic_ns
        while True:
            await wait_readable(source)
            buffer = pool.take()
            try:
                while True:
                    try:
                        received = recv_into(buffer.body)
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
                        items = framer.walk(data)
                    if items is not None or tracing:
                        await self._forward(data, items)
                    else:
                        try:
                            sent = send(data)
                        except BlockingIOError:
                            sent = 0
                        if sent != len(data):
                            await self._send(data[sent:])
                    if received < len(buffer.body):
                        break  # the kernel has no more; waiting is also where other tasks get their turn
                    await trio.lowlevel.checkpoint()
            finally:
                pool.give(buffer)

    async def _forward(self, data: memoryview, items: Iterator[Item] | None) -> None:
        if items is None:
            await self._pass(data, [len(data)] if self._framer is None else [])
            return
        for item in items:
            match item:
                case Pass():
                    await self._between(item)
                case Noted(notes):
                    self._observer.noted(self._side, notes)
                    if len(notes) == MAX_NOTES:
                        await trio.lowlevel.cancel_shielded_checkpoint()
                case Seen(message):
                    began = time.thread_time()  # not that of others on a busy machine
                    self._see(message)
                    await self._give_way(time.thread_time() - began)
                case Held(message):
                    await self._hold(message)
                case Broken(error):
                    raise error

    async def _between(self, item: Pass) -> None:
        """Pass messages on between which nothing is put in."""
        await self._pass(item.data, item.ends)

    def _see(self, message: Message) -> None:
        self._observer.seen(message)

    async def _hold(self, message: Message) -> None:
        began = time.thread_time()
        data = await self._observer.held(message)
        looked_s = time.thread_time() - began
        await self._send(memoryview(data))
        await self._give_way(looked_s)

    async def _give_way(self, looked_s: float) -> None:
        """One read may hold a hundred thousand messages that are looked at: others get their turn in between."""
        wait_s = self._looking.use(looked_s)
        with trio.CancelScope(shield=True):  # rather long and seldom: who comes between is not held up then
            await trio.sleep(wait_s if wait_s >= GIVE_WAY_S else 0.0)

    async def _pass(self, data: memoryview, ends: list[int]) -> None:
        if self._tracing:
            await self._observer.passed(self._side, data, ends)
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


MakePump = Callable[[Side, socket.socket, socket.socket, Framer | None, BufferPool, Observer], Pump]


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionResetError | BrokenPipeError) or error.errno == errno.ENOTCONN:
        return "reset"
    return (error.strerror or str(error)).lower()
