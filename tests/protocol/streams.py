"""Streams of messages to feed a framer with, and what comes out of it."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from hypothesis import settings
from hypothesis import strategies as st

from dissectors.side import Side
from spiceproxy.errors import ProtocolError
from spiceproxy.protocol.framer import MAX_NOTES, Broken, Framer, Held, Message, Note, Noted, Pass, Seen, Want

unhurried = settings(deadline=None)  # a busy machine is not a failure

MINI_BYTES, FULL_BYTES = 6, 18


@dataclass(frozen=True)
class Sent:
    """A message as a peer means it."""

    id: int
    body: bytes
    serial: int = 1
    sub_list: int = 0

    def raw(self, *, mini_header: bool) -> bytes:
        """The bytes on the wire."""
        if mini_header:
            return struct.pack("<HI", self.id, len(self.body)) + self.body
        return struct.pack("<QHII", self.serial, self.id, len(self.body), self.sub_list) + self.body


@dataclass
class Fed:
    """What a framer made of a stream: all of it, in order."""

    passed: bytearray = field(default_factory=bytearray)  # as it leaves, held messages in their place
    seen: list[Message] = field(default_factory=list)
    held: list[Message] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # offsets in `passed`
    broken: ProtocolError | None = None
    rest: bytes = b""  # what `end()` gave; also in `passed`
    inside: bool = False  # `inside_message` before `end()`
    most_pending: int = 0
    most_kept: int = 0


def feed(framer: Framer, pieces: Iterable[bytes | memoryview], *, keep_passed: bool = True) -> Fed:
    """Do with a framer what the relay does: its `pending` in front of every piece."""
    fed, gone = Fed(), 0

    def passes(data: bytes | memoryview, ends: Iterable[int]) -> None:
        nonlocal gone
        fed.ends += [gone + end for end in ends]
        gone += len(data)
        if keep_passed:
            fed.passed += data

    for piece in pieces:
        assert fed.broken is None
        data = memoryview(framer.pending + piece if framer.pending else piece)
        items = framer.walk(data)
        if items is None:
            passes(data, [])
        for item in items or []:
            assert fed.broken is None, "Broken is the last item"
            match item:
                case Pass():
                    assert item.data, "an empty Pass says nothing"
                    passes(item.data, item.ends)
                case Noted(notes):
                    assert 0 < len(notes) <= MAX_NOTES
                    fed.notes += notes
                case Seen(message):
                    fed.seen.append(message)
                case Held(message):
                    fed.held.append(message)
                    passes(message.header + message.body, [len(message.header) + len(message.body)])
                case Broken(error):
                    fed.broken = error
        fed.most_pending = max(fed.most_pending, len(framer.pending))
        fed.most_kept = max(fed.most_kept, len(framer._kept))
        if fed.broken:
            return fed
    fed.inside = framer.inside_message
    fed.rest = framer.end()
    passes(fed.rest, [])
    return fed


def framer_for(wanted: Mapping[int, Want], *, mini_header: bool, trace: bool = False) -> Framer:
    """A framer of what the server sends."""
    return Framer(Side.SERVER, mini_header=mini_header, wanted=wanted, trace=trace)


def pieces(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """Cut at these offsets; those beyond the data do nothing."""
    inner = sorted({cut for cut in cuts if 0 < cut < len(data)})
    for start, end in pairwise([0, *inner, len(data)]):
        if start < end:
            yield data[start:end]


def message_ends(messages: Iterable[Sent], *, mini_header: bool) -> list[int]:
    """Where each of them ends in the stream."""
    return list(accumulate(len(message.raw(mini_header=mini_header)) for message in messages))


BODIES = st.binary(max_size=40) | st.integers(0, 2000).map(lambda size: (b"\x65\0\x04\0\0\0" * 334)[:size])
# Few ids, so that what is wanted does come; any id, so that none is special.
IDS = st.integers(1, 6) | st.integers(0, 2**16 - 1)
MESSAGES = st.lists(
    st.builds(Sent, IDS, BODIES, serial=st.integers(0, 2**64 - 1), sub_list=st.integers(0, 2**32 - 1)),
    max_size=12,
)
WANTED = st.dictionaries(st.integers(1, 6), st.sampled_from(Want))
# Single bytes, cuts around the size of a header, and cuts anywhere.
CUTS = st.lists(st.integers(0, 30) | st.integers(0, 2**14), max_size=30) | st.just(list(range(2**15)))
