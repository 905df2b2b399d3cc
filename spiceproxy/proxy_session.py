"""One session of a proxy: its tasks, its log, its connections."""

from collections import deque
from dataclasses import dataclass
from typing import Final

import trio

from spiceproxy.eventlog import EventLog
from spiceproxy.protocol.session import Session
from spiceproxy.relay.connection import Connection, ConnectionView
from spiceproxy.relay.fairness import Share

# What is kept of connections that have ended, for whoever asks afterwards.
MAX_ENDED_CONNECTIONS: Final = 200


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as it is now, or was at its end."""

    id: str
    client_host: str
    ended: bool
    connections: tuple[ConnectionView, ...]  # in the order they came


class ProxySession:
    """One session: its tasks, its log, its connections."""

    def __init__(self, core: Session, log: EventLog, nursery: trio.Nursery, share: Share) -> None:
        self.core, self.log, self.nursery, self.share = core, log, nursery, share
        self.over = trio.Event()
        self.started = trio.current_time()
        self._open: list[Connection] = []
        self._ended: deque[ConnectionView] = deque(maxlen=MAX_ENDED_CONNECTIONS)
        self.totals = {"messages_from_client": 0, "messages_from_server": 0}

    def add(self, connection: Connection) -> None:
        """A connection joins."""
        self._open.append(connection)

    def remove(self, connection: Connection) -> None:
        """A connection has ended."""
        self._open.remove(connection)
        view = connection.view()
        self._ended.append(view)
        for side, count in view.messages.items():
            self.totals[f"messages_from_{side}"] += count

    def view(self) -> SessionView:
        """A copy of what is known."""
        views = [*self._ended, *(connection.view() for connection in self._open)]
        views.sort(key=lambda view: int(view.id[1:]))
        return SessionView(self.core.id, self.core.client_host, self.over.is_set(), tuple(views))
