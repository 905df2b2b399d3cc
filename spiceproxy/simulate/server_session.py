"""One client of a simulated server: its channels, and how far it has arrived or left."""

from typing import TYPE_CHECKING

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.simulate.errors import RuleBroken
from spiceproxy.simulate.guest import Handover
from spiceproxy.simulate.linking import Linked
from spiceproxy.simulate.server_channel import ServerChannel
from spiceproxy.simulate.server_channels import KINDS
from spiceproxy.simulate.server_main import MainServer
from spiceproxy.simulate.steps import ARRIVAL, Arrival, Machine, MainStep
from spiceproxy.simulate.wire import MAIN, ChannelKey

if TYPE_CHECKING:
    from spiceproxy.simulate.server import SimulatedServer


class ServerSession:
    """What a main link opened.

    Attributes:
        is_target: The client linked ahead of a migration to this host.
        arrival: How far it has arrived.
        guest_came: The guest has been here since the session began; it may have left again.
        is_leaving: MIGRATE or MIGRATE_END was sent.
        payloads: MIGRATE_DATA sent by each channel.
    """

    def __init__(self, server: "SimulatedServer", session_id: int, *, is_target: bool) -> None:
        """Begin without channels; main is the first to be added."""
        self.server, self.session_id, self.is_target = server, session_id, is_target
        self.main: MainServer | None = None
        self.channels: dict[ChannelKey, ServerChannel] = {}
        self.arrival: Machine[Arrival, MainStep] = Machine(
            Arrival.PARKED if is_target else Arrival.ORDINARY,
            ARRIVAL,
            otherwise="R16",
            by=Side.CLIENT,
            channel=MAIN.name,
        )
        self.guest_came = server.has_guest
        self.is_leaving = self.ended = False
        self.payloads: dict[ChannelKey, bytes] = {}
        self.handover: Handover | None = None
        self._frozen_caches: set[int] = set()

    @property
    def has_arrived(self) -> bool:
        """Whether nothing of a migration to this host is outstanding."""
        if self.arrival.state is Arrival.ORDINARY:
            return True
        return self.arrival.state is Arrival.SEAMLESS and not any(c.owes_data for c in self.channels.values())

    def add(self, linked: Linked) -> ServerChannel:
        """Take a linked connection; a second link of a channel replaces the first."""
        key = linked.wire.key
        if (old := self.channels.get(key)) is not None:
            old.scope.cancel()
        channel: ServerChannel
        if key.type == ChannelType.MAIN:
            channel = self.main = MainServer(self, linked)
        else:
            channel = KINDS[key.type](self, linked)
        self.channels[key] = channel
        match self.arrival.state:
            case Arrival.PARKED | Arrival.DECLINED:
                channel.parked = channel is not self.main
            case Arrival.AGREED:
                channel.activate()
            case Arrival.ORDINARY | Arrival.SEAMLESS:
                channel.start()
        return channel

    def remove(self, channel: ServerChannel) -> None:
        """A channel has ended; main takes the session with it.

        Raises:
            RuleBroken: The client closed it while others have not switched (R42).
        """
        if self.channels.get(channel.key) is not channel:
            return
        del self.channels[channel.key]
        if channel is self.main:
            self.end()
        staying = [other.name for other in (channel, *self.channels.values()) if not other.has_left]
        seamless = self.is_leaving and not all(
            other.is_staying for other in (channel, *self.channels.values())
        )
        if seamless and staying and not channel.scope.cancel_called:
            detail = f"closed while {', '.join(sorted(staying))} had not switched"
            raise RuleBroken("R42", by=Side.CLIENT, channel=channel.name, detail=detail)

    def end(self) -> None:
        """Disconnect the client."""
        self.ended = True
        for channel in self.channels.values():
            channel.scope.cancel()
        self.server.session_ended(self)

    def freeze_cache(self, cache_id: int) -> bool:
        """Whether this call is the first for a pixmap cache: its display is the freezer."""
        first = cache_id not in self._frozen_caches
        self._frozen_caches.add(cache_id)
        return first

    def agree_seamless(self) -> None:
        """DO_SEAMLESS was accepted: the parked channels open, and owe their data."""
        for channel in self.channels.values():
            channel.activate()

    def arrive_semi_seamless(self) -> None:
        """MIGRATE_END has come, and MAIN_INIT was sent: the parked channels open as new ones."""
        for channel in self.channels.values():
            if channel is not self.main:
                channel.start()
        self.server.client_arrived()

    def data_restored(self) -> None:
        """A channel has its data; after the last the client has arrived."""
        if self.has_arrived:
            self._frozen_caches.clear()
            self.server.client_arrived()

    def expect(self, handover: Handover) -> None:
        """Hold the client to what the source says of it.

        Raises:
            RuleBroken: It linked as somebody else (R11) or with other channels (R12).
        """
        self.handover = handover
        if not self.is_target:
            return
        if self.session_id != handover.session_id:
            detail = f"linked with id {self.session_id:#x}, the session is {handover.session_id:#x}"
            raise RuleBroken("R11", by=Side.CLIENT, channel=MAIN.name, detail=detail)
        if odd := handover.channels ^ self.channels.keys():
            names = ", ".join(sorted(key.name for key in odd))
            raise RuleBroken(
                "R12", by=Side.CLIENT, channel=MAIN.name, detail=f"linked on one server only: {names}"
            )
