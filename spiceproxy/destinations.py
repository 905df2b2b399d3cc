"""Listeners of the proxy: the first server's, and one for each server a client was told of."""

import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import trio

from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import EventLog
from spiceproxy.limits import Gate
from spiceproxy.tls.ends import Peer

# After accept(2) failed for want of descriptors or memory: time for something to be closed.
ACCEPT_PAUSE_S: Final = 0.2

WILDCARDS: Final = {"", "0.0.0.0", "::"}  # noqa: S104  compared with, not bound
LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True)
class Way:
    """Where a port of the proxy leads, and how.

    Attributes:
        server: As it is dialled.
        tls: Whether clients speak TLS here.
        server_tls: Whether the server does.
        subject: That the server's certificate has to have; None: it has to be of the server's host.
        unread: Bytes are passed on as they are, since nobody here can read them.
    """

    server: Address
    tls: bool = False
    server_tls: bool = False
    subject: str | None = None
    unread: bool = False

    @property
    def peer(self) -> Peer:
        """The server, as its certificate shows it."""
        return Peer(self.server, self.subject)


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A port of the proxy and the server behind it."""

    way: Way
    socket: socket.socket
    address: Address = field(init=False)  # where the proxy listens; known also when the socket is closed

    def __post_init__(self) -> None:
        """Ask while it can be asked."""
        object.__setattr__(self, "address", sockets.local_address(self.socket))

    @property
    def server(self) -> Address:
        """The server."""
        return self.way.server


Accepted = Callable[[socket.socket, Listener], Awaitable[None]]


class Destinations:
    """All listeners of one proxy. Sessions that are told of the same server share one; it closes with the last of them.

    Args:
        hosts: The local addresses to listen on, for clients with TLS and without; one of them will do for both.
        ports: Ports for destinations, in the order they are tried; (0,) for any.
        nursery: Where the listeners' tasks and those of the connections run.
        accepted: Called as a task of its own with every connection.
        log: The event log.
        gate: Knows the limits.
    """

    def __init__(
        self,
        hosts: Mapping[bool, str],
        ports: Iterable[int],
        nursery: trio.Nursery,
        accepted: Accepted,
        log: EventLog,
        gate: Gate,
    ) -> None:
        self._hosts, self._ports, self._nursery = hosts, tuple(ports), nursery
        self._accepted, self._log, self._gate = accepted, log, gate
        self._listeners: dict[Way, Listener] = {}
        self._lasting: set[Listener] = set()
        self._told: dict[str, list[Listener]] = {}  # by session; the one it was told of last stands last

    def __len__(self) -> int:
        return len(self._listeners)

    def adopt(self, way: Way, listening: socket.socket) -> Listener:
        """Serve a socket that listens already, for the first server. It lasts as long as the proxy."""
        listener = Listener(way, listening)
        self._lasting.add(listener)
        self._add(listener)
        return listener

    def open(self, way: Way, session: str) -> tuple[Listener, bool]:
        """The listener that leads there, and whether it is a new one.

        A session that has as many as it may have loses the one it was told of first. That ends no connection.

        Args:
            way: Where to, and how.
            session: The name of the session that was told of it; `release` follows.

        Raises:
            UsageError: No port is free, or there are too many destinations.
        """
        listener = self._listeners.get(_key(way))
        if listener in self._lasting:
            return listener, False
        limits, told = self._gate.limits, self._told.setdefault(session, [])
        new = listener is None
        if listener is None:
            if len(self._listeners) - len(self._lasting) >= limits.destinations:
                raise UsageError(f"{limits.destinations} destinations are open, no more are opened")
            listener = Listener(way, sockets.listen(self._host(way.tls), self._ports))
            self._add(listener)
        if listener in told:
            told.remove(listener)
        told.append(listener)
        while len(told) > limits.destinations_per_session:
            self._close_if_unused(told.pop(0))
        return listener, new

    def release(self, session: str) -> None:
        """A session is over: close what was open for it alone."""
        for listener in self._told.pop(session, []):
            self._close_if_unused(listener)

    def _close_if_unused(self, listener: Listener) -> None:
        if any(listener in told for told in self._told.values()):
            return
        way = listener.way
        del self._listeners[_key(way)]
        sockets.close(listener.socket)
        address, tls = str(listener.address), way.tls or way.unread
        self._log.info("destination_closed", destination=str(way.server), listen=address, tls=tls)

    def _add(self, listener: Listener) -> None:
        self._listeners[_key(listener.way)] = listener
        self._nursery.start_soon(self._serve, listener)

    def leads_here(self, address: Address, advertised: str) -> bool:
        """Whether `address` is one of the proxy's own ports."""
        own_hosts = set(map(str.lower, self._hosts.values()))
        if own_hosts & (WILDCARDS | LOOPBACK):
            own_hosts |= LOOPBACK
        own_hosts.add(advertised.lower())
        return address.host.lower() in own_hosts and any(
            listener.address.port == address.port for listener in self._listeners.values()
        )

    def _host(self, tls: bool) -> str:
        return self._hosts[tls if tls in self._hosts else not tls]

    async def _serve(self, listener: Listener) -> None:
        try:
            while listener.socket.fileno() != -1:
                try:
                    accepted = await sockets.accept(listener.socket)
                except trio.ClosedResourceError:
                    return  # nobody needs it any more
                except OSError as error:
                    self._log.error("accept_failed", listen=str(listener.address), reason=error.strerror)
                    await trio.sleep(ACCEPT_PAUSE_S)
                    continue
                self._nursery.start_soon(self._accepted, accepted, listener)
                await self._gate.pause()
        finally:
            sockets.close(listener.socket)


def _key(way: Way) -> Way:
    """Host names have no case."""
    return replace(way, server=Address(way.server.host.lower(), way.server.port))
