"""Clients that do what no client does."""

import struct
from typing import Final

import trio

from dissectors.channels import ChannelType
from tests.hostile.abuse import Abuse, Act, drip, patched, pour, reset, until_closed
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

GOOD: Final = link_mess()
SASL_CAPS: Final = (0b1111,)


def opens_with(data: bytes, then: str = "waits") -> Act:
    """These are its first bytes, and then it waits for the end, closes its side ("eof"), closes or resets."""

    async def act(raw: RawProxy) -> None:
        client = await raw.connect()
        await pour(client, data)
        if then == "reset":
            await trio.sleep(0.02)
            reset(client)
        elif then == "eof":
            await client.send_eof()
            await until_closed(client)
        elif then == "waits":
            await until_closed(client)
        else:
            await client.aclose()

    return act


async def _drips(raw: RawProxy) -> None:
    client = await raw.connect()
    await drip(client, GOOD)


def awaits_reply(then: str, data: bytes = b"") -> Act:
    """A good link message; while the reply is awaited, more bytes, and then."""

    async def act(raw: RawProxy) -> None:
        client = await raw.connect()
        await client.send_all(GOOD)
        server = await raw.accept()
        await read_link_block(server)
        await pour(client, data)
        if then == "reset":
            reset(client)
        elif then == "eof":
            await client.send_eof()
        await until_closed(server)

    return act


def behind_reply(
    data: bytes, then: str = "waits", caps: tuple[int, ...] = MINI_CAPS, slow: bool = False
) -> Act:
    """These bytes follow the server's link reply."""

    async def act(raw: RawProxy) -> None:
        client = await raw.connect()
        await client.send_all(link_mess(caps=caps))
        server = await raw.accept()
        await read_link_block(server)
        await server.send_all(link_reply(caps=caps))
        await read_link_block(client)
        await (drip if slow else pour)(client, data)
        if then == "reset":
            await trio.sleep(0.02)
            reset(client)
        elif then == "eof":
            await client.send_eof()
        await until_closed(server)

    return act


def sasl(*, name: bytes, data: bytes) -> Act:
    """SASL is chosen, and these are the mechanism's name and the first data."""

    async def act(raw: RawProxy) -> None:
        client = await raw.connect()
        await client.send_all(link_mess(caps=SASL_CAPS))
        server = await raw.accept()
        await read_link_block(server)
        await server.send_all(link_reply(caps=SASL_CAPS))
        await read_link_block(client)
        await client.send_all(struct.pack("<I", 2))
        await read_exactly(server, 4)  # else it speaks out of turn
        await server.send_all(struct.pack("<I", 7) + b",PLAIN,")
        await read_exactly(client, 11)
        await pour(client, name + data)
        await until_closed(server)

    return act


def linked(data: bytes, then: str = "close", channel: int = ChannelType.DISPLAY, *, mini: bool = True) -> Act:
    """These bytes on a channel that is linked, and then."""

    async def act(raw: RawProxy) -> None:
        client, server = await raw.linked(channel, mini=mini)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(until_closed, server)
            await pour(client, data)
            await trio.sleep(0.05)
            if then == "reset":
                reset(client)
            elif then == "eof":
                await client.send_eof()
            elif then == "close":
                await client.aclose()
            else:
                await until_closed(client)
        await server.aclose()  # it has seen the end of what the client sent

    return act


async def _never_reads(raw: RawProxy) -> None:
    _, server = await raw.linked()
    await pour(server, message(304, bytes(2**20)) * 64)


async def _drips_a_body(raw: RawProxy) -> None:
    client, server = await raw.linked()
    await client.send_all(struct.pack("<HI", 101, 900 * 2**20))
    await drip(client, bytes(30))
    reset(client)
    await until_closed(server)


async def _second_main(raw: RawProxy) -> None:
    for _ in range(2):
        client, server = await raw.linked(ChannelType.MAIN, connection_id=0x5EED)
        await server.send_all(message(103, struct.pack("<IIIIIIII", 0x5EED, 1, 1, 1, 0, 0, 0, 0)))
        await read_exactly(client, 38)


NO_LINK: Final = {"by": "client"}
CLOSED: Final = {"by": "client", "reason": "closed"}
RESET: Final = {"by": "client", "reason": "reset"}

