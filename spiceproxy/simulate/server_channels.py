"""The kinds of channel beside main, as a simulated server has them."""

from typing import TYPE_CHECKING, ClassVar

import trio

from dissectors.channels import ChannelType
from dissectors.message_ids import (
    Cursor,
    Display,
    DisplayC,
    Inputs,
    InputsC,
    Msg,
    Playback,
    Port,
    Record,
    Spicevmc,
    SpicevmcC,
)
from dissectors.registry import build_named
from dissectors.side import Side
from spiceproxy.simulate import bodies
from spiceproxy.simulate import migrate_data as payloads
from spiceproxy.simulate.linking import Linked
from spiceproxy.simulate.server_channel import ServerChannel

if TYPE_CHECKING:
    from spiceproxy.simulate.server_session import ServerSession

MOTION_ACK_BUNCH = 4  # SPICE_INPUT_MOTION_ACK_BUNCH
_DISPLAY_INIT_TIMEOUT_S = 30.0


class DisplayServer(ServerChannel):
    """Shows the guest's surfaces. Opens with the client's DISPLAY_INIT, or with the data from the source."""

    NEEDS_DATA: ClassVar[bool] = True
    WINDOW: ClassVar[bool] = True
    PING_PERIOD_S: ClassVar[float] = 15.0

    def __init__(self, session: "ServerSession", linked: Linked) -> None:
        """As ServerChannel."""
        super().__init__(session, linked)
        self.surfaces: set[int] = set()  # that the client has
        self.last_image_id = 0
        self._cache = payloads.DisplayData(0, ())
        self._initialised = trio.Event()

    def activate(self) -> None:
        """Wait for the data: spice-server's window is shut until then."""
        super().activate()
        self._initialised.set()
        self.outbox.held = True

    @property
    def is_ready(self) -> bool:
        """Whether what is drawn now reaches the client."""
        return super().is_ready and self._initialised.is_set()

    async def serve_more(self, nursery: trio.Nursery) -> None:
        """Watch for DISPLAY_INIT."""
        nursery.start_soon(self._expect_init)

    async def _expect_init(self) -> None:
        await self.opened.wait()
        with trio.move_on_after(_DISPLAY_INIT_TIMEOUT_S):
            await self._initialised.wait()
            return
        raise self.broken("display-init", f"nothing for {_DISPLAY_INIT_TIMEOUT_S:g} s")

    def receive(self, kind: int, body: bytes) -> None:
        """DISPLAY_INIT; the rest is for codecs and GL, which we do not have."""
        fields = self.fields(kind, body)
        if kind == DisplayC.INIT:
            if self._initialised.is_set():
                raise self.broken("display-init", "DISPLAY_INIT a second time")
            self._cache = payloads.DisplayData(
                0,
                (),
                pixmap_cache_id=fields["pixmap_cache_id"],
                pixmap_cache_pixels=fields["pixmap_cache_size"],
                glz_id=fields["glz_dictionary_id"],
                glz_pixels=fields["glz_dictionary_window_size"],
            )
            self._initialised.set()
            self._show_all()
        elif not self._initialised.is_set():
            raise self.broken("display-init", f"message {kind} before DISPLAY_INIT")

    def _show_all(self) -> None:
        assert self.window is not None  # noqa: S101 - WINDOW is set
        self.put(Msg.SET_ACK, self.window.next_set_ack())
        self.put(Display.INVAL_ALL_PALETTES)
        for surface_id, (width, height) in self.server.guest.surfaces.items():
            self.create_surface(surface_id, width, height)
        width, height = self.server.guest.surfaces[0]
        self.put(Display.DRAW_FILL, bodies.draw_fill(0, 0, 0, width, height, 0x204060))
        self.put(Display.MONITORS_CONFIG, bodies.monitors_config(0, width, height))
        self.put(Display.MARK)

    def create_surface(self, surface_id: int, width: int, height: int) -> None:
        """Give the client a surface."""
        self.surfaces.add(surface_id)
        self.put(
            Display.SURFACE_CREATE, bodies.surface_create(surface_id, width, height, primary=surface_id == 0)
        )

    def draw(self, kind: int, body: bytes) -> None:
        """Draw, if the client has come so far."""
        if self._initialised.is_set() and not self.parked:
            self.last_image_id += kind == Display.DRAW_COPY
            self.put(kind, body)

    def migrate_data(self) -> bytes:
        """DCMD. Its serial is that of the very message: everything else has been written."""
        data = payloads.DisplayData(
            self.wire.next_send_serial,
            tuple(sorted(self.surfaces)),
            pixmap_cache_id=self._cache.pixmap_cache_id,
            pixmap_cache_pixels=self._cache.pixmap_cache_pixels,
            freezer=self.session.freeze_cache(self._cache.pixmap_cache_id),
            glz_id=self._cache.glz_id,
            glz_pixels=self._cache.glz_pixels,
            last_image_id=self.last_image_id,
        )
        return payloads.build_display(data)

    def restore(self, body: bytes) -> None:
        """Go on where the source stopped: serial, surfaces, caches."""
        data = payloads.parse_display(body)
        if unknown := set(data.surfaces) - set(self.server.guest.surfaces):
            raise payloads.PayloadError("R34", f"surfaces {sorted(unknown)} that the guest does not have")
        if data.freezer and not self.session.freeze_cache(data.pixmap_cache_id):
            raise self.broken(
                "R37", f"pixmap cache {data.pixmap_cache_id} has a second freezer", by=Side.SERVER
            )
        self._cache, self.last_image_id, self.surfaces = data, data.last_image_id, set(data.surfaces)
        self.wire.next_send_serial = data.message_serial
        assert self.window is not None  # noqa: S101 - WINDOW is set
        opening: list[tuple[int, bytes]] = [(Msg.SET_ACK, self.window.next_set_ack())]
        if data.freezer:
            opening.append(
                (Display.INVAL_ALL_PIXMAPS, build_named("SPICE_MSG_DISPLAY_INVAL_ALL_PIXMAPS", wait_list=[]))
            )  # waits for nobody
        opening.append((Display.INVAL_ALL_PALETTES, b""))
        for kind, message_body in opening:  # ahead of what the guest has drawn meanwhile
            self.outbox.put(kind, message_body, urgent=True)
        for surface_id, (width, height) in self.server.guest.surfaces.items():
            if surface_id not in self.surfaces:
                self.create_surface(surface_id, width, height)
        self.outbox.held = False
        self.outbox.kick()


