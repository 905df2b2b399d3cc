"""Sessions followed through migrations: simulated peers, the real proxy, real sockets."""

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from dissectors.channels import ChannelType
from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import EventLog
from spiceproxy.lab.forwarder import start_forwarder
from spiceproxy.proxy import Proxy, ProxyConfig, SessionView, open_proxy
from spiceproxy.simulate import (
    ClientOptions,
    Outcome,
    ServerOptions,
    SimulatedClient,
    SimulatedServer,
    open_client,
    open_server,
)
from tests.raw_peers import Events, link_mess, message, raw_proxy, read_exactly
from tests.recording.packets import FIN, recorded

TIME_LIMIT_S = 20


@dataclass
class Lab:
    servers: list[SimulatedServer]
    client: SimulatedClient
    proxy: Proxy
    events: Events

    @property
    def session(self) -> SessionView:
        (session,) = self.proxy.sessions
        return session

    def address(self, server: int) -> Address:
        """Where a server listens."""
        address = self.servers[server].address
        assert address is not None
        return Address(*address)

    async def migrate(self, source: int, destination: int) -> Outcome:
        """One migration, start to end; servers by index."""
        s1, s2 = self.servers[source], self.servers[destination]
        s1.draw(20)
        self.client.send_motion(3, 4)
        s1.migrate_connect(*self.address(destination))
        await s1.wait_client_connected()
        s1.hand_over_to(s2)
        outcome = await s1.migrate_end()
        await self.client.wait_migrated()
        await s2.wait_client_arrived()
        s2.draw(20)
        return outcome

    def channels(self) -> set[str]:
        """What the client has linked."""
        return {view.name for view in self.client.channels}

    def open_on(self, hop: int) -> dict[str, Address]:
        """Channels that are open on this hop, with the server behind each."""
        return {c.channel: c.server for c in self.session.connections if c.state == "open" and c.hop == hop}

    async def check_all_moved(self, hop: int, server: int) -> None:
        """Every channel of the client is on the proxy, and the proxy leads it to this server and to no other."""
        here = self.servers[server]
        channels = self.channels()
        assert len(channels) >= 4
        with trio.fail_after(5):
            # The proxy's table is a snapshot.
            while {c.hop for c in self.session.connections if c.state == "open"} != {hop}:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert self.open_on(hop) == dict.fromkeys(channels, self.address(server))
        upstream = {c.upstream for c in self.session.connections if c.state == "open"}
        assert {Address(*view.peer) for view in here.channels} == upstream


@asynccontextmanager
async def lab(
    servers: int = 2,
    *,
    client: ClientOptions | None = None,
    first: ServerOptions | None = None,
    **options: Any,
) -> AsyncIterator[Lab]:
    events = Events()
    first = first or ServerOptions()
    with trio.fail_after(TIME_LIMIT_S):
        async with AsyncExitStack() as stack:
            running = [
                await stack.enter_async_context(open_server(replace(first, incoming=bool(number))))
                for number in range(servers)
            ]
            config = ProxyConfig(
                server=Address(*(running[0].address or ())), events=EventLog([events]), **options
            )
            proxy = await stack.enter_async_context(open_proxy(config))
            peer = await stack.enter_async_context(open_client(client or ClientOptions()))
            await peer.connect(*proxy.address)
            await running[0].wait_client_arrived()
            yield Lab(running, peer, proxy, events)


@pytest.mark.parametrize("mini", [True, False], ids=["mini header", "full header"])
async def test_a_seamless_migration_stays_on_the_proxy(mini: bool) -> None:
    async with lab(first=ServerOptions(mini_header=mini), client=ClientOptions(mini_header=mini)) as it:
        assert await it.migrate(0, 1) is Outcome.MIGRATE
        await it.check_all_moved(hop=1, server=1)
        assert {event["header"] for event in it.events.named("channel_linked")} == {
            "mini" if mini else "full"
        }
        names = [event["name"] for event in it.events.named("migration_message")]
        assert names[:4] == [
            "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS",
            "SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS",
            "SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK",
            "SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS",
        ]
        assert names.count("SPICE_MSG_MIGRATE") == len(it.client.channels)
        flushed = names.count("SPICE_MSGC_MIGRATE_FLUSH_MARK")
        assert flushed == names.count("SPICE_MSG_MIGRATE_DATA") == names.count("SPICE_MSGC_MIGRATE_DATA") >= 3


