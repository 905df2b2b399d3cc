"""One session of a simulated client: from the main link to the last close, across seamless migrations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from dissectors.channels import ChannelType
from spiceproxy.address import Address
from spiceproxy.simulate.client_channel import ClientChannel
from spiceproxy.simulate.client_channels import KINDS
from spiceproxy.simulate.client_main import MainClient
from spiceproxy.simulate.client_migration import ClientMigration
from spiceproxy.simulate.errors import ConnectionLost, SimulationError
from spiceproxy.simulate.groups import leaves
from spiceproxy.simulate.linking import CLIENT_CAPS, Linked, open_link
from spiceproxy.simulate.secure import Trust
from spiceproxy.simulate.wire import MAIN, ChannelKey

if TYPE_CHECKING:
    from spiceproxy.simulate.client import SimulatedClient


class ClientSession:
    """The channels that belong to one session id.

    Attributes:
        server: Where it is now.
        channels: In the order in which they were linked.
        next_server: Where SWITCH_HOST sends the client; None if the session simply ends.
        lost: Channels other than main that the server closed, with the reason.
    """

    def __init__(self, client: "SimulatedClient", server: Address) -> None:
        """Begin without a connection."""
        self.client, self.server = client, server
        self.channels: dict[ChannelKey, ClientChannel] = {}
        self.main: MainClient | None = None
        self.migration = ClientMigration(self)
        self.next_server: Address | None = None
        self.lost: dict[str, str] = {}
        self._listed = False
        self._linking: set[ChannelKey] = set()
        self._nursery: trio.Nursery | None = None

    @property
    def is_ready(self) -> bool:
        """Whether every channel that the server offered, and this client can do, is linked."""
        return self._listed and not self._linking

    async def link(self, server: Address, key: ChannelKey, *, connection_id: int) -> Linked:
        """Open a connection for a channel.

        Raises:
            ConnectionLost: Nobody there, or gone.
            LinkRefused: The server said no.
        """
        options = self.client.options
        caps = options.main_caps if key == MAIN else CLIENT_CAPS.get(key.type, ())
        return await open_link(
            server,
            key,
            connection_id=connection_id,
            password=options.password,
            mini_header=options.mini_header,
            channel_caps=caps,
            connect_timeout_s=options.connect_timeout_s,
            link_timeout_s=options.link_timeout_s,
            peer_name=options.name,
            observer=options.observer,
            dial=options.dial,
            trust=self._trust(server),
        )

    def _trust(self, server: Address) -> Trust | None:
        context = self.client.options.tls
        if server not in self.client.secure or context is None:
            return None
        return Trust(context, self.client.secure[server])

    async def run(self) -> None:
        """Open the session and live it.

        Raises:
            ExceptionGroup: of RuleBroken, ConnectionLost, LinkRefused or SimulationError.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                linked = await self.link(self.server, MAIN, connection_id=0)
                self.main = MainClient(self, linked)
                self.channels[MAIN] = self.main
                await self.main.run()
        finally:
            self.migration.close()
            for channel in self.channels.values():
                channel.wire.close()

    def end(self, next_server: Address | None = None) -> None:
        """Close everything; `run` returns."""
        self.next_server = next_server
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def main_is_ready(self) -> None:
        """MAIN_INIT has come: after a semi-seamless migration the other channels start over."""
        self.migration.main_has_arrived()

    def link_channels(self, keys: Sequence[ChannelKey]) -> None:
        """Link what the server offers and is not linked yet."""
        assert self._nursery is not None  # noqa: S101 - main runs in it
        wanted = self.client.wanted_channels
        for key in keys:
            known = key in self.channels or key in self._linking
            if key.type in KINDS and not known and (wanted is None or key in wanted):
                self._linking.add(key)
                self._nursery.start_soon(self._open_channel, key)
        self._listed = True
        self._note_ready()

    def _note_ready(self) -> None:
        if self.is_ready:
            self.client.session_ready(self)

    async def _open_channel(self, key: ChannelKey) -> None:
        assert self.main is not None  # noqa: S101 - its CHANNELS_LIST brought us here
        try:
            linked = await self.link(self.server, key, connection_id=self.main.session_id)
            channel = self.channels[key] = KINDS[key.type](self, linked)
            channel.open()
        finally:
            self._linking.discard(key)
            self.client.notify()
        self._note_ready()
        try:
            await channel.run()
        except* ConnectionLost as group:
            self.lost[channel.name] = str(leaves(group)[0])
            del self.channels[key]
            for wire in filter(None, (channel.wire, channel.target)):
                wire.close()
            self.migration.channel_lost()
            self.client.notify()

    async def all_linked(self) -> None:
        """Wait for links that are under way."""
        while self._linking:
            await self.client.changed()

    def find(self, kind: ChannelType, number: int = 0) -> ClientChannel:
        """The channel of a kind.

        Raises:
            SimulationError: It is not linked.
        """
        key = ChannelKey(kind, number)
        if key not in self.channels:
            raise SimulationError(f"{self.client.name}: {key.name} is not linked")
        return self.channels[key]
