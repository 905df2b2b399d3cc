"""Relay the link phase of one connection, and refuse one."""

import socket
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from dissectors.link import LinkError, build_link_error
from dissectors.side import Side
from spiceproxy import sockets
from spiceproxy.errors import ProtocolError, first_of
from spiceproxy.protocol.link import LinkPhase, Phase, Unit

LINK_READ_BYTES: Final = 16 * 2**10
# A client whose link is refused gets this long to read why before the connection is closed.
REFUSAL_LINGER_S: Final = 2.0


async def relay_link(
    link: LinkPhase, sides: dict[Side, socket.socket], pass_on: "PassOn", receive: "Receive | None" = None
) -> None:
    """Relay the link phase, beginning with units that `link` has found already.

    Args:
        link: Its state.
        sides: The sockets.
        pass_on: Has each unit go out.
        receive: Reads what a side sends, where its socket will not do.

    Raises:
        ProtocolError: A peer sent what is no link phase.
        ClosedEarlyError: A peer closed before the end of it.
        OSError: A connection broke.
    """
    waiting: list[Unit] = []
    ended: set[Side] = set()
    lock = trio.Lock()

    async def flush() -> None:
        async with lock:  # one writer at a time: units of both sides may come out of either reader
            while waiting:
                await pass_on(waiting.pop(0))

    async def read(side: Side) -> None:
        while not link.finished:
            data = await (receive(side) if receive else sockets.receive(sides[side], LINK_READ_BYTES))
            if data:
                try:
                    waiting.extend(link.receive(side, data))
                finally:
                    await flush()
            else:
                ended.add(side)
            if not link.finished and link.turn in ended:  # what is awaited will not come
                raise ClosedEarlyError(link.turn, link)
            if not data:  # it may still read the other's answer
                sides[side.other].shutdown(socket.SHUT_WR)
                return
        scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            for side in Side:
                nursery.start_soon(read, side)
    except BaseExceptionGroup as group:
        # Not except*: what that raises is a group again where something was cancelled at the same time.
        peers, others = group.split((ProtocolError, ClosedEarlyError, OSError))
        ours = others.split(trio.Cancelled)[1] if others is not None else None
        if peers is None or ours is not None:
            raise
        raise first_of(peers) from None


PassOn = Callable[[Unit], Awaitable[None]]
Receive = Callable[[Side], Awaitable[bytes]]


class ClosedEarlyError(Exception):
    """A peer closed its side during the link phase."""

    def __init__(self, side: Side, link: LinkPhase) -> None:
        meant = _MEANT_BY_CLOSING.get((side, link.phase), "")
        super().__init__(f"the {side.value} closed the connection, the {link.phase.value} was awaited{meant}")
        self.side = side


# Neither peer says what it does not like about SASL. Sources: spice-server red-stream.cpp, red_sasl_start_auth() and
# red_sasl_handle_auth_step(); spice-gtk spice-channel.c, spice_channel_perform_auth_sasl().
_MEANT_BY_CLOSING: Final = {
    (Side.SERVER, Phase.SASL_MECHLIST): ": it has no mechanism that it could offer",
    (Side.SERVER, Phase.SASL_SERVER_DATA): ": it does not accept the user or the password",
    (Side.SERVER, Phase.SASL_RESULT): ": it does not accept the user or the password",
    (Side.CLIENT, Phase.SASL_MECHNAME): ": it may know none of those that the server offers",
    (Side.CLIENT, Phase.SASL_CLIENT_DATA): ": it may have no user and password, or not accept what the server has said",
}  # fmt: skip


async def refuse(client: socket.socket, code: LinkError) -> None:
    """Answer as spice-server does: an error reply, then close (reds.cpp, reds_send_link_error())."""
    with trio.move_on_after(REFUSAL_LINGER_S):
        try:
            await sockets.send_all(client, build_link_error(code))
            client.shutdown(socket.SHUT_WR)
            while await sockets.receive(client, LINK_READ_BYTES):
                pass  # closing with unread bytes would reset the connection, and the reply be lost
        except OSError:
            pass
