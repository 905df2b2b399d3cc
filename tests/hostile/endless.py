"""Peers that do something over and over and never stop. Whoever plays them cancels them."""

import contextlib
import os
import ssl
import struct
from typing import Final

import trio

from dissectors.channels import ChannelType
from tests.hostile.abuse import Abuse, Act, destination, drain, pour_for_ever, reset, until_closed
from tests.raw_peers import (
    AUTH_SPICE,
    MINI_CAPS,
    TICKET,
    RawProxy,
    link_mess,
    link_reply,
    message,
    read_exactly,
    read_link_block,
)

DISPLAY, INPUTS, MAIN = ChannelType.DISPLAY, ChannelType.INPUTS, ChannelType.MAIN
BLOCK_BYTES: Final = 60_000


def says(side: str, data: bytes, channel: int = MAIN, *, sessions: int = 1, mini: bool = True) -> Act:
    """One peer of a linked channel says this over and over; the other one reads it."""

    async def act(raw: RawProxy) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(sessions):
                client, server = await raw.linked(channel, mini=mini)
                speaker, listener = (client, server) if side == "client" else (server, client)
                nursery.start_soon(drain, listener)
                nursery.start_soon(drain, speaker)
                nursery.start_soon(pour_for_ever, speaker, data)

    return act


def block(*messages: bytes) -> bytes:
    """These messages, as often as they fit."""
    data = b"".join(messages)
    return data * max(1, BLOCK_BYTES // len(data))


async def _comes_and_goes(raw: RawProxy, port: int, data: bytes, ends: str, tls: bool) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        if tls:
            await trio.SSLStream(stream, _TRUSTING).do_handshake()
        await stream.send_all(data)
        if ends == "reset":
            reset(stream)
        elif ends == "waits":
            await until_closed(stream)


def comes(
    data: bytes = b"", *, ends: str, at: str = "proxy_started", tls: bool = False, width: int = 20
) -> Act:
    """Connections with these first bytes, one after the other, so many at a time."""

    async def one_after_another(raw: RawProxy, port: int) -> None:
        while True:
            with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                await _comes_and_goes(raw, port, data, ends, tls)
            await trio.lowlevel.checkpoint()

    async def turn_away(raw: RawProxy) -> None:
        while True:
            await (await raw.listener.accept()).aclose()

    async def act(raw: RawProxy) -> None:
        port = _port(raw, at)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn_away, raw)
            for _ in range(width):
                nursery.start_soon(one_after_another, raw, port)

    return act


def _port(raw: RawProxy, event: str) -> int:
    told = raw.events.named(event.removeprefix("tls "))[0]
    listen: str = told["tls_listen"] if event.startswith("tls ") else told["listen"]
    return int(listen.rpartition(":")[2])


_TRUSTING: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TRUSTING.check_hostname = False
_TRUSTING.verify_mode = ssl.CERT_NONE


def says_through_tls(side: str, data: bytes) -> Act:
    """As `says`, of a client that comes with TLS."""

    async def act(raw: RawProxy) -> None:
        plain = await trio.open_tcp_stream("127.0.0.1", _port(raw, "tls proxy_started"))
        client = await raw.streams.enter_async_context(trio.SSLStream(plain, _TRUSTING))
        await client.send_all(link_mess(caps=MINI_CAPS))
        server = await raw.accept()
        await read_link_block(server)
        await server.send_all(link_reply(caps=MINI_CAPS))
        await read_link_block(client)
        await client.send_all(AUTH_SPICE + TICKET)
        await read_exactly(server, 132)
        await server.send_all(bytes(4))
        await read_exactly(client, 4)
        speaker: trio.abc.Stream = client if side == "client" else server
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain, server if side == "client" else client)
            nursery.start_soon(pour_for_ever, speaker, data)

    return act


HANDSHAKE: Final = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary\r\n\r\n"
)


