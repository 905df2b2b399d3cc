"""SASL passes: the exchange is followed, its data is in no recording, and what it encrypts goes on unread."""

import struct
from pathlib import Path

import pytest
import trio

from dissectors.channels import ChannelType
from tests.raw_peers import RawProxy, link_mess, link_reply, message, raw_proxy, read_exactly, read_link_block

PASSWORD = b"correct horse battery staple"
SASL_CAPS = (0b1111,)


def _counted(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


async def _chosen(
    raw: RawProxy,
    offered: bytes = _counted(b",SCRAM-SHA-1,PLAIN,"),
    mess: bytes = link_mess(caps=SASL_CAPS),
) -> tuple[trio.SocketStream, trio.SocketStream]:
    """The client has chosen SASL, and the server says what it offers."""
    client = await raw.connect()
    await client.send_all(mess)
    server = await raw.accept()
    await read_link_block(server)
    await server.send_all(link_reply(caps=SASL_CAPS))
    await read_link_block(client)
    for sender, receiver, data in ((client, server, struct.pack("<I", 2)), (server, client, offered)):
        await sender.send_all(data)
        assert await read_exactly(receiver, len(data)) == data
    return client, server


async def _authenticate(
    raw: RawProxy, mess: bytes = link_mess(caps=SASL_CAPS), last: bytes = bytes(4)
) -> tuple[trio.SocketStream, trio.SocketStream]:
    """Up to the server's word that it accepts; two steps, as SCRAM takes."""
    client, server = await _chosen(raw, mess=mess)
    script = [
        (client, server, _counted(b"PLAIN")),
        (client, server, _counted(b"\0user\0" + PASSWORD + b"\0")),
        (server, client, _counted(b"challenge\0") + b"\0"),
        (client, server, _counted(PASSWORD + b"\0")),
        (server, client, _counted(b"") + b"\1"),
        (server, client, last),
    ]
    for sender, receiver, data in script:
        await sender.send_all(data)
        assert await read_exactly(receiver, len(data)) == data
    return client, server


async def test_a_sasl_exchange_passes_and_the_channel_is_linked(tmp_path: Path) -> None:
    recording = tmp_path / "sasl.pcapng"
    with trio.fail_after(10):
        async with raw_proxy(record=recording) as raw:
            client, server = await _authenticate(raw)
            await server.send_all(bytes(4) + message(304, b"draw"))
            assert await read_exactly(client, 14) == bytes(4) + message(304, b"draw")
            await raw.events.wait_for("channel_linked", channel="display:0")
            ended = await raw.events.wait_for("sasl_ended")
            assert (ended["mechanism"], ended["offered"]) == ("PLAIN", ["SCRAM-SHA-1", "PLAIN"])
            assert (ended["result"], ended["level"]) == ("accepted", "info")
        assert PASSWORD not in recording.read_bytes()
        assert b"SCRAM-SHA-1" in recording.read_bytes()
        assert PASSWORD.decode() not in str(raw.events)


async def test_behind_a_security_layer_bytes_pass_unread() -> None:
    with trio.fail_after(10):
        async with raw_proxy() as raw:
            client, server = await _authenticate(raw)
            wrapped = (
                struct.pack(">I", 20) + b"\xff" * 20
            )  # RFC 4422: length, then what only the peers can read
            for sender, receiver in ((server, client), (client, server)):
                await sender.send_all(wrapped)
                assert await read_exactly(receiver, len(wrapped)) == wrapped
            assert "security layer" in (await raw.events.wait_for("connection_opaque"))["reason"]
            assert [c.state for c in raw.proxy.sessions[0].connections] == ["open"]
            await client.aclose()
            await server.aclose()
            assert "messages_from_client" not in await raw.events.wait_for("channel_closed", by="client")


async def test_channels_of_a_session_whose_main_channel_is_encrypted_belong_to_it() -> None:
    """Nobody here has seen the id that they carry."""
    with trio.fail_after(10):
        async with raw_proxy() as raw:
            client, server = await _authenticate(raw, link_mess(ChannelType.MAIN, caps=SASL_CAPS))
            wrapped = struct.pack(">I", 20) + b"\xff" * 20
            await server.send_all(wrapped)
            assert await read_exactly(client, len(wrapped)) == wrapped
            opaque = await raw.events.wait_for("connection_opaque")
            assert "nor a migration can be seen" in opaque["reason"]
            for channel in (ChannelType.DISPLAY, ChannelType.INPUTS):
                mess = link_mess(channel, caps=SASL_CAPS, connection_id=77)
                await _authenticate(raw, mess)
            (session,) = raw.proxy.sessions
            assert [c.channel for c in session.connections] == ["main:0", "display:0", "inputs:0"]
            assert not raw.events.named("session_unknown")


@pytest.mark.parametrize("last", [struct.pack("<II", 1, 0), b""], ids=["with a word", "by closing"])
async def test_a_server_that_does_not_accept_the_password_says_so_or_closes(last: bytes) -> None:
    """spice-server closes."""
    with trio.fail_after(10):
        async with raw_proxy() as raw:
            client, server = await _authenticate(raw, last=last)
            await server.send_eof()
            await client.aclose()
            ended = await raw.events.wait_for("sasl_ended")
            assert (ended["result"], ended["level"]) == ("refused", "warning")
            assert PASSWORD.decode() not in str(raw.events)
            if not last:
                failed = await raw.events.wait_for("link_failed", by="server")
                assert "does not accept the user or the password" in failed["reason"]


async def test_an_exchange_that_the_client_gives_up_is_unfinished() -> None:
    with trio.fail_after(10):
        async with raw_proxy() as raw:
            client, server = await _chosen(raw)
            await client.send_all(_counted(b"PLAIN"))
            assert await read_exactly(server, 9) == _counted(b"PLAIN")
            await client.send_eof()
            ended = await raw.events.wait_for("sasl_ended")
            assert (ended["result"], ended["level"]) == ("unfinished", "warning")
            failed = await raw.events.wait_for("link_failed", by="client")
            assert "may have no user and password" in failed["reason"]


async def test_a_server_without_a_mechanism_is_told() -> None:
    with trio.fail_after(10):
        async with raw_proxy() as raw:
            _, server = await _chosen(raw, b"")
            await server.send_eof()
            failed = await raw.events.wait_for("link_failed", by="server")
            assert "no mechanism that it could offer" in failed["reason"]
            assert not raw.events.named("sasl_ended")


@pytest.mark.parametrize("code", [8, 9])
async def test_a_link_error_behind_sasl_is_named(code: int) -> None:
    with trio.fail_after(10):
        async with raw_proxy() as raw:
            client, server = await _authenticate(raw)
            await server.send_all(struct.pack("<I", code))
            await server.send_eof()
            assert await read_exactly(client, 4) == struct.pack("<I", code)
            assert (await raw.events.wait_for("link_refused"))["code"] == code


async def test_a_ticket_that_crosses_an_error_reply_is_not_recorded(tmp_path: Path) -> None:
    """As when mechanism 1 meets a server that wants SASL: the client has sent its ticket already."""
    recording, ticket = tmp_path / "refused.pcapng", b"TICKET-" * 18 + b"xx"
    with trio.fail_after(10):
        async with raw_proxy(record=recording) as raw:
            client = await raw.connect()
            await client.send_all(link_mess())
            server = await raw.accept()
            await read_link_block(server)
            await server.send_all(link_reply())
            await read_link_block(client)
            await client.send_all(struct.pack("<I", 1))
            assert await read_exactly(server, 4) == struct.pack("<I", 1)
            refusal = link_reply(error=3)
            await server.send_all(refusal)
            assert await read_link_block(client) == refusal
            await client.send_all(ticket)
            assert await read_exactly(server, len(ticket)) == ticket
            await raw.events.wait_for("link_refused")
    assert b"TICKET" not in recording.read_bytes()
