"""Unix sockets on both sides: sessions over them, files that come and go, and what the recording makes of them."""

import socket
import stat
from pathlib import Path

import pytest
import trio

from dissectors.message_ids import Msg
from spiceproxy.address import Address, parse_listen, parse_server, unix_address
from spiceproxy.capture.reports import read_report
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import EventLog
from spiceproxy.faults import parse
from spiceproxy.injection import Faults
from spiceproxy.proxy import Proxy, ProxyConfig, open_proxy
from spiceproxy.simulate import ClientOptions, Outcome
from spiceproxy.simulate.linking import Dial
from spiceproxy.ways.mode import WaysIn
from tests.injection.faulty import one
from tests.raw_peers import (
    AUTH_SPICE,
    MINI_CAPS,
    TICKET,
    Events,
    link_mess,
    link_reply,
    message,
    raw_proxy,
    read_all,
    read_exactly,
    read_link_block,
)
from tests.ways.dialling import unix_dial
from tests.ways.sessions import play


@pytest.mark.parametrize("caps", [ClientOptions().main_caps, (0,)], ids=["seamless", "switch-host"])
async def test_a_client_on_a_unix_socket_is_followed_through_a_migration_to_tcp_on_loopback(
    tmp_path: Path, caps: tuple[int, ...]
) -> None:
    path, recording = tmp_path / "proxy.sock", tmp_path / "r.pcapng"
    listen = unix_address(str(path))
    dial = unix_dial(path)
    options = ClientOptions(main_caps=caps)
    async with play(WaysIn(), lambda _: dial, client=options, listen=listen, record=recording) as it:
        assert it.proxy.address == listen
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        if caps == (0,):
            s1, s2 = it.servers
            assert s2.address is not None
            s1.migrate_connect(*s2.address)
            s1.hand_over_to(s2)
            assert await s1.migrate_end() is Outcome.SWITCH_HOST
            await it.client.wait_migrated()
            await s2.wait_client_arrived()
        else:
            assert await it.migrate(0, 1) is Outcome.MIGRATE
        await it.check_one_session(hop=1, server=1)
        rewritten = it.events.named("message_rewritten")[-1]
        assert rewritten["after"]["host"] == "127.0.0.1"
        clients = {str(c.client) for c in it.proxy.sessions[0].connections if c.hop == 0}
        assert clients == {"unix:"}
    assert not path.exists()
    (migration,) = read_report(str(recording)).migrations
    assert str(migration.outcome) == "completed"


async def test_a_server_is_reached_over_a_unix_socket(tmp_path: Path) -> None:
    path, recording = tmp_path / "server.sock", tmp_path / "r.pcapng"

    async def forwarded(address: Address) -> Address:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        stream = trio.SocketListener(trio.socket.from_stdlib_socket(listener))

        async def serve(client: trio.SocketStream) -> None:
            server = await trio.open_tcp_stream(*address)
            async with client, server, trio.open_nursery() as pipes:

                async def pipe(source: trio.SocketStream, sink: trio.SocketStream) -> None:
                    async for data in source:
                        await sink.send_all(data)
                    pipes.cancel_scope.cancel()

                pipes.start_soon(pipe, client, server)
                pipes.start_soon(pipe, server, client)

        nursery.start_soon(trio.serve_listeners, serve, [stream])
        return unix_address(str(path))

    def dialling(proxy: Proxy) -> Dial:
        async def dial(address: Address) -> trio.SocketStream:
            known.append(address)
            return await trio.open_tcp_stream(*(proxy.address if address == known[0] else address))

        return dial

    known: list[Address] = []
    async with trio.open_nursery() as nursery:
        async with play(WaysIn(), dialling, server=forwarded, record=recording) as it:
            assert {str(c.server) for c in it.proxy.sessions[0].connections} == {f"unix:{path}"}
            assert await it.migrate(0, 1) is Outcome.MIGRATE
            await it.check_one_session(hop=1, server=1)
        nursery.cancel_scope.cancel()
    (migration,) = read_report(str(recording)).migrations
    assert str(migration.outcome) == "completed"
    assert len(migration.channels) >= 4


async def test_a_server_that_is_not_there_is_a_link_error_and_an_event(tmp_path: Path) -> None:
    config_server = unix_address(str(tmp_path / "nobody.sock"))
    async with (
        raw_proxy() as it,
        open_proxy(ProxyConfig(server=config_server, events=it.proxy.config.events)) as proxy,
    ):
        async with await trio.open_tcp_stream(*proxy.address) as client:
            await client.send_all(link_mess(2))
            assert (await read_link_block(client))[16:20] != bytes(4)
            assert await read_all(client) == b""
        event = await it.events.wait_for("link_failed")
        assert event["reason"] == f"cannot connect to {config_server}: No such file or directory"


async def test_a_socket_that_a_dead_process_left_is_taken_over_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    config = ProxyConfig(server=Address("127.0.0.1", 1), listen=unix_address(str(path)))
    async with open_proxy(config):
        with pytest.raises(UsageError, match="in use"):
            async with open_proxy(config):
                pytest.fail("two proxies on one socket")
        assert path.exists()
    assert not path.exists()


async def test_a_file_that_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(UsageError):
        async with open_proxy(ProxyConfig(server=Address("127.0.0.1", 1), listen=unix_address(str(path)))):
            pytest.fail("it listens on a file")
    assert path.read_text() == "data"


def test_addresses_of_unix_sockets_are_read_and_shown() -> None:
    assert parse_listen("unix:/run/a b.sock") == Address("unix:/run/a b.sock", 0)
    assert str(parse_listen("unix:/run/x:1.sock")) == "unix:/run/x:1.sock"
    assert parse_server("unix:/run/vm.spice").address == Address("unix:/run/vm.spice", 0)
    assert parse_server("spice+unix:///run/vm%201.spice").address == Address("unix:/run/vm 1.spice", 0)
    assert parse_listen("0").machine == "127.0.0.1" == parse_listen("unix:/x").machine


@pytest.mark.parametrize(
    "text", ["unix:", "unix:relative", "unix:/" + "x" * 107, "unix:/a\nb", "spice+unix://"]
)
def test_what_is_no_unix_socket_is_told(text: str) -> None:
    with pytest.raises(UsageError):
        parse_server(text)


async def test_a_second_client_comes_to_a_server_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        rules = parse(one("{ second_client = { seconds = 0.1, connection_id = 12 } }")).rules
        events = Events()
        config = ProxyConfig(server=unix_address(str(path)), faults=Faults(rules), events=EventLog([events]))
        with trio.fail_after(10):
            async with open_proxy(config) as proxy, await trio.open_tcp_stream(*proxy.address) as client:
                await client.send_all(link_mess(1, caps=MINI_CAPS))
                async with await listener.accept() as server:
                    await read_link_block(server)
                    await server.send_all(link_reply(caps=MINI_CAPS))
                    await read_link_block(client)
                    await client.send_all(AUTH_SPICE + TICKET)
                    await read_exactly(server, 132)
                    await server.send_all(bytes(4) + message(Msg.PING, bytes(12)))
                    async with await listener.accept() as second:
                        assert (await read_link_block(second))[16:20] == (12).to_bytes(4, "little")
