"""HTTP proxies between us and servers: the request, Proxmox VE's names, and sessions through them over migrations."""

import contextlib
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner
from cryptography import x509
from hypothesis import given as given_values
from hypothesis import strategies as st

from spiceproxy.address import Address
from spiceproxy.capture.reports import read_report
from spiceproxy.capture.streams import Endpoint, Opened, stream_events
from spiceproxy.cli import cli
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import EventLog
from spiceproxy.proxy import Proxy, ProxyConfig, open_proxy
from spiceproxy.simulate import (
    ClientOptions,
    Outcome,
    ServerOptions,
    SimulatedClient,
    SimulatedServer,
    open_client,
    open_server,
)
from spiceproxy.tls.authority import Authority
from spiceproxy.tls.settings import TlsConfig
from spiceproxy.vvfile import read_vv
from spiceproxy.ways.allowing import Allowed
from spiceproxy.ways.mode import ANYWHERE, Mode, WaysIn
from spiceproxy.ways.upstream import TunnelRefusedError, TunnelRequest, UpstreamProxy, parse_upstream
from tests.raw_peers import Events, link_mess, message, raw_proxy, read_exactly, read_link_block
from tests.tls.certificates import server_context, trusting, write_pair
from tests.ways.dialling import connect_dial
from tests.ways.proxmox import ClusterProxy, cluster_proxy, name_of, vv_of

LOOPBACK = Address("127.0.0.1", 0)
KVM = Address("kvm1", 5900)


# The request ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://pve1:3128", UpstreamProxy(Address("pve1", 3128))),
        ("pve1", UpstreamProxy(Address("pve1", 3128))),
        ("https://pve1/", UpstreamProxy(Address("pve1", 3129), tls=True)),
        ("http://[fd00::1]:8080", UpstreamProxy(Address("fd00::1", 8080))),
        ("http://anna:s%3Aecret@pve1", UpstreamProxy(Address("pve1", 3128), credentials="anna:s:ecret")),
    ],
)
def test_a_proxy_is_named_as_clients_name_it(text: str, proxy: UpstreamProxy) -> None:
    assert parse_upstream(text) == proxy
    assert "ecret" not in repr(proxy)


