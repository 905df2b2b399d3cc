"""HTTP CONNECT: the request, who may go where, and sessions through it over migrations."""

import base64
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiceproxy.address import Address, unix_address
from spiceproxy.errors import UsageError
from spiceproxy.proxy import Proxy
from spiceproxy.simulate import ClientOptions, Outcome, ServerOptions
from spiceproxy.simulate.linking import Dial
from spiceproxy.ways.allowing import Allowed, default
from spiceproxy.ways.http_connect import Asked, ConnectRequest, Refused
from spiceproxy.ways.mode import ANYWHERE, Mode, WaysIn
from tests.raw_peers import link_mess, raw_proxy, read_all, read_exactly, read_link_block
from tests.ways.dialling import connect_dial, request
from tests.ways.sessions import play

LOCAL = Allowed(["127.0.0.1:*", "localhost:*", "[::1]:*", "kvm2.example:*"])


PROXMOX = f"pvespiceproxy:65000000:100:pve1::{'5' * 40}"


def answer_to(
    data: bytes, *, allowed: Allowed = LOCAL, credentials: str | None = None, proxmox: bool = False
) -> Asked | Refused | None:
    return ConnectRequest(allowed, credentials, proxmox=proxmox).receive(data)[1]


def dialling(proxy: Proxy) -> Dial:
    return connect_dial(proxy.address)


# The request ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "address"),
    [
        ("127.0.0.1:5900", Address("127.0.0.1", 5900)),
        ("[::1]:5900", Address("::1", 5900)),
        ("::1:5900", Address("::1", 5900)),  # as GLib writes it
        ("KVM2.example:61000", Address("KVM2.example", 61000)),
    ],
)
def test_a_request_for_an_allowed_target_is_granted(target: str, address: Address) -> None:
    assert answer_to(request(target)) == Asked(address)


def test_a_name_of_proxmox_is_granted_by_its_node_where_a_proxy_knows_it() -> None:
    data = request(f"{PROXMOX}:61000")
    target = Address(PROXMOX, 61000)
    assert answer_to(data, allowed=Allowed(["pve1:61000-61099"]), proxmox=True) == Asked(target)
    refused = answer_to(data, allowed=Allowed(["pve2:61000-61099"]), proxmox=True)
    assert isinstance(refused, Refused)
    assert refused.status == 403
    assert "55555" not in refused.reason  # the signature


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_only_the_request_is_taken_however_it_comes(size: int) -> None:
    head, rest = request("127.0.0.1:5900"), b"REDQ and more"
    asked = ConnectRequest(LOCAL, None)
    stream, taken, result = head + rest, 0, None
    while result is None:
        used, result = asked.receive(stream[taken : taken + size])
        taken += used
    assert result == Asked(Address("127.0.0.1", 5900))
    assert stream[taken:] == rest


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET http://127.0.0.1:5900/ HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"CONNECT 127.0.0.1:5900 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 400),
        (request("127.0.0.1"), 400),
        (request("127.0.0.1:0"), 400),
        (request("127.0.0.1:65536"), 400),
        (request("user@127.0.0.1:5900"), 400),
        (request("::1::5900"), 400),
        (request("kvm1:x:5900"), 400),
        (request(f"{PROXMOX}:61000"), 403),
        (request("10.0.0.1:5900"), 403),
        (request("evil.example:22"), 403),
        (b"REDQ" + bytes(40) + b"\r\n\r\n", 400),
        (b"CONNECT " + b"a" * 20_000, 431),
    ],
)
def test_what_is_not_granted_is_told_why(data: bytes, status: int) -> None:
    asked = ConnectRequest(LOCAL, None)
    _, result = asked.receive(data)
    assert isinstance(result, Refused)
    assert result.status == status
    head, _, body = asked.answer(result).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert result.reason.isprintable()


def test_a_client_that_has_closed_is_told_nothing() -> None:
    asked = ConnectRequest(LOCAL, None)
    _, result = asked.receive(b"")
    assert result == Refused(400, "closed before its HTTP request was whole")
    assert asked.answer(result) == b""


