"""Servers that do what no server does."""

import struct
from contextlib import suppress
from typing import Final

import trio

from dissectors.channels import ChannelType
from dissectors.link import LinkError
from spiceproxy.address import Address
from tests.hostile.abuse import Abuse, Act, destination, drip, patched, pour, reset, until_closed
from tests.raw_peers import (
    AUTH_SPICE,
    TICKET,
    RawProxy,
    link_mess,
    link_reply,
    message,
    read_exactly,
    read_link_block,
)

REPLY: Final = link_reply()
SASL_CAPS: Final = (0b1111,)
BEGIN: Final = 101
SWITCH_HOST: Final = 111


def answers(data: bytes, then: str = "waits", *, slow: bool = False) -> Act:
    """These bytes in the place of a link reply, and then."""

    async def act(raw: RawProxy) -> None:
        client = await raw.connect()
        await client.send_all(link_mess())
        server = await raw.accept()
        await read_link_block(server)
        await (drip if slow else pour)(server, data)
        if then == "reset":
            reset(server)
        elif then == "close":
            await server.aclose()
        await until_closed(client)

    return act


async def _resets_before_it_reads(raw: RawProxy) -> None:
    client = await raw.connect()
    await client.send_all(link_mess())
    reset(await raw.accept())
    await until_closed(client)


def after_ticket(data: bytes, then: str = "waits") -> Act:
    """These bytes in the place of a link result, and then."""

    async def act(raw: RawProxy) -> None:
        client = await raw.connect()
        await client.send_all(link_mess())
        server = await raw.accept()
        await read_link_block(server)
        await server.send_all(REPLY)
        await read_link_block(client)
        await client.send_all(AUTH_SPICE + TICKET)
        await read_exactly(server, 132)
        await pour(server, data)
        if then == "reset":
            reset(server)
        elif then == "close":
            await server.aclose()
        await until_closed(client)

    return act


async def _speaks_out_of_turn(raw: RawProxy) -> None:
    client = await raw.connect()
    await client.send_all(link_mess())
    server = await raw.accept()
    await read_link_block(server)
    await pour(server, REPLY + bytes(2**20))
    await until_closed(server)


def sasl(mechanisms: bytes, steps: bytes = b"", *, endless: bool = False) -> Act:
    """The client chooses SASL; these are the list of mechanisms and what follows the client's first data."""

    async def act(raw: RawProxy) -> None:
        client = await raw.connect()
        await client.send_all(link_mess(caps=SASL_CAPS))
        server = await raw.accept()
        await read_link_block(server)
        await server.send_all(link_reply(caps=SASL_CAPS))
        await read_link_block(client)
        await client.send_all(struct.pack("<I", 2))
        await read_exactly(server, 4)  # else it speaks out of turn
        await pour(server, mechanisms)
        if steps:
            await read_exactly(client, len(mechanisms))
            await client.send_all(struct.pack("<I", 5) + b"PLAIN" + bytes(4))
            await read_exactly(server, 13)
            await pour(server, steps)
            with suppress(trio.BrokenResourceError, EOFError):
                while endless:
                    await read_exactly(client, 5)
                    await client.send_all(bytes(4))
                    await read_exactly(server, 4)
                    await server.send_all(bytes(5))
        await until_closed(client)

    return act


MECHANISMS: Final = struct.pack("<I", 7) + b",PLAIN,"


def linked(data: bytes, then: str = "close", channel: int = ChannelType.MAIN, *, mini: bool = True) -> Act:
    """These bytes on a channel that is linked, and then."""

    async def act(raw: RawProxy) -> None:
        client, server = await raw.linked(channel, mini=mini)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_closed, client)
            await pour(server, data)
            await trio.sleep(0.05)
            if then == "reset":
                reset(server)
            elif then == "close":
                await server.aclose()
            else:
                await until_closed(server)
        await client.aclose()  # it has seen the end of what the server sent

    return act


async def _never_reads(raw: RawProxy) -> None:
    client, _ = await raw.linked()
    await pour(client, message(101, bytes(2**20)) * 64)


async def _names_the_proxy(raw: RawProxy) -> None:
    client, server = await raw.linked(ChannelType.MAIN)
    await server.send_all(destination(BEGIN, b"127.0.0.1", raw.proxy.address.port))
    await read_exactly(client, 6)