CLIENT_ABUSES: Final = (
    # Before the link message is whole.
    Abuse("connects and says nothing", opens_with(b""), "link_failed", {"reason": "no link message within"}),
    Abuse("one byte and silence", opens_with(b"R"), "link_failed", {"reason": "no link message within"}),
    Abuse("half a link message and silence", opens_with(GOOD[:20]), "link_failed", {"reason": "no link message within"}),
    Abuse("a link message byte by byte, too slowly", _drips, "link_failed", {"reason": "no link message within"}),
    Abuse("connects and closes", opens_with(b"", "close"), "link_failed", {"level": "info"}),
    Abuse("closes its side and waits", opens_with(b"", "eof"), "link_failed", {"reason": "closed after 0 bytes"}),
    Abuse("connects and resets", opens_with(b"", "reset"), "link_failed", {"reason": "Connection reset"}),
    Abuse("resets inside the link message", opens_with(GOOD[:30], "reset"), "link_failed", {"reason": "Connection reset"}),
    Abuse("closes inside the link message", opens_with(GOOD[:30], "eof"), "link_failed", {"reason": "closed after 30 bytes"}),
    Abuse("speaks HTTP", opens_with(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "link_failed", NO_LINK),
    Abuse("speaks TLS", opens_with(bytes.fromhex("1603010200010001fc0303") + bytes(508)), "link_failed", NO_LINK),
    Abuse("speaks VNC", opens_with(b"RFB 003.008\n"), "link_failed", NO_LINK),
    Abuse("speaks SSH", opens_with(b"SSH-2.0-x\r\n"), "link_failed", NO_LINK),
    Abuse("a megabyte of zeros", opens_with(bytes(2**20)), "link_failed", NO_LINK),
    Abuse("another major version", opens_with(patched(GOOD, 4, 7)), "link_failed", NO_LINK),
    Abuse("a link message of 0 bytes", opens_with(patched(GOOD, 12, 0)), "link_failed", NO_LINK),
    Abuse("a link message of 17 bytes", opens_with(patched(GOOD, 12, 17)), "link_failed", NO_LINK),
    Abuse("a link message of 4 GiB", opens_with(patched(GOOD, 12, 0xFFFFFFFF)), "link_failed", NO_LINK),
    Abuse("capabilities beyond the message", opens_with(patched(GOOD, 30, 9000)), "link_failed", NO_LINK),
    Abuse("capabilities on top of the header", opens_with(patched(GOOD, 30, 1)), "link_failed", NO_LINK),
    Abuse("a billion capability words", opens_with(patched(GOOD, 22, 10**9)), "link_failed", NO_LINK),
    Abuse("capability words whose size wraps around", opens_with(patched(GOOD, 26, 0x40000001)), "link_failed", NO_LINK),
    # In the link phase.
    Abuse("resets while the reply is awaited", awaits_reply("reset"), "link_failed"),
    Abuse("closes its side while the reply is awaited", awaits_reply("eof"), "link_failed", {"by": "server"}),
    Abuse("a megabyte before the reply", awaits_reply("", bytes(2**20)), "link_failed", {"reason": "link reply was awaited"}),
    Abuse("resets behind the reply", behind_reply(b"", "reset"), "link_failed"),
    Abuse("closes its side behind the reply", behind_reply(b"", "eof"), "link_failed", {"by": "client", "reason": "awaited"}),
    Abuse("no mechanism", behind_reply(b""), "link_failed", {"by": "client", "reason": "no auth mechanism within"}),
    Abuse("half a mechanism", behind_reply(b"\1\0"), "link_failed", {"by": "client", "reason": "no auth mechanism"}),
    Abuse("a mechanism nobody knows", behind_reply(b"\xff" * 4), "link_failed", {"reason": "no link result within"}),
    Abuse("half a ticket and silence", behind_reply(AUTH_SPICE + TICKET[:64]), "link_failed", {"reason": "no ticket"}),
    Abuse("a ticket byte by byte, too slowly", behind_reply(AUTH_SPICE + TICKET, slow=True), "link_failed", {"reason": "no ticket within"}),
    Abuse("resets inside the ticket", behind_reply(AUTH_SPICE + TICKET[:64], "reset"), "link_failed"),
    Abuse("a SASL mechanism's name of 4 GiB", sasl(name=b"\xff" * 4, data=b""), "link_failed", {"by": "client", "reason": "SASL mechanism name"}),
    Abuse("a SASL mechanism's name of no letters and silence", sasl(name=bytes(4), data=b""), "link_failed", {"reason": "no SASL client data"}),
    Abuse("SASL data of 4 GiB", sasl(name=struct.pack("<I", 5) + b"PLAIN", data=b"\xff" * 4), "link_failed", {"by": "client", "reason": "SASL data"}),
    Abuse("SASL data of a megabyte that do not come", sasl(name=struct.pack("<I", 5) + b"PLAIN", data=struct.pack("<I", 2**20)), "link_failed", {"reason": "no SASL client data"}),
    # Linked.
    Abuse("a message of 4 GiB", linked(struct.pack("<HI", 101, 0xFFFFFFF0), "waits"), "channel_closed", {"by": "client", "reason": "at byte"}),
    Abuse("a message of 4 GiB under a full header", linked(struct.pack("<QHII", 1, 101, 0xFFFFFFF0, 0), "waits", mini=False), "channel_closed", {"by": "client", "reason": "at byte"}),
    Abuse("a message of a gigabyte that does not come", linked(struct.pack("<HI", 101, 2**30)), "channel_closed", CLOSED),
    Abuse("a message of 900 MB byte by byte, then a reset", _drips_a_body, "channel_closed", RESET),
    Abuse("resets inside a header", linked(b"\1\0\0", "reset"), "channel_closed", RESET),
    Abuse("resets inside a body", linked(message(101, bytes(99))[:50], "reset"), "channel_closed", RESET),
    Abuse("closes its side inside a header", linked(b"\1\0\0", "eof"), "channel_closed", CLOSED),
    Abuse("closes its side inside a body", linked(message(101, bytes(99))[:50], "eof"), "channel_closed", CLOSED),
    Abuse("a hundred thousand empty messages at once", linked(message(101, b"") * 100_000), "channel_closed", {"messages_from_client": 100_000}),
    Abuse("a sub-message list outside of the body", linked(struct.pack("<QHII", 1, 101, 4, 0xFFFFFFFF) + bytes(4), mini=False), "channel_closed", CLOSED),
    Abuse("message numbers that there are not", linked(b"".join(message(id_, bytes(8)) for id_ in range(200, 65536, 97))), "channel_closed", CLOSED),
    Abuse("does not read", _never_reads, "channel_closed", {"by": "client", "reason": "timed out"}, time_limit_s=8),
    # What migrations are made of.
    Abuse("ten thousand FLUSH_MARKs where nothing migrates", linked(message(4, b"") * 10_000), "channel_closed", {"messages_from_client": 10_000}),
    Abuse("MIGRATE_DATA of a megabyte that nobody asked for", linked(message(5, bytes(2**20))), "channel_closed", CLOSED),
    Abuse("a thousand MIGRATE_CONNECTEDs without a BEGIN", linked(message(102, b"") * 1000, channel=ChannelType.MAIN), "migration_message", {"name": "MIGRATE_CONNECTED"}),
    Abuse("a thousand MIGRATE_CONNECT_ERRORs without a BEGIN", linked(message(103, b"") * 1000, channel=ChannelType.MAIN), "migration_message", {"name": "CONNECT_ERROR"}),
    Abuse("a thousand DO_SEAMLESS to a source", linked(message(110, bytes(4)) * 1000, channel=ChannelType.MAIN), "migration_message", {"name": "DST_DO_SEAMLESS"}),
    Abuse("DO_SEAMLESS without a body", linked(message(110, b""), channel=ChannelType.MAIN), "message_undecoded", {"name": "DST_DO_SEAMLESS"}),
    Abuse("a thousand MIGRATE_ENDs without a migration", linked(message(109, b"") * 1000, channel=ChannelType.MAIN), "migration_message", {"name": "MIGRATE_END"}),
    Abuse("two main channels with one connection id", _second_main, "session_identified", {"connection_id": 0x5EED}),
    Abuse("a connection id that no session has", opens_with(link_mess(connection_id=0xBAD), "reset"), "session_unknown", {"connection_id": 0xBAD}),
)  # fmt: skip