@pytest.mark.parametrize(
    "text", ["socks://pve1", "http://", "http://pve1:x", "http://pve1/secret", "http://p\nve1", "http://a b"]
)
def test_what_is_no_proxy_is_told_without_its_password(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_upstream(text)
    assert "secret" not in str(caught.value)


def test_a_password_need_not_be_in_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPICEPROXY_UPSTREAM_PROXY", "socks://anna:secret@pve1")
    result = CliRunner().invoke(cli, ["run", "--server", "kvm1:1"])
    assert isinstance(result.exception, UsageError)
    assert str(result.exception).startswith("socks:// is no URI of a proxy")


@pytest.mark.parametrize(
    ("server", "target"),
    [
        (KVM, b"kvm1:5900"),
        (Address("fd00::1", 5900), b"[fd00::1]:5900"),
        (Address(name_of("pve1"), 61000), None),
    ],
)
def test_the_server_is_asked_for_by_the_very_name(server: Address, target: bytes | None) -> None:
    target = target or f"{server.host}:{server.port}".encode()
    data = TunnelRequest(server, "anna:secret").data
    assert data.startswith(b"CONNECT " + target + b" HTTP/1.1\r\n")
    assert b"\r\nHost: " + target + b"\r\n" in data
    assert b"\r\nProxy-Authorization: Basic YW5uYTpzZWNyZXQ=\r\n" in data
    assert data.endswith(b"\r\n\r\n")


def test_a_host_that_cannot_stand_in_a_request_is_no_host_name() -> None:
    with pytest.raises(TunnelRefusedError, match="not a host name"):
        TunnelRequest(Address("kvm\n1", 5900), None)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_tunnel_is_open_when_the_answer_is_whole(size: int) -> None:
    answer, request = b"HTTP/1.1 102 Wait\r\n\r\nHTTP/1.0 200 OK\r\n\r\n", TunnelRequest(KVM, None)
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    assert [request.receive(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 401 invalid ticket\r\n\r\n", "it answered 401 invalid ticket"),
        (b"HTTP/1.1 407 " + b"x" * 1000 + b"\r\n\r\n", r"it answered 407 x{100}"),
        (b"HTTP/1.1 200 OK\r\n\r\nand more", "it said more than it was asked"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "it did not answer as an HTTP proxy"),
        (b"HTTP/1.1 200" + b"a" * 20_000, "it did not answer as an HTTP proxy"),
        (b"", "it closed"),
    ],
)
def test_what_the_proxy_says_instead_is_told(answer: bytes, reason: str) -> None:
    with pytest.raises(TunnelRefusedError) as caught:
        TunnelRequest(KVM, None).receive(answer)
    assert re.fullmatch(reason, str(caught.value.strerror))


@given_values(st.lists(st.binary(max_size=60), max_size=4), st.booleans())
def test_no_answer_makes_it_fail_otherwise(pieces: list[bytes], prefix: bool) -> None:
    request = TunnelRequest(KVM, None)
    with contextlib.suppress(TunnelRefusedError):
        for piece in [b"HTTP/1.1 "] * prefix + pieces:
            if request.receive(piece):
                break


# Through Proxmox VE's proxy ---------------------------------------------------------------------------

SUBJECTS = {
    node: f"OU=PVE Cluster Node,O=Proxmox Virtual Environment,CN={node}.example" for node in ("pve1", "pve2")
}


@dataclass
class Cluster:
    """Two nodes with a guest, a client, our proxy and the cluster's."""

    servers: list[SimulatedServer]
    client: SimulatedClient
    proxy: Proxy
    theirs: ClusterProxy
    events: Events

    def address(self, server: int) -> Address:
        address = self.servers[server].address
        assert address is not None
        return Address(*address)

    async def migrate(self, source: int) -> Outcome:
        """To the other server, by the name that the cluster gives it."""
        s1, s2 = self.servers[source], self.servers[1 - source]
        s1.draw(20)
        s1.migrate_connect(name_of(s2.name), 0, self.address(1 - source).port, SUBJECTS[s2.name])
        await s1.wait_client_connected()
        s1.hand_over_to(s2)
        outcome = await s1.migrate_end()
        await self.client.wait_migrated()
        await s2.wait_client_arrived()
        while str(self.proxy.migrations[-1].outcome) != "completed":
            s2.draw(1)
            await trio.sleep(0.01)
        return outcome

    def check(self, hop: int, server: int) -> None:
        """All channels are on this hop and are read, and the cluster's proxy was asked for each of them."""
        (session,) = self.proxy.sessions
        here = [c for c in session.connections if c.state == "open" and c.hop == hop]
        assert {c.channel for c in here} == {view.name for view in self.client.channels}
        assert {(c.server.proxmox_node, c.server.port) for c in here} == {
            (self.servers[server].name, self.address(server).port)
        }
        assert self.theirs.refused == []
        assert self.theirs.asked.count(self.servers[server].name) >= len(here)


@asynccontextmanager
async def cluster(directory: Path, *, connect: bool, subject: bool = True) -> AsyncIterator[Cluster]:
    """Our proxy is given the cluster's file, or (`connect`) clients are given it with us in its proxy's place.

    It may be told the subject or not: certificates have the node's name as well (PVE::Cluster::Setup, gen_pve_ssl_cert()).
    """
    events, cas, ours = Events(), Authority.new(), Authority.new()
    proxies: list[Proxy] = []

    async def dial(address: Address) -> trio.SocketStream:
        """By HTTP CONNECT, wherever it goes, or plainly."""
        if not connect:
            return await trio.open_tcp_stream(*address)
        return await connect_dial(proxies[0].address, name=lambda each: each.authority)(address)

    with trio.fail_after(20):
        async with AsyncExitStack() as stack:
            servers: list[SimulatedServer] = []
            for node, own in SUBJECTS.items():
                context = server_context(*write_pair(directory, node, cas, own, (x509.DNSName(node),)))
                options = ServerOptions(name=node, incoming=bool(servers), tls=context)
                servers.append(await stack.enter_async_context(open_server(options)))
            theirs = await stack.enter_async_context(cluster_proxy())
            assert servers[0].address is not None
            first = Address(name_of("pve1"), servers[0].address.port)
            text = vv_of(*first, proxy=theirs.address, ca=cas.pem.decode(), subject=SUBJECTS["pve1"])
            (directory / "pve.vv").write_text(text)
            given = read_vv(directory / "pve.vv")
            assert given.proxy is not None
            tls = TlsConfig(
                listen=None if connect else LOOPBACK,
                server=None if connect else given.target.tls,
                server_subject=given.subject if subject else None,
                server_ca_pem=given.ca,
                certificate=ours,
            )
            ways = WaysIn(
                mode=Mode.CONNECT if connect else Mode.LISTEN,
                allowed=Allowed(["pve1:*", "pve2:*"]) if connect else None,
                upstream=parse_upstream(given.proxy),
            )
            config = ProxyConfig(
                server=ANYWHERE if connect else None,
                listen=LOOPBACK if connect else None,
                tls=tls,
                ways=ways,
                events=EventLog([events]),
                record=directory / "r.pcapng",
            )
            proxies.append(await stack.enter_async_context(open_proxy(config)))
            wish = ClientOptions(dial=dial, tls=trusting(ours))
            client = await stack.enter_async_context(open_client(wish))
            to = first if connect else proxies[0].tls_address
            assert to is not None
            await client.connect(*to, secure=True, subject=SUBJECTS["pve1"])
            await servers[0].wait_client_arrived()
            yield Cluster(servers, client, proxies[0], theirs, events)


@pytest.mark.parametrize(
    ("connect", "subject"),
    [(False, True), (True, True), (True, False)],
    ids=["given its file", "in its proxy's place", "for all nodes, by their names"],
)
async def test_a_guest_of_proxmox_is_followed_from_node_to_node_and_back(
    connect: bool, subject: bool, tmp_path: Path
) -> None:
    async with cluster(tmp_path, connect=connect, subject=subject) as it:
        it.check(hop=0, server=0)
        assert await it.migrate(0) is Outcome.MIGRATE
        it.check(hop=1, server=1)
        assert await it.migrate(1) is Outcome.MIGRATE
        it.check(hop=2, server=0)
        assert len(it.events.named("message_rewritten")) == (0 if connect else 2)
        assert it.events.named("session_unknown") == it.events.named("tunnel_opened") == []
        servers = {event["server"] for event in it.events.named("channel_linked")}
        assert all("::" not in server for server in servers)  # without the signature
    # The recording has the proxy's address in the place of those that nobody here knows.
    with (tmp_path / "r.pcapng").open("rb") as file:
        opened = {event.server for event in stream_events(file) if isinstance(event, Opened)}
    assert opened == {Endpoint("127.0.0.1", it.address(server).port) for server in (0, 1)}
    outcomes = [str(migration.outcome) for migration in read_report(str(tmp_path / "r.pcapng")).migrations]
    assert outcomes == ["completed", "completed"]


# Through any proxy ------------------------------------------------------------------------------------


async def test_a_name_that_is_too_old_is_told_with_the_proxy_s_words() -> None:
    async with cluster_proxy() as theirs:
        old = Address(name_of("pve1", age_s=60), 5900)
        events, ways = Events(), WaysIn(upstream=UpstreamProxy(theirs.address))
        config = ProxyConfig(server=old, ways=ways, events=EventLog([events]))
        async with open_proxy(config) as proxy, await trio.open_tcp_stream(*proxy.address) as client:
            await client.send_all(link_mess())
            assert (await read_link_block(client))[16:20] != bytes(4)
            reason = (await events.wait_for("link_failed", by="server"))["reason"]
            assert reason.endswith(f"the proxy {theirs.address}: it answered 401 invalid ticket")


async def test_a_proxy_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = UpstreamProxy(Address(*silent.getsockname()))
        async with raw_proxy(ways=WaysIn(upstream=proxy), connect_timeout_s=0.2) as it:
            client = await it.connect()
            await client.send_all(link_mess())
            reason = (await it.events.wait_for("link_failed", by="server"))["reason"]
            assert "has not answered within 0.2 s" in reason


@pytest.mark.parametrize("trusted", [True, False], ids=["its CA is known", "its CA is unknown"])
async def test_a_proxy_is_spoken_to_with_tls_if_it_can_be_believed(
    trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = Authority.new()
    (tmp_path / "ca.pem").write_bytes((ca if trusted else Authority.new()).pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    names = (x509.IPAddress(ip_address("127.0.0.1")),)
    context = server_context(*write_pair(tmp_path, "proxy", ca, "CN=proxy", names))
    async with cluster_proxy(context) as theirs:
        ways = WaysIn(upstream=UpstreamProxy(theirs.address, tls=True))
        async with raw_proxy(ways=ways) as it:
            if trusted:
                client, server = await it.linked()
                big = message(304, bytes(3_000_000))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(server.send_all, big)
                    assert await read_exactly(client, len(big)) == big
                await client.send_all(message(1, b"abcd"))
                assert await read_exactly(server, 10) == message(1, b"abcd")
                await server.send_eof()
                assert await client.receive_some() == b""
            else:
                client = await it.connect()
                await client.send_all(link_mess())
                reason = (await it.events.wait_for("link_failed", by="server"))["reason"]
                assert "the certificate is not accepted" in reason
