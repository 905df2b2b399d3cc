"""The faults of one proxy at work: the engine, the connections that it is asked about, and what they wait for."""

import copy
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import trio

from dissectors.channels import ChannelType
from dissectors.link import LinkMessage
from dissectors.side import Side
from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.eventlog import EventLog
from spiceproxy.faults.comments import Place
from spiceproxy.faults.context import Context, Moment
from spiceproxy.faults.effects import Effect, Fired, SecondClient, Token
from spiceproxy.faults.engine import Engine
from spiceproxy.faults.rules import Rule
from spiceproxy.following.connections import FollowedConnection
from spiceproxy.following.follower import MigrationFollower
from spiceproxy.hooks.hook import Hook, HookError
from spiceproxy.hooks.room import Room
from spiceproxy.hooks.script import Script
from spiceproxy.injection.faulty import FaultyConnection
from spiceproxy.injection.second_client import second_client
from spiceproxy.injection.waiting import Waiting
from spiceproxy.protocol.framer import Message
from spiceproxy.protocol.migration.changes import Change, MigrationStarted, PhaseEntered
from spiceproxy.protocol.migration.model import Migration, Phase
from spiceproxy.protocol.migration.tables import STARTS
from spiceproxy.report.faults import InjectedFault
from spiceproxy.tls.ends import Reach

# Of the faults that have fired so many are kept for the report; one that fires at every message is no leak.
MAX_FIRED: Final = 10_000
MAX_SECOND_CLIENTS: Final = 16


@dataclass(frozen=True, slots=True)
class Faults:
    """What a proxy is to break.

    Attributes:
        rules: In the order in which they are asked.
        seed: For all that is left to chance.
        variables: What values like "${other_port}" stand for.
        live: Rules may be added later.
        hooks: To be asked.
        script: Whose hooks are to be asked instead, and those of what it is changed into.
    """

    rules: tuple[Rule, ...] = ()
    seed: int = 0
    variables: Mapping[str, Any] = field(default_factory=dict)
    live: bool = False
    hooks: tuple[Hook, ...] = ()
    script: Script | None = None


@dataclass(eq=False, slots=True)
class _Session:
    """What contexts of one session share.

    Attributes:
        started_ns: When its first link message was read.
        connections: That are open.
        begun: Its first main connection has been seen.
        migration: The present or last one.
        phase: Where that stands.
        migration_started_ns: When it began.
    """

    started_ns: int
    connections: dict[str, FaultyConnection] = field(default_factory=dict)
    begun: bool = False
    migration: Migration | None = None
    phase: Phase | None = None
    migration_started_ns: int | None = None


