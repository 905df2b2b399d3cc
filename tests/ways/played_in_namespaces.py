"""A program that plays a client in its own network namespace and two servers in others; it prints what it saw.

ip netns exec CLIENT python -m tests.ways.played_in_namespaces NS1 ADDRESS1 NS2 ADDRESS2 [HOST]
"""

import json
import sys
from contextlib import AsyncExitStack

import trio

from spiceproxy.simulate import ServerOptions, open_client, open_server
from tests.ways.network import sockets_in

PORT = 5900


async def main(namespaces: list[str], addresses: list[str], told: str) -> None:
    with trio.fail_after(30):
        async with AsyncExitStack() as stack:
            servers = []
            for number, (namespace, address) in enumerate(zip(namespaces, addresses, strict=True)):
                with sockets_in(namespace):  # nothing else runs yet that could make a socket
                    options = ServerOptions(host=address, port=PORT, incoming=bool(number))
                    servers.append(await stack.enter_async_context(open_server(options)))
            client = await stack.enter_async_context(open_client())
            s1, s2 = servers
            await client.connect(addresses[0], PORT)
            await s1.wait_client_arrived()
            peers = [{view.peer[0] for view in s1.channels}]
            s1.draw(200)
            client.send_motion(3, 4)
            s1.migrate_connect(told, PORT)
            await s1.wait_client_connected()
            s1.hand_over_to(s2)
            outcome = await s1.migrate_end()
            report = await client.wait_migrated()
            await s2.wait_client_arrived()
            peers.append({view.peer[0] for view in s2.channels})
            s2.draw(200)
            await trio.sleep(0.2)
            channels = sorted(view.name for view in client.channels)
    seen = {"outcome": outcome.name, "kind": report.kind, "peers": [sorted(each) for each in peers]}
    print(json.dumps(seen | {"channels": channels}))


if __name__ == "__main__":
    trio.run(main, sys.argv[1:5:2], sys.argv[2:6:2], (sys.argv[5:] or [sys.argv[4]])[0])
