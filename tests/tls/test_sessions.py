"""Sessions over TLS, followed through migrations: simulated peers, the real proxy, real sockets and certificates."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509

from spiceproxy.address import Address
from spiceproxy.capture.reports import read_report
from spiceproxy.eventlog import EventLog
from spiceproxy.injection.loading import load_faults
from spiceproxy.lab.forwarder import start_forwarder
from spiceproxy.proxy import Proxy, ProxyConfig, open_proxy
from spiceproxy.simulate import (
    ClientOptions,
    Outcome,
    ServerOptions,
    SimulatedClient,
    SimulatedServer,
    SimulationError,
    open_client,
    open_server,
)
from spiceproxy.tls.authority import Authority
from spiceproxy.tls.names import is_host, written_subject
from spiceproxy.tls.settings import FixedCertificate, TlsConfig
from spiceproxy.ways.allowing import Allowed
from spiceproxy.ways.mode import ANYWHERE, Mode, WaysIn
from tests.raw_peers import Events
from tests.tls.certificates import server_context, trusting, write_pair
from tests.ways.test_connect import dialling

TIME_LIMIT_S = 20
SUBJECTS = {name: f"C=ZZ,O=Servers\\, Inc.,CN={name}" for name in ("s1", "s2")}
CHANNELS = {"main:0", "display:0", "inputs:0", "cursor:0"}


@dataclass
class Scene:
    """Two servers and a client with TLS, and the proxy between them."""

    servers: list[SimulatedServer]
    client: SimulatedClient
    proxy: Proxy
    events: Events
    directory: Path

    def address(self, server: int) -> Address:
        address = self.servers[server].address
        assert address is not None
        return Address(*address)

    async def connect(self, *, subject: str | None = SUBJECTS["s1"]) -> None:
        address = self.proxy.tls_address
        assert address is not None
        await self.client.connect(*address, secure=True, subject=subject)
        await self.servers[0].wait_client_arrived()

    async def migrate(
        self, *, subject: str | None = SUBJECTS["s2"], plain: int = 0, source: int = 0
    ) -> Outcome:
        s1, s2 = self.servers[source], self.servers[1 - source]
        s1.draw(20)
        s1.migrate_connect(self.address(1 - source).host, plain, self.address(1 - source).port, subject)
        await s1.wait_client_connected()
        s1.hand_over_to(s2)
        outcome = await s1.migrate_end()
        await self.client.wait_migrated()
        await s2.wait_client_arrived()
        s2.draw(20)
        await self.client.wait_until(lambda: self.client.drawn > 0)
        return outcome

    def check_all_on(self, hop: int, server: int) -> None:
        """The client's channels are on the proxy, and nowhere else, and lead to this server."""
        open_ = [
            c
            for session in self.proxy.sessions
            for c in session.connections
            if c.state == "open" and c.hop == hop
        ]
        assert {c.channel for c in open_} == CHANNELS == {view.name for view in self.client.channels}
        assert {c.server for c in open_} == {self.address(server)}
        assert {c.upstream for c in open_} == {Address(*view.peer) for view in self.servers[server].channels}


@asynccontextmanager
async def scene(
    directory: Path,
    *,
    first: ServerOptions | None = None,
    client: ClientOptions | None = None,
    tls: dict[str, Any] | None = None,
    names: tuple[x509.GeneralName, ...] = (),
    **options: Any,
) -> AsyncIterator[Scene]:
    events, theirs = Events(), Authority.new()
    ca = directory / "servers-ca.pem"
    ca.write_bytes(theirs.pem)
    first = first or ServerOptions()
    ours = Authority.new()
    with trio.fail_after(TIME_LIMIT_S):
        async with AsyncExitStack() as stack:
            servers = []
            for number, name in enumerate(SUBJECTS):
                context = server_context(*write_pair(directory, name, theirs, SUBJECTS[name], names))
                one = replace(first, name=name, incoming=bool(number), tls=context)
                servers.append(await stack.enter_async_context(open_server(one)))
            settings: dict[str, Any] = {
                "listen": Address("127.0.0.1", 0),
                "server": servers[0].address,
                "server_ca": ca,
                "server_subject": SUBJECTS["s1"],
                "certificate": ours,
                **(tls or {}),
            }
            config = ProxyConfig(
                **{
                    "server": None,
                    "listen": None,
                    "tls": TlsConfig(**settings),
                    "events": EventLog([events]),
                    **options,
                }
            )
            proxy = await stack.enter_async_context(open_proxy(config))
            wish = replace(client or ClientOptions(), tls=trusting(ours))
            peer = await stack.enter_async_context(open_client(wish))
            yield Scene(servers, peer, proxy, events, directory)