@pytest.mark.parametrize(
    ("given", "granted"),
    [
        ("Basic " + base64.b64encode(b"anna:secret").decode(), True),
        ("basic  " + base64.b64encode(b"anna:secret").decode(), True),
        ("Basic " + base64.b64encode(b"anna:wrong").decode(), False),
        ("Bearer " + base64.b64encode(b"anna:secret").decode(), False),
        ("Basic !!!", False),
        ("", False),
    ],
)
def test_credentials_are_asked_for_if_there_are_any(given: str, granted: bool) -> None:
    headers = f"Proxy-Authorization: {given}\r\n" if given else ""
    asked = ConnectRequest(LOCAL, "anna:secret")
    _, result = asked.receive(request("127.0.0.1:5900", headers=headers))
    assert isinstance(result, Asked) is granted
    if isinstance(result, Refused):
        assert result.status == 407
        assert b'proxy-authenticate: basic realm="spiceproxy"' in asked.answer(result).lower()
        assert "secret" not in result.reason


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_make_it_fail(data: bytes, prefix: bool) -> None:
    asked = ConnectRequest(LOCAL, "a:b")
    taken, result = asked.receive((b"CONNECT " if prefix else b"") + data)
    assert 0 <= taken <= len(data) + 8
    if result is not None:
        answer = asked.answer(result)
        assert answer.startswith(b"HTTP/1.1 ") if data or prefix else answer == b""


# Where to ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [
        ("kvm1:5900", ["kvm1:5900", "KVM1.:5900"], ["kvm1:5901", "kvm10:5900", "a.kvm1:5900"]),
        ("*.example.org:5900-5999", ["a.example.org:5950", "a.b.example.org:5900"], ["example.org:5950", "xexample.org:5950"]),
        ("10.1.0.0/16:*", ["10.1.2.3:1", "10.1.2.3:65535"], ["10.2.0.1:5900", "kvm1:5900"]),
        ("[2001:db8::]/32:5900", ["2001:db8::1|5900"], ["2001:db9::1|5900"]),
        ("10.1.2.3:5900", ["10.1.2.3:5900", "::ffff:10.1.2.3|5900"], ["10.1.2.4:5900"]),
        ("*:5900", ["anything:5900", "::1|5900"], ["anything:22"]),
    ],
)  # fmt: skip
def test_a_rule_lets_in_what_it_says(rule: str, inside: list[str], outside: list[str]) -> None:
    def target(text: str) -> Address:
        host, _, port = text.rpartition("|" if "|" in text else ":")
        return Address(host, int(port))

    allowed = Allowed([rule])
    assert all(target(text) in allowed for text in inside)
    assert not any(target(text) in allowed for text in outside)


@pytest.mark.parametrize(
    "text", ["kvm1", "kvm1:x", "kvm1:0", "::1:5900", "10.0.0.0/99:1", ":5900", "a b:1", "10/8:1"]
)
def test_what_is_no_rule_is_told(text: str) -> None:
    with pytest.raises(UsageError):
        Allowed([text])


def test_nobody_but_this_machine_gets_anywhere_unless_told() -> None:
    spice, proxmox, ssh = Address("kvm1", 5900), Address("pve", 61000), Address("kvm1", 22)
    for local in (
        Address("127.0.0.1", 0),
        Address("::1", 0),
        Address("localhost", 0),
        unix_address("/run/x"),
    ):
        allowed = default([local])
        assert spice in allowed
        assert proxmox in allowed
        assert ssh not in allowed
    for reachable in (Address("0.0.0.0", 0), Address("::", 0), Address("192.0.2.1", 0), Address("myhost", 0)):
        assert spice not in default([reachable])
        assert spice not in default([Address("127.0.0.1", 0), reachable])  # one with TLS, one without


# Through the proxy ------------------------------------------------------------------------------------

