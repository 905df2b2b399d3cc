"""Another client that comes to a server in the middle of a session: a main channel, linked and then left alone."""

import trio

from dissectors.channels import ChannelType
from spiceproxy.address import Address
from spiceproxy.simulate.linking import CLIENT_CAPS, open_link
from spiceproxy.simulate.wire import ChannelKey

CONNECT_S = LINK_S = 10.0


async def second_client(server: Address, connection_id: int, duration_s: float) -> None:
    """Link a main channel with an empty password, and close it after a while.

    Raises:
        SimulationError: The server said no, or is not there.
    """
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
    )
    try:
        await trio.sleep(duration_s)
    finally:
        linked.wire.close()
