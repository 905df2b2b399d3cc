"""TLS that nobody here reads."""

import socket

from spiceproxy import sockets
from spiceproxy.destinations import Listener
from spiceproxy.eventlog import EventLog
from spiceproxy.relay import End, relay_opaque
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
    end = End("proxy", "the proxy stops")
    try:
        sockets.give_up_after(upstream, shared.gate.limits.peer_timeout_s)
        end = await relay_opaque(accepted, upstream, shared.pool)
    finally:
        sockets.close(upstream)
        log.info("tunnel_closed", server=str(listener.server), by=end.by, reason=end.reason)
