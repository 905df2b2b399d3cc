"""The kinds of channel beside main, as a simulated client has them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dissectors.channels import ChannelType
from dissectors.message_ids import Cursor, Display, DisplayC, Inputs, InputsC, Msg, Spicevmc, SpicevmcC
from dissectors.registry import build_named, message_name
from dissectors.side import Side
from spiceproxy.simulate import bodies
from spiceproxy.simulate import migrate_data as payloads
from spiceproxy.simulate.client_channel import ClientChannel
from spiceproxy.simulate.linking import Linked
from spiceproxy.simulate.messages import DRAWING
from spiceproxy.simulate.wire import Message, Wire

if TYPE_CHECKING:
    from spiceproxy.simulate.client_session import ClientSession

MOTION_ACK_BUNCH = 4  # SPICE_INPUT_MOTION_ACK_BUNCH
_BEFORE_SET_ACK = frozenset({Msg.PING})


class DisplayClient(ClientChannel):
    """Shows nothing, but keeps track of surfaces and counts what is drawn.

    Attributes:
        surfaces: Ids that the server has created and not destroyed.
        drawn: Drawing messages received.
    """

    NEEDS_DATA: ClassVar[bool] = True

    def __init__(self, session: "ClientSession", linked: Linked) -> None:
        """As ClientChannel."""
        super().__init__(session, linked)
        self.surfaces: set[int] = set()
        self.drawn = 0
        self._data: payloads.DisplayData | None = None
        self._owed: list[int] = []  # what the destination has to send before it draws

    def open(self) -> None:
        """DISPLAY_INIT."""
        self.surfaces.clear()
        self.put(DisplayC.INIT, bodies.display_init())

    async def receive(self, message: Message) -> None:
        """Keep the books."""
        kind, fields = message.type, self.fields(message)
        match kind:
            case Display.SURFACE_CREATE:
                surface_id = fields["surface_id"]
                if surface_id in self.surfaces:
                    raise self.broken("R46", f"surface {surface_id} is created twice")
                self.surfaces.add(surface_id)
            case Display.SURFACE_DESTROY:
                surface_id = fields["surface_id"]
                if surface_id not in self.surfaces:
                    raise self.broken("R46", f"surface {surface_id} is destroyed, but was never created")
                self.surfaces.remove(surface_id)
            case _ if kind in DRAWING:
                surface_id = fields["base"]["surface_id"]
                if surface_id not in self.surfaces:
                    raise self.broken("R46", f"drawing on surface {surface_id}, which is not there")
                self.drawn += 1

    async def _dispatch(self, message: Message) -> None:
        self._judge_opening(message.type)
        await super()._dispatch(message)

    def _judge_opening(self, kind: int) -> None:
        """The destination's first messages after a seamless switch.

        SET_ACK opens; what had piled up before the state came goes out next, drawing as well, and only then what clears the
        caches (spice-server, DisplayChannelClient::handle_migrate_data(), which adds to the end of the pipe).
        """
        if not self._owed or kind in _BEFORE_SET_ACK:
            return
        name = message_name(ChannelType.DISPLAY, Side.SERVER, kind)
        if self._owed[0] == Msg.SET_ACK and kind != Msg.SET_ACK:
            raise self.broken("R36", f"opens with {name}")
        if kind == Display.INVAL_ALL_PIXMAPS and self._data is not None and not self._data.freezer:
            raise self.broken("R36", "INVAL_ALL_PIXMAPS from a display that is not the freezer")
        if kind in self._owed:
            self._owed.remove(kind)

    def serial_rule(self) -> str:
        """Right after a switch the serial is DCMD's."""
        return "R36" if self._owed and self._owed[0] == Msg.SET_ACK else "serial"

    def check_payload(self, message: Message) -> None:
        """DCMD against what this client knows."""
        data = self._data = payloads.parse_display(message.body)
        if data.message_serial != message.serial:
            raise self.broken("R35", f"message_serial is {data.message_serial} in message {message.serial}")
        if unknown := set(data.surfaces) - self.surfaces:
            raise self.broken("R46", f"DCMD names surfaces {sorted(unknown)} that were never created")
        self.session.migration.freeze(data, self)

    def switched(self) -> None:
        """Its serials go on; and there is an order to keep."""
        assert self._data is not None  # noqa: S101 - flags other than 3 have been turned down
        self.wire.next_receive_serial = self._data.message_serial
        self._owed = [Msg.SET_ACK, Display.INVAL_ALL_PALETTES]
        if self._data.freezer:
            self._owed.insert(1, Display.INVAL_ALL_PIXMAPS)

    def reset_to_target(self) -> None:
        """No surfaces left."""
        super().reset_to_target()
        self._owed = []

    def check_target(self, target: Wire) -> None:
        """A destination's display is silent until it has the data."""
        if target.has_unread():
            raise self.broken("R17", "the destination has written on display before the switch")


