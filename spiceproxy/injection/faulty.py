"""One connection that the engine is asked about, and what it wants done there.

Effects are taken at once, in order and without a wait: what goes out is queued in its direction, what waits is a task,
what concerns all that is read is a flag. So nothing comes between a decision and its message.
"""

import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from dissectors.link import LinkMessage
from dissectors.side import Side
from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.eventlog import EventLog
from spiceproxy.faults.context import CARRYING, Context, Moment
from spiceproxy.faults.effects import (
    AbortSession,
    Close,
    Effect,
    Failed,
    Fired,
    Log,
    Refuse,
    SecondClient,
    Send,
    Wait,
    Wake,
)
from spiceproxy.following.connections import FollowedConnection
from spiceproxy.injection.direction import Direction
from spiceproxy.injection.ending import CUT_WAIT_S, Cut, finish
from spiceproxy.injection.passing import Passing
from spiceproxy.injection.pump import FaultyPump
from spiceproxy.injection.shaping import Shape
from spiceproxy.injection.waiting import Deadlines, Waiting
from spiceproxy.protocol.framer import Framer, Message
from spiceproxy.protocol.link import LinkPhase, Phase, Unit
from spiceproxy.relay.buffers import BufferPool
from spiceproxy.relay.fairness import Share
from spiceproxy.relay.link_phase import LINK_READ_BYTES, relay_link
from spiceproxy.relay.observer import ChannelObserver
from spiceproxy.relay.pump import End, relay_data

if TYPE_CHECKING:
    from spiceproxy.injection.injector import Injector

MOMENTS: Final = {
    Phase.LINK_MESS: Moment.LINK_MESSAGE,
    Phase.LINK_REPLY: Moment.LINK_REPLY,
    Phase.TICKET: Moment.TICKET,
    Phase.LINK_RESULT: Moment.AUTH,
}


