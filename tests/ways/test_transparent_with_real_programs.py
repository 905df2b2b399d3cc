"""QEMU, QEMU and spicy, each on a host of its own, and the proxy on the router between them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from spiceproxy.address import Address
from spiceproxy.lab.secured import Certificates, subject_of
from tests.ways.network import CLIENT, SERVERS, network
from tests.ways.real import SPICY_CHANNELS, Place, Real, require_real_programs, spicy
from tests.ways.routed import RoutedProxy, Streams, captured, routed_proxy, streams_of
from tests.whole_capture import read_whole

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

IPV4_REDIRECT = pytest.param(4, False, id="IPv4, REDIRECT")
IPV4_TPROXY = pytest.param(4, True, id="IPv4, TPROXY")
IPV6_REDIRECT = pytest.param(6, False, id="IPv6, REDIRECT")
IPV6_TPROXY = pytest.param(6, True, id="IPv6, TPROXY")


def nightly(case: Any) -> Any:
    return pytest.param(*case.values, id=case.id, marks=pytest.mark.nightly)


@dataclass
class Played:
    """What came of a migration."""

    proxy: RoutedProxy
    before: Streams
    after: Streams
    clients: set[str]
    seen: set[str]  # whom the second server takes for its client


@asynccontextmanager
async def _servers(
    directory: Path, version: int, certificates: Certificates | None
) -> AsyncIterator[tuple[Any, Real]]:
    require_real_programs()
    with network() as net:
        places = [
            Place(Address(host[version], 5900), Address(host[version], 4444), net.inside(namespace))
            for host, namespace in zip(SERVERS, net.servers, strict=True)
        ]
        async with trio.open_nursery() as nursery:
            real = Real(directory, nursery, places, certificates=certificates)
            await real.start()
            yield net, real
            nursery.cancel_scope.cancel()


async def _play(
    directory: Path,
    version: int,
    *,
    tproxy: bool,
    tls: bool = False,
    options: Sequence[str] = (),
    ca: Path | None = None,
) -> Played:
    """A seamless migration of spicy and a guest, through the router; spicy trusts `ca`, or else our own."""
    certificates = Certificates(directory) if tls else None
    async with _servers(directory, version, certificates) as (net, real):
        routed = routed_proxy(net, directory, tproxy=tproxy, more=options)
        async with routed as proxy, captured(net, directory) as files:
            trusted = (ca or proxy.ca) if tls else None
            await real.connect(
                [*net.inside(net.client), *spicy(real.places[0].address, trusted)], SPICY_CHANNELS
            )
            await real.see_the_guest_move()
            await real.migrate(SPICY_CHANNELS)
            await real.see_the_guest_move()
            connected = await real.servers[1].execute("query-spice")
            # A client that ends while a picture comes leaves a part of it on the router.
            await real.servers[1].execute("stop")
            await trio.sleep(0.3)
            await real.clients[0].stop()
    (before, clients), (after, _) = (streams_of(file) for file in files)
    return Played(proxy, before, after, clients, {each["host"] for each in connected["channels"]})


def _check_addresses(played: Played, version: int, tproxy: bool) -> None:
    """Servers see the client with TPROXY, the router without."""
    router = SERVERS[1][version].rpartition("2")[0] + "1"
    assert played.seen == {CLIENT[version] if tproxy else router}
    assert played.clients == {CLIENT[version]}


def _check_followed(proxy: RoutedProxy) -> None:
    """One session, one migration, nothing rewritten."""
    assert len(proxy.events("session_started")) == 1
    assert proxy.events("message_rewritten") == []
    hops = {event["channel"]: event["hop"] for event in proxy.events("channel_linked")}
    assert hops == dict.fromkeys(SPICY_CHANNELS, 1)
    (migration,) = proxy.ends["report"]["migrations"]
    assert (migration["performed"], migration["outcome"]) == ("seamless", "completed")


@pytest.mark.parametrize(
    ("version", "tproxy"), [IPV4_TPROXY, IPV6_REDIRECT, nightly(IPV4_REDIRECT), nightly(IPV6_TPROXY)]
)
async def test_a_seamless_migration_of_a_real_guest_is_followed_and_no_byte_is_changed(
    version: int, tproxy: bool, tmp_path: Path
) -> None:
    played = await _play(tmp_path, version, tproxy=tproxy)
    _check_addresses(played, version, tproxy)
    assert played.before == played.after
    assert sum(played.before.values()) == 2 * len(SPICY_CHANNELS)
    _check_followed(played.proxy)


@pytest.mark.parametrize(
    ("version", "tproxy"), [IPV6_TPROXY, nightly(IPV4_REDIRECT), nightly(IPV4_TPROXY), nightly(IPV6_REDIRECT)]
)
async def test_a_seamless_migration_over_tls_is_read_and_followed_and_both_ends_check_subjects(
    version: int, tproxy: bool, tmp_path: Path
) -> None:
    """spicy asks for s1's subject and then for s2's, of us; we do, of the servers."""
    believed = ["--server-ca", str(tmp_path / "servers-ca.pem"), "--server-subject", subject_of("s1")]
    played = await _play(tmp_path, version, tproxy=tproxy, tls=True, options=believed)
    _check_addresses(played, version, tproxy)
    _check_followed(played.proxy)
    assert played.proxy.events("tunnel_opened") == []
    (announced,) = played.proxy.events("destination_announced")
    assert announced["tls"]
    # On the wire there is nothing but TLS on both sides, and the recording has all of it in clear.
    streams = [*played.before, *played.after]
    assert {data[:1] for _, client, server in streams for data in (client, server)} == {b"\x16"}
    whole = read_whole(played.proxy.recording)
    assert whole.messages > 500
    assert whole.undecoded == whole.left_over == whole.unreadable == []


@pytest.mark.parametrize(("version", "tproxy"), [nightly(IPV4_TPROXY), nightly(IPV6_REDIRECT)])
async def test_tls_that_we_are_not_to_read_passes_unchanged(
    version: int, tproxy: bool, tmp_path: Path
) -> None:
    played = await _play(tmp_path, version, tproxy=tproxy, tls=True, ca=tmp_path / "servers-ca.pem")
    _check_addresses(played, version, tproxy)
    assert played.before == played.after
    assert len(played.proxy.events("tunnel_opened")) == 2 * len(SPICY_CHANNELS)
    assert played.proxy.events("channel_linked") == []
