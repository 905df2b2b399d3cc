"""Framer, link phase, messages inside messages, and what rides inside a channel's messages."""

import struct
from typing import Final

from dissectors.errors import DissectionError
from dissectors.headers import sub_messages
from dissectors.side import Side
from spiceproxy.errors import ProtocolError
from spiceproxy.protocol.framer import MAX_BODY_BYTES, Framer, Message, Want
from spiceproxy.protocol.link import FINAL, LinkPhase, Phase
from spiceproxy.protocol.payload import MAX_INNERS, Payloads, guest_port_messages
from spiceproxy.protocol.sublist import named_sub_messages
from tests.fuzz.pieces import cut, split
from tests.protocol.streams import Fed, feed

WANTED: Final = {3: Want.SEE, 4: Want.HOLD, 5: Want.SEE, 0x6F: Want.HOLD}
KEEP: Final = 256  # bytes of a body: few, so that some are too long


def framer(data: bytes) -> None:
    """One direction: what goes out is what came in, however it was cut, and `read` tells the same messages."""
    if len(data) < 2:
        return
    options, rule, stream = data[0], data[1], data[2:]
    full, trace, side = bool(options & 1), bool(options & 2), list(Side)[options >> 2 & 1]
    noting = bool(options & 8)
    expected, broken = _messages(stream, side, full=full)

    def walked(rule: int) -> Fed:
        made = Framer(side, mini_header=not full, wanted=WANTED, trace=trace, keep=KEEP)
        if noting:
            made.want(WANTED, Want.NOTE, keep=KEEP)
        return feed(made, cut(stream, rule))

    whole, pieces = walked(0), walked(rule)
    assert (whole.seen, whole.held) == (pieces.seen, pieces.held)
    assert bool(whole.broken) == bool(pieces.broken) == broken
    assert [m for m in whole.seen if m.whole] == [
        m
        for m in expected
        if m.whole and (WANTED.get(m.id) is Want.SEE or (m.id in WANTED and m.size > KEEP))
    ]
    assert whole.held == [m for m in expected if WANTED.get(m.id) is Want.HOLD and m.size <= KEEP]
    for fed in (whole, pieces):
        assert fed.notes == [
            (m.id, m.size, m.serial, number)
            for number, m in enumerate(expected, start=1)
            if noting and m.id not in WANTED
        ]
        assert stream.startswith(fed.passed)
        assert broken or len(fed.passed) == len(stream)
        assert fed.most_kept <= KEEP + 18
    if trace:
        assert whole.ends == pieces.ends
    read = Framer(side, mini_header=not full, wanted={}, keep=KEEP)
    found: list[Message] = []
    try:
        for part in cut(stream, rule):
            found += read.read(read.pending + part)
    except ProtocolError:
        assert broken
    else:
        assert not broken
    assert found == expected


def _messages(stream: bytes, side: Side, *, full: bool) -> tuple[list[Message], bool]:
    """What a framer has to find, found as plainly as can be; and whether the stream breaks off."""
    header = struct.Struct("<QHII" if full else "<HI")
    found: list[Message] = []
    at = 0
    while at + header.size <= len(stream):
        number = len(found) + 1
        fields = header.unpack_from(stream, at)
        serial, id_, size, sub_list = fields if full else (number, *fields, 0)
        if size > MAX_BODY_BYTES:
            return found, True
        body = stream[at + header.size : at + header.size + size]
        if len(body) < size:
            return found, False
        found.append(
            Message(side, id_, size, serial, sub_list, stream[at : at + header.size], body[: min(size, KEEP)])
        )
        at += header.size + size
    return found, False


def link(data: bytes) -> None:
    """Both sides of a link phase, interleaved: every byte comes out once, in order, and secrets in no safe form."""
    phase = LinkPhase()
    came = dict.fromkeys(Side, b"")
    went = dict.fromkeys(Side, b"")
    for piece in split(data):
        came[piece.side] += piece.data
        try:
            units = phase.receive(piece.side, piece.data)
        except ProtocolError:
            return
        for unit in units:
            went[unit.side] += unit.data
            assert len(unit.safe) == len(unit.data) > 0
            assert unit.phase is not Phase.TICKET or not any(unit.safe)
            assert unit.phase is not Phase.SASL_CLIENT_DATA or not any(unit.safe[4:])
        assert phase.finished == (phase.phase in FINAL)
        assert phase.finished or phase.turn in Side
        assert phase.phase is not Phase.DATA or phase.result == 0
    assert isinstance(phase.mini_header, bool)
    for side in Side:
        assert phase.offset(side) == len(went[side])
        assert phase.has_partial(side) == (came[side] != went[side])
        assert went[side] + phase.leftover(side) == came[side]


def sub_list(data: bytes) -> None:
    """Messages inside a message: all inside of it, whatever the list says."""
    if len(data) < 4:
        return
    channel_type, is_list = data[0], data[1] & 1
    offset, body = int.from_bytes(data[2:4], "little"), data[4:]
    try:
        found = sub_messages(body, 0 if is_list else offset)
    except DissectionError:
        found = []
    for each in found:
        assert each.offset + 6 + len(each.body) <= len(body)
    message = Message(Side.SERVER, 8 if is_list else 101, len(body), 1, offset, bytes(18), body)
    try:
        named = named_sub_messages(message, channel_type)
    except DissectionError:
        named = []
    assert not (offset or is_list) or [each.sub_message for each in named] == found


def payload(data: bytes) -> None:
    """What rides inside a channel's messages: described in bounded memory, also by what goes on after a migration.

    The kind of a piece says which of the message ids that matter it has.
    """
    if not data:
        return
    streams = Payloads(data[0])
    moved_at = len(data) // 2
    for number, piece in enumerate(split(data[1:])):
        message_id = _IDS[piece.kind % len(_IDS)]
        if number == moved_at % 7:
            streams = streams.moved()
        found = streams.message(piece.side, message_id, piece.data)
        assert len(found) <= MAX_INNERS + 2
        for inner in found:
            assert inner.error is None or "\n" not in inner.error
            inner.plain()
            inner.plain(bulk=True)


# spice.proto: AGENT_DATA of either side, data and compressed data of devices, and what begins and ends their streams.
_IDS: Final = (101, 102, 103, 104, 106, 107, 108, 109, 115, 201, 202)


def guest_port(data: bytes) -> None:
    """The guest-port bytes of a main channel's migration data."""
    if not data:
        return
    both = None if data[0] & 0x80 else data[0] << 1
    for inner in guest_port_messages(data[1:], both_capabilities=both):
        inner.plain()
