"""Tickets: left alone, or read and written anew."""

import contextlib
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import example, given
from hypothesis import strategies as st

from dissectors.link import PUB_KEY_BYTES, TICKET_BYTES, parse_link_reply
from spiceproxy.errors import UsageError
from spiceproxy.injection.loading import load_faults
from spiceproxy.simulate import ClientOptions, LinkRefused, ServerOptions, SimulationError
from spiceproxy.tickets import MAX_PASSWORD_BYTES, TicketKey, Tickets, read_passwords, write_ticket
from tests.raw_peers import (
    AUTH_SPICE,
    TICKET,
    link_mess,
    link_reply,
    raw_proxy,
    read_exactly,
    read_link_block,
)
from tests.test_proxy import lab

KEY, SERVER_KEY = TicketKey(), TicketKey()
SECRET, OTHER = b"server's secret", b"client's word"


@given(st.binary(max_size=MAX_PASSWORD_BYTES).filter(lambda text: b"\0" not in text))
def test_a_ticket_is_read_as_it_was_written(password: bytes) -> None:
    ticket = write_ticket(KEY.public_der, password)
    assert len(ticket) == TICKET_BYTES
    assert KEY.read(ticket) == password
    assert SERVER_KEY.read(ticket) is None


# What the file says, what the client says, what the server hears.
RENEWED: dict[str, tuple[Tickets, bytes, bytes]] = {
    "nothing": (Tickets(KEY), OTHER, OTHER),
    "the server's": (Tickets(KEY, SECRET), b"", SECRET),
    "both, and the client knows": (Tickets(KEY, SECRET, OTHER), OTHER, SECRET),
    "both, and the client does not": (Tickets(KEY, SECRET, OTHER), b"guess", b"guess"),
    "both, and the client knows the server's": (Tickets(KEY, SECRET, OTHER), SECRET, SECRET),
}


@pytest.mark.parametrize(("tickets", "said", "heard"), RENEWED.values(), ids=RENEWED)
def test_the_server_hears_its_password_if_the_client_may_have_it(
    tickets: Tickets, said: bytes, heard: bytes
) -> None:
    renewed = tickets.renewed(write_ticket(KEY.public_der, said), SERVER_KEY.public_der)
    assert SERVER_KEY.read(renewed) == heard


def test_a_ticket_that_is_none_stays() -> None:
    assert Tickets(KEY, SECRET).renewed(TICKET, SERVER_KEY.public_der) == TICKET


def test_only_the_key_of_a_reply_changes() -> None:
    before, after = link_reply(), Tickets(KEY).reply(link_reply())
    assert parse_link_reply(after) == replace(parse_link_reply(before), pub_key=KEY.public_der)
    assert (after[:20], after[20 + PUB_KEY_BYTES :]) == (before[:20], before[20 + PUB_KEY_BYTES :])


def test_passwords_are_not_shown() -> None:
    assert "secret" not in repr(Tickets(KEY, SECRET, b"secret too"))


FILES: dict[bytes, tuple[bytes, bytes | None]] = {
    b"one": (b"one", None),
    b"one\n": (b"one", None),
    b"one\r\ntwo\r\n": (b"one", b"two"),
    b"one\ntwo\nthree": (b"one", b"two"),
    b"one\n\n": (b"one", None),
    b" one ": (b" one ", None),
}


