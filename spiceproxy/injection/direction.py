"""One direction of a connection: what is put into it goes out between two messages, and one writes at a time.

A direction is written by its pump, as bytes come in. What faults make of a message, and what they put in, is queued
here, each behind the message that had been counted by then. The pump writes it when it gets there; where it is idle
between two messages, a task of its own does.
"""

import socket
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from dissectors.side import Side
from spiceproxy import sockets
from spiceproxy.faults.effects import Close, Send
from spiceproxy.injection.shaping import Shaping
from spiceproxy.protocol.framer import Framer, Message
from spiceproxy.protocol.link import Phase
from spiceproxy.relay.pump import FreeDirection

# A peer that never ends its message, or reads nothing, keeps what is put in waiting: bounded.
MAX_QUEUED: Final = 20_000
MAX_QUEUED_BYTES: Final = 64 * 2**20


class Host(Protocol):
    """The connection, as its directions see it."""

    nursery: trio.Nursery

    async def going(self, side: Side, send: Send, unit: Phase | None) -> None:
        """This goes out next: to be recorded, and followed."""

    def half_closed(self, side: Side) -> None:
        """A fault has ended what this side sends."""

    def too_long(self, message: Message) -> None:
        """A message passes of which the body was not kept."""

    def failed(self, reason: str) -> None:
        """Something could not be carried out."""


@dataclass(frozen=True, slots=True)
class _Queued:
    """What is to go out, behind so many messages of the peer."""

    after: int
    what: Send | Close
    unit: Phase | None  # what it was in the link phase


class Direction(FreeDirection):
    """What `side` sends, and what is put into it.

    Args:
        side: Who sends.
        source: The sender's socket; None until there is one.
        sink: The receiver's; None until there is one.
        host: Its connection.

    Attributes:
        framer: Cuts what `side` sends into messages; None in the link phase, or where nobody can read it.
        attention: Something is queued or blocks: to be asked before every read is passed on.
        writing: The pump is at work; else nobody is, and the wire is where the framer is.
        shaping: What is done to all that is read, from here on; None for nothing.
        shaped: Whether there is such a thing.
        finished: The receiver has been told that nothing more comes.
    """

    def __init__(
        self, side: Side, source: socket.socket | None, sink: socket.socket | None, host: Host
    ) -> None:
        self.side, self.source, self.sink, self._host = side, source, sink, host
        self.framer: Framer | None = None
        self.attention = self.writing = self.finished = self.shaped = False
        self.shaping: Shaping | None = None
        self._queue: deque[_Queued] = deque()
        self._bytes = 0  # in there
        self._gates = 0
        self._draining = False
        self._news = trio.Event()

    def attach(self, source: socket.socket, sink: socket.socket) -> None:
        """Both sockets are there."""
        self.source, self.sink = source, sink
        if self.shaping is not None:
            self.shaping.source = source
        self.drain()

    @property
    def empty(self) -> bool:
        """Whether nothing waits to go out."""
        return not self._queue and not self._draining

    def shape(self) -> Shaping:
        """What is done to all that is read; from now on, also to what has been read behind the present message."""
        if self.shaping is None:
            self.shaping = Shaping(self.source, self._host.nursery)
            self.shaped = True
        if self.framer is not None:
            self.framer.stop = True
        return self.shaping

    @property
    def black(self) -> bool:
        """Whether all that is read is thrown away."""
        return self.shaping is not None and self.shaping.black

    def put(self, what: Send | Close, unit: Phase | None = None) -> None:
        """Send this at the next boundary between messages, behind what is queued."""
        full = len(self._queue) >= MAX_QUEUED or self._bytes + _bytes_of(what) > MAX_QUEUED_BYTES
        if full and isinstance(what, Send) and what.injected:  # of a peer's own, one waits at most
            waiting = f"{len(self._queue)} messages of {self._bytes} bytes"
            self._host.failed(f"{waiting} wait to go to the {self.side.other.value}")
            return
        self._bytes += _bytes_of(what)
        counted = self.framer.messages if self.framer is not None else 0
        self._queue.append(_Queued(counted, what, unit))
        self.attention = True
        self._stir()
        self.drain()

    def drain(self) -> None:
        """Write what is queued, if nobody else is writing and no message is half out."""
        inside = self.framer is not None and self.framer.left > 0
        if self._queue and not (self.writing or self._draining or inside or self.sink is None):
            self._draining = True
            self._host.nursery.start_soon(self._drain, self.framer.messages if self.framer is not None else 0)

    def gate(self) -> None:
        """Let nothing pass that the peer sends, until `ungate` is called as often."""
        self._gates += 1
        self.attention = True
        self._stir()

    def ungate(self) -> None:
        """See `gate`."""
        self._gates -= 1
        self._stir()

    async def attend(self, gone: int) -> None:
        """The writer is between two messages: write what is due here, and wait while something blocks.

        Args:
            gone: So many messages of the peer have gone out, or been dealt with.

        Raises:
            OSError: The receiver is gone.
        """
        while True:
            if self._draining:
                await self._news.wait()
            elif self._queue and self._queue[0].after <= gone and self.sink is not None:
                await self._write(self._queue.popleft())
                self._stir()
            elif self._gates:
                await self._news.wait()
            else:
                break
        self.attention = bool(self._queue)

    def due_in(self, gone: int) -> int:
        """How many messages pass before something is due; at least 1."""
        if self._gates or self._draining or not self._queue:
            return 1
        return max(1, self._queue[0].after - gone)

    def too_long(self, message: Message) -> None:
        """A message passes of which the body was not kept."""
        self._host.too_long(message)

    async def emptied(self) -> None:
        """Wait until nothing is queued any more."""
        while not self.empty:
            await self._news.wait()

    async def _drain(self, gone: int) -> None:
        try:
            while self._queue and self._queue[0].after <= gone:
                await self._write(self._queue.popleft())
        except OSError as error:  # the pump finds out by itself
            self._host.failed(f"the {self.side.other.value} is gone: {error.strerror or error}")
        finally:
            self._draining = False
            self.attention = bool(self._queue or self._gates)
            self._stir()

    async def _write(self, queued: _Queued) -> None:
        send, sink = queued.what, self.sink
        self._bytes -= _bytes_of(send)
        assert sink is not None  # noqa: S101  asked for by both callers
        if self.finished:
            self._host.failed(f"nothing more goes to the {self.side.other.value}: its half is closed")
        elif isinstance(send, Close):
            self.finished = True
            self.shape().swallow()
            self._host.half_closed(self.side)
            sink.shutdown(socket.SHUT_WR)
        else:
            await self._host.going(self.side, send, queued.unit)
            view = memoryview(send.data)
            step = send.segment_bytes or len(view) or 1
            for at in range(0, len(view), step):
                if at:
                    await trio.sleep(send.gap_ns / 1e9)
                await sockets.send_all(sink, view[at : at + step])

    def _stir(self) -> None:
        self._news.set()
        self._news = trio.Event()


def _bytes_of(what: Send | Close) -> int:
    return len(what.data) if isinstance(what, Send) else 0