async def test_a_semi_seamless_migration_stays_on_the_proxy() -> None:
    async with lab(first=ServerOptions(seamless=False)) as it:
        assert await it.migrate(0, 1) is Outcome.MIGRATE_END
        await it.check_all_moved(hop=1, server=1)
        assert it.events.named("message_rewritten")[0]["name"] == "SPICE_MSG_MAIN_MIGRATE_BEGIN"


async def test_switch_host_stays_on_the_proxy_and_in_its_session() -> None:
    async with lab(client=ClientOptions(main_caps=(0,))) as it:
        s1, s2 = it.servers
        s1.migrate_connect(*it.address(1))
        s1.hand_over_to(s2)
        assert await s1.migrate_end() is Outcome.SWITCH_HOST
        await it.client.wait_migrated()
        await s2.wait_client_arrived()
        await it.check_all_moved(hop=1, server=1)
        (rewritten,) = it.events.named("message_rewritten")
        assert rewritten["name"] == "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST"
        assert rewritten["before"]["port"] == it.address(1).port != rewritten["after"]["port"]


async def test_a_destination_that_refuses_at_first_is_reached_by_switch_host_through_the_proxy() -> None:
    async with trio.open_nursery() as nursery:
        async with lab() as it:
            s1, s2 = it.servers
            forwarder = await start_forwarder(nursery, "127.0.0.1", it.address(1))
            s1.migrate_connect(*forwarder.address)
            await s1.wait_client_connected()  # it could not
            forwarder.open()
            s1.hand_over_to(s2)
            assert await s1.migrate_end() is Outcome.SWITCH_HOST
            await it.client.wait_migrated()
            await s2.wait_client_arrived()
            assert it.open_on(1) == dict.fromkeys(it.channels(), forwarder.address)
            assert len(it.events.named("destination_opened")) == 1  # used again for SWITCH_HOST
        nursery.cancel_scope.cancel()


async def test_a_chain_that_comes_back_to_the_first_server_stays_on_the_proxy() -> None:
    async with lab(servers=3) as it:
        for hop, (source, destination) in enumerate([(0, 1), (1, 2), (2, 0), (0, 1)], 1):
            assert await it.migrate(source, destination) is Outcome.MIGRATE
            await it.check_all_moved(hop=hop, server=destination)
        opened = it.events.named("destination_opened")
        assert len(opened) == 2  # s2 and s3, once each; s1 has the listener it always had
        assert it.session.id == "s1"
        assert len(it.proxy.sessions) == 1


async def test_a_cancelled_migration_leaves_the_session_where_it_was_and_a_second_attempt_works() -> None:
    async with lab() as it:
        s1, _ = it.servers
        s1.migrate_connect(*it.address(1))
        await s1.wait_client_connected()
        assert await s1.migrate_end(completed=False) is Outcome.CANCEL
        await it.events.wait_for("migration_message", name="SPICE_MSG_MAIN_MIGRATE_CANCEL")
        await it.check_all_moved(hop=0, server=0)
        assert await it.migrate(0, 1) is Outcome.MIGRATE
        await it.check_all_moved(hop=1, server=1)


async def test_the_client_is_sent_to_the_address_by_which_it_reached_the_proxy() -> None:
    async with lab(listen=Address("127.0.0.2", 0)) as it:
        await it.migrate(0, 1)
        (rewritten,) = it.events.named("message_rewritten")
        assert rewritten["after"]["host"] == "127.0.0.2"
        assert {str(c.channel) for c in it.session.connections if c.hop == 1} == it.channels()


