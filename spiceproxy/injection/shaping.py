"""What one side sends, slowed down, kept back or thrown away, between its socket and whoever frames it."""

import math
import socket
import struct
from collections import deque
from random import Random
from typing import Final

import trio

from spiceproxy import sockets
from spiceproxy.faults.effects import Blackhole, Latency, Stall, Throttle
from spiceproxy.relay import pump

CHUNK_BYTES: Final = 64 * 2**10
# What may be on its way at once where all comes later: 4 MiB are 40 ms of 100 MB/s, or 4 s of 1 MB/s.
LINE_BYTES: Final = 4 * 2**20
# Throttled bytes come in so many pieces a second.
PIECES_PER_S: Final = 20
# Who does not read does not see either that a peer is gone; so it is asked for now and then.
LOOK_S: Final = 1.0

_TCP_STATE: Final = struct.Struct("B")  # the first byte of struct tcp_info
_SENDING: Final = frozenset(
    {1, 4, 5}
)  # ESTABLISHED, FIN_WAIT1, FIN_WAIT2: more may come. Source: linux/tcp_states.h
_NS: Final = 1e9


Shape = Stall | Throttle | Latency | Blackhole


class Shaping:
    """One side's bytes, from the moment on from which something is done to all of them.

    Args:
        source: The side's socket, which from `read` on nobody else reads; None until there is one.
        nursery: Of the connection.

    Attributes:
        source: As given; may be set once.
        black: All is thrown away.
    """

    def __init__(self, source: socket.socket | None, nursery: trio.Nursery) -> None:
        self.source, self._nursery = source, nursery
        self._stalled_until = 0.0
        self._rate: int | None = None
        self._delay_s = self._jitter_s = 0.0
        self._random = Random(0)  # noqa: S311  the engine says how it begins
        self.black = False
        self._line: deque[tuple[float, bytes]] = deque()  # due when
        self._line_bytes = 0
        self._last_due = self._next = 0.0
        self._started = False
        self._ended: OSError | bool = False  # True: in good order
        self._patience_s = math.inf  # once it has ended: how long its last bytes may stand still
        self._given_up = math.inf  # when that is over
        self._news = trio.Event()

    # What the effects say -------------------------------------------------------------------------

    def take(self, effect: Shape) -> None:
        """What is to be done from here on."""
        match effect:
            case Stall(duration_ns=duration_ns):
                self.stall(duration_ns)
            case Throttle(bytes_per_s=rate):
                self.throttle(rate)
            case Latency():
                self.delay(effect)
            case Blackhole():
                self.swallow()

    def stall(self, duration_ns: int | None) -> None:
        """Read nothing for so long; None: for good."""
        until = math.inf if duration_ns is None else trio.current_time() + duration_ns / _NS
        self._stalled_until = max(self._stalled_until, until)
        self._stir()

    def throttle(self, bytes_per_s: int) -> None:
        """Let no more pass than so many bytes a second."""
        self._rate = bytes_per_s
        self._stir()

    def delay(self, latency: Latency) -> None:
        """Deliver all so much later."""
        self._delay_s, self._jitter_s = latency.delay_ns / _NS, latency.jitter_ns / _NS
        self._random = Random(latency.seed)  # noqa: S311  it has to be the same every time

    def swallow(self) -> None:
        """Throw all away."""
        self.black = True
        self._line.clear()
        self._line_bytes = 0
        self._stir()

    # Reading --------------------------------------------------------------------------------------

    def give(self, data: bytes) -> None:
        """Bytes that have been read already, and that nobody has looked at."""
        if data and not self.black:
            self._line.appendleft((trio.current_time() + self._late_s(), data))
            self._line_bytes += len(data)

    async def read(self) -> bytes:
        """The next bytes that are due; b"" at the end of the stream.

        Raises:
            OSError: The connection broke.
        """
        if not self._started:
            self._started = True
            self._nursery.start_soon(self._fill)
        while True:
            now = trio.current_time()
            if now < self._stalled_until and self._ended is False:
                await self._until(self._stalled_until)
            elif self._line and now < self._given_up:
                due = max(self._line[0][0], self._next)
                if due <= now:
                    return self._take(now)
                await self._until(min(due, self._given_up))
            elif isinstance(self._ended, OSError):
                raise self._ended
            elif self._ended:
                return b""
            else:
                await self._until(math.inf)

    def _take(self, now: float) -> bytes:
        due, data = self._line.popleft()
        if self._rate is not None:
            size = max(1, self._rate // PIECES_PER_S)
            if len(data) > size:
                self._line.appendleft((due, data[size:]))
                data = data[:size]
            self._next = now + len(data) / self._rate
        self._line_bytes -= len(data)
        self._given_up = now + self._patience_s
        self._stir()
        return data

    def _late_s(self) -> float:
        return (
            self._delay_s + self._jitter_s * self._random.random() if self._delay_s or self._jitter_s else 0.0
        )

    async def _fill(self) -> None:
        """Read ahead, as far as there is room."""
        source, gone_s = self.source, 0.0
        assert source is not None  # noqa: S101  who reads has one
        try:
            while True:
                if (now := trio.current_time()) < self._stalled_until:
                    if _may_send(source):
                        gone_s = now
                    elif self._stalled_until == math.inf or now - gone_s >= pump.HALF_CLOSED_IDLE_S:
                        break
                    await self._until(min(self._stalled_until, now + LOOK_S))
                    continue
                if self._line_bytes >= (LINE_BYTES if self._delay_s else CHUNK_BYTES):
                    await self._until(math.inf)
                    continue
                await sockets.wait_readable(source)
                if trio.current_time() < self._stalled_until:
                    continue
                try:
                    data = source.recv(CHUNK_BYTES)
                except BlockingIOError:
                    continue
                if not data:
                    break
                if not self.black:
                    self._last_due = max(self._last_due, trio.current_time() + self._late_s())
                    self._line.append((self._last_due, data))
                    self._line_bytes += len(data)
                    self._stir()
        except OSError as error:
            self._over(error, pump.GONE_GRACE_S)
        else:
            self._over(True, pump.HALF_CLOSED_IDLE_S)

    def _over(self, how: OSError | bool, patience_s: float) -> None:
        """Nothing more comes. What is on its way still arrives when it is due, unless the relay would not wait so long."""
        self._ended, self._patience_s = how, patience_s
        self._given_up = trio.current_time() + patience_s
        self._stir()

    async def _until(self, when: float) -> None:
        """Wait for a time, or for something to change."""
        with trio.move_on_at(when):
            await self._news.wait()

    def _stir(self) -> None:
        self._news.set()
        self._news = trio.Event()


def _may_send(source: socket.socket) -> bool:
    return source.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_STATE.size)[0] in _SENDING