def sends_to(port: int | None, then: bytes = b"", *, tls: bool = False) -> Act:
    """Sends a client that does as it is told to another server, which is not there, or (None) says nothing."""

    async def act(raw: RawProxy) -> None:
        client, server = await raw.linked(ChannelType.MAIN)
        (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with silent:
            there = port or silent.socket.getsockname()[1]
            ports = (0, there) if tls else (there, 0)
            where = f"127.0.0.1:{there}"
            # An abuse may be played again: what was opened for it before is closed by now.
            before = sum(e["destination"] == where for e in raw.events.named("destination_opened"))
            await server.send_all(destination(BEGIN, b"127.0.0.1", *ports))
            opened = await raw.events.wait_for("destination_opened", count=before + 1, destination=where)
            listen = opened["listen"].rpartition(":")[2]
            second = await raw.connect(Address("127.0.0.1", int(listen)))
            await pour(second, then)
            if tls:
                await second.send_eof()
                await (await raw.streams.enter_async_context(await silent.accept())).aclose()
            await until_closed(second)
        await client.aclose()
        await server.aclose()

    return act


UNUSED_PORT: Final = 1  # tcpmux: nobody listens there
WILD: Final = struct.pack("<HHIIII", 5900, 0, 0xFFFFFFFF, 0xFFFFFFF0, 10**9, 3)
LINK: Final = {"by": "server"}
CLOSED: Final = {"by": "server", "reason": "closed"}
NOT: Final = "message_not_rewritten"

SERVER_ABUSES: Final = (
    # In the link phase.
    Abuse("accepts and says nothing", answers(b""), "link_failed", {"by": "server", "reason": "no link reply within"}),
    Abuse("accepts and resets", _resets_before_it_reads, "link_failed"),
    Abuse("resets in the place of a reply", answers(b"", "reset"), "link_failed"),
    Abuse("closes in the place of a reply", answers(b"", "close"), "link_failed", {"by": "server", "reason": "link reply"}),
    Abuse("speaks SSH", answers(b"SSH-2.0-x\r\n"), "link_failed", LINK),
    Abuse("speaks HTTP", answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "link_failed", LINK),
    Abuse("a megabyte of zeros", answers(bytes(2**20)), "link_failed", LINK),
    Abuse("a reply of 4 GiB", answers(patched(REPLY, 12, 0xFFFFFFFF)), "link_failed", LINK),
    Abuse("a reply of 10 bytes", answers(patched(REPLY, 12, 10)), "link_failed", LINK),
    Abuse("capabilities beyond the reply", answers(patched(REPLY, 190, 9000)), "link_failed", LINK),
    Abuse("too many capability words", answers(patched(REPLY, 182, 0x40000000)), "link_failed", LINK),
    Abuse("half a reply and silence", answers(REPLY[:100]), "link_failed", {"by": "server", "reason": "no link reply within"}),
    Abuse("half a reply and a reset", answers(REPLY[:100], "reset"), "link_failed"),
    Abuse("a reply byte by byte, too slowly", answers(REPLY, slow=True), "link_failed", {"reason": "no link reply within"}),
    Abuse("an error reply and a megabyte more", answers(link_reply(error=LinkError.INVALID_DATA) + bytes(2**20), "close"), "link_refused", {"error": "INVALID_DATA"}),
    Abuse("an error that there is not", answers(link_reply(error=0xBEEF), "close"), "link_refused", {"code": 0xBEEF}),
    Abuse("a megabyte while the client's turn is", _speaks_out_of_turn, "link_refused"),
    Abuse("no link result", after_ticket(b""), "link_failed", {"by": "server", "reason": "no link result within"}),
    Abuse("half a link result and a close", after_ticket(b"\0\0", "close"), "link_failed", {"by": "server", "reason": "link result"}),
    Abuse("a link result that there is not", after_ticket(b"\xff" * 4, "close"), "link_refused", {"code": 0xFFFFFFFF}),
    Abuse("a list of SASL mechanisms of 4 GiB", sasl(b"\xff" * 4), "link_failed", {"by": "server", "reason": "SASL mechanism list"}),
    Abuse("SASL data of 4 GiB", sasl(MECHANISMS, b"\xff" * 4), "link_failed", {"by": "server", "reason": "SASL data"}),
    Abuse("SASL without an end", sasl(MECHANISMS, bytes(5), endless=True), "link_failed", {"reason": "SASL"}),
    Abuse("a SASL reason of 4 GiB", sasl(MECHANISMS, bytes(4) + b"\1" + struct.pack("<II", 1, 0xFFFFFFFF)), "link_failed", {"by": "server", "reason": "SASL reason"}),
    # Linked.
    Abuse("a message of 4 GiB behind the link result", after_ticket(bytes(4) + struct.pack("<HI", 103, 0xFFFFFFF0)), "channel_closed", {"by": "server", "reason": "at byte"}),
    Abuse("a message of 4 GiB under a full header", linked(struct.pack("<QHII", 1, 103, 0xFFFFFFF0, 0), "waits", mini=False), "channel_closed", {"by": "server", "reason": "at byte"}),
    Abuse("resets inside a header", linked(b"\1\0\0", "reset"), "channel_closed", {"by": "server", "reason": "reset"}),
    Abuse("resets inside a message that is held", linked(destination(BEGIN, b"h" * 200, 1)[:100], "reset"), "channel_closed", {"by": "server", "reason": "reset"}),
    Abuse("closes inside a message that is held", linked(destination(BEGIN, b"h" * 200, 1)[:100]), "channel_closed", CLOSED),
    Abuse("a hundred thousand empty messages at once", linked(message(302, b"") * 100_000, channel=ChannelType.DISPLAY), "channel_closed", {"messages_from_server": 100_000}),
    Abuse("does not read", _never_reads, "channel_closed", {"by": "server", "reason": "timed out"}, time_limit_s=8),
    # What a main channel says.
    Abuse("MAIN_INIT cut short", linked(message(103, bytes(5))), "message_undecoded", {"name": "MAIN_INIT"}),
    Abuse("three hundred MAIN_INITs with other ids", linked(b"".join(message(103, struct.pack("<8I", id_, 1, 1, 1, 0, 0, 0, 0)) for id_ in range(1000, 1300))), "session_identified", {"connection_id": 1150}),
    Abuse("a list of four billion channels", linked(message(104, b"\xff" * 4)), "message_undecoded", {"name": "CHANNELS_LIST"}),
    # What sends a client elsewhere.
    Abuse("BEGIN without a body", linked(message(BEGIN, b"")), NOT),
    Abuse("BEGIN with wild offsets", linked(message(BEGIN, WILD)), NOT),
    Abuse("BEGIN of 200 kB", linked(message(BEGIN, struct.pack("<HHIIII", 5900, 0, 10, 20, 0, 0) + bytes(200_000))), NOT, {"reason": "200020 bytes"}),
    Abuse("BEGIN_SEAMLESS with wild offsets", linked(message(116, WILD + b"\xff" * 4)), NOT),
    Abuse("SWITCH_HOST with wild offsets", linked(message(SWITCH_HOST, WILD)), NOT),
    Abuse("BEGIN without a port", linked(destination(BEGIN, b"192.0.2.1", 0)), NOT, {"reason": "names no port"}),
    Abuse("BEGIN without a host", linked(destination(BEGIN, b"", 5900)), NOT, {"reason": "names no host"}),
    Abuse("BEGIN that names the proxy itself", _names_the_proxy, NOT, {"reason": "the proxy itself"}),
    Abuse("twenty BEGINs to twenty servers", linked(b"".join(destination(BEGIN, b"192.0.2.1", port) for port in range(6000, 6020))), "destination_closed", {"destination": "192.0.2.1:6000"}),
    Abuse("a BEGIN whose host is 60 kB of letters", linked(destination(BEGIN, b"h" * 60_000, 5900)), "message_rewritten"),
    Abuse("a thousand SWITCH_HOSTs", linked(destination(SWITCH_HOST, b"192.0.2.1", 5900) * 1000), "message_rewritten", {"name": "SWITCH_HOST"}, lingers=4),
    Abuse("three hundred migrations, each cancelled at once", linked((destination(BEGIN, b"192.0.2.1", 5900) + message(102, b"")) * 300), "migration_ended", {"outcome": "cancelled"}),
    Abuse("a destination that is not there", sends_to(UNUSED_PORT, link_mess()), "link_failed", {"by": "server", "reason": "cannot connect"}),
    Abuse("a destination that accepts and says nothing", sends_to(None, link_mess()), "link_failed", {"by": "server", "reason": "no link reply within"}),
    Abuse("a client that says nothing to a destination", sends_to(None), "link_failed", {"reason": "no link message within"}),
    Abuse("rubbish to a destination's TLS port", sends_to(None, bytes(1000), tls=True), "tunnel_closed"),
    Abuse("a BEGIN that names a TLS port only", linked(destination(BEGIN, b"192.0.2.1", 0, 5901)), "destination_opened", {"tls": True}),
    # Migration messages where nothing migrates.
    Abuse("a thousand CANCELs", linked(message(102, b"") * 1000), "migration_message", {"name": "MIGRATE_CANCEL"}),
    Abuse("a thousand MIGRATE_ENDs", linked(message(112, b"") * 1000), "migration_message", {"name": "MIGRATE_END"}),
    Abuse("a thousand ACKs and NACKs", linked((message(117, b"") + message(118, b"")) * 500), "migration_message", {"name": "SEAMLESS_NACK"}),
    Abuse("a thousand MIGRATEs with flags that there are not", linked(message(1, b"\xff" * 4) * 1000), "migration_message", {"name": "SPICE_MSG_MIGRATE"}),
    Abuse("MIGRATE_DATA of ten megabytes", linked(message(2, bytes(10 * 2**20))), "migration_message", {"name": "MIGRATE_DATA", "size": 10 * 2**20}),
)  # fmt: skip