async def test_over_ipv6_the_client_is_sent_to_an_ipv6_address() -> None:
    async with lab(listen=Address("::1", 0)) as it:
        await it.migrate(0, 1)
        (rewritten,) = it.events.named("message_rewritten")
        assert rewritten["after"]["host"] == "::1"
        await it.check_all_moved(hop=1, server=1)


async def test_on_a_dual_stack_socket_ipv4_is_told_as_ipv4() -> None:
    """A client would be sent to the local address, and compared by the other: ::ffff:127.0.0.1 helps nobody."""
    with (
        sockets.listen("::", (0,)) as listener,
        socket.create_connection(("127.0.0.1", listener.getsockname()[1])) as client,
        await sockets.accept(listener) as accepted,
    ):
        assert sockets.local_address(accepted) == client.getpeername()
        assert sockets.peer_address(accepted) == client.getsockname()


async def test_an_advertised_host_and_a_port_range_are_used_as_told() -> None:
    with sockets.listen("127.0.0.1", (0,)) as probe:
        port = probe.getsockname()[1]
    async with lab(advertise="localhost", destination_ports=range(port, port + 1)) as it:
        await it.migrate(0, 1)
        (rewritten,) = it.events.named("message_rewritten")
        assert rewritten["after"] == {"host": "localhost", "port": port, "sport": 0xFFFF}


async def test_a_session_loses_the_proxy_only_with_an_error_when_no_port_is_free() -> None:
    with sockets.listen("127.0.0.1", (0,)) as taken:
        port = taken.getsockname()[1]
        async with lab(destination_ports=range(port, port + 1)) as it:
            await it.migrate(0, 1)
            (event,) = it.events.named("message_not_rewritten")
            assert event["level"] == "error"
            assert "in use" in event["reason"]


async def test_two_sessions_of_two_clients_are_kept_apart() -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(trio.fail_after(TIME_LIMIT_S))
        one, two = [await stack.enter_async_context(lab()) for _ in range(2)]
        await one.migrate(0, 1)
        await two.check_all_moved(hop=0, server=0)
        await one.check_all_moved(hop=1, server=1)


async def test_links_of_an_unknown_session_that_come_at_once_are_one_session() -> None:
    async with raw_proxy() as raw:
        streams = [await raw.connect() for _ in range(8)]
        for stream in streams:
            await stream.send_all(link_mess(connection_id=0x1234))
        for _ in streams:
            await raw.accept()
        assert len(raw.events.named("session_started")) == 1
        (session,) = raw.proxy.sessions
        assert len(session.connections) == 8
        assert raw.events.named("session_unknown")[0]["connection_id"] == 0x1234


async def test_the_rest_of_a_rewritten_message_is_unchanged_also_under_a_full_header() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked(ChannelType.MAIN, mini=False)
        host, subject, tail = b"kvm2.example.org\0", b"O=x,CN=kvm2\0", b"tail"
        fixed = struct.pack("<HHIIIII", 5901, 0, len(host), 24, len(subject), 24 + len(host), 1)
        with trio.fail_after(5):
            await server.send_all(message(116, fixed + host + subject + tail, mini=False, serial=77))
            header = await read_exactly(client, 18)
            body = await read_exactly(client, struct.unpack_from("<I", header, 10)[0])
        new_host = b"127.0.0.1\0"
        port = (await raw.events.wait_for("message_rewritten"))["after"]["port"]
        expected = struct.pack("<HHIIIII", port, 0, len(new_host), 24, len(subject), 24 + len(new_host), 1)
        assert body == expected + new_host + subject + tail
        assert header == struct.pack("<QHII", 77, 116, len(body), 0)