def frame(opcode: int, data: bytes = b"", *, last: bool = True) -> bytes:
    """A short WebSocket frame of a client."""
    return bytes([(0x80 if last else 0) | opcode, 0x80 | len(data)]) + bytes(4) + data


PING, BINARY, CONTINUED = 9, 2, 0


def frames(data: bytes, first: bytes = b"") -> Act:
    """A client that comes through a WebSocket and sends these frames over and over."""

    async def act(raw: RawProxy) -> None:
        client = await raw.connect()
        await client.send_all(HANDSHAKE)
        await client.receive_some(4096)
        await client.send_all(first)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain, client)
            nursery.start_soon(pour_for_ever, client, data)

    return act


GONE: Final = "channel_closed"
FAILED: Final = "link_failed"
SAID: Final = "migration_message"
LEFT_OUT: Final = "events_withheld"
BEGIN, SWITCH_HOST, NOWHERE = 101, 111, b"192.0.2.1"
HTTP: Final = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"

# With the plain options of a proxy.
ENDLESS: Final = (
    Abuse("client: empty messages on a display", says("client", block(message(101, b"")), DISPLAY), GONE),
    Abuse("client: moves of the mouse, many in a packet", says("client", block(message(101, bytes(10))), INPUTS), GONE),
    Abuse("client: moves of the mouse, one in a packet", says("client", message(101, bytes(10)), INPUTS), GONE),
    Abuse("client: empty messages on main", says("client", block(message(101, b""))), GONE),
    Abuse("client: FLUSH_MARKs", says("client", block(message(4, b"")), DISPLAY), GONE),
    Abuse("client: MIGRATE_DATA of a megabyte", says("client", message(5, bytes(2**20)), DISPLAY), GONE),
    Abuse("client: MIGRATE_DATA of 60 kB", says("client", message(5, bytes(60_000)), DISPLAY), GONE),
    Abuse("client: MIGRATE_CONNECTEDs", says("client", block(message(102, b""))), LEFT_OUT),
    Abuse("client: CONNECT_ERRORs", says("client", block(message(103, b""))), LEFT_OUT),
    Abuse("client: MIGRATE_ENDs", says("client", block(message(109, b""))), LEFT_OUT),
    Abuse("client: DO_SEAMLESSes", says("client", block(message(110, bytes(4)))), LEFT_OUT),
    Abuse("client: DO_SEAMLESSes in ten sessions", says("client", block(message(110, bytes(4))), sessions=10), SAID),
    Abuse("client: sub-message lists that point nowhere", says("client", block(struct.pack("<QHII", 1, 101, 4, 0xFFFFFFFF) + bytes(4)), mini=False), GONE),
    Abuse("server: empty messages on a display", says("server", block(message(302, b"")), DISPLAY), GONE),
    Abuse("server: empty messages on displays of twenty sessions", says("server", block(message(302, b"")), DISPLAY, sessions=20), GONE),
    Abuse("server: empty messages with full headers", says("server", block(message(302, b"", mini=False)), DISPLAY, mini=False), GONE),
    Abuse("server: messages of 256 bytes", says("server", block(message(304, bytes(250))), DISPLAY), GONE),
    Abuse("server: messages of 64 KiB", says("server", message(304, bytes(65530)) * 8, DISPLAY), GONE),
    Abuse("server: surfaces created and destroyed", says("server", block(message(314, struct.pack("<5I", 1, 8, 8, 32, 0)), message(315, bytes(4))), DISPLAY), GONE),
    Abuse("server: MAIN_INITs with other ids", says("server", b"".join(message(103, struct.pack("<8I", id_, 1, 1, 1, 0, 0, 0, 0)) for id_ in range(1, 1000))), LEFT_OUT),
    Abuse("server: CHANNELS_LISTs of 30,000 channels", says("server", message(104, struct.pack("<I", 30_000) + b"\2\0" * 30_000)), "message_undecoded"),
    Abuse("server: agent data without tokens", says("server", block(message(107, struct.pack("<IIQI", 1, 4, 0, 9) + bytes(9)))), GONE),
    Abuse("server: BEGINs to one server", says("server", block(destination(BEGIN, NOWHERE, 5900))), LEFT_OUT),
    Abuse("server: BEGINs to three thousand servers", says("server", b"".join(destination(BEGIN, NOWHERE, port) for port in range(6000, 9000))), "destination_closed"),
    Abuse("server: migrations that are cancelled", says("server", block(destination(BEGIN, NOWHERE, 5900), message(102, b""))), "migration_ended"),
    Abuse("server: SWITCH_HOSTs", says("server", block(destination(SWITCH_HOST, NOWHERE, 5900))), LEFT_OUT, lingers=4),
    Abuse("server: CANCELs", says("server", block(message(102, b""))), LEFT_OUT),
    Abuse("server: ACKs and NACKs", says("server", block(message(117, b""), message(118, b""))), LEFT_OUT),
    Abuse("server: MIGRATEs with flags that there are not", says("server", block(message(1, b"\xff" * 4)), DISPLAY), LEFT_OUT),
    Abuse("server: MIGRATE_DATA of ten megabytes", says("server", message(2, bytes(10 * 2**20)), DISPLAY), SAID),
    Abuse("connections that close", comes(ends="closes"), FAILED),
    Abuse("connections that reset", comes(ends="reset"), FAILED),
    Abuse("connections that speak HTTP", comes(b"GET / HTTP/1.0\r\n\r\n", ends="waits"), FAILED),
    Abuse("connections that speak VNC", comes(b"RFB 003.008\n" * 3, ends="closes"), FAILED),
    Abuse("links whose client leaves", comes(link_mess(connection_id=77), ends="reset"), "session_unknown"),
    Abuse("links whose server leaves", comes(link_mess(connection_id=77), ends="waits"), FAILED),
    Abuse("links of main whose server leaves", comes(link_mess(MAIN), ends="waits"), FAILED),
)  # fmt: skip

