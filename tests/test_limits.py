"""What peers may take of the proxy: connections, listeners, time; and what happens to whoever wants more."""

import errno
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from dissectors.channels import ChannelType
from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import EventLog
from spiceproxy.limits import Gate, Limits, load_limits
from spiceproxy.relay.fairness import Allowance
from tests.raw_peers import (
    Events,
    RawProxy,
    link_mess,
    link_reply,
    message,
    raw_proxy,
    read_all,
    read_exactly,
)


def gate(clock: list[float], **limits: Any) -> tuple[Gate, Events]:
    events = Events()
    return Gate(Limits(**limits), EventLog([events]), clock=lambda: clock[0]), events


def entered(it: Gate, *hosts: str) -> list[bool]:
    return [it.enter(host) is not None for host in hosts]


def test_who_comes_when_all_places_are_taken_is_turned_away_until_somebody_leaves() -> None:
    it, events = gate([0.0], connections=2)
    place = it.enter("a")
    assert place is not None
    assert entered(it, "b", "c") == [True, False]
    for _ in range(2):  # what is said twice counts once
        place.linked()
        place.leave()
    assert entered(it, "c", "d") == [True, False]
    assert (it.inside, it.turned_away) == (2, 2)
    event = events[0]
    assert (event["event"], event["client"]) == ("connection_refused", "c")
    assert event["reason"] == "2 connections are open"


def test_one_address_cannot_take_the_places_of_others() -> None:
    it, events = gate([0.0], connections_per_address=2)
    assert entered(it, "a", "a", "a", "b") == [True, True, False, True]
    assert "2 connections of this address" in events[0]["reason"]


def test_one_address_can_have_so_many_connections_that_say_nothing_and_no_more() -> None:
    it, events = gate([0.0], linking_per_address=2)
    place = it.enter("a")
    assert place is not None
    assert entered(it, "a", "a") == [True, False]
    place.linked()
    assert entered(it, "a") == [True]
    assert "have not sent a link message" in events[0]["reason"]


def test_a_flood_is_told_once_a_second_with_its_number() -> None:
    clock = [0.0]
    it, events = gate(clock, connections=1)
    it.enter("a")
    for _ in range(1000):
        it.enter("b")
        clock[0] += 1 / 256
    assert [event["connections"] for event in events] == [1, 256, 256, 256]
    assert it.turned_away == 1000


def test_nothing_is_remembered_of_addresses_that_have_left() -> None:
    it, _ = gate([0.0])
    for number in range(100):
        place = it.enter(str(number))
        assert place is not None
        place.leave()
    assert not it._by_address
    assert not it._linking
    assert it.inside == 0