class Injector:
    """The faults of one proxy.

    Args:
        faults: What to break.
        follower: Who follows migrations.
        nursery: Of the proxy.
        log: Of the proxy.

    Attributes:
        engine: Decides. Rules may be added and removed there; call `renew` then.
        waiting: By token: what waits for a time or a word of the engine.
        fired_faults: Faults that have fired, the first ones.
        left_out: How many more there were.
    """

    def __init__(
        self, faults: Faults, follower: MigrationFollower, nursery: trio.Nursery, log: EventLog
    ) -> None:
        self._follower, self._nursery, self._log = follower, nursery, log
        hooks = faults.hooks if faults.script is None else faults.script.hooks
        self.engine = Engine(
            faults.rules, seed=faults.seed, variables=faults.variables, live=faults.live or bool(hooks)
        )
        self.room = Room(self.engine, hooks, self._tell_hook) if hooks else None
        self.waiting: dict[Token, Waiting] = {}
        self.fired_faults: list[InjectedFault] = []
        self.left_out = 0
        self._sessions: dict[str, _Session] = {}
        self._second_clients = 0
        self.reach: Reach = sockets.connect
        """How servers are reached, for clients of our own."""
        follower.on_change = self._changed
        if faults.script is not None:
            nursery.start_soon(faults.script.watch, partial(self._renewed, faults.script))

    # Connections ----------------------------------------------------------------------------------

    def connection(
        self,
        session: str,
        name: str,
        mess: LinkMessage,
        hop: int,
        client: socket.socket,
        server: Address,
        followed: FollowedConnection,
        log: EventLog,
    ) -> FaultyConnection:
        """A connection whose link message has been read."""
        now = _now_ns()
        known = self._sessions.setdefault(session, _Session(now))
        context = Context(
            session,
            name,
            mess.channel_type,
            mess.channel_id,
            hop,
            now_ns=now,
            session_started_ns=known.started_ns,
        )
        made = known.connections[name] = FaultyConnection(self, context, mess, client, server, followed, log)
        return made

    def begins(self, connection: FaultyConnection) -> bool:
        """Whether a session begins with this connection; true once for each."""
        known = self._sessions[connection.context.session]
        first = not known.begun and connection.context.channel_type == ChannelType.MAIN
        known.begun = known.begun or first
        return first

    def left(self, connection: FaultyConnection) -> None:
        """A connection is over."""
        for token in [token for token, each in self.waiting.items() if each.connection is connection]:
            del self.waiting[token]
        known = self._sessions.get(connection.context.session)
        if known is not None:
            known.connections.pop(connection.context.connection, None)
        self._moment(connection, Moment.CLOSED)
        if known is not None and connection.unsaid:  # it has had no server, and so is in no recording
            context = connection.context
            place = Place(context.connection, context.channel, context.hop)
            for each in known.connections.values():
                if each.passing is not None:
                    each.passing.note(connection.unsaid, place)

    def _moment(self, connection: FaultyConnection, moment: Moment) -> None:
        """A moment at which nobody can wait; hooks are asked by a task of the proxy: the connection may be over."""
        if self.room is not None:
            self._nursery.start_soon(connection.happens, moment)
            return
        try:
            connection.carry(self.engine.moment(connection.now(), moment))
        except Exception as error:  # noqa: BLE001  ours, and not the session's
            connection.crashed(error)

    def session_over(self, session: str) -> None:
        """A session is over."""
        self._sessions.pop(session, None)
        (self.room or self.engine).session_over(session)

    def abort(self, session: str, reason: str) -> None:
        """Reset every connection of a session."""
        known = self._sessions.get(session)
        for connection in list(known.connections.values()) if known is not None else ():
            connection.end(reset=True, reason=reason, at_once=True)

    def renew(self) -> None:
        """There are other rules now: tell the connections that are open."""
        for known in self._sessions.values():
            for connection in known.connections.values():
                connection.renew()

    # The engine -----------------------------------------------------------------------------------

    async def about_message(self, context: Context, message: Message) -> list[Effect]:
        """What happens in the place of a message."""
        if self.room is not None:
            return await self.room.message(copy.copy(context), message)
        return self.engine.message(context, message)

    async def about_moment(
        self, context: Context, moment: Moment, data: bytes = b"", side: Side | None = None
    ) -> list[Effect]:
        """What happens at a moment."""
        if self.room is not None:
            return await self.room.moment(copy.copy(context), moment, data, side)
        return self.engine.moment(context, moment, data, side)

    def wake(self, token: Token) -> None:
        """What waits under this token goes on; if nothing does, it is over already."""
        waiting = self.waiting.pop(token, None)
        if waiting is not None:
            waiting.scope.cancel()
            waiting.connection.go_on(waiting)

    def refresh(self, context: Context, channel_type: int, message: Message | None) -> None:
        """Bring a context up to date.

        Args:
            context: Of a connection.
            channel_type: Of it.
            message: That is about to be decided about: a migration may begin with it.
        """
        context.now_ns = _now_ns()
        known = self._sessions.get(context.session)
        if known is None:
            return
        migration = known.migration
        context.migration = migration.number if migration is not None else 0
        context.phase, context.migration_started_ns = known.phase, known.migration_started_ns
        context.leg = None
        if migration is not None:
            hops = {migration.source_hop: "source", migration.destination_hop: "destination"}
            context.leg = hops.get(context.hop)
        if (
            message is not None
            and channel_type == ChannelType.MAIN
            and message.side is Side.SERVER
            and message.id in STARTS
            and (migration is None or known.phase is Phase.OVER)
        ):
            context.migration += 1
            context.phase, context.leg, context.migration_started_ns = (
                Phase.CONNECTING,
                "source",
                context.now_ns,
            )

    def _changed(self, session: str, change: Change) -> None:
        """A migration of a session has begun, or moved on."""
        known = self._sessions.get(session)
        if known is None or not isinstance(change, MigrationStarted | PhaseEntered):
            return
        if isinstance(change, MigrationStarted):
            known.migration, known.migration_started_ns = change.migration, _now_ns()
            known.phase = change.migration.phase
            phase: Phase = Phase.CONNECTING
        else:
            phase = change.phase
            if change.migration is not known.migration:
                return  # an earlier one, that is over now
        if phase is known.phase and isinstance(change, PhaseEntered):
            return
        known.phase = phase
        for connection in list(known.connections.values()):
            self._moment(connection, Moment.PHASE)

    # What is told ---------------------------------------------------------------------------------

    def fired(self, effect: Fired, log: EventLog) -> None:
        """A fault has fired."""
        log.info(
            "fault_fired", fault=effect.rule, actions=effect.actions, name=effect.what, firing=effect.number
        )
        if effect.failed:
            log.warning("fault_failed", fault=effect.rule, name=effect.what, reason=effect.failed)
        if len(self.fired_faults) >= MAX_FIRED:
            self.left_out += 1
            return
        known = self._sessions.get(effect.session)
        migration = known.migration.number if known is not None and known.migration is not None else None
        self.fired_faults.append(
            InjectedFault(
                effect.rule, effect.actions, effect.what, effect.session, effect.connection, effect.channel,
                effect.hop, self._follower.now(), effect.number, migration, effect.failed,
            )
        )  # fmt: skip

    def never_fired(self) -> list[str]:
        """Names of the rules that have not fired."""
        return self.engine.never_fired()

    def _renewed(self, script: Script, error: HookError | None) -> None:
        """The script is another one now, or cannot be used any more; then its last hooks stay."""
        if error is not None:
            self._log.warning("script_failed", reason=str(error))
        elif self.room is not None:
            self.room.use(script.hooks)
            self.renew()
            self._log.info("script_renewed", hooks=[hook.name for hook in script.hooks])

    def _tell_hook(self, event: str, fields: dict[str, str]) -> None:
        self._log.warning(event, **fields)

    def second_client(self, connection: FaultyConnection, effect: SecondClient) -> None:
        """Have another client link its main channel to a connection's server."""
        if self._second_clients >= MAX_SECOND_CLIENTS:
            connection.failed(f"{MAX_SECOND_CLIENTS} second clients are there already")
            return
        self._second_clients += 1
        self._nursery.start_soon(self._second, connection, effect)

    async def _second(self, connection: FaultyConnection, effect: SecondClient) -> None:
        try:
            await second_client(
                connection.server,
                effect.connection_id,
                effect.duration_ns / 1e9,
                secured=connection.secured,
                reach=self.reach,
            )
        except Exception as error:  # noqa: BLE001  a fault that cannot be carried out costs an event
            connection.failed(f"no second client at {connection.server}: {error}")
        finally:
            self._second_clients -= 1


def _now_ns() -> int:
    return int(trio.current_time() * 1e9)
