"""Migrations followed live, over real sockets: simulated peers, the real proxy, the account it gives."""

import socket
import struct
from pathlib import Path
from typing import Any

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import Main
from spiceproxy.capture.reports import read_report
from spiceproxy.demo.run import KINDS, DemoOptions, MigrationKind, run_demo
from spiceproxy.protocol.migration.model import ChannelMigration, Kind, Outcome
from spiceproxy.protocol.migration.session import SessionTracker
from spiceproxy.protocol.migration.settings import Settings
from spiceproxy.report.verdict import Report, Status, sentence
from spiceproxy.simulate import ServerOptions, open_server
from tests.raw_peers import message, raw_proxy, read_exactly
from tests.test_proxy import lab

MS = 10**6
BUSY_MS = 40  # what a machine that does something else may put between two looks at one message


async def accounts(kind: MigrationKind, hops: int, folder: Path) -> tuple[Report, Report]:
    """Of one run of the demo: as it was seen live, and as its recording shows it."""
    record = folder / "demo.pcapng"
    with trio.fail_after(30):
        result = await run_demo(DemoOptions(kind, hops, record=record), lambda _: None)
    assert result.ok, result.reasons
    assert result.report
    assert result.report.file == str(record)
    return result.report, await trio.to_thread.run_sync(read_report, str(record))


