"""Real clients that come through the proxy by HTTP CONNECT, and go on to where a migration sends them."""

from pathlib import Path

import pytest
import trio

from spiceproxy.address import Address
from spiceproxy.eventlog import EventLog
from spiceproxy.lab.qemu import HOST, free_port
from spiceproxy.proxy import ProxyConfig, open_proxy
from spiceproxy.vvfile import write_vv
from spiceproxy.ways.allowing import Allowed
from spiceproxy.ways.mode import ANYWHERE, Mode, WaysIn
from tests.programs import require_programs
from tests.raw_peers import Events
from tests.ways.real import SPICY_CHANNELS, Place, Real, require_real_programs

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


@pytest.mark.parametrize("client", ["spicy with SPICE_PROXY", "remote-viewer with proxy= in .vv"])
async def test_a_seamless_migration_through_connect_is_followed_and_nothing_is_rewritten(
    client: str, tmp_path: Path
) -> None:
    require_real_programs()
    spicy = client.startswith("spicy")
    require_programs("remote-viewer")
    events = Events()
    places = [Place(Address(HOST, free_port()), Address(HOST, free_port())) for _ in range(2)]
    config = ProxyConfig(
        server=ANYWHERE,
        ways=WaysIn(
            mode=Mode.CONNECT, allowed=Allowed([f"{HOST}:*"]), credentials=None if spicy else "anna:secret"
        ),
        events=EventLog([events]),
    )
    async with trio.open_nursery() as nursery:
        real = Real(tmp_path, nursery, places, webdav=spicy)
        await real.start()
        async with open_proxy(config) as proxy:
            first = places[0].address
            if spicy:
                channels = SPICY_CHANNELS
                command = ["spicy", "-h", first.host, "-p", str(first.port)]
                await real.connect(command, channels, SPICE_PROXY=f"http://{proxy.address}")
            else:
                channels = [name for name in SPICY_CHANNELS if name != "webdav:0"]
                file = tmp_path / "vm.vv"
                write_vv(file, first, proxy=proxy.address)
                file.write_text(file.read_text().replace("http://", "http://anna:secret@"))
                await real.connect(["remote-viewer", str(file)], channels)
            await real.see_the_guest_move()
            await real.migrate(channels)
            await real.see_the_guest_move()
            (session,) = proxy.sessions
            there = {c.channel: (c.hop, c.server) for c in session.connections if c.state == "open"}
            assert there == dict.fromkeys(channels, (1, places[1].address))
            (migration,) = proxy.migrations
            assert str(migration.performed) == "seamless"
            assert str(migration.outcome) == "completed"
            await real.clients[0].stop()
        nursery.cancel_scope.cancel()
    assert events.named("message_rewritten") == []
    assert len(events.named("destination_announced")) == 1
    assert "secret" not in str(events)
