"""Captures: from the bytes of a file to the lines that people and programs read."""

import io
import json
from collections.abc import Iterable, Iterator
from typing import Final

from dissectors.side import Side
from spiceproxy.capture.events import Closed, Commented, Data, Endpoint, Gap, Opened, StreamEvent, Summary
from spiceproxy.capture.streams import stream_events
from spiceproxy.errors import CaptureError
from spiceproxy.reading.output import Output
from spiceproxy.reading.reader import Reader, ReadOptions
from tests.fuzz.pieces import Piece, is_one_line, split

MAX_CONNECTIONS: Final = 16
PORT: Final = 5900
_SECOND_NS: Final = 10**9


def reading(data: bytes) -> None:
    """Stream events to lines: a byte of options, then pieces that are events, see `_events`."""
    if data:
        _show(data[0], _events(split(data[1:])))


def _events(pieces: Iterable[Piece]) -> Iterator[StreamEvent]:
    """Events as a capture may give them. The lowest two bits of a kind say which, the others of which connection."""
    open_sides: list[set[Side]] = []
    for number, piece in enumerate(pieces, 1):
        time_ns = (1_700_000_000 + number) * _SECOND_NS
        if piece.kind & 3 == 3 or not open_sides:
            if len(open_sides) < MAX_CONNECTIONS:
                open_sides.append(set(Side))
                yield _opened(len(open_sides), time_ns, piece)
            continue
        connection = 1 + (piece.kind >> 2) % len(open_sides)
        still = open_sides[connection - 1]
        if piece.side not in still:
            continue
        if piece.kind & 3 == 2:
            still.discard(piece.side)
            yield Closed(connection, time_ns, piece.side, reset=bool(piece.data))
        elif piece.kind & 3 == 1:
            yield Gap(connection, time_ns, piece.side, 1 + int.from_bytes(piece.data[:4], "little"))
        elif piece.data:
            yield Data(connection, time_ns, piece.side, piece.data, number)


def _opened(number: int, time_ns: int, piece: Piece) -> Opened:
    client, server = Endpoint("192.0.2.7", 40000 + number), Endpoint("fd00::1", PORT + (piece.kind >> 2))
    comment = piece.data.decode("utf-8", "replace") or None
    return Opened(number, time_ns, client, server, from_start=piece.side is Side.CLIENT, comment=comment)


def _show(options: int, events: Iterable[StreamEvent]) -> None:
    as_json, out = bool(options & 1), io.BytesIO()
    reader = Reader(
        ReadOptions(
            as_json=as_json,
            detail=options >> 1 & 3,
            bulk=bool(options & 8),
            stats=bool(options & 16),
            absolute=False,
        ),
        Output(out),
    )
    try:
        reader.read(events)
    except CaptureError as error:
        is_one_line(error)
    reader.finish()
    assert all(line.isprintable() for line in reader.problems.report())
    for line in out.getvalue().splitlines():
        if as_json:
            assert isinstance(json.loads(line), dict)
        else:
            assert b"\0" not in line


def streams(data: bytes) -> None:
    """The bytes of a capture to stream events: in order, of connections that are open; the rest is a CaptureError."""
    summary = Summary()
    sides: dict[int, set[Side]] = {}
    given = 0
    try:
        for event in stream_events(io.BytesIO(data[1:]), ports=_ports(data), summary=summary, comments=True):
            if isinstance(event, Opened):
                assert event.connection == len(sides) + 1
                sides[event.connection] = set(Side)
                continue
            assert event.connection in sides
            if isinstance(event, Commented):
                assert event.text
                continue
            if isinstance(event, Closed):
                if event.side is None:
                    sides[event.connection].clear()
                else:
                    sides[event.connection].discard(event.side)
                continue
            assert event.side in sides[event.connection], "nothing follows the end of a side"
            if isinstance(event, Data):
                assert event.data
                assert 1 <= event.packet <= summary.packets
                given += len(event.data)
            else:
                assert event.size > 0
    except CaptureError as error:
        is_one_line(error)
    assert summary.spice_connections >= len(sides) or not sides
    assert all("\n" not in problem for problem in summary.problems)


def whole_reader(data: bytes) -> None:
    """The bytes of a capture to lines: a byte of options, then the file."""
    if data:
        _show(data[0], stream_events(io.BytesIO(data[1:]), ports=_ports(data)))


def _ports(data: bytes) -> tuple[int, ...]:
    """Half of the inputs ask for the port of captures that begin in the middle."""
    return (PORT,) if data[:1] >= b"\x80" else ()