KINDS: dict[str, tuple[dict[str, Any], Outcome]] = {
    "seamless": ({}, Outcome.MIGRATE),
    "semi-seamless": ({"first": ServerOptions(seamless=False)}, Outcome.MIGRATE_END),
    "switch-host": ({"client": ClientOptions(main_caps=(0,))}, Outcome.SWITCH_HOST),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_session_is_one_over_migrations_and_nothing_is_rewritten(kind: str, host: str) -> None:
    options, expected = KINDS[kind]
    ways = WaysIn(mode=Mode.CONNECT, allowed=LOCAL)
    async with play(ways, dialling, **options) as it:
        s1, s2 = it.servers
        assert s2.address is not None
        if kind == "switch-host":
            s1.migrate_connect(host, s2.address.port)
            s1.hand_over_to(s2)
            assert await s1.migrate_end() is expected
            await it.client.wait_migrated()
            await s2.wait_client_arrived()
        else:
            assert await it.migrate(0, 1, host=host) is expected
        await it.check_one_session(hop=1, server=1)
        assert it.events.named("message_rewritten") == it.events.named("destination_opened") == []
        (announced,) = {event["destination"] for event in it.events.named("destination_announced")}
        assert announced == f"{host}:{s2.address.port}"
        assert it.events.named("session_unknown") == []
        await it.completed(1)


async def test_a_name_in_the_message_and_an_address_in_the_request_are_the_same_server() -> None:
    ways = WaysIn(mode=Mode.CONNECT, allowed=LOCAL)

    def by_address(proxy: Proxy) -> Dial:
        return connect_dial(proxy.address, name=lambda address: f"127.0.0.1:{address.port}")

    async with play(ways, by_address, servers=3) as it:
        for source, destination in ((0, 1), (1, 2), (2, 0)):
            assert await it.migrate(source, destination, host="kvm2.example") is Outcome.MIGRATE
            await it.check_one_session(hop=destination or 3, server=destination)


async def test_a_client_without_credentials_is_refused_and_told(tmp_path: Path) -> None:
    ways = WaysIn(mode=Mode.CONNECT, allowed=LOCAL, credentials="anna:secret")
    async with raw_proxy(ways=ways) as it:
        client = await it.connect()
        await client.send_all(request("127.0.0.1:5900"))
        assert (await read_all(client)).startswith(b"HTTP/1.1 407 ")
        event = await it.events.wait_for("link_failed")
        assert "credentials" in event["reason"]
        assert "secret" not in str(it.events)
        good = base64.b64encode(b"anna:secret").decode()
        client = await it.connect()
        target = f"127.0.0.1:{it.listener.socket.getsockname()[1]}"
        mess = link_mess(2)
        # The link message comes with the request, before the answer.
        await client.send_all(request(target, headers=f"Proxy-Authorization: Basic {good}\r\n") + mess)
        server = await it.accept()
        assert await read_link_block(server) == mess


async def test_a_client_that_does_not_ask_is_let_go_after_the_time_for_a_link() -> None:
    async with raw_proxy(ways=WaysIn(mode=Mode.CONNECT), link_timeout_s=0.1) as it:
        client = await it.connect()
        await client.send_all(b"CONNECT 127")
        assert await read_all(client) == b""
        assert (await it.events.wait_for("link_failed"))["reason"] == "no link message within 0.1 s"


async def test_tls_inside_the_tunnel_is_passed_on_unread() -> None:
    hello = bytes([22, 3, 1]) + struct.pack(">H", 5) + b"hello"
    async with raw_proxy(ways=WaysIn(mode=Mode.CONNECT, allowed=LOCAL)) as it:
        client = await it.connect()
        target = f"127.0.0.1:{it.listener.socket.getsockname()[1]}"
        await client.send_all(request(target) + hello)
        server = await it.accept()
        assert await read_exactly(server, len(hello)) == hello
        assert (await it.events.wait_for("tunnel_opened"))["server"] == target
        await client.aclose()


def test_nobody_has_to_be_named_where_the_client_does() -> None:
    assert str(ANYWHERE) == "*:0"
