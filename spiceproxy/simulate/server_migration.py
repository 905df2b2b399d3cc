"""A migration as its source server drives it. Source: spice-server reds.cpp, main-channel.cpp, main-channel-client.cpp."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import trio

from dissectors.capabilities import MainCap
from dissectors.message_ids import Main
from dissectors.side import Side
from spiceproxy.simulate.errors import RuleBroken, SimulationError
from spiceproxy.simulate.steps import OUTCOMES, SOURCE, Leaving, Machine, Outcome, Reply, Source
from spiceproxy.simulate.wire import MAIN

if TYPE_CHECKING:
    from spiceproxy.simulate.server import SimulatedServer
    from spiceproxy.simulate.server_session import ServerSession

_DRAIN_TIMEOUT_S: Final = 30.0  # how long the stopped guest waits for display and cursor to be written
_WAITING: Final = {Source.WAITING, Source.WAITING_SEAMLESS}


class SourceMigration:
    """What spice_server_migrate_connect() and spice_server_migrate_end() do.

    Attributes:
        state: Where the migration stands.
    """

    def __init__(self, server: "SimulatedServer") -> None:
        """Begin without a migration."""
        self._server = server
        self._machine = self._new_machine()
        self._destination: Mapping[str, Any] = {}
        self._attempt = 0
        self._postponed = self._owed_after_end = False

    @staticmethod
    def _new_machine() -> Machine[Source, Reply]:
        return Machine(Source.IDLE, SOURCE, otherwise="R7", by=Side.CLIENT, channel=MAIN.name)

    @property
    def state(self) -> Source:
        """Where the migration stands; still WAITING while BEGIN is postponed."""
        return self._machine.state

    @property
    def is_waiting(self) -> bool:
        """Whether the client still has to answer BEGIN."""
        return self.state in _WAITING or self._postponed

    def begin(self, destination: Mapping[str, Any]) -> None:
        """Tell the client about the destination, as far as it can be told."""
        session = self._server.session
        if self.state in {Source.CONNECTED, Source.SEAMLESS} and session is not None:
            self._cancel(session)
        self._destination, self._attempt = destination, self._attempt + 1
        self._server.start_timer(self._time_out, self._attempt)
        self._postponed = session is not None and not session.has_arrived
        if not self._postponed:
            self._send_begin(session)

    def client_arrived(self) -> None:
        """The client's own arrival is complete: what was postponed can go out."""
        if self._postponed:
            self._postponed = False
            self._send_begin(self._server.session)

    def _send_begin(self, session: "ServerSession | None") -> None:
        main = session.main if session is not None else None
        if main is None or not main.can(MainCap.SEMI_SEAMLESS_MIGRATE):
            self._machine.step(Reply.NO_BEGIN, "no BEGIN")
            return
        seamless = (
            self._server.options.seamless
            and main.can(MainCap.AGENT_CONNECTED_TOKENS)
            and main.can(MainCap.SEAMLESS_MIGRATE)
        )
        self._machine.step(Reply.BEGIN_SEAMLESS if seamless else Reply.BEGIN, "BEGIN")
        main.begin(self._destination, seamless=seamless)

    async def _time_out(self, attempt: int) -> None:
        await trio.sleep(self._server.options.migrate_timeout_s)
        if attempt != self._attempt:
            return
        if self._postponed:
            self._postponed = False
            self._machine.step(Reply.NO_BEGIN, "the client did not finish its own arrival")
        elif self.state in _WAITING:
            self._machine.step(Reply.TIMER, "the client did not answer")
        self._server.notify()

    def reply(self, reply: Reply) -> None:
        """Take the client's answer to BEGIN.

        Raises:
            RuleBroken: None is due (R7), or it claims a seamless destination that nobody spoke of (R9).
        """
        late = self.state is Source.TIMED_OUT and reply is not Reply.CONNECT_ERROR
        if self.state is Source.ENDED and self._owed_after_end:
            self._owed_after_end = False  # it crossed the end of the migration
            return
        self._machine.step(reply, reply.name)
        if late and self._server.session is not None and self._server.session.main is not None:
            self._server.session.main.put(Main.MIGRATE_CANCEL)
            self._server.remarks.append(
                f"{reply.name} came later than {self._server.options.migrate_timeout_s:g} s (R43)"
            )

    def client_left(self) -> None:
        """The client has gone: no answer will come."""
        self._postponed = False
        if self.state is not Source.ENDED:
            self._machine = self._new_machine()

    async def end(self, *, completed: bool) -> Outcome:
        """Tell the client how the migration ended, and see it off.

        Raises:
            RuleBroken: What the client did wrong until it left, or that it did not leave (R28, R44).
        """
        outcome = OUTCOMES.get((completed, self.state), Outcome.NOTHING)
        self._owed_after_end = self.state in {*_WAITING, Source.TIMED_OUT}
        session = self._server.session
        if session is None or session.main is None:
            self._machine = self._new_machine()
            if completed:
                self._server.migration_completed.set()
            return outcome
        if completed:
            await self._drain(session)
        self._attempt += 1
        self._machine.step(Reply.END, "END")
        match outcome:
            case Outcome.MIGRATE:
                session.is_leaving = True
                for channel in tuple(session.channels.values()):
                    channel.migrate()
            case Outcome.MIGRATE_END:
                session.is_leaving = True
                session.main.put(Main.MIGRATE_END)
            case Outcome.SWITCH_HOST:
                session.main.switch_host(self._destination)
            case Outcome.CANCEL:
                self._cancel(session)
            case Outcome.DISCONNECT:
                session.end()
            case Outcome.NOTHING:
                self._machine = self._new_machine()
        if completed:
            await self._see_off(session, outcome)
        return outcome

    def _cancel(self, session: "ServerSession") -> None:
        if session.main is not None:
            session.main.put(Main.MIGRATE_CANCEL)
        self._machine = self._new_machine()

    async def _drain(self, session: "ServerSession") -> None:
        """Let display and cursor be written; drop one that cannot be ("timeout: pending out messages")."""
        for channel in tuple(session.channels.values()):
            if channel.WINDOW:
                with trio.move_on_after(_DRAIN_TIMEOUT_S) as scope:
                    await channel.drained()
                if scope.cancelled_caught:
                    self._server.remarks.append(
                        f"{channel.name} dropped: {len(channel.outbox)} messages not written"
                    )
                    channel.scope.cancel()

    async def _see_off(self, session: "ServerSession", outcome: Outcome) -> None:
        try:
            with trio.move_on_after(self._server.options.leave_timeout_s):
                await self._server.wait_until(lambda: session.ended)
            if not session.ended:
                self._server.report(self._why_not_left(session, outcome))
                session.end()
                self._server.check()
        finally:
            self._machine = self._new_machine()
            self._server.migration_completed.set()
            self._server.notify()

    def _why_not_left(self, session: "ServerSession", outcome: Outcome) -> RuleBroken:
        unflushed = [c.name for c in session.channels.values() if c.leaving.state is Leaving.FLUSHING]
        if unflushed:
            detail = f"no FLUSH_MARK within {self._server.options.leave_timeout_s:g} s of MIGRATE"
            return RuleBroken("R28", by=Side.CLIENT, channel=", ".join(sorted(unflushed)), detail=detail)
        detail = f"still here {self._server.options.leave_timeout_s:g} s after {outcome.name}"
        return RuleBroken("R44", by=Side.CLIENT, channel=MAIN.name, detail=detail)


def describe_destination(host: str, port: int, sport: int, cert_subject: str | None) -> dict[str, Any]:
    """Fields of DstInfo.

    Raises:
        SimulationError: No usable port (reds_set_migration_dest_info() refuses that too).
    """
    if port in {0, 0xFFFF} and sport in {0, 0xFFFF}:
        raise SimulationError("a destination needs a port or a TLS port")
    return {"port": port, "sport": sport, "host_data": host, "cert_subject_data": cert_subject}
