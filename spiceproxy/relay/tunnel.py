"""TLS that nobody here reads."""

import socket

from dissectors.side import Side
from spiceproxy import sockets
from spiceproxy.destinations import Listener
from spiceproxy.eventlog import EventLog
from spiceproxy.protocol.items import Message, Note
from spiceproxy.relay.buffers import BufferPool
from spiceproxy.relay.fairness import Share
from spiceproxy.relay.pump import End, relay_data
from spiceproxy.shared import Shared


async def tunnel(shared: Shared, accepted: socket.socket, listener: Listener, log: EventLog) -> None:
    """Pass TLS on unread: the client reaches the right server, and the channel stays on the proxy."""
    try:
        upstream = await shared.dialer.connect(listener.way, accepted)
    except OSError as error:
        log.warning(
            "link_failed",
            by="server",
            reason=f"cannot connect to {listener.server}: {error.strerror or error}",
        )
        return
    log.info("tunnel_opened", server=str(listener.server))
    end, share = End("proxy", "the proxy stops"), shared.fairness.share()
    try:
        sockets.give_up_after(upstream, shared.gate.limits.peer_timeout_s)
        end = await _relay_opaque(accepted, upstream, shared.pool, share)
    finally:
        sockets.close(upstream)
        share.over()
        log.info("tunnel_closed", server=str(listener.server), by=end.by, reason=end.reason)


class _Blind:
    """Observes nothing."""

    tracing = False

    def noted(self, side: Side, notes: list[Note]) -> None:
        """Nobody wanted it."""

    def seen(self, message: Message) -> None:
        """Nobody wanted it."""

    async def held(self, message: Message) -> bytes:
        """As it was."""
        return message.header + message.body

    async def passed(self, side: Side, data: memoryview, ends: list[int]) -> None:
        """Nobody records it."""

    def direction_ended(self, side: Side, *, reset: bool = False, unreadable: str | None = None) -> None:
        """Nobody asks."""


async def _relay_opaque(client: socket.socket, server: socket.socket, pool: BufferPool, share: Share) -> End:
    """Relay bytes that nobody here can read, until both peers have closed."""
    sides = {Side.CLIENT: client, Side.SERVER: server}
    return await relay_data(sides, None, dict.fromkeys(Side, b""), pool, share, _Blind())
