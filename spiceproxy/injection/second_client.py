"""Another client that comes to a server in the middle of a session: a main channel, linked and then left alone."""

import socket

import trio

from dissectors.channels import ChannelType
from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.simulate.linking import CLIENT_CAPS, open_link
from spiceproxy.simulate.secure import anybody
from spiceproxy.simulate.wire import ChannelKey
from spiceproxy.tls.ends import Reach

CONNECT_S = LINK_S = 10.0


async def second_client(
    server: Address,
    connection_id: int,
    duration_s: float,
    *,
    secured: bool = False,
    reach: Reach = sockets.connect,
) -> None:
    """Link a main channel with an empty password, and close it after a while.

    Args:
        server: Whose.
        connection_id: As the link message is to have it.
        duration_s: How long it stays.
        reach: Makes the connection.
        secured: The server speaks TLS. Who it is has been seen to when the session's own connection was made.

    Raises:
        SimulationError: The server said no, or is not there.
    """

    async def dial(address: Address) -> trio.SocketStream:
        connection = await reach(address, CONNECT_S)
        return trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=connection.detach())))

    linked = await open_link(
        server,
        ChannelKey(ChannelType.MAIN, 0),
        connection_id=connection_id,
        password=None,
        mini_header=True,
        channel_caps=CLIENT_CAPS[ChannelType.MAIN],
        connect_timeout_s=CONNECT_S,
        link_timeout_s=LINK_S,
        peer_name="second client",
        observer=None,
        dial=dial,
        trust=anybody() if secured else None,
    )
    try:
        await trio.sleep(duration_s)
    finally:
        linked.wire.close()
