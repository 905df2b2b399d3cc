"""Cut one side's bytes into messages while they pass.

The framer walks headers. Bodies are neither copied nor waited for, unless a message is *wanted*: NOTE says that it
passed, SEE keeps a copy and lets the bytes go, HOLD keeps the bytes themselves back until somebody has decided about
them. What is wanted may change at any time, see `want`. This is the hot path of the proxy, which is why it looks as it
does: one call per read, one loop per message, and no object per message that nobody wants. Who passes nothing on and
wants every message, a reader of captures, calls `read` instead of `walk`; `skip` steps over bytes that a capture has
not.

Sources: spice-protocol spice/protocol.h, SpiceDataHeader and SpiceMiniDataHeader. Packed, little-endian.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Final

from dissectors.side import Side
from spiceproxy.errors import ProtocolError
from spiceproxy.protocol.items import Broken, Held, Item, Message, Note, Noted, Pass, Seen, Want

__all__ = ["Broken", "Framer", "Held", "Item", "Message", "Note", "Noted", "Pass", "Seen", "Want"]

_FULL: Final = struct.Struct("<QHII")  # serial, type, size, sub_list
_FULL_WALK: Final = struct.Struct("<8xHI4x")  # type, size
_MINI: Final = struct.Struct("<HI")  # type, size

MAX_HEADER_BYTES: Final = _FULL.size
MINI_HEADER_BYTES: Final = _MINI.size

# `size` has 32 bits, and both spice-server and spice-gtk keep it in a signed int: from 2 GiB on they abort.
# The largest body known, an uncompressed 8K frame at 4 bytes a pixel, has 133 MB. The bound costs no memory,
# since bodies are not kept; it tells a stream that has lost its framing from one that has not.
MAX_BODY_BYTES: Final = 2**30

# A wanted body is kept whole up to here. The longest message that is held, a MIGRATE_SWITCH_HOST with the
# longest host name (253) and a generous certificate subject, has less than 2 KiB.
MAX_KEPT_BYTES: Final = 64 * 2**10

# So many messages are noted in one go. A read may hold 170,000; in between others get their turn.
MAX_NOTES: Final = 256


class Framer:
    """One direction of one connection, from the first byte after the link result.

    Args:
        side: Who sends.
        mini_header: Whether both peers announced SPICE_COMMON_CAP_MINI_HEADER.
        wanted: What is wanted of which message id; the others pass unread.
        trace: Report where every message ends (`Pass.ends`), for a recorder.
        mark: Report it where bytes are not passed as one, for whoever puts messages in between.
        offset: Bytes of this side's stream before the first one given here; only for error texts.
        keep: Bytes of a body that are kept at most.
    """

    __slots__ = (
        "_collect", "_full", "_keep", "_kept", "_left", "_mark", "_reading", "_rest", "_room", "_serial", "_size", "_walk", "_wanted",
        "last_id", "messages", "offset", "pending", "side", "stop", "stopped", "time_ns", "trace",
    )  # fmt: skip

    def __init__(
        self,
        side: Side,
        *,
        mini_header: bool,
        wanted: Mapping[int, Want],
        trace: bool = False,
        mark: bool = False,
        offset: int = 0,
        keep: int = MAX_KEPT_BYTES,
    ) -> None:
        self.side = side
        self.trace = trace  # may change from one walk to the next
        self.stop = False  # end the walk behind the next message that was held or seen; `stopped` says where
        self.stopped: int | None = None  # how much of the data the last walk took, if it was made to stop
        self.messages = 0  # headers read so far
        self.last_id = 0  # of the last of them
        self.time_ns = 0  # when bytes last came; for whoever reads them to set and to ask for
        self.pending = b""  # part of a header, to be given again in front of the next bytes
        self._full, self._walk = not mini_header, _MINI if mini_header else _FULL_WALK
        self._wanted, self._mark = wanted, mark
        self._rest: Want | None = None  # what is wanted of ids that `_wanted` has not
        self.offset = offset  # bytes of this side's stream read so far
        self._left = 0  # bytes of the current body still to come
        self._size = 0  # bytes of body the current message announced
        self._serial = 0  # of the current message, under full headers
        self._collect: Want | None = None  # whether the current message is wanted
        self._kept = bytearray()  # header and body so far of the current wanted message
        self._keep = keep
        self._reading = False  # inside a message that `read` began
        self._room = 0  # how long `_kept` may become, for `read`

    def want(
        self, wanted: Mapping[int, Want], rest: Want | None = None, *, keep: int = MAX_KEPT_BYTES
    ) -> None:
        """Want something else from the next header on, also between two items of a walk.

        Args:
            wanted: What is wanted of which message id.
            rest: What is wanted of all others; None: they pass unread.
            keep: Bytes of a body that are kept at most.
        """
        self._wanted, self._rest, self._keep = wanted, rest, keep

    def walk(self, data: memoryview) -> Iterator[Item] | None:
        """Take the next bytes, which must begin with `pending`, and say what happens to them.

        Returns None for the most frequent answer: all of `data` passes. Otherwise all of it except the new
        `pending` and what is held is in the `Pass` items, in order. The items are found as they are asked for, so
        that a megabyte of tiny wanted messages is not a million objects at once; all of them must be asked for
        before the next call. After a `Broken` no more bytes may be given.
        """
        total, position = len(data), self._left
        if self.trace or self._collect is not None or self._rest is not None:
            return self._items(data)
        if position >= total:  # the inside of a long body
            self._left = position - total
            self.offset += total
            return None
        step, wanted, unpack = self._walk.size, self._wanted, self._walk.unpack_from
        last, count, size = total - step, 0, self._size
        while position <= last:
            id_, size = unpack(data, position)
            if id_ in wanted:
                return self._items(data)  # nothing of this scan has been kept
            count += 1
            position += step + size
        if position < total or size > MAX_BODY_BYTES:
            return self._items(data)
        self.messages += count
        self._left, self._size, self.pending = position - total, size, b""
        self.last_id = id_
        if self._full:
            self._serial = _FULL.unpack_from(data, position - size - step)[0]
        self.offset += total
        return None

    def _items(self, data: memoryview) -> Iterator[Item]:
        """What `walk` returns when there is something to say."""
        total, left = len(data), self._left
        items: list[Item] = []  # found and not told yet
        ends: list[int] = []
        start = position = 0  # data[start:position] passes
        self.stopped = None
        if left or self._collect is not None:
            start, position = self._continue_body(data, items, ends)
            yield from items
            if items and self.stop:
                yield from self._stop(data, start, position, ends)
                return
            items.clear()
        step, trace, full, unpack = (
            self._walk.size,
            self.trace or self._mark,
            self._full,
            self._walk.unpack_from,
        )
        last, count, size, id_ = total - step, 0, self._size, self.last_id
        wanted, rest = self._wanted, self._rest
        notes: list[Note] = []
        while position <= last:
            id_, size = unpack(data, position)
            count += 1
            want = wanted.get(id_, rest)
            if want is not None:
                if want is Want.NOTE and position + step + size <= total:
                    number = self.messages + count
                    serial = _FULL.unpack_from(data, position)[0] if full else number
                    notes.append((id_, size, serial, number))
                    if len(notes) == MAX_NOTES:
                        yield Noted(notes)
                        notes, wanted, rest = [], self._wanted, self._rest
                else:
                    if notes:
                        yield Noted(notes)
                        notes = []
                    self.messages, count = self.messages + count, 0
                    self._serial = _FULL.unpack_from(data, position)[0] if full else 0
                    start = self._begin_wanted(data, start, position, (id_, size, want), items, ends)
                    yield from items
                    if items and self.stop and position + step + size <= total:
                        self.last_id, position = id_, position + step + size
                        yield from self._stop(data, start, position, ends)
                        return
                    items.clear()
                    wanted, rest = self._wanted, self._rest
            position += step + size
            if trace and position <= total:
                ends.append(position)
        if notes:
            yield Noted(notes)
        self.messages, self.last_id = self.messages + count, id_
        if count and full:
            self._serial = _FULL.unpack_from(data, position - size - step)[0]
        self._size = size
        if position > total:  # the last message goes on
            self._left = position - total
            if size > MAX_BODY_BYTES:
                header_at = position - size - step
                yield from self._break(data, start, header_at, ends, f"message of {size} bytes announced")
                return
            position = total
        else:
            self._left = 0
        self.pending = bytes(data[position:])
        self.offset += position
        if start < position:
            yield _passed(data, start, position, ends)

    def _stop(self, data: memoryview, start: int, position: int, ends: list[int]) -> Iterator[Item]:
        """End the walk behind a message; the rest of the data will be given again, or never."""
        if start < position:
            if (self.trace or self._mark) and position not in ends:
                ends.append(position)
            yield _passed(data, start, position, ends)
        self._left, self.pending, self.stopped = 0, b"", position
        self.offset += position

    def end(self) -> bytes:
        """The peer has closed its side: bytes that were kept back and go out as they are.

        `inside_message` tells before this call whether the peer stopped in the middle of one.
        """
        held = bytes(self._kept) if self._collect is Want.HOLD else b""
        self._kept, self._collect = bytearray(), None
        self.offset += len(self.pending)
        rest, self.pending = held + self.pending, b""
        return rest

    @property
    def inside_message(self) -> bool:
        """Whether the next byte belongs to a message that has begun."""
        return bool(self._left or self.pending)

    @property
    def last_serial(self) -> int:
        """Of the last message, as in the full header; counted from 1 under mini headers."""
        return self._serial if self._full else self.messages

    @property
    def last_size(self) -> int:
        """Bytes of body that the last message announced."""
        return self._size

    @property
    def left(self) -> int:
        """Bytes of the current message's body that are still to come."""
        return self._left

    def read(self, data: bytes) -> Iterator[Message]:
        """Take the next bytes, which must begin with `pending`, and give every message that is whole now.

        For who passes nothing on and wants all messages; `wanted` is not asked. Not to be mixed with `walk`. All
        messages must be asked for before the next call.

        Raises:
            ProtocolError: A body beyond `MAX_BODY_BYTES` is announced. No more bytes may be given then.
        """
        total, position = len(data), 0
        if self._reading:
            position = min(self._left, total)
            self._kept += memoryview(data)[: max(0, min(position, self._room - len(self._kept)))]
            self._left -= position
            self.offset += position
            if self._left:
                return
            yield self._read()
        full, step, keep, side = self._full, self._walk.size, self._keep, self.side
        unpack = _FULL.unpack_from if full else _MINI.unpack_from
        last, start = total - step, position
        while position <= last:
            self.messages += 1
            if full:
                serial, id_, size, sub_list = unpack(data, position)
            else:
                (id_, size), serial, sub_list = unpack(data, position), self.messages, 0
            body = position + step
            end = body + size
            if end > total or size > keep:
                if size > MAX_BODY_BYTES:
                    self.offset += position - start
                    raise ProtocolError(f"message of {size} bytes announced", side=side, offset=self.offset)
                self._room = min(size, keep) + step
                self._kept = bytearray(memoryview(data)[position : min(end, position + self._room)])
                self._size, self._left, self._reading = size, max(0, end - total), True
                position = min(end, total)
                if self._left:
                    break
                yield self._read()
                continue
            yield Message(side, id_, size, serial, sub_list, data[position:body], data[body:end])
            position = end
        self.pending = b"" if self._left else data[position:]
        self.offset += position - start

    def skip(self, size: int) -> Message | None:
        """Step over `size` bytes of the current body that nobody has: the message will not be `whole`.

        Returns:
            The message, if that was all of it.

        Raises:
            ValueError: The current body has fewer bytes to come: what follows would be lost.
        """
        if not 0 < size <= self._left or self.pending:
            raise ValueError(f"{size} bytes to be skipped, {self._left} left")
        self._room = len(self._kept)
        self._left -= size
        self.offset += size
        return None if self._left else self._read()

    def cut(self) -> Message | None:
        """The stream has ended: the message that began and is not whole, if its header is."""
        return self._read() if self._reading else None

    def _read(self) -> Message:
        """The message that `read` has collected."""
        self._reading, self._left = False, 0
        raw, self._kept = bytes(self._kept), bytearray()
        return self._message(raw, self._size, self.messages)

    def _continue_body(self, data: memoryview, items: list[Item], ends: list[int]) -> tuple[int, int]:
        """Take what belongs to the message begun earlier; return where passing bytes start, and where it ends."""
        take = min(self._left, len(data))
        done = take == self._left
        start = 0
        if self._collect is not None:
            if self._collect is not Want.NOTE:
                room = take if self._collect is Want.HOLD else max(0, self._keep_limit() - len(self._kept))
                self._kept += data[: min(take, room)]
            if self._collect is Want.HOLD:
                start = take
            if done:
                items.append(self._collected(self._collect, bytes(self._kept)))
                self._kept, self._collect = bytearray(), None
        if not done:
            self._left -= take
            # The caller's loop must not run: the position it gets lies beyond the data by what is missing.
            return start, len(data) + self._left
        self._left = 0
        if (self.trace or self._mark) and start < take:
            ends.append(take)
        return start, take

    def _begin_wanted(
        self,
        data: memoryview,
        start: int,
        position: int,
        header: tuple[int, int, Want],
        items: list[Item],
        ends: list[int],
    ) -> int:
        """Take a wanted message that begins at `position`; return where the bytes that pass start from now on."""
        _, size, want = header
        body = position + self._walk.size
        if want is Want.HOLD and size > self._keep:
            want = Want.SEE  # too long to be held: it passes, and whoever wanted it sees that it is not whole
        if want is Want.HOLD and start < position:
            items.append(_passed(data, start, position, ends))
            ends.clear()
        self._size = size
        kept = body if want is Want.NOTE else body + min(size, self._keep)
        if body + size <= len(data):
            items.append(self._collected(want, bytes(data[position:kept])))
            return body + size if want is Want.HOLD else start
        self._collect = want
        self._kept = bytearray(data[position:kept])
        return len(data) if want is Want.HOLD else start

    def _collected(self, want: Want, raw: bytes) -> Item:
        """What is said of the current message, which is whole now."""
        message = self._message(raw, self._size, self.messages)
        if want is Want.NOTE:
            return Noted([(message.id, message.size, message.serial, self.messages)])
        return Held(message) if want is Want.HOLD else Seen(message)

    def _keep_limit(self) -> int:
        return self._walk.size + self._keep

    def _message(self, raw: bytes, size: int, number: int) -> Message:
        header = raw[: self._walk.size]
        if self._full:
            serial, id_, _, sub_list = _FULL.unpack(header)
        else:
            (id_, _), serial, sub_list = _MINI.unpack(header), number, 0
        return Message(self.side, id_, size, serial, sub_list, header, raw[self._walk.size :])

    def _break(self, data: memoryview, start: int, at: int, ends: list[int], reason: str) -> Iterator[Item]:
        """Stop at offset `at` of `data`: what came before goes out, the rest does not."""
        self._collect, self._kept, self.pending = None, bytearray(), b""
        self.offset += at
        if start < at:
            yield _passed(data, start, at, ends)
        yield Broken(ProtocolError(reason, side=self.side, offset=self.offset))


def _passed(data: memoryview, start: int, end: int, ends: list[int]) -> Pass:
    return Pass(data[start:end], [offset - start for offset in ends if start < offset <= end])