@contextmanager
def descriptors(soft: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_no_more_connections_are_let_in_than_there_are_descriptors_for() -> None:
    it, events = gate([0.0], linking_per_address=1000)
    with descriptors(164):
        assert sum(entered(it, *["a"] * 60)) == 50
    assert events[0]["reason"] == "50 connections are open"
    assert entered(it, "a") == [True]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("connections = 0", "Expected `int` >= 1"),
        ("connexions = 5", "unknown field `connexions`"),
        ("peer_timeout_s = 'x'", "Expected `float`"),
        ("connections", "expected|Expected|Invalid"),
        ("\udcff", "utf-8"),
    ],
)
def test_a_file_of_limits_that_is_wrong_is_refused_in_one_line(
    text: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "limits.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=reason) as caught:
        load_limits(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_limits_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_limits(tmp_path / "none")


def test_limits_that_a_file_does_not_name_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("connections = 10\npeer_timeout_s = 30\n")
    assert load_limits(path) == Limits(connections=10, peer_timeout_s=30.0)


# With a real proxy ----------------------------------------------------------------------------------


async def announce(server: trio.SocketStream, client: trio.SocketStream, host: bytes, port: int) -> None:
    """Tell the client of a server, and wait until it has heard of it."""
    body = struct.pack("<HHIIII", port, 0, len(host) + 1, 20, 0, 0) + host + b"\0"
    await server.send_all(message(101, body))
    with trio.fail_after(5):
        header = await read_exactly(client, 6)
        await read_exactly(client, int.from_bytes(header[2:], "little"))


def listens(address: Address) -> bool:
    """Whether the port is taken; connecting would count as a client."""
    try:
        sockets.listen(address.host, (address.port,)).close()
    except UsageError:
        return True
    return False


def opened(raw: RawProxy) -> list[Address]:
    return [
        Address(host, int(port))
        for host, port in (e["listen"].split(":") for e in raw.events.named("destination_opened"))
    ]


async def test_a_session_that_names_more_and_more_servers_loses_its_oldest_listeners_and_no_connection() -> (
    None
):
    async with raw_proxy(limits=Limits(destinations_per_session=3)) as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        for port in range(6000, 6005):
            await announce(server, client, b"192.0.2.1", port)
        await announce(server, client, b"192.0.2.1", 6002)  # again, so it is the latest now
        await announce(server, client, b"192.0.2.1", 6005)
        closed = [event["destination"] for event in raw.events.named("destination_closed")]
        assert closed == [f"192.0.2.1:{port}" for port in (6000, 6001, 6003)]
        assert [listens(address) for address in opened(raw)] == [False, False, True, False, True, True]
        assert not raw.events.named("message_not_rewritten")
        await server.send_all(message(304, b"alive"))
        assert await read_exactly(client, 11) == message(304, b"alive")


async def test_a_server_that_names_ever_more_servers_leaves_those_of_other_sessions_alone() -> None:
    async with raw_proxy(limits=Limits(destinations_per_session=2)) as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        await announce(server, client, b"192.0.2.1", 5900)
        evil_client, evil_server = await raw.linked(ChannelType.MAIN)
        for port in range(6000, 6020):
            await announce(evil_server, evil_client, b"192.0.2.1", port)
        assert listens(opened(raw)[0])
        assert "192.0.2.1:5900" not in {e["destination"] for e in raw.events.named("destination_closed")}


async def test_there_is_an_end_to_all_destinations_together() -> None:
    async with raw_proxy(limits=Limits(destinations=2)) as raw:
        for port in range(3):
            client, server = await raw.linked(ChannelType.MAIN)
            await announce(server, client, b"192.0.2.1", 6000 + port)
        assert len(opened(raw)) == 2
        assert "2 destinations" in (await raw.events.wait_for("message_not_rewritten"))["reason"]


async def test_a_listener_closes_with_the_last_session_that_was_told_of_its_server() -> None:
    async with raw_proxy() as raw:
        pairs = [await raw.linked(ChannelType.MAIN) for _ in range(2)]
        for client, server in pairs:
            await announce(server, client, b"192.0.2.1", 5900)
        (address,) = opened(raw)
        for number, ends in enumerate(pairs):
            assert listens(address)
            for end in ends:
                await end.aclose()
            await raw.events.wait_for("session_ended", count=number + 1)
        assert not listens(address)
        assert listens(raw.proxy.address)
        assert len(raw.events.named("destination_closed")) == 1


async def test_a_session_that_names_the_first_server_does_not_take_its_listener_away() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked(ChannelType.MAIN)
        first = raw.proxy.config.server
        assert first is not None
        await announce(server, client, b"127.0.0.1", first.port)
        await client.aclose()
        await server.aclose()
        await raw.events.wait_for("session_ended")
        await raw.linked()


async def test_connections_over_the_limit_are_closed_at_once_and_those_inside_go_on() -> None:
    async with raw_proxy(limits=Limits(connections_per_address=2)) as raw:
        pairs = [await raw.linked() for _ in range(2)]
        more = await raw.connect()
        with trio.fail_after(5):
            assert await read_all(more) == b""
        assert (await raw.events.wait_for("connection_refused"))["client"] == "127.0.0.1"
        client, server = pairs[0]
        await server.send_all(message(304, b"alive"))
        assert await read_exactly(client, 11) == message(304, b"alive")
        for end in pairs[1]:
            await end.aclose()
        await raw.events.wait_for("session_ended")
        await raw.linked()


async def test_every_way_out_gives_a_connection_s_place_back() -> None:
    async with raw_proxy(link_timeout_s=0.2) as raw:
        for data in (b"", b"rubbish!" * 4, link_mess()[:20]):
            stream = await raw.connect()
            await stream.send_all(data)
            await stream.send_eof()
        await raw.connect()  # says nothing
        refused = await raw.connect()
        await refused.send_all(link_mess())
        await (await raw.accept()).aclose()
        with trio.fail_after(5):
            while raw.proxy.gate.inside or raw.proxy.totals["connections"] < 5:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert not raw.proxy.gate._linking


async def test_a_proxy_that_runs_out_of_descriptors_accepts_again_when_there_are_some() -> None:
    async with raw_proxy() as raw:
        client, server = await raw.linked()
        with descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[0]):
            waiting = trio.socket.socket()  # made before there are none left
            hoard = exhausted()
            await waiting.connect(raw.proxy.address)
            failed = await raw.events.wait_for("accept_failed")
            assert failed["reason"] == os.strerror(errno.EMFILE)
            await server.send_all(message(304, b"alive"))
            assert await read_exactly(client, 11) == message(304, b"alive")
            for descriptor in hoard:
                os.close(descriptor)
        await waiting.send(link_mess())
        await raw.accept()
        waiting.close()


def exhausted() -> list[int]:
    """Take every descriptor there is."""
    used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 32, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    hoard = []
    while True:
        try:
            hoard.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return hoard


async def test_a_peer_that_does_not_read_is_given_up_after_its_timeout() -> None:
    async with raw_proxy(limits=Limits(peer_timeout_s=1.0)) as raw:
        _client, server = await raw.linked()
        body = bytes(2**20)
        closed = trio.Event()

        async def flood() -> None:
            try:
                while True:
                    await server.send_all(message(304, body))
            except trio.BrokenResourceError:
                closed.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            event = await raw.events.wait_for("channel_closed", timeout_s=20)
            assert (event["by"], event["reason"]) == ("client", "connection timed out")
            with trio.fail_after(10):
                await closed.wait()
            nursery.cancel_scope.cancel()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def cable() -> Iterator[tuple[str, str]]:
    """A network namespace behind a pair of interfaces; its name, and that of the interface on this side."""
    name = f"sp{os.getpid()}"
    near, far = f"{name}a", f"{name}b"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces cannot be made here")
    try:
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        _ip("addr", "add", "198.18.251.1/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", name, "addr", "add", "198.18.251.2/30", "dev", far)
        _ip("-n", name, "link", "set", far, "up")
        yield name, near
    finally:
        subprocess.run(
            ["ip", "link", "del", near], check=False, capture_output=True
        )  # at once, the namespace later
        _ip("netns", "del", name)


CLIENT_BEHIND_A_CABLE = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as link:
    link.sendall(bytes.fromhex(sys.argv[3]))
    print("sent", flush=True)
    sys.stdin.read()
"""


@contextmanager
def client_behind(namespace: str, address: Address) -> Iterator[None]:
    """A client in the namespace that has sent its link message."""
    code = [sys.executable, "-c", CLIENT_BEHIND_A_CABLE, address.host, str(address.port), link_mess().hex()]
    command = ["ip", "netns", "exec", namespace, *code]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "with bytes under way"])
async def test_a_peer_behind_a_cut_cable_is_given_up_after_its_timeout(busy: bool) -> None:
    with cable() as (namespace, near):
        async with raw_proxy(listen=Address("198.18.251.1", 0), limits=Limits(peer_timeout_s=2.0)) as raw:
            witness_client, witness_server = await raw.linked()
            with client_behind(namespace, raw.proxy.address):
                server = await raw.accept()
                await read_exactly(server, 16)
                _ip("link", "set", near, "down")
                if busy:  # it cannot be delivered: the kernel repeats bytes instead of probing
                    await server.send_all(link_reply())
                failed = await raw.events.wait_for("link_failed", timeout_s=25)
            assert failed["reason"] in {os.strerror(errno.ETIMEDOUT), os.strerror(errno.EHOSTUNREACH)}
            await witness_server.send_all(message(304, b"alive"))
            assert await read_exactly(witness_client, 11) == message(304, b"alive")


def test_who_has_used_what_may_be_used_at_once_waits_until_it_is_earned() -> None:
    now = [100.0]
    allowance = Allowance(1.0, 0.25, clock=lambda: now[0])
    assert [allowance.use(0.5), allowance.use(0.5)] == [0.0, 0.0]
    assert allowance.use(0.5) == 2.0
    now[0] += 2.0
    assert allowance.use(0.25) == 1.0
    now[0] += 1000.0  # idle time beyond the burst earns nothing
    assert [allowance.use(1.0), allowance.use(0.25)] == [0.0, 1.0]
