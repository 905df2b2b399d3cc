"""A user at a simulated client, a guest on a simulated server."""

from typing import Final

from spiceproxy.simulate.client import SimulatedClient
from spiceproxy.simulate.server import SimulatedServer

DRAWINGS: Final = 60
_MOTIONS: Final = 6


async def use(client: SimulatedClient, server: SimulatedServer) -> None:
    """Traffic both ways, that has to arrive: the guest draws, the user moves the mouse and hits a key.

    Put a deadline around it.

    Raises:
        SimulationError: A rule was broken, or the session failed.
    """
    drawn, keys, motions = client.drawn, server.guest.keys, server.guest.motions
    pointer = (server.guest.pointer[0] + 5, 7)
    server.draw(DRAWINGS)
    server.move_pointer(*pointer)
    for _ in range(_MOTIONS):
        client.send_motion(3, 1)
    client.send_key()
    await client.wait_until(lambda: client.drawn >= drawn + DRAWINGS and client.pointer == pointer)
    await server.wait_until(lambda: server.guest.keys >= keys + 2 and server.guest.motions > motions)