@pytest.mark.parametrize("seamless", [True, False], ids=["seamless", "semi-seamless"])
async def test_a_session_with_tls_stays_on_the_proxy_there_and_back(seamless: bool, tmp_path: Path) -> None:
    async with scene(tmp_path, first=ServerOptions(seamless=seamless)) as it:
        await it.connect()
        assert await it.migrate() is (Outcome.MIGRATE if seamless else Outcome.MIGRATE_END)
        it.check_all_on(hop=1, server=1)
        await it.migrate(source=1, subject=SUBJECTS["s1"])
        it.check_all_on(hop=2, server=0)
        assert len(it.proxy.sessions) == 1
        assert not it.events.named("link_failed")
        assert not it.events.named("tunnel_opened")


async def test_switch_host_over_tls_stays_on_the_proxy(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        async with scene(tmp_path) as it:
            await it.connect()
            forwarder = await start_forwarder(nursery, "127.0.0.1", it.address(1))
            s1, s2 = it.servers
            s1.migrate_connect(forwarder.address.host, 0, forwarder.address.port, SUBJECTS["s2"])
            await s1.wait_client_connected()
            forwarder.open()
            s1.hand_over_to(s2)
            assert await s1.migrate_end() is Outcome.SWITCH_HOST
            assert (await it.client.wait_migrated()).kind == "switch-host"
            await s2.wait_client_arrived()
            (session,) = it.proxy.sessions
            moved = {c.channel: c.server for c in session.connections if c.state == "open" and c.hop == 1}
            assert moved == dict.fromkeys(CHANNELS, forwarder.address)
        nursery.cancel_scope.cancel()


async def test_a_recording_of_tls_has_the_plain_text_and_tells_the_same(tmp_path: Path) -> None:
    record = tmp_path / "tls.pcapng"
    async with scene(tmp_path, record=record) as it:
        await it.connect()
        await it.migrate()
        live = it.proxy.report()
    recorded = await trio.to_thread.run_sync(read_report, str(record))
    assert [each.outcome for each in recorded.migrations] == [each.outcome for each in live.migrations]
    assert [set(each.channels) for each in recorded.migrations] == [CHANNELS]
    assert recorded.migrations[0].performed == live.migrations[0].performed


async def test_faults_reach_messages_inside_tls(tmp_path: Path) -> None:
    faults = load_faults([], ["nack-synth"], [])
    async with scene(tmp_path, faults=faults) as it:
        await it.connect()
        assert await it.migrate() is Outcome.MIGRATE_END  # both could do seamless
        it.check_all_on(hop=1, server=1)
        await it.events.wait_for("fault_fired")


async def test_a_second_client_comes_with_tls_too(tmp_path: Path) -> None:
    rule = (
        '{ match = { moment = "linked", channel = "display" }, do = { second_client = { seconds = 0.2 } } }'
    )
    came = False
    with suppress(SimulationError, BaseExceptionGroup):  # the server sends the first one away
        async with scene(tmp_path, faults=load_faults([], [], [rule])) as it:
            await it.connect()
            first = it.servers[0].session
            await it.events.wait_for("fault_fired")
            with trio.fail_after(5):
                while it.servers[0].session in {first, None}:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            came = not it.events.named("fault_failed")
    assert came


async def test_a_client_that_comes_by_connect_is_followed_with_tls(tmp_path: Path) -> None:
    """As Proxmox's do; nothing is rewritten, and the next server is known by what the source said of it."""
    tls = {"listen": None, "server": None, "server_subject": SUBJECTS["s1"]}
    loopback = Address("127.0.0.1", 0)
    ways = WaysIn(mode=Mode.CONNECT, allowed=Allowed(["127.0.0.1:*"]))
    async with scene(tmp_path, tls=tls, ways=ways, server=ANYWHERE, listen=loopback) as it:
        it.client.options = replace(it.client.options, dial=dialling(it.proxy))
        await it.client.connect(*it.address(0), secure=True, subject=SUBJECTS["s1"])
        await it.servers[0].wait_client_arrived()
        assert await it.migrate() is Outcome.MIGRATE
        it.check_all_on(hop=1, server=1)
        assert not it.events.named("tunnel_opened")
        assert not it.events.named("message_rewritten")
        assert len(it.proxy.sessions) == 1


async def test_without_a_subject_the_host_counts_and_we_are_named_for_the_address_that_clients_use(
    tmp_path: Path,
) -> None:
    address = (x509.IPAddress(ip_address("127.0.0.1")),)
    async with scene(tmp_path, names=address, tls={"server_subject": None}) as it:
        await it.connect(subject=None)
        await it.migrate(subject=None)
        it.check_all_on(hop=1, server=1)


@pytest.mark.parametrize("name", ["spice.example", "SPICE.Example", "xn--mller-kva.example"])
async def test_a_client_that_says_by_which_name_it_came_finds_it_in_the_certificate(
    name: str, tmp_path: Path
) -> None:
    ours = Authority.new()
    async with scene(tmp_path, tls={"certificate": ours}) as it:
        address = it.proxy.tls_address

        def shown() -> x509.Certificate:
            """As to a client that checks the name, which Python does."""
            assert address is not None
            context = trusting(ours)
            context.check_hostname = True
            with (
                socket.create_connection(address) as plain,
                context.wrap_socket(plain, server_hostname=name) as found,
            ):
                return x509.load_der_x509_certificate(found.getpeercert(binary_form=True) or b"")

        certificate = await trio.to_thread.run_sync(shown)
        assert written_subject(certificate) == SUBJECTS["s1"]
        assert is_host(certificate, "127.0.0.1")


async def test_a_server_with_another_subject_is_not_believed(tmp_path: Path) -> None:
    async with scene(tmp_path, tls={"server_subject": "CN=another"}) as it:
        unknown = await it.events.wait_for("server_unknown")
        assert "subject is 'C=ZZ,O=Servers" in unknown["reason"]
        with pytest.raises(SimulationError):
            await it.connect(subject="CN=another")
        failed = await it.events.wait_for("link_failed")
        assert failed["by"] == "server"
        assert "not 'CN=another'" in failed["reason"]


async def test_a_destination_with_another_subject_than_the_source_said_is_not_believed(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as it:
        await it.connect()
        it.servers[0].migrate_connect("127.0.0.1", 0, it.address(1).port, "CN=another")
        await it.servers[0].wait_client_connected()
        await it.client.wait_until(lambda: it.client.migrations[-1].refusal is not None)
        failed = await it.events.wait_for("link_failed")
        assert "not 'CN=another'" in failed["reason"]


async def test_a_server_of_another_ca_is_not_believed_unless_anybody_is(tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Authority.new().pem)
    async with scene(tmp_path, tls={"server_ca": other}) as it:
        unknown = await it.events.wait_for("server_unknown")
        assert "the certificate is not accepted: unable to get local issuer certificate" in unknown["reason"]
    async with scene(tmp_path, tls={"server_ca": None, "server_subject": None, "insecure": True}) as it:
        await it.connect()
        await it.migrate()
        it.check_all_on(hop=1, server=1)


async def test_a_client_that_does_not_trust_us_says_so(tmp_path: Path) -> None:
    async with scene(tmp_path, tls={"certificate": Authority.new()}) as it:
        address = it.proxy.tls_address

        def connect() -> None:
            """Not trio's, which keeps the alert to itself."""
            assert address is not None
            with socket.create_connection(address) as plain, pytest.raises(ssl.SSLCertVerificationError):
                trusting(Authority.new()).wrap_socket(plain)

        await trio.to_thread.run_sync(connect)
        failed = await it.events.wait_for("link_failed", by="client")
        assert failed["reason"] == "TLS: alert unknown ca"


async def test_a_client_finds_the_certificate_of_a_fixed_one_and_its_subject_in_migrations(
    tmp_path: Path,
) -> None:
    ours = Authority.new()
    pair = write_pair(tmp_path, "proxy", ours, "O=Proxies,CN=proxy")
    fixed = FixedCertificate(*pair)
    async with scene(tmp_path, tls={"certificate": fixed}) as it:
        it.client.options = replace(it.client.options, tls=trusting(ours))
        assert it.proxy.host_subject == "O=Proxies,CN=proxy"
        await it.connect(subject="O=Proxies,CN=proxy")
        await it.migrate()
        it.check_all_on(hop=1, server=1)


async def test_a_server_that_comes_up_later_is_looked_at_when_the_first_client_comes(tmp_path: Path) -> None:
    async with scene(tmp_path) as it, trio.open_nursery() as nursery:
        forwarder = await start_forwarder(nursery, "127.0.0.1", it.address(0))
        ca = it.directory / "servers-ca.pem"
        ours, events = Authority.new(), Events()
        tls = TlsConfig(Address("127.0.0.1", 0), forwarder.address, ca, SUBJECTS["s1"], certificate=ours)
        async with open_proxy(ProxyConfig(None, None, tls=tls, events=EventLog([events]))) as proxy:
            assert "Connection refused" in events.named("server_unknown")[0]["reason"]
            before = proxy.host_subject
            forwarder.open()
            async with open_client(ClientOptions(tls=trusting(ours))) as client:
                assert proxy.tls_address is not None
                await client.connect(*proxy.tls_address, secure=True, subject=SUBJECTS["s1"])
                assert (before, proxy.host_subject) == (None, SUBJECTS["s1"])
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("client_tls", [True, False], ids=["client TLS", "client plain"])
async def test_the_two_sides_may_differ(client_tls: bool, tmp_path: Path) -> None:
    """A client in clear before servers with TLS, and a client with TLS before servers without."""
    loopback = Address("127.0.0.1", 0)
    if not client_tls:
        async with scene(tmp_path, tls={"listen": None}, listen=loopback) as it:
            await it.client.connect(*it.proxy.address)
            await it.servers[0].wait_client_arrived()
            await it.migrate()
            it.check_all_on(hop=1, server=1)
        return
    ours, events = Authority.new(), Events()
    with trio.fail_after(TIME_LIMIT_S):
        async with open_server() as s1, open_server(ServerOptions(incoming=True)) as s2:
            assert s1.address
            assert s2.address
            config = ProxyConfig(
                Address(*s1.address),
                None,
                tls=TlsConfig(loopback, certificate=ours),
                events=EventLog([events]),
            )
            async with open_proxy(config) as proxy, open_client(ClientOptions(tls=trusting(ours))) as client:
                it = Scene([s1, s2], client, proxy, events, tmp_path)
                await it.connect(subject=None)
                s1.migrate_connect(*s2.address)
                await s1.wait_client_connected()
                s1.hand_over_to(s2)
                assert await s1.migrate_end() is Outcome.MIGRATE
                await client.wait_migrated()
                await s2.wait_client_arrived()
                it.check_all_on(hop=1, server=1)
