"""Bytes of streams that ride inside messages, put together by hand."""

import struct
from collections.abc import Iterable

from dissectors.side import Side
from spiceproxy.protocol.payload import Inner, Payloads

SERVER, CLIENT = Side.SERVER, Side.CLIENT
AGENT_DATA = {SERVER: 109, CLIENT: 107}
INIT, CONNECTED, DISCONNECTED, CONNECTED_TOKENS, START = 103, 107, 108, 115, 106
DATA, COMPRESSED, PORT_INIT, PORT_EVENT = 101, 102, 201, 202

ALL_CAPS = 0x3FFFF
NO_SERIAL = ALL_CAPS & ~(1 << 17)


def agent_message(type_: int, data: bytes, *, protocol: int = 1, size: int | None = None) -> bytes:
    return struct.pack("<IIQI", protocol, type_, 0, len(data) if size is None else size) + data


def announcement(caps: int) -> bytes:
    return agent_message(6, struct.pack("<II", 1, caps))


def chunks(stream: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Cut a stream into pieces of these sizes, and one of what is left."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(stream[at : at + size])
        at += size
    return [piece for piece in [*pieces, stream[at:]] if piece]


def packet(type_: int, body: bytes, id_: int = 0, *, wide: bool = True) -> bytes:
    return struct.pack("<IIQ" if wide else "<III", type_, len(body), id_) + body


def hello(caps: int = 255) -> bytes:
    return packet(0, b"me".ljust(64, b"\0") + struct.pack("<I", caps), wide=False)


def frame(client: int, data: bytes) -> bytes:
    return struct.pack("<qH", client, len(data)) + data


def feed(payloads: Payloads, side: Side, id_: int, pieces: Iterable[bytes]) -> list[Inner]:
    return [inner for piece in pieces for inner in payloads.message(side, id_, piece)]


def names(inners: Iterable[Inner]) -> list[str]:
    return [inner.name for inner in inners]


def errors(inners: Iterable[Inner]) -> list[str | None]:
    return [inner.error for inner in inners]
