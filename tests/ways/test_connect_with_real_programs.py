"""Real clients that come through the proxy by HTTP CONNECT, and go on to where a migration sends them."""

from ipaddress import ip_address
from pathlib import Path

import pytest
import trio
from cryptography import x509

from spiceproxy.address import Address
from spiceproxy.eventlog import EventLog
from spiceproxy.lab.qemu import HOST, free_port
from spiceproxy.lab.secured import Certificates, subject_of
from spiceproxy.proxy import ProxyConfig, open_proxy
from spiceproxy.tls.authority import Authority
from spiceproxy.tls.settings import FixedCertificate, TlsConfig
from spiceproxy.vvfile import write_vv
from spiceproxy.ways.allowing import Allowed
from spiceproxy.ways.mode import ANYWHERE, Mode, WaysIn
from tests.programs import require_programs
from tests.raw_peers import Events
from tests.tls.certificates import write_pair
from tests.ways.real import SPICY_CHANNELS, Place, Real, require_real_programs, spicy

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


SYSTEM_CAS = "/etc/ssl/certs/ca-certificates.crt"
TRUSTING = f'mount --bind "$0" {SYSTEM_CAS} && exec "$@"'
PLAIN_SPICY = "spicy with SPICE_PROXY=http://"
SECURE_SPICY = "spicy with SPICE_PROXY=https://"
TLS_INSIDE = "spicy with SPICE_PROXY=https:// and TLS inside"
REMOTE_VIEWER = "remote-viewer with proxy= in .vv"
IPV6 = "spicy with SPICE_PROXY to an IPv6 address"
CASES = [
    PLAIN_SPICY,
    REMOTE_VIEWER,
    *(pytest.param(name, marks=pytest.mark.nightly) for name in (SECURE_SPICY, TLS_INSIDE, IPV6)),
]


@pytest.mark.parametrize("client", CASES)
async def test_a_seamless_migration_through_connect_is_followed_and_nothing_is_rewritten(
    client: str, tmp_path: Path
) -> None:
    require_real_programs()
    require_programs("remote-viewer")
    events, host = Events(), "::1" if client == IPV6 else HOST
    places = [Place(Address(host, free_port()), Address(host, free_port())) for _ in range(2)]
    certificates = Certificates(tmp_path) if client == TLS_INSIDE else None
    ours, everybody_s = Authority.new(), Authority.new()
    (ca := tmp_path / "ours.pem").write_bytes(ours.pem)
    (system_ca := tmp_path / "system.pem").write_bytes(everybody_s.pem)
    names = (x509.IPAddress(ip_address(HOST)),)
    https = client in {SECURE_SPICY, TLS_INSIDE}
    tls = TlsConfig(
        listen=Address(HOST, 0) if https else None,
        server_ca=certificates.ca if certificates is not None else None,
        server_subject=subject_of("s1"),
        certificate=ours,
        door=FixedCertificate(*write_pair(tmp_path, "door", everybody_s, "CN=proxy", names)),
        inside=certificates is not None,
    )
    config = ProxyConfig(
        server=ANYWHERE,
        listen=None if https else Address(HOST, 0),
        tls=tls,
        ways=WaysIn(
            mode=Mode.CONNECT,
            allowed=Allowed([f"{HOST}:*", "[::1]:*"]),
            credentials="anna:secret" if client == REMOTE_VIEWER else None,
        ),
        events=EventLog([events]),
    )
    channels = [name for name in SPICY_CHANNELS if name != "webdav:0" or client != REMOTE_VIEWER]
    async with trio.open_nursery() as nursery:
        real = Real(tmp_path, nursery, places, webdav=client != REMOTE_VIEWER, certificates=certificates)
        await real.start()
        async with open_proxy(config) as proxy:
            first = places[0].address
            if client == REMOTE_VIEWER:
                file = tmp_path / "vm.vv"
                write_vv(file, first, proxy=proxy.address)
                file.write_text(file.read_text().replace("http://", "http://anna:secret@"))
                await real.connect(["remote-viewer", str(file)], channels)
            else:
                uri = f"{'https' if https else 'http'}://{proxy.address}"
                command = spicy(first, ca if certificates is not None else None)
                if https:  # GLib asks the system's CAs about a proxy, whatever spicy is told
                    command = [*("unshare", "-m", "sh", "-c", TRUSTING), str(system_ca), *command]
                await real.connect(command, channels, SPICE_PROXY=uri)
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
    assert events.named("message_rewritten") == events.named("tunnel_opened") == []
    assert len(events.named("destination_announced")) == 1
    assert "secret" not in str(events)