@pytest.mark.parametrize("hops", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
async def test_live_and_the_recording_tell_the_same(kind: MigrationKind, hops: int, tmp_path: Path) -> None:
    live, recorded = await accounts(kind, hops, tmp_path)
    assert len(live.migrations) == len(recorded.migrations) == hops
    assert live.status == recorded.status == 0
    for one, other in zip(live.migrations, recorded.migrations, strict=True):
        words, known = (sentence(each, report) for each, report in ((one, live), (other, recorded)))
        assert words.text.partition(";")[0] == known.text.partition(";")[0]
        assert words.status == known.status
        for name in ("session", "number", "source_hop", "destination_hop", "source_address", "destination_address",
                     "session_id", "agreed", "performed", "outcome", "reason", "losses", "damaged", "blocking"):  # fmt: skip
            assert getattr(one, name) == getattr(other, name), name
        assert one.handshake.verdict == other.handshake.verdict
        assert one.handshake.reply == other.handshake.reply
        assert [phase for phase, _ in one.phases] == [phase for phase, _ in other.phases]
        assert one.times_ms.keys() == other.times_ms.keys()
        assert one.times_ms == pytest.approx(other.times_ms, abs=BUSY_MS)
        assert one.started_ns == pytest.approx(other.started_ns, abs=BUSY_MS * MS)
        assert one.channels.keys() == other.channels.keys()
        for channel in one.channels:
            assert facts_of(one.channels[channel]) == facts_of(other.channels[channel])


def facts_of(channel: ChannelMigration) -> dict[str, Any]:
    """What of a channel does not depend on when exactly somebody looked."""
    payloads = (channel.data_from_source, channel.data_to_destination)
    return {
        "step": channel.step,
        "flags": channel.flags,
        "linked": (channel.source_linked, channel.destination_linked),
        "migrate": channel.migrate is not None,
        "flush_mark": channel.flush_mark is not None,
        "data": [each and (each.size, each.digest, each.magic, each.serial) for each in payloads],
        "equal": channel.data_equal,
        "last": channel.last_from_source and channel.last_from_source.name,
        "closed": channel.source_closed and (channel.source_closed.by, channel.source_closed.reset),
        "damaged": channel.damaged,
    }


async def test_a_migration_whose_destination_is_silent_is_told_while_it_stands_still() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with lab(servers=1, patience=Settings(connect_stall_ns=100 * MS)) as play:
            play.servers[0].migrate_connect(*silent.getsockname())
            stalled = await play.events.wait_for("migration_stalled")
            assert stalled["phase"] == "connecting"
            assert stalled["blocking"] == ["main:0"]
            assert "the client waits for the link result from the destination on main:0" in stalled["reason"]
            assert {(each["who"], each["whom"]) for each in stalled["waiting"]} == {
                ("client", "destination"),
                ("source", "client"),
            }
            (migration,) = play.proxy.migrations
            assert migration.outcome is None
    (migration,) = play.proxy.migrations  # also when the proxy has stopped
    assert migration.outcome is Outcome.FAILED
    assert "the client closed the session" in migration.reason
    assert play.events.named("migration_ended")


async def test_a_destination_that_cannot_be_dialled_is_named(unused_port: int) -> None:
    async with lab(servers=1) as play:
        play.servers[0].migrate_connect("127.0.0.1", unused_port)
        await play.servers[0].wait_client_connected()
        await play.events.wait_for("migration_phase", phase="waiting")
        (migration,) = play.proxy.migrations
        link = migration.channels["main:0"].destination
        assert link
        assert link.error == f"cannot connect to 127.0.0.1:{unused_port}: Connection refused"
        assert link.error_by
        assert link.error_by.value == "server"
        assert migration.handshake.reply == "connect-error"


@pytest.fixture
def unused_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_refused_link_has_the_code_of_the_server() -> None:
    async with (
        open_server(ServerOptions(incoming=True, password="another")) as locked,
        lab(servers=1) as play,
    ):
        assert locked.address
        play.servers[0].migrate_connect(*locked.address)
        await play.servers[0].wait_client_connected()
        await play.events.wait_for("migration_phase", phase="waiting")
        (migration,) = play.proxy.migrations
        link = migration.channels["main:0"].destination
        assert link
        assert (link.error, link.error_code) == ("SPICE_LINK_ERR_PERMISSION_DENIED", 7)


async def test_a_migration_that_leads_through_tls_cannot_be_judged() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        own = raw.listener.socket.getsockname()[1]
        name = b"127.0.0.2\0"
        body = struct.pack("<HHIIII", 0, own, len(name), 20, 0, 0) + name
        with trio.fail_after(10):
            await server.send_all(message(Main.MIGRATE_BEGIN, body))
            told = struct.unpack("<HHIIII", (await read_exactly(client, 6 + len(body)))[6:26])
            async with await trio.open_tcp_stream("127.0.0.1", told[1]):
                while not (found := raw.proxy.migrations) or not found[0].damaged:  # noqa: ASYNC110
                    await trio.sleep(0.005)
        assert found[0].damaged == [f"a TLS connection to 127.0.0.2:{own}, which cannot be read"]
        assert Report(found).status is Status.DAMAGED


async def test_the_real_first_end_of_a_connection_is_told_and_recorded(tmp_path: Path) -> None:
    """The client closes its direction; the server goes on for a while, and resets in the end."""
    record = tmp_path / "r.pcapng"
    async with raw_proxy(record=record) as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        body = struct.pack("<HHIIII", 1, 0xFFFF, 10, 20, 0, 0) + b"127.0.0.1\0"
        with trio.fail_after(10):
            await server.send_all(message(Main.MIGRATE_BEGIN, body))
            await read_exactly(client, 6 + len(body))
            await client.send_eof()
            (migration,) = raw.proxy.migrations
            while migration.channels["main:0"].source_closed is None:  # noqa: ASYNC110
                await trio.sleep(0.005)
            await server.send_all(message(4, bytes(12)))
            await read_exactly(client, 18)
            server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            server.socket.close()
            await raw.events.wait_for("session_ended")
        closed = migration.channels["main:0"].source_closed
        assert (closed.by, closed.reset) == ("client", False)
    recorded = read_report(str(record)).migrations[0].channels["main:0"].source_closed
    assert recorded
    assert (recorded.by, recorded.reset) == ("client", False)
    assert abs(recorded.time_ns - closed.time_ns) < BUSY_MS * MS


async def test_two_sessions_migrate_at_once_and_are_told_apart() -> None:
    async with lab() as play, lab() as other:
        async with trio.open_nursery() as nursery:
            for each in (play, other):
                nursery.start_soon(each.migrate, 0, 1)
        for each in (play, other):
            await each.events.wait_for("migration_ended")
            assert [migration.performed for migration in each.proxy.migrations] == [Kind.SEAMLESS]


async def test_an_error_while_following_costs_no_session_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    feed = SessionTracker.feed

    def fail(self: SessionTracker, fact: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 60:
            raise RuntimeError("a bug of ours")
        return feed(self, fact)

    monkeypatch.setattr(SessionTracker, "feed", fail)
    async with lab() as play:
        assert (await play.migrate(0, 1)).name == "MIGRATE"
        await play.check_all_moved(1, 1)
        (event,) = play.events.named("migration_unfollowed")
        assert "a bug of ours" in event["reason"]
        assert not play.events.named("connection_crashed")
        assert not play.events.named("migration_ended")
