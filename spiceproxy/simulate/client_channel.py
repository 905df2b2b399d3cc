"""What every channel of a simulated client does: acknowledge, answer pings, and switch servers."""

from typing import TYPE_CHECKING, Any, ClassVar

import trio

from dissectors.common import MigrateFlags
from dissectors.errors import DissectionError
from dissectors.message_ids import Msg, MsgC
from dissectors.registry import build_named, message_name
from dissectors.side import Side
from spiceproxy.simulate.acks import ClientWindow
from spiceproxy.simulate.errors import ConnectionLost, RuleBroken
from spiceproxy.simulate.linking import Linked
from spiceproxy.simulate.messages import fields_of, is_known
from spiceproxy.simulate.migrate_data import PayloadError
from spiceproxy.simulate.steps import SWITCH, Machine, Order, ServerStep, Switch
from spiceproxy.simulate.wire import Message, Outbox, Wire

if TYPE_CHECKING:
    from spiceproxy.simulate.client_session import ClientSession


class ClientChannel:
    """One channel of the session, whatever server it is on.

    Attributes:
        wire: The connection it lives on.
        target: The connection that waits at the destination of a migration.
        switch: How far it is on its way there.
    """

    NEEDS_DATA: ClassVar[bool] = False

    def __init__(self, session: "ClientSession", linked: Linked) -> None:
        """Take over a linked connection."""
        self.session, self.client = session, session.client
        self.wire, self.key, self.server_caps = linked.wire, linked.wire.key, linked.channel_caps
        self.name = self.key.name
        self.target: Wire | None = None
        self.outbox = Outbox(self.wire)
        self.window = ClientWindow()
        self.switch = self._new_switch()
        self._moved = trio.Event()
        self._previous_kind = 0

    # What a kind of channel fills in.

    def open(self) -> None:
        """Send what a channel of a new session sends first."""

    async def receive(self, message: Message) -> None:
        """Take one of the channel's own messages. DissectionError: its body does not fit."""

    def check_payload(self, message: Message) -> None:
        """Look into MIGRATE_DATA; PayloadError: it makes no sense."""

    def check_target(self, target: Wire) -> None:
        """Look at the destination's connection right before the switch."""

    def switched(self) -> None:
        """The channel is on the destination now, seamless."""

    # What they share.

    def _new_switch(self) -> Machine[Switch, ServerStep]:
        return Machine(Switch.STAYING, SWITCH, otherwise="R23", by=Side.SERVER, channel=self.name)

    def fields(self, message: Message) -> dict[str, Any]:
        """Take a message of the server's apart. DissectionError: its body does not fit."""
        return fields_of(self.key.type, Side.SERVER, message.type, message.body)

    def put(self, kind: int, body: bytes = b"", *, urgent: bool = False) -> None:
        """Queue a message."""
        self.outbox.put(kind, body, urgent=urgent)

    def broken(self, rule: str, detail: str) -> RuleBroken:
        """Make the error for a rule that the server broke on this channel."""
        return RuleBroken(rule, by=Side.SERVER, channel=self.name, detail=detail)

    async def run(self) -> None:
        """Read and write until the connection ends, on whatever server the channel is.

        Raises:
            ExceptionGroup: of RuleBroken, ConnectionLost or SimulationError.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            await self._read()

    async def _read(self) -> None:
        while True:
            wire = self.wire
            try:
                message = await wire.receive()
            except ConnectionLost:
                message = None
            if message is not None:
                await self._handle(message)
                self.client.notify()
            elif not await self._has_moved(wire):
                self._judge_close()
                raise ConnectionLost(f"{self.name}: {wire.remote} has closed the connection")

    async def _write(self) -> None:
        while True:
            wire = self.wire
            try:
                await self.outbox.run()
            except ConnectionLost:
                if not await self._has_moved(wire):
                    await trio.sleep_forever()  # the reader says what happened

    async def _has_moved(self, wire: Wire) -> bool:
        """Whether a connection ended because the channel goes on elsewhere; waits if we closed it ourselves."""
        while self.wire is wire:
            if not wire.closed:
                return False
            await self._moved.wait()
        return True

    def _judge_close(self) -> None:
        """A source that closes too early leaves its client without a rule kept."""
        if self.switch.state is Switch.FLUSHED:
            raise self.broken("R26", "closed without the MIGRATE_DATA that MIGRATE announced")
        if self.session.migration.misses_channels and self.switch.state is Switch.STAYING:
            raise self.broken("R23", "closed without MIGRATE while other channels were told to switch")

    async def _handle(self, message: Message) -> None:
        kind, name = message.type, message_name(self.key.type, Side.SERVER, message.type)
        self.client.count(self.wire, kind)
        if not is_known(self.key.type, Side.SERVER, kind):
            raise self.broken("known-message", f"{name} of {len(message.body)} bytes")
        if message.serial != message.expected:
            raise self.broken(
                self.serial_rule(), f"{name} has serial {message.serial}, expected {message.expected}"
            )
        # MIGRATE_DATA must not draw an ACK: the source has had our FLUSH_MARK (R29).
        if self.switch.state is not Switch.FLUSHED and self.window.count_received():
            self.put(MsgC.ACK, urgent=True)
        try:
            match kind:
                case Msg.MIGRATE:
                    self._migrate(self.fields(message)["flags"])
                case Msg.MIGRATE_DATA:
                    self._take_data(message)
                case _:
                    self.switch.step(ServerStep.OTHER, name)
                    await self._dispatch(message)
        except DissectionError as error:
            raise self.broken("known-message", f"{name} of {len(message.body)} bytes: {error}") from error
        except PayloadError as error:
            raise self.broken(error.rule, error.detail) from error
        self._previous_kind = kind

    def serial_rule(self) -> str:
        """The rule that a wrong serial breaks."""
        return "serial"

    async def _dispatch(self, message: Message) -> None:
        match message.type:
            case Msg.SET_ACK:
                self.put(MsgC.ACK_SYNC, self.window.set_ack(message.body), urgent=True)
            case Msg.PING:
                ping = self.fields(message)
                pong = build_named("SPICE_MSGC_PONG", id=ping["id"], timestamp=ping["timestamp"])
                self.put(MsgC.PONG, pong, urgent=True)
            case Msg.NOTIFY | Msg.LIST | Msg.WAIT_FOR_CHANNELS | Msg.DISCONNECTING:
                self.fields(message)  # nothing here depends on another channel's progress
            case _:
                await self.receive(message)

    def _migrate(self, flags: int) -> None:
        both = MigrateFlags.NEED_FLUSH | MigrateFlags.NEED_DATA_TRANSFER
        self.session.migration.order(Order.MIGRATE, self)
        self.switch.step(
            ServerStep.MIGRATE_WITH_DATA if flags else ServerStep.MIGRATE_WITHOUT, f"MIGRATE {flags:d}"
        )
        if flags != (both if self.NEEDS_DATA else MigrateFlags(0)):
            raise self.broken("R24", f"MIGRATE with flags {flags:d}")
        self.check_migrate(self._previous_kind)
        if self.NEEDS_DATA:
            self.outbox.held = True
            self.put(MsgC.MIGRATE_FLUSH_MARK, urgent=True)
        else:
            self._switch_over(None)

    def check_migrate(self, previous_kind: int) -> None:
        """Look at what came right before MIGRATE."""

    def _take_data(self, message: Message) -> None:
        self.switch.step(ServerStep.MIGRATE_DATA, "MIGRATE_DATA")
        if not self.wire.sent[MsgC.MIGRATE_FLUSH_MARK]:
            raise self.broken("R27", "MIGRATE_DATA came before FLUSH_MARK was sent")
        self.check_payload(message)
        self._switch_over(message.body)

    def _switch_over(self, data: bytes | None) -> None:
        """Go on at the destination: queue, counters and state stay as they are."""
        new = self.target
        assert new is not None  # noqa: S101 - PHASE lets MIGRATE through only when all channels are connected
        self.check_target(new)
        self.session.migration.retire(self.wire)
        new.next_send_serial = max(new.next_send_serial, self.wire.next_send_serial)
        self.move_to(new)
        self.switched()
        if data is not None:
            self.put(MsgC.MIGRATE_DATA, data, urgent=True)
        self.outbox.held = False
        self.outbox.kick()
        self.session.migration.channel_switched()

    def reset_to_target(self) -> None:
        """Go on at the destination from scratch (semi-seamless)."""
        self.window = ClientWindow()
        self.outbox.clear()
        if self.target is not None:
            self.move_to(self.target)
        self.outbox.held = False

    def move_to(self, wire: Wire) -> None:
        """Change the connection under the channel."""
        self.wire = self.outbox.wire = wire
        self.target = None
        moved, self._moved = self._moved, trio.Event()
        moved.set()

    def settle(self) -> None:
        """The migration is over: the next may come."""
        self.switch = self._new_switch()