class CursorClient(ClientChannel):
    """Knows where the pointer is.

    Attributes:
        position: In pixels.
    """

    def __init__(self, session: "ClientSession", linked: Linked) -> None:
        """As ClientChannel."""
        super().__init__(session, linked)
        self.position = (0, 0)

    async def receive(self, message: Message) -> None:
        """Follow the pointer."""
        if (position := self.fields(message).get("position")) is not None:
            self.position = (position["x"], position["y"])

    def check_migrate(self, previous_kind: int) -> None:
        """The cursor cache does not move along."""
        if previous_kind != Cursor.INVAL_ALL:
            raise self.broken(
                "R38", f"MIGRATE after {message_name(ChannelType.CURSOR, Side.SERVER, previous_kind)}"
            )


@dataclass(slots=True)
class _Motion:
    dx: int = 0
    dy: int = 0
    pending: bool = False


class InputsClient(ClientChannel):
    """Sends keys and motions.

    Attributes:
        outstanding: Motions that the server has not acknowledged.
    """

    NEEDS_DATA: ClassVar[bool] = True

    def __init__(self, session: "ClientSession", linked: Linked) -> None:
        """As ClientChannel."""
        super().__init__(session, linked)
        self.outstanding = 0
        self._motion = _Motion()

    def open(self) -> None:
        """KEY_MODIFIERS: no lock is on."""
        self.outstanding, self._motion = 0, _Motion()
        self.put(InputsC.KEY_MODIFIERS, build_named("SPICE_MSGC_INPUTS_KEY_MODIFIERS", modifiers=0))

    async def receive(self, message: Message) -> None:
        """Motion acknowledgements, four at a time."""
        match message.type:
            case Inputs.MOUSE_MOTION_ACK:
                if self.outstanding < MOTION_ACK_BUNCH:
                    raise self.broken(
                        "motion-ack", f"MOUSE_MOTION_ACK with {self.outstanding} motions outstanding"
                    )
                self.outstanding -= MOTION_ACK_BUNCH
                if self._motion.pending:
                    self._send_motion()
            case _:
                self.fields(message)

    def check_payload(self, message: Message) -> None:
        """ICMD against what was sent: the source cannot owe more acknowledgements than there were motions."""
        data = payloads.parse_inputs(message.body)
        if data.motion_count > self.outstanding:
            detail = f"ICMD counts {data.motion_count} motions, {self.outstanding} are outstanding"
            raise payloads.PayloadError("R34", detail)

    def press(self, scan_code: int, *, down: bool) -> None:
        """Press or release a key."""
        kind = InputsC.KEY_DOWN if down else InputsC.KEY_UP
        self.put(kind, build_named(message_name(self.key.type, Side.CLIENT, kind), code=scan_code))

    def motion(self, dx: int, dy: int) -> None:
        """Move the mouse; with eight motions outstanding it is added up until the server catches up."""
        self._motion = _Motion(self._motion.dx + dx, self._motion.dy + dy, pending=True)
        if self.outstanding < 2 * MOTION_ACK_BUNCH:
            self._send_motion()

    def _send_motion(self) -> None:
        self.put(InputsC.MOUSE_MOTION, bodies.mouse_motion(self._motion.dx, self._motion.dy))
        self.outstanding += 1
        self._motion = _Motion()


class SoundClient(ClientChannel):
    """Playback or record: listens."""

    async def receive(self, message: Message) -> None:
        """See that it makes sense."""
        self.fields(message)


class DeviceClient(ClientChannel):
    """usbredir, port and webdav.

    Attributes:
        received_bytes: From the guest's device.
    """

    NEEDS_DATA: ClassVar[bool] = True

    def __init__(self, session: "ClientSession", linked: Linked) -> None:
        """As ClientChannel."""
        super().__init__(session, linked)
        self.received_bytes = 0

    def open(self) -> None:
        """Usbredir opens with a packet of its own."""
        if self.key.type == ChannelType.USBREDIR:
            self.send(bodies.usbredir_hello("spiceproxy simulated client"))

    def send(self, data: bytes) -> None:
        """Send bytes to the guest's device."""
        self.put(SpicevmcC.DATA, data)

    async def receive(self, message: Message) -> None:
        """Count."""
        fields = self.fields(message)
        if message.type == Spicevmc.DATA:
            self.received_bytes += len(fields["data"])

    def check_payload(self, message: Message) -> None:
        """SVMD."""
        payloads.parse_device(message.body)


KINDS: dict[int, type[ClientChannel]] = {
    ChannelType.DISPLAY: DisplayClient,
    ChannelType.INPUTS: InputsClient,
    ChannelType.CURSOR: CursorClient,
    ChannelType.PLAYBACK: SoundClient,
    ChannelType.RECORD: SoundClient,
    ChannelType.USBREDIR: DeviceClient,
    ChannelType.PORT: DeviceClient,
    ChannelType.WEBDAV: DeviceClient,
}