async def test_a_tls_port_leads_through_the_proxy_unread() -> None:
    async with raw_proxy() as raw:
        (secure,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with secure:
            _, server = await raw.linked(ChannelType.MAIN)
            host, sport = b"127.0.0.1\0", secure.socket.getsockname()[1]
            body = struct.pack("<HHIIII", 0, sport, len(host), 20, 0, 0) + host
            await server.send_all(message(101, body))
            after = (await raw.events.wait_for("message_rewritten"))["after"]
            assert after["port"] == 0  # there was none, and there is none
            tls = await raw.connect(Address("127.0.0.1", after["sport"]))
            with trio.fail_after(5):
                hello = bytes.fromhex("160301") + b"\x02\0" + bytes(512)
                await tls.send_all(hello)
                async with await secure.accept() as peer:
                    assert await read_exactly(peer, len(hello)) == hello
                    await peer.send_all(b"server hello")
                    assert await read_exactly(tls, 12) == b"server hello"
            assert raw.events.named("tunnel_opened")


async def test_a_session_whose_client_does_not_come_back_after_switch_host_ends_after_the_grace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("spiceproxy.live_sessions", "spiceproxy.protocol.session"):
        monkeypatch.setattr(f"{module}.SWITCH_GRACE_S", 0.2)
    async with raw_proxy() as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        host = b"192.0.2.1\0"
        await server.send_all(message(111, struct.pack("<HHIIII", 5900, 0, len(host), 20, 0, 0) + host))
        await raw.events.wait_for("message_rewritten")
        await client.aclose()
        await server.aclose()
        await raw.events.wait_for("channel_closed")
        assert not raw.events.named("session_ended")
        await raw.events.wait_for("session_ended")


async def test_leaving_the_proxy_closes_every_connection() -> None:
    async with raw_proxy() as raw:
        streams = [stream for _ in range(3) for stream in await raw.linked()]
        raw_events = raw.events
        half_open = await raw.connect()
    with trio.fail_after(5):
        for stream in [*streams, half_open]:
            with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
                await stream.send_all(b"x")
    assert {event["by"] for event in raw_events.named("channel_closed")} == {"proxy"}
    assert raw_events[-1]["event"] == "proxy_stopped"


async def test_a_port_in_use_is_a_usage_error_and_nothing_else() -> None:
    with sockets.listen("127.0.0.1", (0,)) as taken:
        config = ProxyConfig(server=Address("127.0.0.1", 1), listen=sockets.local_address(taken))
        with pytest.raises(UsageError, match="the port is in use"):
            async with open_proxy(config):
                pytest.fail("it opened")


async def test_every_connection_in_a_recording_is_closed_from_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with raw_proxy(record=path) as raw:
        for first in (0, 1):
            ends = await raw.linked()
            await ends[first].aclose()
            await ends[1 - first].aclose()
        refused = await raw.connect()
        await refused.send_all(link_mess())
        await (await raw.accept()).aclose()
        await raw.events.wait_for("session_ended", count=3)
    closed = [(s.source, s.destination) for s in recorded(path.read_bytes()) if s.flags & FIN]
    assert len(closed) == len(set(closed)) == 2 * 3


async def test_no_event_holds_a_ticket_or_a_password(tmp_path: Path) -> None:
    password, recording = "a secret of 23 letters", tmp_path / "session.pcapng"
    first, client = ServerOptions(password=password), ClientOptions(password=password)
    async with lab(first=first, client=client, record=recording) as it:
        await it.migrate(0, 1)
    text = "\n".join(map(str, it.events))
    assert password not in text
    assert "session_ended" in text
    data = recording.read_bytes()
    assert password.encode() not in data
    assert data.count(bytes(128)) >= 2 * len(it.client.channels)  # the tickets, as zeros


async def test_a_bug_in_one_connection_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked()

        def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr("spiceproxy.relay.connection.Connection._connect", broken)
        victim = await raw.connect()
        await victim.send_all(
            b"REDQ" + struct.pack("<III", 2, 2, 18) + struct.pack("<IBBIII", 0, 2, 0, 0, 0, 18)
        )
        assert "a bug" in (await raw.events.wait_for("connection_crashed"))["reason"]
        with trio.fail_after(5):
            await server.send_all(message(304, b"fine"))
            assert await read_exactly(client, 10) == message(304, b"fine")
