"""What every channel of a simulated server does: acknowledgements, pings, leaving to another host, arriving from one."""

import time
from typing import TYPE_CHECKING, Any, ClassVar, Final

import trio

from dissectors.common import MigrateFlags
from dissectors.errors import DissectionError
from dissectors.message_ids import Msg, MsgC
from dissectors.registry import build_named, message_name
from dissectors.side import Side
from spiceproxy.simulate.acks import ServerWindow
from spiceproxy.simulate.errors import ConnectionLost, RuleBroken
from spiceproxy.simulate.linking import Linked
from spiceproxy.simulate.messages import fields_of, is_known
from spiceproxy.simulate.migrate_data import PayloadError
from spiceproxy.simulate.steps import LEAVING, Arrival, ClientStep, Leaving, Machine
from spiceproxy.simulate.wire import Message, Outbox

if TYPE_CHECKING:
    from spiceproxy.simulate.server_session import ServerSession

_FIRST_PING_ID: Final = 100  # 1 to 3 belong to main's net test
_STEPS: Final[dict[int, ClientStep]] = {
    MsgC.MIGRATE_FLUSH_MARK: ClientStep.FLUSH_MARK,
    MsgC.MIGRATE_DATA: ClientStep.MIGRATE_DATA,
    MsgC.ACK: ClientStep.ACK,
}
_PING_PERIOD_S: Final = 300.0  # spice-server: 15 s on main and display