class CursorServer(ServerChannel):
    """Shows the pointer."""

    WINDOW: ClassVar[bool] = True

    def start(self) -> None:
        """SET_ACK and CURSOR_INIT."""
        self.activate()
        self.put(Cursor.INIT, bodies.cursor_init(*self.server.guest.pointer))

    def activate(self) -> None:
        """SET_ACK only: the pointer's state is the client's already."""
        super().activate()
        assert self.window is not None  # noqa: S101 - WINDOW is set
        self.put(Msg.SET_ACK, self.window.next_set_ack())

    def migrate(self) -> None:
        """The client's cursor cache does not move along."""
        self.put(Cursor.INVAL_ALL)
        super().migrate()

    def move(self, x: int, y: int) -> None:
        """Move the pointer."""
        if self.opened.is_set():
            self.put(Cursor.MOVE, bodies.cursor_move(x, y))


class InputsServer(ServerChannel):
    """Takes keys and motions; keys are counted, never kept."""

    NEEDS_DATA: ClassVar[bool] = True

    def __init__(self, session: "ServerSession", linked: Linked) -> None:
        """As ServerChannel."""
        super().__init__(session, linked)
        self.motion_count = 0  # not yet acknowledged

    def start(self) -> None:
        """INPUTS_INIT, and the warning on main that plain links get."""
        super().start()
        self.put(Inputs.INIT, build_named("SPICE_MSG_INPUTS_INIT", keyboard_modifiers=0))
        if self.session.main is not None:
            self.session.main.notify_client("keyboard channel is insecure")

    def activate(self) -> None:
        """INPUTS_INIT."""
        super().activate()
        self.put(Inputs.INIT, build_named("SPICE_MSG_INPUTS_INIT", keyboard_modifiers=0))

    def receive(self, kind: int, body: bytes) -> None:
        """Count what reaches the guest, acknowledge every fourth motion."""
        self.fields(kind, body)
        guest = self.server.guest
        match kind:
            case InputsC.MOUSE_MOTION | InputsC.MOUSE_POSITION:
                guest.motions += 1
                self.motion_count += 1
                self._acknowledge()
            case InputsC.KEY_DOWN | InputsC.KEY_UP | InputsC.KEY_SCANCODE:
                guest.keys += 1
            case _:
                pass

    def _acknowledge(self) -> None:
        """Acks stop while the channel leaves: what is left goes into the data."""
        if self.motion_count > 2 * MOTION_ACK_BUNCH:
            raise self.broken("motion-ack", f"{self.motion_count} motions outstanding")
        while self.motion_count >= MOTION_ACK_BUNCH and self.is_staying:
            self.motion_count -= MOTION_ACK_BUNCH
            self.put(Inputs.MOUSE_MOTION_ACK)

    def migrate_data(self) -> bytes:
        """ICMD."""
        return payloads.build_inputs(payloads.InputsData(self.motion_count))

    def restore(self, body: bytes) -> None:
        """Acknowledge what the source no longer could."""
        self.motion_count = payloads.parse_inputs(body).motion_count
        if self.motion_count > 2 * MOTION_ACK_BUNCH:
            raise payloads.PayloadError(
                "R34", f"{self.motion_count} motions, a client sends 8 without acknowledgement"
            )
        self.put(Inputs.KEY_MODIFIERS, build_named("SPICE_MSG_INPUTS_KEY_MODIFIERS", modifiers=0))
        self._acknowledge()


