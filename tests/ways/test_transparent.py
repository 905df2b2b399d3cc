"""Transparent: what the kernel redirects is followed, and what passes is what was sent."""

import json
import sys
from pathlib import Path

import pytest
import trio

from spiceproxy.capture.reports import read_report
from spiceproxy.ways.mode import Mode, WaysIn
from tests.programs import require_programs
from tests.raw_peers import raw_proxy, read_all
from tests.ways.network import CLIENT, SERVERS, network
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


async def test_a_client_that_was_not_redirected_is_refused() -> None:
    async with raw_proxy(ways=WaysIn(mode=Mode.TRANSPARENT)) as it:
        client = await it.connect()
        assert await read_all(client) == b""
        assert "was not redirected" in (await it.events.wait_for("link_failed"))["reason"]
