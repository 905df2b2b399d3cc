"""Simulated SPICE peers: a server with a guest behind it, and a client. Real bytes on real sockets, no QEMU.

They speak link and ticket, main, display, inputs, cursor, and enough of playback, record, usbredir, port and webdav to
exchange traffic, with the mini or the full header, and both sides of the three migrations. They are strict: a message
that must not come is a `RuleBroken` that names the rule, who broke it and where. `RULES` has the rules in words. Nothing
is drawn on any screen, and key presses are counted, never kept.

A seamless migration between two servers::

    async with open_server() as s1, open_server(ServerOptions(incoming=True)) as s2, open_client() as c:
        with trio.fail_after(10):
            await c.connect(*s1.address)
            await s1.wait_client_arrived()                # every channel is linked and ready
            s1.draw(100)
            c.send_motion(5, 5)
            s1.migrate_connect(*s2.address)               # QMP client_migrate_info: BEGIN or BEGIN_SEAMLESS
            assert await s1.wait_client_connected() is Source.SEAMLESS
            s1.hand_over_to(s2)                           # the guest moves, as hypervisors do beside SPICE
            assert await s1.migrate_end() is Outcome.MIGRATE  # waits until the client has left s1
            report = await c.wait_migrated()
            await s2.wait_client_arrived()                # every channel has delivered its state
            s2.draw(100)
        assert report.kind == "seamless" and not s2.broken_rules

Semi-seamless: `ServerOptions(seamless=False)` on s1, or capabilities taken from either side. Switch-host: a destination
that refuses while BEGIN is answered, or a client with `main_caps=(0,)`. Cancel: `migrate_end(completed=False)`. A chain:
the destination is the next migration's source; a server that handed its guest over can be a destination again.

Errors come out where somebody waits: every `wait_*`, `migrate_end` and `connect` raises what the other side did wrong
since it was last asked, and `open_server` and `open_client` raise what nobody has heard of when they are left.
`peer.broken_rules` keeps all of it, `peer.check()` asks. The session of a peer that broke a rule is closed, as
spice-server and spice-gtk do; the server goes on serving. Waiting has no deadline of its own but those of the protocol
(10 s for the client's answer to BEGIN, 10 s for leaving, 10 s for the display's data, 30 s for DISPLAY_INIT), on trio's
clock: with `trio.run(..., clock=quick_clock())` of `spiceproxy.simulate.clock` they take no time.

`peer.inject(channel, id, body)` sends any message, right or wrong; `ServerOptions.observer` and `ClientOptions.observer`
see every message as a `Trace`; `server.channels` and `client.channels` say what is linked, from where, and how many
messages of which kind passed.
"""

from spiceproxy.simulate.client import ClientChannelView, ClientOptions, SimulatedClient, open_client
from spiceproxy.simulate.client_migration import MigrationReport
from spiceproxy.simulate.errors import ConnectionLost, LinkRefused, RuleBroken, SimulationError
from spiceproxy.simulate.guest import Guest, Handover
from spiceproxy.simulate.rules import RULES
from spiceproxy.simulate.server import NO_PORT, SimulatedServer, open_server
from spiceproxy.simulate.server_options import ChannelView, ServerOptions
from spiceproxy.simulate.steps import Outcome, Source
from spiceproxy.simulate.wire import Observer, Trace

__all__ = [
    "NO_PORT",
    "RULES",
    "ChannelView",
    "ClientChannelView",
    "ClientOptions",
    "ConnectionLost",
    "Guest",
    "Handover",
    "LinkRefused",
    "MigrationReport",
    "Observer",
    "Outcome",
    "RuleBroken",
    "ServerOptions",
    "SimulatedClient",
    "SimulatedServer",
    "SimulationError",
    "Source",
    "Trace",
    "open_client",
    "open_server",
]
