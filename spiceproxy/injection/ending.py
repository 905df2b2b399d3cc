"""How a fault ends a connection: with FIN or RST, after what was to go out before has gone."""

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import trio

from dissectors.side import Side
from spiceproxy import sockets
from spiceproxy.relay.link_phase import LINK_READ_BYTES

# What a fault has put in is sent before it closes, unless a peer does not let it for so long.
CUT_WAIT_S: Final = 1.0
# For the peers to read the end of the stream and close in their turn: closing with unread bytes would be a reset.
FIN_LINGER_S: Final = 2.0
_LINGER_NONE: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Cut:
    """How a connection is to end.

    Attributes:
        reset: With RST.
        reason: For the log.
        side: Who is taken to have closed it.
    """

    reset: bool
    reason: str
    side: Side


async def finish(cut: Cut, connections: Iterable[socket.socket]) -> None:
    """End both sides, and leave to the caller what is left: to close the sockets."""
    both = list(connections)
    if cut.reset:
        with trio.move_on_after(CUT_WAIT_S):
            while any(sockets.unsent_bytes(each) for each in both):  # noqa: ASYNC110  the kernel tells nobody
                await trio.sleep(0.001)
        for each in both:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        return
    with trio.move_on_after(FIN_LINGER_S):
        async with trio.open_nursery() as nursery:
            for each in both:
                nursery.start_soon(_say_goodbye, each)


async def _say_goodbye(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_WR)
        while await sockets.receive(connection, LINK_READ_BYTES):
            pass
    except OSError:
        pass  # it is gone already
