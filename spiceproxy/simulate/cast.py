"""A row of simulated servers for a guest to move along."""

import socket
from collections.abc import Callable
from typing import Final

import trio

from spiceproxy.address import Address
from spiceproxy.simulate.server import SimulatedServer

SERVERS_IN_A_RING: Final = 3


class Cast:
    """Servers s1, s2, s3 and back to s1; or new ones all the way, if destinations have to refuse at first.

    Attributes:
        servers: In the order in which they were made.
        addresses: By name, also of a server that does not listen yet.
        subject: Of a server's certificate, by its name; None if they have no TLS.
    """

    def __init__(
        self, nursery: trio.Nursery, make: Callable[[int, int], SimulatedServer], *, refuse: bool = False
    ) -> None:
        """Begin without servers.

        Args:
            nursery: Where they live.
            make: Makes a server from its number, counted from 1, and the port to listen on, 0 for any.
            refuse: Whether destinations refuse connections until `listen` is called.
        """
        self.servers: list[SimulatedServer] = []
        self.addresses: dict[str, Address] = {}
        self._nursery, self._make, self._refuse = nursery, make, refuse
        self.subject: Callable[[str], str] | None = None
        self._reserved: dict[str, socket.socket] = {}

    def announce(self, source: SimulatedServer, name: str) -> None:
        """Have a server tell its client of another one, by its port, or by its TLS port and subject if it has one."""
        host, port = self.addresses[name]
        if self.subject is None:
            source.migrate_connect(host, port)
        else:
            source.migrate_connect(host, 0, port, self.subject(name))

    def _new(self, port: int = 0) -> SimulatedServer:
        self.servers.append(self._make(len(self.servers) + 1, port))
        return self.servers[-1]

    async def start(self) -> SimulatedServer:
        """One more server, listening."""
        server = self._new()
        self.addresses[server.name] = await self._nursery.start(server.serve)
        return server

    async def destination(self, source: SimulatedServer, *, refuse: bool | None = None) -> SimulatedServer:
        """Where the guest goes next.

        Args:
            source: Where it is.
            refuse: Whether that refuses connections until `listen` is called; None: as all of them.
        """
        if self._refuse if refuse is None else refuse:
            # Bound and not listening: connections are refused, and nobody else can take the port. Linux lets a second
            # socket bind it and listen if both have SO_REUSEADDR.
            reserved = socket.socket()
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind((source.options.host, 0))
            address = Address(*reserved.getsockname())
            server = self._new(address.port)
            self._reserved[server.name], self.addresses[server.name] = reserved, address
            return server
        if len(self.servers) < SERVERS_IN_A_RING:
            return await self.start()
        return self.servers[(self.servers.index(source) + 1) % SERVERS_IN_A_RING]

    async def listen(self, server: SimulatedServer) -> None:
        """Let a server that refused listen; any other listens already."""
        if (reserved := self._reserved.pop(server.name, None)) is not None:
            with reserved:
                await self._nursery.start(server.serve)

    def close(self) -> None:
        """Give reserved ports back."""
        for reserved in self._reserved.values():
            reserved.close()
        self._reserved.clear()
