"""The simulated peers against what they simulate: the client at real QEMUs, the servers with a real spicy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from spiceproxy.address import Address
from spiceproxy.lab.display import Display, start_display
from spiceproxy.lab.guest import floppy_image
from spiceproxy.lab.programs import QEMU
from spiceproxy.lab.qemu import Qemu, QemuConfig, free_port, start_qemu
from spiceproxy.lab.result import ClientKind
from spiceproxy.simulate import ClientOptions, Outcome, SimulatedClient, SimulatedServer, Source, open_client
from tests.programs import require_programs
from tests.simulate.peers import ALL_NAMES, S1, S2, address_of, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
_WAIT_S = 60.0


@asynccontextmanager
async def two_qemus(directory: Path, *, seamless: bool) -> AsyncIterator[tuple[Qemu, Qemu]]:
    disk = directory / "disk"
    disk.write_bytes(floppy_image())
    first = QemuConfig("s1", directory, disk, free_port(), seamless=seamless, accelerators=("tcg",))
    async with trio.open_nursery() as nursery:
        source = await start_qemu(nursery, first)
        target = await start_qemu(nursery, replace(first, name="s2", spice_port=free_port(), incoming=True))
        yield source, target
        nursery.cancel_scope.cancel()


async def use(client: SimulatedClient) -> None:
    """The guest draws by itself; it does not look at keys and mouse, but QEMU acknowledges motions."""
    drawn, acks = client.drawn, client.received["SPICE_MSG_INPUTS_MOUSE_MOTION_ACK"]
    client.send_key()
    for _ in range(20):
        client.send_motion(1, 1)
    await client.wait_until(
        lambda: client.drawn > drawn + 20 and client.received["SPICE_MSG_INPUTS_MOUSE_MOTION_ACK"] > acks
    )


@pytest.mark.parametrize(
    ("options", "seamless", "kind", "reply"),
    [
        (ClientOptions(), True, "seamless", "SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS"),
        (ClientOptions(mini_header=False), True, "seamless", "SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS"),
        (ClientOptions(), False, "semi-seamless", "SPICE_MSGC_MAIN_MIGRATE_CONNECTED"),
        (ClientOptions(mini_header=False), False, "semi-seamless", "SPICE_MSGC_MAIN_MIGRATE_CONNECTED"),
        (ClientOptions(main_caps=(0x0B,)), True, "semi-seamless", "SPICE_MSGC_MAIN_MIGRATE_CONNECTED"),
        (ClientOptions(main_caps=(0,)), True, "switch-host", None),
    ],
)
async def test_the_client_follows_a_guest_from_qemu_to_qemu(
    tmp_path: Path, options: ClientOptions, seamless: bool, kind: str, reply: str | None
) -> None:
    require_programs(QEMU)
    with trio.fail_after(_WAIT_S):
        async with two_qemus(tmp_path, seamless=seamless) as (source, target), open_client(options) as client:
            await client.connect(*source.spice)
            assert {view.name for view in client.channels} == ALL_NAMES
            assert {view.header for view in client.channels} == {"mini" if options.mini_header else "full"}
            await use(client)
            await source.qmp.execute(
                "client_migrate_info", protocol="spice", hostname=target.spice.host, port=target.spice.port
            )
            if reply is not None:
                await client.wait_until(lambda: bool(client.migrations and client.migrations[0].reply))
            await source.qmp.execute("migrate", uri=target.config.migration_uri)
            report = await client.wait_migrated()
            assert (report.kind, report.reply) == (kind, reply)
            assert report.moved.keys() == ALL_NAMES
            await use(client)
            # QEMU's own list of peers has our ends of the connections.
            spice = await target.query_spice()
            peers = {(channel["host"], int(channel["port"])) for channel in spice["channels"]}
            assert peers == {tuple(view.local) for view in client.channels}
            await source.qmp.wait_event("SPICE_MIGRATE_COMPLETED", 10)
            assert client.broken_rules == []
            assert client.remarks == []
            assert client.session is not None
            assert client.session.lost == {}


@dataclass
class Stage:
    """Two simulated servers and a screen."""

    s1: SimulatedServer
    s2: SimulatedServer
    display: Display
    nursery: trio.Nursery

    async def show(self, server: Address) -> None:
        await self.display.start_client(self.nursery, ClientKind.SPICY, server)


@asynccontextmanager
async def stage(directory: Path, *, seamless: bool, mini_header: bool) -> AsyncIterator[Stage]:
    async with trio.open_nursery() as nursery:
        s1, s2 = (
            SimulatedServer(replace(options, seamless=seamless, mini_header=mini_header))
            for options in (S1, S2)
        )
        for server in (s1, s2):
            await nursery.start(server.serve)
        yield Stage(s1, s2, await start_display(nursery, directory), nursery)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("mini_header", [True, False])
@pytest.mark.parametrize("seamless", [True, False])
async def test_spicy_shows_what_the_servers_draw_and_follows_the_guest(
    tmp_path: Path, seamless: bool, mini_header: bool
) -> None:
    require_programs("spicy", "Xvfb", "import", "xdotool")
    expected = (Source.SEAMLESS, Outcome.MIGRATE) if seamless else (Source.CONNECTED, Outcome.MIGRATE_END)
    with trio.fail_after(_WAIT_S):
        async with stage(tmp_path, seamless=seamless, mini_header=mini_header) as play:
            await play.show(address_of(play.s1))
            await play.s1.wait_client_arrived()
            assert {view.name for view in play.s1.channels} == ALL_NAMES
            assert {view.header for view in play.s1.channels} == {"mini" if mini_header else "full"}
            await draw_until_seen(play, play.s1)
            await press_until_heard(play, play.s1)
            play.s1.migrate_connect(*address_of(play.s2))
            assert await play.s1.wait_client_connected() is expected[0]
            play.s1.draw(50)
            play.s1.hand_over_to(play.s2)
            assert await play.s1.migrate_end() is expected[1]
            await play.s2.wait_client_arrived()
            assert {view.name for view in play.s2.channels} == ALL_NAMES
            await draw_until_seen(play, play.s2)
            await press_until_heard(play, play.s2)
            for server in (play.s1, play.s2):
                assert server.broken_rules == []
                assert server.remarks == []


async def draw_until_seen(play: Stage, server: SimulatedServer) -> None:
    """Draw hundreds of rectangles, more than two windows full, and wait for a colour that none of them has."""
    for _ in range(20):
        server.draw(20)
        await server.drawn()
        await trio.sleep(0.005)
    shade = 0x123456 + server.guest.drawn
    server.fill_screen(shade)
    wanted = bytes((shade >> 16 & 255, shade >> 8 & 255, shade & 255, 255))
    while True:
        pixels = await trio.run_process(
            ["import", "-silent", "-window", "root", "-depth", "8", "rgba:-"],
            capture_stdout=True,
            env=play.display.environment(),
        )
        if pixels.stdout.count(wanted) > 640 * 480 // 2:
            return
        await trio.sleep(0.05)


async def press_until_heard(play: Stage, server: SimulatedServer) -> None:
    keys = server.guest.keys
    while server.guest.keys <= keys:
        for action in (["mousemove", "200", "300"], ["key", "a"]):
            await trio.run_process(["xdotool", *action], env=play.display.environment(), check=False)
        await trio.sleep(0.1)


async def test_spicy_that_cannot_reach_the_destination_says_so(tmp_path: Path, unused_port: int) -> None:
    require_programs("spicy", "Xvfb")
    with trio.fail_after(_WAIT_S):
        async with stage(tmp_path, seamless=True, mini_header=True) as play:
            await play.show(address_of(play.s1))
            await play.s1.wait_client_arrived()
            play.s1.migrate_connect("127.0.0.1", unused_port)
            assert await play.s1.wait_client_connected() is Source.REFUSED
            assert await play.s1.migrate_end(completed=False) is Outcome.NOTHING
            play.s1.migrate_connect(*address_of(play.s2))
            assert await play.s1.wait_client_connected() is Source.SEAMLESS
            assert await play.s1.migrate_end(completed=False) is Outcome.CANCEL
            await until(lambda: play.s2.session is None)
            assert play.s1.session is not None
            assert play.s1.broken_rules == play.s2.broken_rules == []