@pytest.mark.parametrize(("text", "passwords"), FILES.items())
def test_a_file_has_one_password_or_two(
    text: bytes, passwords: tuple[bytes, bytes | None], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(text)
    assert read_passwords(tmp_path / "file") == passwords


@pytest.mark.parametrize("text", [b"", b"\n", b"\ntwo", b"x" * 60, b"one\n" + b"x" * 60, b"a\0b"])
def test_a_file_without_a_good_password_is_told(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(text)
    with pytest.raises(UsageError):
        read_passwords(tmp_path / "file")
    with pytest.raises(UsageError, match="cannot read"):
        read_passwords(tmp_path / "none")


@given(st.integers(0, len(KEY.public_der) - 1), st.integers(1, 255))
@example(10, 1)  # in the kind of the key: one that nobody knows
def test_a_servers_key_that_will_not_do_is_one_kind_of_error(at: int, flipped: int) -> None:
    key = bytearray(KEY.public_der)
    key[at] ^= flipped
    with contextlib.suppress(ValueError):
        assert len(write_ticket(bytes(key), SECRET)) == TICKET_BYTES


def pem(key: Any) -> bytes:
    how = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    text: bytes = key.private_bytes(serialization.Encoding.PEM, *how)
    return text


def test_a_key_of_the_users_is_used_if_it_fits(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(pem(rsa.generate_private_key(65537, 1024)))
    loaded = TicketKey.load(file)
    assert loaded.opens(write_ticket(loaded.public_der, SECRET), SECRET.decode())
    assert not loaded.opens(write_ticket(loaded.public_der, SECRET), "another")
    assert loaded.opens(write_ticket(loaded.public_der, SECRET), None)
    wrong = [pem(rsa.generate_private_key(65537, 2048)), pem(ec.generate_private_key(ec.SECP256R1())),
             pem(rsa.generate_private_key(3, 1024)), b"nothing"]  # fmt: skip
    for text in wrong:
        file.write_bytes(text)
        with pytest.raises(UsageError, match=r"key\.pem"):
            TicketKey.load(file)
    with pytest.raises(UsageError, match="cannot read"):
        TicketKey.load(tmp_path / "none")


# Through the proxy --------------------------------------------------------------------------------

LOCKED = ServerOptions(password=SECRET.decode())


async def test_by_default_key_and_ticket_pass_as_they_are() -> None:
    async with raw_proxy() as raw:
        client = await raw.connect()
        await client.send_all(link_mess())
        server = await raw.accept()
        await read_link_block(server)
        await server.send_all(link_reply())
        assert await read_link_block(client) == link_reply()
        await client.send_all(AUTH_SPICE + TICKET)
        assert await read_exactly(server, 132) == AUTH_SPICE + TICKET


@pytest.mark.parametrize("with_faults", [False, True], ids=["plain", "with faults"])
async def test_a_client_that_does_not_know_the_password_is_let_in_and_followed(
    with_faults: bool, tmp_path: Path
) -> None:
    record = tmp_path / "r.pcapng"
    faults = load_faults([], ["nack-synth"], []) if with_faults else None
    tickets = Tickets(TicketKey(), SECRET, OTHER)
    client = ClientOptions(password=OTHER.decode())
    async with lab(first=LOCKED, client=client, tickets=tickets, record=record, faults=faults) as it:
        await it.migrate(0, 1)
        await it.check_all_moved(hop=1, server=1)
        events = str(it.events)
    for secret in (SECRET, OTHER):
        assert secret not in record.read_bytes()
        assert secret.decode() not in events
    assert stat.S_IMODE(record.stat().st_mode) == 0o600


async def test_a_client_that_says_something_else_is_the_servers_to_judge() -> None:
    tickets = Tickets(TicketKey(), SECRET, OTHER)
    with pytest.raises((LinkRefused, SimulationError, BaseExceptionGroup)):
        async with lab(first=LOCKED, client=ClientOptions(password="guess"), tickets=tickets):
            raise AssertionError("it was let in")


async def test_without_the_key_the_client_has_to_know_the_password() -> None:
    async with lab(first=LOCKED, client=ClientOptions(password=SECRET.decode())) as it:
        await it.migrate(0, 1)
        await it.check_all_moved(hop=1, server=1)


async def test_a_server_whose_key_will_not_do_gets_the_clients_ticket() -> None:
    with trio.fail_after(10):
        async with raw_proxy(tickets=Tickets(KEY, SECRET)) as raw:
            client = await raw.connect()
            await client.send_all(link_mess())
            server = await raw.accept()
            await read_link_block(server)
            await server.send_all(link_reply())  # its key is all zeros
            await read_link_block(client)
            ticket = write_ticket(KEY.public_der, b"x")
            await client.send_all(AUTH_SPICE + ticket)
            assert await read_exactly(server, 132) == AUTH_SPICE + ticket
            assert raw.events.named("ticket_not_renewed")


# Faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tickets", [None, Tickets(TicketKey())], ids=["passed on", "renewed"])
async def test_a_wrong_ticket_on_the_destination_only_is_a_fault(tickets: Tickets | None) -> None:
    rule = '{ match = { moment = "ticket", hop = 1, channel = "main" }, do = { ticket = "wrong" } }'
    faults = load_faults([], [], [rule])
    client = ClientOptions(password=SECRET.decode())
    async with lab(first=LOCKED, client=client, tickets=tickets, faults=faults) as it:
        it.servers[0].migrate_connect(*it.address(1))
        await it.servers[0].wait_client_connected()
        refused = await it.events.wait_for("link_refused")
        assert (refused["error"], refused["hop"]) == ("SPICE_LINK_ERR_PERMISSION_DENIED", 1)
        assert [event["fault"] for event in it.events.named("fault_fired")] == ["fault 1"]
        assert not it.events.named("fault_failed")


async def test_a_late_ticket_is_a_fault() -> None:
    faults = load_faults([], [], ['{ match = { moment = "ticket", hop = 1 }, do = { delay = 0.3 } }'])
    async with lab(first=LOCKED, client=ClientOptions(password=SECRET.decode()), faults=faults) as it:
        await it.migrate(0, 1)
        await it.check_all_moved(hop=1, server=1)
        (migration,) = it.proxy.migrations
        assert migration.times_ms["handshake"] >= 300


async def test_a_ticket_for_a_server_without_a_good_key_is_no_crash() -> None:
    faults = load_faults([], [], ['{ match = { moment = "ticket" }, do = { ticket = "wrong" } }'])
    with trio.fail_after(10):
        async with raw_proxy(faults=faults) as raw:
            client, server = await raw.linked()  # its key is all zeros, and the ticket passes
            assert client
            assert server
            assert raw.events.named("fault_failed")
