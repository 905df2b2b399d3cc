"""A thousand messages dropped and put in on a display channel, and both peers carry on: what counts messages adds up."""

import pytest
import trio

from dissectors.message_ids import Display, Msg
from spiceproxy.address import Address
from spiceproxy.eventlog import EventLog
from spiceproxy.faults import parse
from spiceproxy.injection import Faults
from spiceproxy.proxy import ProxyConfig, open_proxy
from spiceproxy.simulate import (
    ClientOptions,
    Outcome,
    ServerOptions,
    SimulatedServer,
    open_client,
    open_server,
)
from tests.injection.faulty import expect, faulty, one
from tests.raw_peers import Events, message

RULES = """
seed = 3

[[fault]]
name = "lossy"
match = { message = "DRAW_FILL", every = 3 }
do = "drop"

[[fault]]
name = "more"
match = { message = "DRAW_FILL", every = 5 }
do = { inject = { message = "SPICE_MSG_PING", when = "before" } }

[[fault]]
name = "twice"
match = { message = "DRAW_FILL", every = 7 }
do = "duplicate"
"""
DRAWINGS = 4500


def address_of(server: SimulatedServer) -> Address:
    assert server.address is not None
    return server.address


@pytest.mark.parametrize("mini", [True, False], ids=["mini header", "full header"])
async def test_a_thousand_messages_less_and_a_thousand_more_and_the_session_goes_on_through_a_migration(
    mini: bool,
) -> None:
    events = Events()
    async with (
        open_server(ServerOptions(name="s1", mini_header=mini, ack_window=7)) as s1,
        open_server(ServerOptions(name="s2", mini_header=mini, incoming=True)) as s2,
        open_proxy(
            ProxyConfig(server=address_of(s1), events=EventLog([events]), faults=Faults(parse(RULES).rules))
        ) as proxy,
        open_client(ClientOptions(mini_header=mini)) as client,
    ):
        with trio.fail_after(60):
            await client.connect(*proxy.address)
            await s1.wait_client_arrived()
            for _ in range(10):
                s1.draw(DRAWINGS // 10)
                await s1.drawn()
            assert proxy.injector is not None
            engine = proxy.injector.engine
            await client.wait_until(lambda: engine.fired("lossy") >= DRAWINGS // 3)
            dropped, more, twice = (engine.fired(name) for name in ("lossy", "more", "twice"))
            assert dropped >= 1000
            assert more + twice >= 1000
            # The session works, both ways, and can be moved: serials, windows and caches are where both sides take them to be.
            keys = s1.guest.keys
            client.send_key()
            await s1.wait_until(lambda: s1.guest.keys == keys + 2)
            s1.migrate_connect(*address_of(s2))
            await s1.wait_client_connected()
            s1.hand_over_to(s2)
            assert await s1.migrate_end() is Outcome.MIGRATE
            assert (await client.wait_migrated()).kind == "seamless"
            await s2.wait_client_arrived()
            drawn = client.drawn
            s2.draw(300)
            await client.wait_until(lambda: client.drawn >= drawn + 150)
            client.send_key()
            await s2.wait_until(lambda: s2.guest.keys == keys + 4)
        assert not events.named("fault_failed")
        assert client.broken_rules == s1.broken_rules == s2.broken_rules == []
        assert [str(each.outcome) for each in proxy.migrations] == ["completed"]
        assert [
            each for migration in proxy.migrations for each in (*migration.violations, *migration.diagnoses)
        ] == []
        assert client.received["SPICE_MSG_DISPLAY_DRAW_FILL"] < DRAWINGS


async def test_what_is_put_in_with_a_message_that_others_have_overtaken_takes_no_serial_that_is_used() -> (
    None
):
    async with faulty(one("[{ reorder = 2 }, { duplicate = 2 }]")) as raw:
        client, server = await raw.linked(mini=False)
        kinds = [Msg.PING, Display.MARK, Display.MARK, Display.MARK]
        for serial, kind in enumerate(kinds, 1):
            await server.send_all(message(kind, b"", mini=False, serial=serial))
        for kind, serial in [
            (Display.MARK, 2), (Display.MARK, 3), (Msg.PING, 1), (Msg.PING, 4), (Msg.PING, 5), (Display.MARK, 6),
        ]:  # fmt: skip
            await expect(client, message(kind, b"", mini=False, serial=serial))
