"""TLS of clients that chose their server by themselves: read with our CA, and followed; refused if it is not the server."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from spiceproxy.address import Address
from spiceproxy.proxy import Proxy
from spiceproxy.simulate import ClientOptions, Outcome, ServerOptions, SimulationError
from spiceproxy.simulate.linking import Dial
from spiceproxy.ways.allowing import Allowed
from spiceproxy.ways.inside_tls import MAX_SUBJECTS, Subjects
from spiceproxy.ways.mode import ANYWHERE, Mode, WaysIn
from tests.tls.test_sessions import SUBJECTS, scene
from tests.ways.dialling import connect_dial

LOOPBACK = Address("127.0.0.1", 0)
WAYS = WaysIn(mode=Mode.CONNECT, allowed=Allowed(["127.0.0.1:*"]))


def through(proxy: Callable[[], Proxy]) -> Dial:
    async def dial(address: Address) -> trio.SocketStream:
        return await connect_dial(proxy().address)(address)

    return dial


@pytest.mark.parametrize("seamless", [True, False], ids=["seamless", "semi-seamless"])
async def test_a_session_with_tls_through_connect_is_read_and_followed_there_and_back(
    seamless: bool, tmp_path: Path
) -> None:
    proxies: list[Proxy] = []
    async with scene(
        tmp_path,
        first=ServerOptions(seamless=seamless),
        client=ClientOptions(dial=through(lambda: proxies[0])),
        tls={"listen": None, "server": None},
        server=ANYWHERE,
        listen=LOOPBACK,
        ways=WAYS,
    ) as it:
        proxies.append(it.proxy)
        await it.client.connect(*it.address(0), secure=True, subject=SUBJECTS["s1"])
        await it.servers[0].wait_client_arrived()
        assert await it.migrate() is (Outcome.MIGRATE if seamless else Outcome.MIGRATE_END)
        it.check_all_on(hop=1, server=1)
        await it.migrate(source=1, subject=SUBJECTS["s1"])
        it.check_all_on(hop=2, server=0)
        assert len(it.proxy.sessions) == 1
        assert it.events.named("message_rewritten") == it.events.named("tunnel_opened") == []
        assert {event["tls"] for event in it.events.named("destination_announced")} == {True}


async def test_a_server_that_shows_another_subject_is_refused(tmp_path: Path) -> None:
    proxies: list[Proxy] = []
    async with scene(
        tmp_path,
        client=ClientOptions(dial=through(lambda: proxies[0])),
        tls={"listen": None, "server": None, "server_subject": "CN=somebody else"},
        server=ANYWHERE,
        listen=LOOPBACK,
        ways=WAYS,
    ) as it:
        proxies.append(it.proxy)
        with pytest.raises(SimulationError):
            await it.client.connect(*it.address(0), secure=True, subject=SUBJECTS["s1"])
        assert await it.events.wait_for("link_failed")
        assert it.events.named("channel_linked") == []


def test_what_is_announced_last_counts_and_is_bounded() -> None:
    subjects, one = Subjects("CN=other"), Address("10.0.0.1", 5901)
    assert subjects.way(one).subject == "CN=other"
    subjects.announced(one, "CN=one")
    assert subjects.way(one).subject == "CN=one"
    subjects.announced(one, None)  # by its host, then
    assert subjects.way(one).subject is None
    for port in range(1, MAX_SUBJECTS + 1):
        subjects.announced(Address("10.0.0.2", port), "CN=two")
    assert subjects.way(one).subject == "CN=other"
    assert (subjects.way(one).tls, subjects.way(one).server_tls) == (True, True)
