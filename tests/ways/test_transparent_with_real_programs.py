"""QEMU, QEMU and spicy, each on a host of its own, and the proxy on the router between them."""

from pathlib import Path

import pytest
import trio

from spiceproxy.address import Address
from tests.ways.network import CLIENT, SERVERS, network
from tests.ways.real import SPICY_CHANNELS, Place, Real, require_real_programs
from tests.ways.routed import captured, routed_proxy, streams_of

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


@pytest.mark.parametrize(
    ("version", "tproxy"), [(4, True), (6, False)], ids=["IPv4, TPROXY", "IPv6, REDIRECT"]
)
async def test_a_seamless_migration_of_a_real_guest_is_followed_and_no_byte_is_changed(
    version: int, tproxy: bool, tmp_path: Path
) -> None:
    require_real_programs()
    with network() as net:
        places = [
            Place(Address(host[version], 5900), Address(host[version], 4444), net.inside(namespace))
            for host, namespace in zip(SERVERS, net.servers, strict=True)
        ]
        async with trio.open_nursery() as nursery:
            real = Real(tmp_path, nursery, places)
            await real.start()
            async with routed_proxy(net, tmp_path, tproxy=tproxy) as proxy, captured(net, tmp_path) as files:
                spicy = net.inside(net.client, "spicy", "-h", places[0].address.host, "-p", "5900")
                await real.connect(spicy, SPICY_CHANNELS)
                await real.see_the_guest_move()
                await real.migrate(SPICY_CHANNELS)
                await real.see_the_guest_move()
                connected = await real.servers[1].execute("query-spice")
                await real.clients[0].stop()
            nursery.cancel_scope.cancel()
        routers = SERVERS[1][version].rpartition("2")[0] + "1"
        assert {each["host"] for each in connected["channels"]} == {CLIENT[version] if tproxy else routers}
        (before, clients), (after, _) = (streams_of(file) for file in files)
        assert before == after
        assert clients == {CLIENT[version]}
        assert sum(before.values()) == 2 * len(SPICY_CHANNELS)
        assert len(proxy.events("session_started")) == 1
        assert proxy.events("message_rewritten") == []
        hops = {event["channel"]: event["hop"] for event in proxy.events("channel_linked")}
        assert hops == dict.fromkeys(SPICY_CHANNELS, 1)
        (migration,) = proxy.ends["report"]["migrations"]
        assert (migration["performed"], migration["outcome"]) == ("seamless", "completed")
