"""What the engine is told about the connection on which something happens."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from dissectors.channels import channel_name
from dissectors.side import Side
from spiceproxy.protocol.migration.model import Phase


class Moment(StrEnum):
    """What can be matched and is no message. The relay reports it for the connection that it happens to."""

    SESSION = "session"  # a session has begun; reported once, for its first main connection
    CONNECT = "connect"  # the client's link message is read, the server is about to be dialled
    LINK_MESSAGE = "link-message"  # of the client, about to go to the server
    LINK_REPLY = "link-reply"  # of the server, about to go to the client
    TICKET = "ticket"  # of the client, about to go to the server: 128 bytes, encrypted
    AUTH = "auth"  # the server's link result, about to go to the client: 4 bytes
    LINKED = "linked"  # the link phase is over, messages follow
    PHASE = "phase"  # the session's migration has entered `Context.phase`; reported for each open connection
    CLOSED = "closed"  # the connection is over


CARRYING = frozenset({Moment.LINK_MESSAGE, Moment.LINK_REPLY, Moment.TICKET, Moment.AUTH})
"""Moments at which bytes are on their way."""


def _no_messages(_side: Side) -> int:
    return 0


@dataclass(slots=True, eq=False)
class Context:
    """Where and when something happens. One for each connection; the relay keeps it up to date.

    Attributes:
        session: Ours, as "s1".
        connection: Ours, as "c5": no two alike in the life of a proxy.
        channel_type: As in the link message.
        channel_id: As in the link message.
        hop: Which server of the session this is, from 0.
        leg: "source" or "destination" of the session's present migration, or its last one; None: as `hop` says, 0 is
            the source.
        mini_header: Whether messages have the mini header, as the peers agreed after all changes.
        migration: Migrations of the session that have begun: 0 before the first, 1 from its beginning on.
        phase: Of the session's present or last migration; None before the first.
        now_ns: Of any steady clock.
        session_started_ns: By the same clock.
        migration_started_ns: By the same clock; None before the first migration.
        messages: How many messages a side has sent on this connection, one that is still passing included:
            `Framer.messages`. Messages that engine and ledger have put in do not count.
        ticket_key: The key that the server has sent for tickets, in DER; nothing before its link reply.
    """

    session: str
    connection: str
    channel_type: int
    channel_id: int
    hop: int = 0
    leg: str | None = None
    mini_header: bool = True
    migration: int = 0
    phase: Phase | None = None
    now_ns: int = 0
    session_started_ns: int = 0
    migration_started_ns: int | None = None
    messages: Callable[[Side], int] = _no_messages
    ticket_key: bytes = b""

    @property
    def channel(self) -> str:
        """As `display:0`."""
        return f"{channel_name(self.channel_type)}:{self.channel_id}"

    @property
    def which_leg(self) -> str:
        """`leg`, or what `hop` says where that is not known."""
        return self.leg or ("destination" if self.hop else "source")