class PlaybackServer(ServerChannel):
    """Sound to the client: says how it would come, sends none."""

    def start(self) -> None:
        """MODE."""
        super().start()
        self.put(Playback.MODE, bodies.playback_mode(self.server.mm_time))

    def guest_runs(self) -> None:
        """VOLUME and MUTE, but no MODE."""
        self.put(Playback.VOLUME, bodies.volume(0xFFFF, 0xFFFF))
        self.put(Playback.MUTE, build_named("SPICE_MSG_PLAYBACK_MUTE", mute=0))


class RecordServer(ServerChannel):
    """Sound from the client: never starts."""

    def guest_runs(self) -> None:
        """VOLUME and MUTE."""
        self.put(Record.VOLUME, bodies.volume(0, 0))
        self.put(Record.MUTE, build_named("SPICE_MSG_RECORD_MUTE", mute=0))


class DeviceServer(ServerChannel):
    """usbredir, port and webdav: a byte stream to a device of the guest.

    Attributes:
        unread: What the device has not taken; see `SimulatedServer.devices_stalled`.
    """

    NEEDS_DATA: ClassVar[bool] = True

    def __init__(self, session: "ServerSession", linked: Linked) -> None:
        """As ServerChannel."""
        super().__init__(session, linked)
        self.unread = b""

    def start(self) -> None:
        """Say hello: ports with their name, usbredir with its own first packet."""
        super().start()
        if self.key.type == ChannelType.USBREDIR:
            self.put(Spicevmc.DATA, bodies.usbredir_hello("spiceproxy simulated guest"))
        else:
            self._introduce()

    def activate(self) -> None:
        """PORT_INIT; a usbredir stream just goes on."""
        super().activate()
        if self.key.type != ChannelType.USBREDIR:
            self._introduce()

    def _introduce(self) -> None:
        name = "org.spice-space.webdav.0" if self.key.type == ChannelType.WEBDAV else "org.example.port.0"
        self.put(Port.INIT, bodies.port_init(name))

    def receive(self, kind: int, body: bytes) -> None:
        """Give bytes to the device."""
        if kind == SpicevmcC.DATA:
            self.unread += body
            self._feed()

    def _feed(self) -> None:
        if not self.server.devices_stalled:
            self.server.guest.device_bytes[self.key] += len(self.unread)
            self.unread = b""

    def migrate_data(self) -> bytes:
        """SVMD."""
        return payloads.build_device(payloads.DeviceData(unread=self.unread))

    def restore(self, body: bytes) -> None:
        """Give the device what it had not read."""
        self.unread = payloads.parse_device(body).unread + self.unread
        self._feed()


KINDS: dict[int, type[ServerChannel]] = {
    ChannelType.DISPLAY: DisplayServer,
    ChannelType.INPUTS: InputsServer,
    ChannelType.CURSOR: CursorServer,
    ChannelType.PLAYBACK: PlaybackServer,
    ChannelType.RECORD: RecordServer,
    ChannelType.USBREDIR: DeviceServer,
    ChannelType.PORT: DeviceServer,
    ChannelType.WEBDAV: DeviceServer,
}