class FaultyConnection:
    """One connection of a proxy that has faults.

    Args:
        injector: Of the proxy.
        context: Where it is, for the engine.
        mess: The client's link message.
        client: The client's socket.
        server: Where the connection leads.
        followed: Who follows migrations.
        log: Of the connection.
    """

    def __init__(
        self,
        injector: "Injector",
        context: Context,
        mess: LinkMessage,
        client: socket.socket,
        server: Address,
        followed: FollowedConnection,
        log: EventLog,
    ) -> None:
        self.context, self.server, self.followed, self.log = context, server, followed, log
        self.refused = False  # the server is not to be dialled
        self.secured = False  # it speaks TLS
        self.change: Callable[[Unit], Unit] = lambda unit: unit  # of which faults see the result
        self.cut: Cut | None = None  # a fault has ended the connection
        self._injector, self._mess, self._client = injector, mess, client
        self._upstream: socket.socket | None = None
        self._directions = {
            Side.CLIENT: Direction(Side.CLIENT, client, None, self),
            Side.SERVER: Direction(Side.SERVER, None, client, self),
        }
        self._scope = trio.CancelScope()
        self.passing: Passing | None = None
        self.unsaid: list[str] = []  # comments on what fired while there was no server
        self._link: LinkPhase | None = None
        self._open = self._over = False  # messages pass; nothing can be done any more
        self._deadlines = Deadlines(injector.wake)
        self._latest = ""  # the rule that has fired last

    async def run(self, body: Callable[[], Awaitable[End | None]]) -> End | None:
        """Live the connection, until it ends or a fault ends it.

        Args:
            body: Everything from the server's connection to the end.

        Returns:
            How it ended.

        Raises:
            OSError: As `body` raises it.
        """
        end: End | None = None
        failure: OSError | None = None
        try:
            async with trio.open_nursery() as self.nursery:
                with self._scope:
                    try:
                        end = await body()
                    except OSError as error:
                        failure = error
                self.nursery.cancel_scope.cancel()
            self._over = True
            if self.cut is not None:
                await finish(self.cut, [each for each in (self._client, self._upstream) if each is not None])
                return End("proxy", self.cut.reason, self.cut.reset)
        finally:
            self._over = True
            self._injector.left(self)
        if failure is not None:
            raise failure
        return end

    # The link phase -------------------------------------------------------------------------------

    async def connect(self) -> None:
        """The server is about to be dialled, or, if it is `refused` afterwards, not."""
        if self._injector.begins(self):
            await self.happens(Moment.SESSION)
        await self.happens(Moment.CONNECT, blocks=Side.CLIENT)

    def attach(
        self, link: LinkPhase, upstream: socket.socket, observer: ChannelObserver, linked: Callable[[], None]
    ) -> None:
        """The server has been dialled; `linked` is called when the last word of the link phase goes out."""
        self._link, self._upstream = link, upstream
        self.passing = Passing(link, observer, self.followed, self._mess.channel_type, linked)
        self.passing.note(self.unsaid)
        self._directions[Side.CLIENT].attach(self._client, upstream)
        self._directions[Side.SERVER].attach(upstream, self._client)

    async def relay_link(
        self, link: LinkPhase, units: Sequence[Unit], sides: dict[Side, socket.socket]
    ) -> None:
        """As `link_relay.relay_link`, beginning with `units`."""
        for unit in units:
            await self._pass_on(unit)
        await relay_link(link, sides, self._pass_on, self._receive)

    async def _pass_on(self, unit: Unit) -> None:
        unit = self.change(unit)
        if self._link is not None and self._link.reply is not None:
            self.context.ticket_key = self._link.reply.pub_key
        direction = self._directions[unit.side]
        if direction.black:
            return
        direction.writing = True
        try:
            if (moment := MOMENTS.get(unit.phase)) is not None:
                await self.happens(moment, unit)
            else:
                direction.put(Send(unit.side.other, unit.data), unit.phase)
            await direction.attend(0)
        finally:
            direction.writing = False

    async def _receive(self, side: Side) -> bytes:
        direction = self._directions[side]
        if not direction.shaped:
            source = direction.source
            assert source is not None  # noqa: S101  attach() came first
            data = await sockets.receive(source, LINK_READ_BYTES)
            if not data or not direction.is_shaped():  # meanwhile
                return data
            direction.shape().give(data)
        return await direction.shape().read()

    # Messages -------------------------------------------------------------------------------------

    async def relay_data(
        self,
        sides: dict[Side, socket.socket],
        framers: dict[Side, Framer] | None,
        early: dict[Side, bytes],
        pool: BufferPool,
        share: Share,
        observer: ChannelObserver,
    ) -> End:
        """As `relay.relay_data`."""
        self._open = True
        if framers is not None:
            self.context.messages = lambda side: framers[side].messages
            for side in Side:
                self._directions[side].framer = framers[side]
            self.renew()
            await self.happens(Moment.LINKED)

        def make(side: Side, *arguments: Any) -> FaultyPump:
            return FaultyPump(self._directions[side], self._decide, side, *arguments)

        return await relay_data(sides, framers, early, pool, share, observer, make)

    def renew(self) -> None:
        """There may be other rules: have held what the engine wants to be asked about."""
        if not self._open or self._directions[Side.CLIENT].framer is None:
            return
        engine, channel_type = self._injector.engine, self._mess.channel_type
        for side in Side:
            mini = self._mini_header(side)
            wanted = engine.wanted(channel_type, side, mini_header=mini)
            keep = engine.keep_bytes(channel_type, side, mini_header=mini)
            self.followed.interest.hold(side, wanted, keep)

    def _mini_header(self, side: Side) -> bool:
        return self._link is None or self._link.sends_mini_header(side)

    async def _decide(self, message: Message) -> None:
        assert self.passing is not None  # noqa: S101  attach() came first
        side = message.side
        message = self.passing.held(message)
        try:
            effects = await self._injector.about_message(self.now(side, message), message)
        except Exception as error:  # noqa: BLE001  ours, and not the session's
            self.crashed(error)
            effects = [Send(side.other, message.header + message.body)]
        self.carry(effects, side, message=message)

    # Moments --------------------------------------------------------------------------------------

    async def happens(self, moment: Moment, unit: Unit | None = None, *, blocks: Side | None = None) -> None:
        """Ask what a moment brings, and have it done.

        Args:
            moment: Which one.
            unit: What is on its way, at those of the link phase.
            blocks: Wait until nothing blocks this side.
        """
        side, data = (None, b"") if unit is None else (unit.side, unit.data)
        try:
            effects = await self._injector.about_moment(self.now(side), moment, data, side)
        except Exception as error:  # noqa: BLE001  as in _decide
            self.crashed(error)
            effects = [Send(side.other, data)] if side is not None and moment in CARRYING else []
        self.carry(effects, side, unit=None if unit is None else unit.phase)
        if blocks is not None:
            await self._directions[blocks].attend(0)

    def now(self, side: Side | None = None, message: Message | None = None) -> Context:
        """The context, as things stand."""
        self._injector.refresh(self.context, self._mess.channel_type, message)
        self.context.mini_header = self._mini_header(side or Side.SERVER)
        return self.context

    # Effects --------------------------------------------------------------------------------------

    def carry(
        self,
        effects: Iterable[Effect],
        side: Side | None = None,
        *,
        message: Message | None = None,
        unit: Phase | None = None,
    ) -> None:
        """Take effects, in order.

        Args:
            effects: Of one decision.
            side: Who sends what they are about, if they are about something sent.
            message: That, if it is a message.
            unit: What it is in the link phase.
        """
        found = list(effects)
        if self.passing is None:
            self.unsaid += [each.comment for each in found if isinstance(each, Fired)]
        else:
            found = self.passing.told(found, message)
        for effect in found:
            try:
                self._take(effect, side, unit)
            except Exception as error:  # noqa: BLE001  as in _decide
                self.crashed(error)

    def _take(self, effect: Effect, side: Side | None, unit: Phase | None) -> None:
        if self._over and not isinstance(effect, Fired | Wake | AbortSession | Log):
            return
        match effect:
            case Send():
                self._send(effect, unit)
            case Fired():
                self._latest = effect.rule
                self.followed.touched(effect.comment)
                self._injector.fired(effect, self.log)
            case Wait():
                self._wait(Waiting(self, effect, side, unit, trio.CancelScope()))
            case Wake(token):
                self._injector.wake(token)
            case Close(to=None):
                self.end(reset=effect.reset, side=side)
            case Close(to=to):
                assert to is not None  # noqa: S101  the case above
                self._directions[to.other].put(effect)
            case Refuse():
                self.refused = True
            case AbortSession():
                self._injector.abort(self.context.session, f"fault `{self._latest}`")
            case SecondClient():
                self._injector.second_client(self, effect)
            case Failed(reason):
                self.failed(reason)
            case Log(text):
                self.log.info("fault_log", fault=self._latest, message=text)
            case _:
                self._shape(effect)

    def _shape(self, effect: Shape) -> None:
        for side in Side if effect.source is None else (effect.source,):
            self._directions[side].shape().take(effect)

    def _send(self, send: Send, unit: Phase | None) -> None:
        sender = send.to.other
        if send.redirect and self.passing is not None:
            send = self.passing.redirected(sender, send, mini_header=self._mini_header(sender))
        self._directions[sender].put(send, None if send.injected and self._open else unit)

    def _wait(self, waiting: Waiting) -> None:
        wait = waiting.wait
        if wait.blocks is not None:
            self._directions[wait.blocks].gate()
        self._injector.waiting[wait.token] = waiting
        if wait.delay_ns is not None:
            self._deadlines.add(self.nursery, waiting, wait.delay_ns)

    def go_on(self, waiting: Waiting) -> None:
        """A wait of this connection is over."""
        wait = waiting.wait
        self._deadlines.forget(wait.token)
        try:
            effects = self._injector.engine.resume(self.now(waiting.side), wait.token)
            self.carry(effects, waiting.side, unit=waiting.unit)
        except Exception as error:  # noqa: BLE001  as in _decide
            self.crashed(error)
        finally:
            if wait.blocks is not None:
                self._directions[wait.blocks].ungate()

    def end(
        self, *, reset: bool, side: Side | None = None, reason: str | None = None, at_once: bool = False
    ) -> None:
        """End the connection; what is queued goes out before, unless it is to be at once."""
        if self.cut is not None:
            return
        self.cut = Cut(reset, reason or f"fault `{self._latest}`", side or Side.SERVER)
        for direction in self._directions.values():
            direction.gate()
        if at_once or all(direction.empty for direction in self._directions.values()):
            self._scope.cancel()
        else:
            self.nursery.start_soon(self._end_soon)

    async def _end_soon(self) -> None:
        with trio.move_on_after(CUT_WAIT_S):
            for direction in self._directions.values():
                await direction.emptied()
        self._scope.cancel()

    # As its directions see it ---------------------------------------------------------------------

    async def going(self, side: Side, send: Send, unit: Phase | None) -> None:
        """This goes out next."""
        if self.passing is not None:
            count = self.context.messages(side)
            await self.passing.going(side, send, unit, mini_header=self._mini_header(side), messages=count)

    def half_closed(self, side: Side) -> None:
        """A fault has ended what this side sends."""
        if self.passing is not None:
            self.passing.half_closed(side)

    def too_long(self, message: Message) -> None:
        """A message passes whose body was not kept; perhaps a fault is about it."""
        if self._injector.engine.means(self._mess.channel_type, message):
            self.failed(f"a message of {message.size} bytes is too long to be held, and passes")

    def failed(self, reason: str) -> None:
        """Something could not be carried out; the bytes go on."""
        self.log.warning("fault_failed", fault=self._latest, reason=reason)

    def crashed(self, error: Exception) -> None:
        """An error of ours: as `failed`."""
        self.log.error("fault_failed", fault=self._latest, reason=repr(error), exc_info=error)
