"""SPICE peers for the benchmarks: as little Python as possible around blocking sockets.

The link phase is the real one (without a password check), so that a relay that frames has its framing on. Then a
64-byte client message asks for an echo, for a number of bytes in messages of a given size, or for the begin of a migration.
"""

import contextlib
import select
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Final, Self

import trio

from dissectors.channels import ChannelType
from dissectors.link import LinkMessage, LinkReplyMessage, build_link_mess, build_link_reply
from dissectors.message_ids import Main
from dissectors.registry import build
from dissectors.side import Side
from spiceproxy.tls.stream import TlsSocket

REQUEST: Final = struct.Struct(
    "<HIBQI45x"
)  # mini header (type 101, 58 bytes), kind, bytes wanted, bytes a message
ECHO: Final = 0
BULK: Final = 1
MIGRATE: Final = 2  # to nowhere: BEGIN is all that happens
SESSION_ID: Final = 77
DRAW: Final = struct.Struct("<HI")  # mini header of what the server sends, type 304 (DRAW_COPY)
TICKET_BYTES: Final = 128
CHUNK_BYTES: Final = 2**20


class Secured:
    """A TLS connection that blocks. Not ssl.SSLSocket, which reads a record at a time and would be what is measured."""

    def __init__(self, connection: socket.socket, tls: ssl.SSLContext, *, server: bool) -> None:
        self._socket = TlsSocket(connection, tls, server=server)
        trio.run(self._socket.shake_hands)

    def recv_into(self, buffer: Any) -> int:
        """As of a socket."""
        while True:
            try:
                return self._socket.recv_into(buffer)
            except BlockingIOError:
                select.select([self._socket], [], [])

    def recv(self, size: int) -> bytes:
        """As of a socket."""
        buffer = bytearray(size)
        return bytes(memoryview(buffer)[: self.recv_into(buffer)])

    def sendall(self, data: bytes) -> None:
        """As of a socket."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                select.select([], [self._socket], [])

    def settimeout(self, _timeout_s: float | None) -> None:
        """It waits for ever."""

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


Peer = socket.socket | Secured


def read_exactly(connection: Peer, size: int) -> bytes:
    """Block until `size` bytes have come; raises ConnectionError at the end of the stream."""
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("closed early")
        data += more
    return data


def read_link_block(connection: Peer) -> bytes:
    """One link message or reply, header included."""
    header = read_exactly(connection, 16)
    return header + read_exactly(connection, int.from_bytes(header[12:], "little"))


def _begin() -> bytes:
    """MAIN_INIT and MIGRATE_BEGIN."""
    init = struct.pack("<8I", SESSION_ID, 1, 3, 2, 0, 10, 1000, 64 << 20)
    where = {"dst_info": {"port": 1, "sport": 0xFFFF, "host_data": "127.0.0.1"}}
    begin = build(ChannelType.MAIN, Side.SERVER, Main.MIGRATE_BEGIN, where)
    return b"".join(
        DRAW.pack(id_, len(body)) + body for id_, body in ((Main.INIT, init), (Main.MIGRATE_BEGIN, begin))
    )


def _serve_channel(accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection: Peer = accepted
    try:
        if tls is not None:
            connection = Secured(accepted, tls, server=True)
        read_link_block(connection)
        connection.sendall(build_link_reply(LinkReplyMessage(0, bytes(162), (0b1001,), ())))
        read_exactly(connection, 4 + TICKET_BYTES)
        connection.sendall(bytes(4))
        while True:
            request = read_exactly(connection, REQUEST.size)
            _, _, kind, wanted, message_bytes = REQUEST.unpack(request)
            if kind == ECHO:
                connection.sendall(request)
                continue
            if kind == MIGRATE:
                connection.sendall(_begin())
                continue
            message = DRAW.pack(304, message_bytes - DRAW.size) + bytes(message_bytes - DRAW.size)
            chunk = message * max(1, CHUNK_BYTES // message_bytes)
            for _ in range(-(-wanted // len(chunk))):
                connection.sendall(chunk)
    except OSError:
        pass
    finally:
        connection.close()


def serve(listener: socket.socket, tls: ssl.SSLContext | None = None) -> None:
    """Accept for ever, a thread for each connection."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve_channel, args=(connection, tls), daemon=True).start()


def connect(
    port: int,
    *,
    channel: ChannelType = ChannelType.DISPLAY,
    channel_id: int = 0,
    connection_id: int = 0,
    timeout_s: float = 60,
    tls: ssl.SSLContext | None = None,
) -> Peer:
    """A linked channel to 127.0.0.1:`port`, of the display if no other is asked for; with TLS if there is a context."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection: Peer = plain if tls is None else Secured(plain, tls, server=False)
    connection.sendall(build_link_mess(LinkMessage(connection_id, channel, channel_id, (0b1001,), ())))
    read_link_block(connection)
    connection.sendall(struct.pack("<I", 1) + bytes(TICKET_BYTES))
    read_exactly(connection, 4)
    connection.settimeout(None)
    return connection


@contextlib.contextmanager
def migrating(port: int) -> Iterator[int]:
    """A session in which a migration has begun and does not end; gives the id that its other links carry."""
    with connect(port, channel=ChannelType.MAIN) as connection:
        connection.sendall(REQUEST.pack(101, REQUEST.size - 6, MIGRATE, 0, 0))
        for _ in range(2):
            read_exactly(connection, DRAW.unpack(read_exactly(connection, DRAW.size))[1])
        yield SESSION_ID


def round_trips(
    port: int, count: int, connection_id: int = 0, tls: ssl.SSLContext | None = None
) -> list[float]:
    """Seconds each of `count` 64-byte messages took to come back."""
    request = REQUEST.pack(101, REQUEST.size - 6, ECHO, 0, 0)
    with connect(port, connection_id=connection_id, tls=tls) as connection:
        times = []
        for _ in range(count):
            started = time.perf_counter()
            connection.sendall(request)
            read_exactly(connection, REQUEST.size)
            times.append(time.perf_counter() - started)
    return times


def bulk(
    port: int, wanted: int, message_bytes: int, connection_id: int = 0, tls: ssl.SSLContext | None = None
) -> float:
    """Bytes per second of a transfer of about `wanted` bytes."""
    buffer = bytearray(CHUNK_BYTES)
    with connect(port, connection_id=connection_id, tls=tls) as connection:
        started = time.perf_counter()
        connection.sendall(REQUEST.pack(101, REQUEST.size - 6, BULK, wanted, message_bytes))
        got = 0
        while got < wanted:
            received = connection.recv_into(buffer)
            if not received:
                raise ConnectionError(f"closed after {got} bytes")
            got += received
        return got / (time.perf_counter() - started)


if (
    __name__ == "__main__"
):  # the server, in a process of its own; prints its port. A PEM file makes it one with TLS
    context = None
    if sys.argv[1:]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(listening.getsockname()[1], flush=True)
    try:
        serve(listening, context)
    except KeyboardInterrupt:
        sys.exit(0)
