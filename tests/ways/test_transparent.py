"""Transparent: what the kernel redirects is followed, and what passes is what was sent."""

import json
import socket
import sys
from pathlib import Path

import pytest
import trio

from spiceproxy.capture.reports import read_report
from spiceproxy.ways.mode import Mode, WaysIn
from tests.programs import require_programs
from tests.raw_peers import link_mess, raw_proxy, read_all
from tests.ways.network import CLIENT, SERVERS, network, sockets_in
from tests.ways.routed import captured, routed_proxy, streams_of

# The other two are played by real programs (test_transparent_with_real_programs.py).
KINDS = [(4, False), (6, True)]
NAMES = ["IPv4, REDIRECT", "IPv6, TPROXY"]


@pytest.mark.lab
@pytest.mark.parametrize(("version", "tproxy"), KINDS, ids=NAMES)
async def test_a_seamless_migration_is_followed_and_no_byte_is_changed(
    version: int, tproxy: bool, tmp_path: Path
) -> None:
    require_programs("dumpcap")
    s1, s2 = (server[version] for server in SERVERS)
    with network() as net:
        async with routed_proxy(net, tmp_path, tproxy=tproxy) as proxy, captured(net, tmp_path) as files:
            player = [sys.executable, "-m", "tests.ways.played_in_namespaces"]
            arguments = [net.servers[0], s1, net.servers[1], s2]
            done = await trio.run_process(net.inside(net.client, *player, *arguments), capture_stdout=True)
        seen = json.loads(done.stdout)
        assert (seen["outcome"], seen["kind"]) == ("MIGRATE", "seamless")
        # Who the servers think their client is.
        routers = [server.rpartition("2")[0] + "1" for server in (s1, s2)]
        expected = [[CLIENT[version]]] * 2 if tproxy else [[router] for router in routers]
        assert seen["peers"] == expected
        # What went in on one side of the router came out on the other.
        (before, clients), (after, _) = (streams_of(file) for file in files)
        assert before == after
        assert clients == {CLIENT[version]}
        assert sum(before.values()) == 2 * len(seen["channels"])
        # One session, one migration, nothing rewritten.
        assert len(proxy.events("session_started")) == 1
        hops = {event["channel"]: event["hop"] for event in proxy.events("channel_linked")}
        assert hops == dict.fromkeys(seen["channels"], 1)
        assert proxy.events("message_rewritten") == proxy.events("session_unknown") == []
        assert {event["client"] for event in proxy.events("session_started")} & {
            event["client"] for event in proxy.events("channel_linked")
        }
        (migration,) = proxy.ends["report"]["migrations"]
        assert (migration["performed"], migration["outcome"]) == ("seamless", "completed")
        (recorded,) = read_report(str(proxy.recording)).migrations
        assert str(recorded.outcome) == "completed"


@pytest.mark.lab
@pytest.mark.parametrize(
    ("version", "tproxy"),
    [
        pytest.param(4, False, id="IPv4, REDIRECT", marks=pytest.mark.nightly),
        pytest.param(6, True, id="IPv6, TPROXY"),
        pytest.param(4, True, id="IPv4, TPROXY", marks=pytest.mark.nightly),
        pytest.param(6, False, id="IPv6, REDIRECT", marks=pytest.mark.nightly),
    ],
)
async def test_a_client_on_the_proxy_s_own_machine_is_followed_as_well(
    version: int, tproxy: bool, tmp_path: Path
) -> None:
    s1, s2 = (server[version] for server in SERVERS)
    with network() as net:
        async with routed_proxy(net, tmp_path, tproxy=tproxy, local=True) as proxy:
            player = [sys.executable, "-m", "tests.ways.played_in_namespaces"]
            arguments = [net.servers[0], s1, net.servers[1], s2]
            done = await trio.run_process(net.inside(net.router, *player, *arguments), capture_stdout=True)
        seen = json.loads(done.stdout)
        assert (seen["outcome"], seen["kind"]) == ("MIGRATE", "seamless")
        hops = {event["channel"]: event["hop"] for event in proxy.events("channel_linked")}
        assert hops == dict.fromkeys(seen["channels"], 1)
        assert proxy.events("message_rewritten") == proxy.events("link_failed") == []
        (migration,) = proxy.ends["report"]["migrations"]
        assert (migration["performed"], migration["outcome"]) == ("seamless", "completed")


@pytest.mark.lab
@pytest.mark.parametrize(
    "tproxy", [False, pytest.param(True, marks=pytest.mark.nightly)], ids=["REDIRECT", "TPROXY"]
)
async def test_a_server_on_the_proxy_s_own_machine_is_reached_from_there(
    tproxy: bool, tmp_path: Path
) -> None:
    """As remote-viewer and QEMU on one machine, with the proxy beside them; it must not come to itself."""
    with network() as net:
        async with routed_proxy(net, tmp_path, tproxy=tproxy, local=True) as proxy:
            player = [sys.executable, "-m", "tests.ways.played_in_namespaces"]
            arguments = [net.router, "127.0.0.1", net.servers[1], SERVERS[1][4]]
            done = await trio.run_process(net.inside(net.router, *player, *arguments), capture_stdout=True)
        assert json.loads(done.stdout)["kind"] == "seamless"
        assert {event["hop"] for event in proxy.events("channel_linked")} == {0, 1}
        assert proxy.events("link_failed") == []


@pytest.mark.lab
@pytest.mark.parametrize(
    "tproxy", [pytest.param(False, marks=pytest.mark.nightly), True], ids=["REDIRECT", "TPROXY"]
)
async def test_a_server_on_the_router_is_reached_from_elsewhere_with_tproxy_past_the_proxy(
    tproxy: bool, tmp_path: Path
) -> None:
    """With REDIRECT the proxy is in between; with TPROXY the server's answers would miss it."""
    router = "10.77.0.1"
    with network() as net:
        async with routed_proxy(net, tmp_path, tproxy=tproxy) as proxy:
            with sockets_in(net.router), socket.create_server((router, 5900)) as server:
                server.settimeout(10)
                with sockets_in(net.client), socket.create_connection((router, 5900), timeout=10) as client:
                    client.sendall(link_mess())
                    accepted, peer = await trio.to_thread.run_sync(server.accept)
                    with accepted:
                        assert accepted.recv(len(link_mess())) == link_mess()
                    assert (peer[0] == CLIENT[4]) is tproxy
            assert len(proxy.events("session_started")) == (0 if tproxy else 1)


@pytest.mark.lab
async def test_a_proxy_whose_own_connections_are_brought_back_to_it_does_not_go_in_circles(
    tmp_path: Path,
) -> None:
    """The rules were made with --local, and the proxy was started without."""
    with network() as net:
        async with routed_proxy(net, tmp_path, tproxy=False, only_rules=["--local"]) as proxy:
            with (
                sockets_in(net.router),
                socket.create_connection((SERVERS[0][4], 5900), timeout=10) as client,
            ):
                client.sendall(link_mess())
                assert client.recv(100) == b""
            await trio.sleep(0.3)
            reasons = {event["by"]: event["reason"] for event in proxy.events("link_failed")}
            assert len(proxy.events("link_failed")) == 2
    assert reasons["client"].startswith("comes from this proxy itself")
    assert reasons["server"].startswith("the server closed")


async def test_a_client_that_was_not_redirected_is_refused() -> None:
    async with raw_proxy(ways=WaysIn(mode=Mode.TRANSPARENT)) as it:
        client = await it.connect()
        assert await read_all(client) == b""
        assert "was not redirected" in (await it.events.wait_for("link_failed"))["reason"]
