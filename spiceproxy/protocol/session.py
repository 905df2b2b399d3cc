"""Join connections into sessions: one user, one guest, any number of channels and servers.

Every link but the first main one carries a connection id: the `session_id` of MAIN_INIT, on every server the
session is moved to (spice-gtk clones it into the migration session; spice-server reds_handle_main_link() and
reds_handle_other_links()). After SWITCH_HOST the client starts from scratch with 0, and is known only by having
been sent to that server. Times are arguments, in seconds of any steady clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dissectors.channels import ChannelType
from spiceproxy.address import Address

# How long a session without a connection waits for a client that was told to switch hosts. spice-gtk dials at
# once; a person who has to click "reconnect" may take a moment.
SWITCH_GRACE_S: Final = 30.0
# A server can name as many servers and ids as it likes. Honest chains have a few; beyond this many the oldest
# servers are forgotten and further ids are not taken.
MAX_EXPECTED: Final = 256
MAX_CONNECTION_IDS: Final = 256


@dataclass(slots=True)
class Expected:
    """A server a session has been told of; its address is the one that is dialled."""

    server: Address
    hop: int  # 0 is the first server of the session, 1 the one after its first migration
    from_scratch_until: float | None = (
        None  # SWITCH_HOST: the client comes with connection id 0 before this time
    )


@dataclass(slots=True, eq=False)
class Session:
    """What is known of one session."""

    id: str  # ours: "s1"
    client_host: str
    first: Address
    connection_ids: set[int] = field(default_factory=set)
    opaque: bool = False  # its main channel is encrypted, so nobody here sees the id
    expected: list[Expected] = field(default_factory=list)  # in the order they were announced
    open_connections: int = 0
    connections: int = 0  # ever
    hops: int = 0  # the highest hop a connection was linked on

    def hop_of(self, server: Address) -> int:
        """The hop of a connection to this server: the latest announcement counts, as chains come back."""
        for expected in reversed(self.expected):
            if _same(expected.server, server):
                return expected.hop
        return 0

    def expects(self, server: Address) -> bool:
        """Whether the session has been told of this server."""
        return any(_same(expected.server, server) for expected in self.expected)

    def awaits_switch(self, now: float) -> bool:
        """Whether the client may still come back from scratch after SWITCH_HOST."""
        return any(e.from_scratch_until is not None and now < e.from_scratch_until for e in self.expected)


class Joined(NamedTuple):
    """Where a link belongs."""

    session: Session
    hop: int
    new: bool  # the session began with this link
    orphan: bool  # the connection id is of no session known here


class Sessions:
    """All sessions of one proxy."""

    def __init__(self) -> None:
        self._sessions: list[Session] = []
        self.count = 0  # sessions so far

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions)

    def join(
        self, *, connection_id: int, channel_type: int, server: Address, client_host: str, now: float
    ) -> Joined:
        """Find the session a link message belongs to, or begin one."""
        session = None
        if connection_id:
            session = self._by_connection_id(connection_id, server)
            if session is None:
                session = self._opaque(client_host, server)
                if session is not None:
                    session.connection_ids.add(connection_id)
        elif channel_type == ChannelType.MAIN:
            session = self._by_switch(server, client_host, now)
        new = session is None
        if session is None:
            self.count += 1
            session = Session(f"s{self.count}", client_host, server)
            if connection_id:
                session.connection_ids.add(connection_id)
            self._sessions.append(session)
        session.open_connections += 1
        session.connections += 1
        known = _same(session.first, server) or session.expects(server)
        if session.opaque and channel_type == ChannelType.MAIN and not known:
            # Nobody here has seen how the client was sent there, but main comes first.
            self.announced(session, server, hop=session.hops, from_scratch=False, now=now)
        hop = session.hop_of(server)
        session.hops = max(session.hops, hop)
        return Joined(session, hop, new, new and bool(connection_id))

    def initialised(self, session: Session, connection_id: int) -> None:
        """MAIN_INIT named the id that the session's other links will carry."""
        if len(session.connection_ids) < MAX_CONNECTION_IDS:
            session.connection_ids.add(connection_id)

    def announced(
        self, session: Session, server: Address, *, hop: int, from_scratch: bool, now: float
    ) -> None:
        """A message on hop `hop` told the session's client of `server`; `from_scratch` for SWITCH_HOST."""
        others = [e for e in session.expected if not (_same(e.server, server) and e.hop == hop + 1)]
        session.expected = others[1 - MAX_EXPECTED :]
        session.expected.append(Expected(server, hop + 1, now + SWITCH_GRACE_S if from_scratch else None))

    def left(self, session: Session) -> None:
        """One connection of the session has ended."""
        session.open_connections -= 1

    def over(self, session: Session, now: float) -> bool:
        """Whether nothing of the session is left and nothing is expected."""
        return session.open_connections == 0 and not session.awaits_switch(now)

    def forget(self, session: Session) -> None:
        """The session is over."""
        if session in self._sessions:
            self._sessions.remove(session)

    def _by_connection_id(self, connection_id: int, server: Address) -> Session | None:
        # Servers draw the id at random and do not know of each other, so one id can name two sessions: the one
        # that was told of this server, or began there, is meant; failing that, the youngest.
        candidates = [s for s in self._sessions if connection_id in s.connection_ids]
        at_server = [s for s in candidates if _same(s.first, server) or s.expects(server)]
        return next(reversed(at_server or candidates), None)

    def _opaque(self, client_host: str, server: Address) -> Session | None:
        """The session whose id cannot be seen, if a link with an unknown one can only be of that: there is one such here."""
        found = [
            s
            for s in self._sessions
            if s.opaque and s.open_connections and s.client_host == client_host and not s.connection_ids
        ]
        return found[0] if len(found) == 1 and _same(found[0].first, server) else None

    def _by_switch(self, server: Address, client_host: str, now: float) -> Session | None:
        for session in self._sessions:
            if session.client_host != client_host:
                continue
            for expected in session.expected:
                until = expected.from_scratch_until
                if _same(expected.server, server) and until is not None and now < until:
                    for other in session.expected:  # the first to come is it, by whichever port
                        if other.hop == expected.hop:
                            other.from_scratch_until = None
                    return session
        return None


def _same(one: Address, other: Address) -> bool:
    """Host names have no case, and one listener serves all spellings of a server."""
    return one.port == other.port and one.host.lower() == other.host.lower()
