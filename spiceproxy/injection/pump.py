"""The relay's pump, for a direction into which something may be put, and of which the engine is asked.

As fast as the plain one where nothing is wanted: the loop is the same.
"""

import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from spiceproxy.injection.direction import Direction
from spiceproxy.protocol.items import Item, Message, Pass
from spiceproxy.relay.pump import End, Pump
from spiceproxy.relay.turns import MOST_S

Decide = Callable[[Message], Awaitable[None]]


class FaultyPump(Pump):
    """One direction.

    Args:
        direction: Where things are put in.
        decide: Asked about a held message; has what goes out in its place queued in `direction`.
        *arguments: As of `Pump`.
    """

    def __init__(self, direction: Direction, decide: Decide, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._direction: Direction = direction
        self._decide = decide
        self._gone = 0  # messages of the peer that have gone out, or been dealt with

    async def run(self, early: bytes) -> End:
        """As `Pump.run`."""
        self._mark_ends()
        return await super().run(early)

    def _mark_ends(self) -> None:
        if self._framer is not None:
            self._framer.trace = self._tracing or self._splits or self._direction.attention

    async def _read(self) -> OSError | None:
        error = await super()._read()
        return await self._read_shaped() if self._direction.shaped else error

    async def _finish(self, data: memoryview) -> None:
        self._direction.writing = True
        try:
            await super()._finish(data)
            await self._settle()
        finally:
            self._direction.writing = False

    async def _read_shaped(self) -> OSError | None:
        """The loop, from when on something is done to all that is read."""
        shaping, framer = self._direction.shape(), self._framer
        while True:
            try:
                received = await shaping.read()
            except OSError as error:
                return error
            if not received:
                return None
            self._moved_bytes += len(received)
            items = None
            if framer is not None:
                received = framer.pending + received
                framer.time_ns = time.monotonic_ns()
                framer.stop = False
                self._mark_ends()
                items = framer.walk(memoryview(received))
            await self._forward(memoryview(received), items)

    async def _forward(self, data: memoryview, items: Iterator[Item] | None) -> None:
        direction, framer = self._direction, self._framer
        direction.writing = True
        try:
            if framer is None or items is None:
                await super()._forward(data, items)
                await self._settle()
                return
            inside = framer.left > 0
            self._gone = framer.messages - inside
            if direction.attention and not inside:
                await direction.attend(self._gone)
            await super()._forward(data, items)
            if framer.stopped is not None and direction.shaping is not None:
                direction.shaping.give(bytes(data[framer.stopped :]))
            await self._settle()
        finally:
            direction.writing = False

    async def _settle(self) -> None:
        """All that was read has been dealt with: write what has been put in meanwhile."""
        if self._direction.attention and (self._framer is None or not self._framer.left):
            await self._direction.attend(0 if self._framer is None else self._framer.messages)

    async def _between(self, item: Pass) -> None:
        direction, (data, ends) = self._direction, item
        start = done = 0
        while direction.attention and done < len(ends):
            count = min(direction.due_in(self._gone), len(ends) - done)
            end = ends[done + count - 1]
            await self._pass(data[start:end], [each - start for each in ends[done : done + count]])
            start, done, self._gone = end, done + count, self._gone + count
            await direction.attend(self._gone)
        if start < len(data):
            await self._pass(data[start:], [each - start for each in ends[done:]])
            self._gone += len(ends) - done

    def _see(self, message: Message) -> None:
        super()._see(message)
        if not message.whole:
            self._direction.too_long(message)

    async def _hold(self, message: Message) -> None:
        assert self._framer is not None  # noqa: S101  who holds has one
        self._gone = self._framer.messages
        began = time.monotonic()
        await self._decide(message)
        self._turns.unpaid_s += min(time.monotonic() - began, MOST_S)
        await self._direction.attend(self._gone)

    async def _pass(self, data: memoryview, ends: list[int]) -> None:
        if not self._direction.finished:
            await super()._pass(data, ends)