# With TLS, the control API and metrics as well.
ENDLESS_AT_DOORS: Final = (
    Abuse("TLS: handshakes", comes(ends="closes", at="tls proxy_started", tls=True, width=10), FAILED),
    Abuse("TLS: rubbish in the place of a handshake", comes(b"\x16\x03\x01\x02\x00" + os.urandom(512), ends="waits", at="tls proxy_started"), FAILED, {"reason": "TLS"}),
    Abuse("TLS: handshakes that do not go on", comes(b"\x16\x03\x01\x02\x00\x01", ends="waits", at="tls proxy_started"), FAILED, {"reason": "handshake within"}),
    Abuse("TLS: a server's empty messages", says_through_tls("server", block(message(302, b""))), GONE),
    Abuse("TLS: a client's empty messages", says_through_tls("client", block(message(101, b""))), GONE),
    Abuse("TLS: a server's messages of 64 KiB", says_through_tls("server", message(304, bytes(65530)) * 8), GONE),
    Abuse("WebSocket: pings", frames(frame(PING) * 5000), FAILED),
    Abuse("WebSocket: empty frames", frames(frame(BINARY) * 5000), FAILED),
    Abuse("WebSocket: a message that never ends", frames(frame(CONTINUED, last=False) * 5000, frame(BINARY, last=False)), FAILED),
    Abuse("WebSocket: handshakes", comes(HANDSHAKE, ends="closes"), FAILED),
    Abuse("WebSocket: headers without an end", comes(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000, ends="waits"), FAILED),
    Abuse("control: requests without a token", comes(HTTP, ends="waits", at="control_started"), ""),
    Abuse("control: headers without an end", comes(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000, ends="waits", at="control_started"), ""),
    Abuse("metrics: requests", comes(HTTP, ends="waits", at="metrics_started"), ""),
)  # fmt: skip
