"""The sessions of a proxy: which connection belongs to which, and how each begins, lives and ends."""

from collections import deque
from typing import Final

import trio

from dissectors.link import LinkMessage
from spiceproxy.destinations import Listener
from spiceproxy.limits import Place
from spiceproxy.protocol.session import SWITCH_GRACE_S, Session
from spiceproxy.proxy_session import ProxySession, SessionView
from spiceproxy.relay.connection import Connection
from spiceproxy.shared import Shared

# What is kept of sessions that have ended, for whoever asks afterwards.
MAX_ENDED_SESSIONS: Final = 100


class LiveSessions:
    """All of one proxy. Each has a nursery of its own, and its end touches no other.

    Args:
        shared: What connections share.
        nursery: Of the proxy.
    """

    def __init__(self, shared: Shared, nursery: trio.Nursery) -> None:
        self._shared, self._nursery = shared, nursery
        self._live: dict[str, ProxySession] = {}
        self._ended: deque[SessionView] = deque(maxlen=MAX_ENDED_SESSIONS)
        self._joining = trio.Lock()

    def __len__(self) -> int:
        """Those that are open."""
        return len(self._live)

    def views(self) -> tuple[SessionView, ...]:
        """Those that are open and the latest ended ones, in the order they began."""
        views = [*self._ended, *(session.view() for session in self._live.values())]
        return tuple(sorted(views, key=lambda view: int(view.id[1:])))

    async def join(self, connection: Connection, mess: LinkMessage, listener: Listener, place: Place) -> None:
        """Hand a connection, whose link message is there, to its session, which serves it from now on."""
        session, hop = await self._session_of(connection, mess, listener)
        session.add(connection)
        session.nursery.start_soon(self._serve, session, connection, hop, place)

    def end(self, session: str | None) -> None:
        """End a session, or all of them."""
        for live in list(self._live.values()):
            if session in (None, live.core.id):
                self._shared.sessions.forget(live.core)
                live.over.set()

    async def _session_of(
        self, connection: Connection, mess: LinkMessage, listener: Listener
    ) -> tuple[ProxySession, int]:
        """The session the link belongs to, started if it is new, and the hop of the connection."""
        async with self._joining:  # a second link of a new session must find it started
            joined = self._shared.sessions.join(
                connection_id=mess.connection_id,
                channel_type=mess.channel_type,
                server=listener.server,
                client_host=connection.client.machine,
                now=trio.current_time(),
            )
            session = self._live.get(joined.session.id)
            if session is None:
                session = await self._nursery.start(self._run_session, joined.session)
                session.log.info("session_started", client=str(connection.client))
            if joined.orphan:
                session.log.warning(
                    "session_unknown", connection=connection.id, connection_id=mess.connection_id
                )
        return session, joined.hop

    async def _serve(self, session: ProxySession, connection: Connection, hop: int, place: Place) -> None:
        try:
            await connection.serve(session.core, session.log, hop, session.share)
        except Exception as error:  # a bug of ours ends this connection, not its neighbours
            connection.log.error("connection_crashed", reason=repr(error), exc_info=error)
        finally:
            place.leave()
            with self._shared.gate.newcomers.used():
                session.remove(connection)
                self._shared.sessions.left(session.core)
                self._end_if_over(session)

    def _end_if_over(self, session: ProxySession) -> None:
        now = trio.current_time()
        if self._shared.sessions.over(session.core, now):
            self._shared.sessions.forget(
                session.core
            )  # at once: nobody may join a session whose nursery closes
            session.over.set()
        elif not session.core.open_connections:
            session.nursery.start_soon(self._expire_switch, session)

    async def _run_session(self, core: Session, task_status: trio.TaskStatus[ProxySession]) -> None:
        """Own the tasks of one session."""
        log = self._shared.log.bind(session=core.id)
        session: ProxySession | None = None
        try:
            async with trio.open_nursery() as nursery:
                session = self._live[core.id] = ProxySession(
                    core, log, nursery, self._shared.fairness.share()
                )
                task_status.started(session)
                await session.over.wait()
                nursery.cancel_scope.cancel()
        finally:
            if session is not None:
                with self._shared.gate.newcomers.used():  # most of those who come are gone soon
                    self._finish(session)

    async def _expire_switch(self, session: ProxySession) -> None:
        """End a session whose client was told to switch hosts and does not come back."""
        await trio.sleep(SWITCH_GRACE_S)
        if not session.core.open_connections:
            self._end_if_over(session)

    def _finish(self, session: ProxySession) -> None:
        core = session.core
        self._shared.sessions.forget(core)
        self._live.pop(core.id, None)
        self._shared.destinations.release(core.id)
        session.over.set()
        session.share.over()
        self._shared.follower.over(core.id)
        if self._shared.recordings is not None:
            self._shared.recordings.over(core.id)
        if self._shared.injector is not None:
            self._shared.injector.session_over(core.id)
        self._ended.append(session.view())
        session.log.info(
            "session_ended",
            duration_s=round(trio.current_time() - session.started, 3),
            connections=core.connections,
            hops=core.hops,
            **session.totals,
        )
