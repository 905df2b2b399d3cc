"""A client's connection before its session is known: TLS, a WebSocket in it, the link message."""

import socket
from typing import Any

import trio

from dissectors.link import LinkError, LinkFormatError, LinkMessage
from dissectors.side import Side
from spiceproxy import sockets
from spiceproxy.destinations import Listener
from spiceproxy.errors import ProtocolError
from spiceproxy.eventlog import EventLog
from spiceproxy.protocol.link import LinkPhase, Unit
from spiceproxy.relay.link_phase import LINK_READ_BYTES, refuse
from spiceproxy.shared import Shared
from spiceproxy.tls.ends import begins_with_handshake
from spiceproxy.tls.stream import TlsSocket
from spiceproxy.ways.entrance import Entrance


class Arrival:
    """Who has just been accepted. Whoever makes it closes it, or hands it to a `Connection`, which does.

    Attributes:
        socket: What is read from and written to: what was accepted, or what it was found to carry.
        client: Where it comes from.
        listener: Where it came in, and so where it leads to.
        number: Connections are numbered from 1.
        id: That as a name: c1, c2 ...
        log: The connection's log.
        link: How far the link phase has come.
        units: What was read of it and has not gone on yet.
        looked: A connection to the server that was made for its certificate.
        accepted_ns: When it was accepted, on the follower's clock.

    Raises:
        OSError: It is gone already.
    """

    def __init__(self, shared: Shared, accepted: socket.socket, listener: Listener, number: int) -> None:
        self._shared, self.socket, self.listener = shared, accepted, listener
        self.client = sockets.peer_address(accepted)
        sockets.give_up_after(accepted, shared.gate.limits.peer_timeout_s)
        self.id, self.number = f"c{number}", number
        self.log = shared.log.bind(connection=self.id)
        self.link = LinkPhase()
        self.units: list[Unit] = []
        self.looked: TlsSocket | None = None
        self.accepted_ns = shared.follower.now()

    def close(self) -> None:
        """Close what is open; may be called twice."""
        for each in (self.socket, self.looked):
            if each is not None:
                sockets.close(each)

    def came_through(self, accepted: socket.socket, listener: Listener) -> None:
        """What the entrance made of the connection."""
        self.socket, self.listener = accepted, listener

    async def secure(self) -> bool:
        """Be a TLS server for the client, if it is to speak TLS here; False if that failed. Then it has been logged."""
        way, tls, config = self.listener.way, self._shared.tls, self._shared.config
        if not way.tls or tls is None:
            return True
        reached_at = config.advertise or sockets.local_address(self.socket).machine
        try:
            with trio.fail_after(config.link_timeout_s):
                if not await begins_with_handshake(self.socket):
                    self._failed("no TLS handshake, on a port for TLS")
                    return False
                if way.server_tls and not tls.knows(way.peer):
                    reach = self._shared.dialer.reach(self.socket)
                    self.looked = await tls.look(way.peer, config.connect_timeout_s, reach=reach)
                self.socket = await tls.accept(self.socket, way.peer, reached_at)
        except trio.TooSlowError:
            self._failed(f"no TLS handshake within {config.link_timeout_s:g} s")
            return False
        except OSError as error:
            self._failed(error.strerror or str(error))
            return False
        log_secured(self.log, "client", self.socket)
        return True

    async def unwrap(self, entrance: Entrance) -> bool:
        """Take off a WebSocket that is in the client's TLS; False if that failed. Then it has been logged."""
        if not isinstance(self.socket, TlsSocket):
            return True
        unwrapped = await entrance.unwrap(self.socket, self.log)
        if unwrapped is None:
            return False
        self.socket = unwrapped
        return True

    async def read_link_message(self) -> LinkMessage | None:
        """The client's link message, or None if it sent something else; then it has been told and logged."""
        received, timeout_s = 0, self._shared.config.link_timeout_s
        try:
            with trio.fail_after(timeout_s):
                while not self.units:
                    data = await sockets.receive(self.socket, LINK_READ_BYTES)
                    if not data:
                        level = self.log.warning if received else self.log.info
                        reason = f"closed after {received} bytes of its link message"
                        level("link_failed", by="client", reason=reason)
                        return None
                    received += len(data)
                    self.units = self.link.receive(Side.CLIENT, data)
        except trio.TooSlowError:
            self._failed(f"no link message within {timeout_s:g} s")
            return None
        except ProtocolError as error:
            self._failed(error.reason, offset=error.offset)
            cause = error.__cause__
            code = cause.code if isinstance(cause, LinkFormatError) else LinkError.INVALID_DATA
            await refuse(self.socket, code)
            return None
        except OSError as error:
            self._failed(error.strerror or str(error))
            return None
        return self.link.mess

    def _failed(self, reason: str, **fields: Any) -> None:
        self.log.warning("link_failed", by="client", reason=reason, **fields)


def log_secured(log: EventLog, peer: str, connection: socket.socket) -> None:
    """Say what TLS was agreed on with a peer."""
    if not isinstance(connection, TlsSocket):  # there is a WebSocket in it
        return
    log.debug("tls_established", by=peer, version=connection.version(), cipher=connection.cipher())