class ServerChannel:
    """One linked channel.

    Attributes:
        parked: Linked ahead of a migration and silent: nothing is agreed yet.
        owes_data: Arrived seamless, and the client has not delivered MIGRATE_DATA yet.
        opened: It speaks and is spoken to.
        leaving: How far it is on its way to another host.
    """

    NEEDS_DATA: ClassVar[bool] = False
    WINDOW: ClassVar[bool] = False
    PING_PERIOD_S: ClassVar[float] = _PING_PERIOD_S

    def __init__(self, session: "ServerSession", linked: Linked) -> None:
        """Set up a channel that stays silent until `start` or `activate`."""
        self.session, self.server = session, session.server
        self.wire, self.key, self.channel_caps = linked.wire, linked.wire.key, linked.channel_caps
        self.name = self.key.name
        self.window = ServerWindow(self.server.options.ack_window, self.name) if self.WINDOW else None
        self.outbox = Outbox(self.wire, self.window)
        self.leaving: Machine[Leaving, ClientStep] = Machine(
            Leaving.STAYING, LEAVING, otherwise="R29", by=Side.CLIENT, channel=self.name
        )
        self.parked = self.owes_data = False
        self.opened = trio.Event()
        self.scope = trio.CancelScope()
        self._pings: set[int] = set()
        self._next_ping_id = _FIRST_PING_ID

    # What a kind of channel fills in.

    def start(self) -> None:
        """Open as a channel of a new session."""
        self.parked = False
        self.opened.set()

    def activate(self) -> None:
        """Open as a channel that arrives seamless, before its data does."""
        self.parked, self.owes_data = False, self.NEEDS_DATA
        self.opened.set()

    def guest_runs(self) -> None:
        """The guest goes on on this host, and the channel has arrived seamless."""

    def receive(self, kind: int, body: bytes) -> None:
        """Take one of the channel's own messages. DissectionError: its body does not fit."""

    def migrate_data(self) -> bytes:
        """State for the destination. Asked only of a channel that NEEDS_DATA, which must have it."""
        raise NotImplementedError

    def restore(self, body: bytes) -> None:
        """Take over the state from the source; PayloadError: it makes no sense. As migrate_data()."""
        raise NotImplementedError

    # What they share.

    def fields(self, kind: int, body: bytes) -> dict[str, Any]:
        """Take a message of the client's apart. DissectionError: its body does not fit."""
        return fields_of(self.key.type, Side.CLIENT, kind, body)

    def put(self, kind: int, body: bytes = b"") -> None:
        """Queue a message, unless the channel has left."""
        if self.is_staying:
            self.outbox.put(kind, body)

    def migrate(self) -> None:
        """Tell the client to take this channel to the destination."""
        flags = (
            MigrateFlags.NEED_FLUSH | MigrateFlags.NEED_DATA_TRANSFER if self.NEEDS_DATA else MigrateFlags(0)
        )
        self.put(Msg.MIGRATE, build_named("SPICE_MSG_MIGRATE", flags=flags))
        self.leaving.state = Leaving.FLUSHING if self.NEEDS_DATA else Leaving.RELEASED

    @property
    def is_ready(self) -> bool:
        """Whether it speaks, and has all it needs for that."""
        return self.opened.is_set() and not self.owes_data

    @property
    def is_staying(self) -> bool:
        """Whether MIGRATE has not been sent."""
        return self.leaving.state is Leaving.STAYING

    @property
    def has_left(self) -> bool:
        """Whether all that this host has to say was said."""
        return self.leaving.state in {Leaving.FLUSHED, Leaving.RELEASED} and not len(self.outbox)

    async def run(self) -> None:
        """Serve until the client closes or the scope is cancelled.

        Raises:
            ExceptionGroup: of RuleBroken, ConnectionLost or SimulationError.
        """
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.outbox.run)
                if self.server.options.latency_ping_after_s is not None:
                    nursery.start_soon(self._measure_latency, self.server.options.latency_ping_after_s)
                await self.serve_more(nursery)
                while (message := await self.wire.receive()) is not None:
                    self.handle(message)
                    self.server.notify()
                nursery.cancel_scope.cancel()

    async def serve_more(self, nursery: trio.Nursery) -> None:
        """Start whatever else the channel needs."""

    def handle(self, message: Message) -> None:
        """Judge a message and act on it.

        Raises:
            RuleBroken: It must not come, not now or not like this.
        """
        kind, body = message.type, message.body
        name = message_name(self.key.type, Side.CLIENT, kind)
        if not is_known(self.key.type, Side.CLIENT, kind):
            raise self.broken("known-message", f"{name} of {len(body)} bytes")
        if self._judge_arrival(kind, name):
            handover = self.session.handover
            if handover is not None and handover.payloads.get(self.key, body) != body:
                raise self.broken("R31", f"{len(body)} bytes that differ from what the source wrote")
            try:
                self.restore(body)
            except PayloadError as error:
                # The client hands on what the source wrote: unless it changed it (R31), the source is to blame.
                raise self.broken(error.rule, error.detail, by=Side.SERVER) from error
            self.owes_data = False
            self.session.data_restored()
            return
        step = _STEPS.get(kind, ClientStep.OTHER)
        self.leaving.step(step, name)
        try:
            self._dispatch(kind, body)
        except DissectionError as error:
            raise self.broken("known-message", f"{name} of {len(body)} bytes: {error}") from error

    def broken(self, rule: str, detail: str, *, by: Side = Side.CLIENT) -> RuleBroken:
        """Make the error for a rule broken on this channel."""
        return RuleBroken(rule, by=by, channel=self.name, detail=detail)

    def _judge_arrival(self, kind: int, name: str) -> bool:
        """Judge a message to a host that the client has not fully arrived at: whether it is data to restore."""
        moved = self.session.guest_came
        if self.parked:
            raise self.broken("R41" if moved else "R16", f"{name} on a channel that waits for the migration")
        arrives_seamless = self.session.arrival.state in {Arrival.AGREED, Arrival.SEAMLESS}
        if self.owes_data:
            if not moved:
                raise self.broken("R16", f"{name} before the guest moved")
            if kind != MsgC.MIGRATE_DATA:
                raise self.broken("R32", f"{name} where MIGRATE_DATA is owed")
            return True
        if arrives_seamless and not self.NEEDS_DATA:
            if not moved:
                raise self.broken("R16", f"{name} before the guest moved")
            if kind in {MsgC.MIGRATE_DATA, MsgC.MIGRATE_FLUSH_MARK}:
                raise self.broken("R30", name)
        return False

    def _dispatch(self, kind: int, body: bytes) -> None:
        match kind:
            case MsgC.MIGRATE_FLUSH_MARK:
                payload = self.migrate_data()
                self.session.payloads[self.key] = payload
                self.outbox.put(Msg.MIGRATE_DATA, payload)
            case MsgC.ACK_SYNC | MsgC.ACK:
                if self.window is None:
                    raise self.broken("ack", "an acknowledgement on a channel without SET_ACK")
                if kind == MsgC.ACK:
                    self.window.ack()
                else:
                    self.window.ack_sync(body)
                self.outbox.kick()
            case MsgC.PONG:
                self._pings.discard(self.fields(kind, body)["id"])
            case MsgC.DISCONNECTING:
                self.fields(kind, body)
            case _:
                self.receive(kind, body)

    def ping(self, ping_id: int, padding: bytes = b"") -> None:
        """Send PING."""
        self._pings.add(ping_id)
        body = build_named("SPICE_MSG_PING", id=ping_id, timestamp=time.monotonic_ns(), data=padding)
        self.put(Msg.PING, body)

    async def _measure_latency(self, after_s: float) -> None:
        """PING in pairs once something was sent, as spice-server's latency monitor does on TCP."""
        while True:
            await trio.sleep(after_s)
            if self.wire.sent and self.opened.is_set() and not self.outbox.held:
                break
        while True:
            self._next_ping_id += 1
            self.ping(self._next_ping_id)
            self.ping(self._next_ping_id)
            await trio.sleep(self.PING_PERIOD_S)

    async def drained(self) -> None:
        """Wait until everything queued was written, or the client has gone."""
        try:
            await self.outbox.below(1)
        except ConnectionLost:
            return
