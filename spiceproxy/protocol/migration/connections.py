"""One connection of a session, as the tracker knows it, and what a judge of rules is shown."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from dissectors.channels import ChannelType, channel_name
from dissectors.registry import message_name
from dissectors.side import Side
from spiceproxy.protocol.migration.books import Books
from spiceproxy.protocol.migration.facts import Capabilities, Fact, Linked, LinkFailed, Opened, Said
from spiceproxy.protocol.migration.model import (
    ChannelMigration,
    Closing,
    Evidence,
    Link,
    Migration,
    Violation,
)

# spice-server and spice-gtk give up after 10 s at every step (MIGRATE_TIMEOUT, reds.cpp; connect time-out of a channel,
# spice-gtk channel-main.c; display_channel_wait_for_migrate_data()).
TIMEOUT_NS: Final = 10 * 10**9


@dataclass(slots=True, eq=False)
class ConnectionState:
    """What is known of one connection."""

    id: str
    hop: int
    address: str = ""
    channel_type: int | None = None  # as in the link message; None until that is known
    channel: str | None = None  # as "display:0"
    connection_id: int | None = None  # as in the link message
    opened_ns: int | None = None
    linked: Linked | None = None
    failed: LinkFailed | None = None
    session_id: int | None = None  # of MAIN_INIT on this connection
    init: Evidence | None = None
    said: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))  # messages so far
    last: dict[Side, Said | None] = field(default_factory=lambda: dict.fromkeys(Side))  # without their bodies
    last_ns: dict[Side, int | None] = field(default_factory=lambda: dict.fromkeys(Side))
    closed: dict[Side, int] = field(default_factory=dict)  # when each side closed its direction
    closing: Closing | None = None  # the first of these
    missing: dict[Side, int] = field(
        default_factory=lambda: dict.fromkeys(Side, 0)
    )  # bytes, not in the capture
    damaged: bool = False  # some of it is not in the capture, or could not be read
    last_visible: Said | None = None  # of the server, that a user can see or hear
    last_visible_ns: int | None = None
    last_copy: Said | None = None  # of a display: the last DRAW_COPY, with its body
    full: bool = False  # its messages have the full header, with serials
    midway: bool = (
        False  # what was said on it first is not in the capture: who keeps count from the beginning cannot
    )
    books: Books = field(default_factory=Books)

    def know(self, known: Opened | Linked | LinkFailed) -> None:
        """The link phase has begun, or is over, well or badly."""
        if isinstance(known, Opened):
            self.opened_ns, self.address = known.time_ns, known.server
        elif isinstance(known, Linked):
            self.linked, self.full, self.midway = known, not known.mini_header, known.midway
            if known.midway:
                for side in Side:
                    self.books.passed(side)
            self.address = self.address or known.address
        else:
            self.failed = known
            self.address = self.address or known.address
        if known.connection_id is not None:
            self.connection_id = known.connection_id
        if known.channel_type is not None:
            self.channel_type = known.channel_type
            self.channel = f"{channel_name(known.channel_type)}:{known.channel_id or 0}"

    @property
    def is_main(self) -> bool:
        """Whether it is a main channel."""
        return self.channel_type == ChannelType.MAIN

    @property
    def open(self) -> bool:
        """Whether it is linked and neither side has closed it."""
        return self.linked is not None and self.closing is None

    @property
    def client_caps(self) -> Capabilities:
        """What the client announced."""
        return self.linked.client if self.linked else Capabilities()

    @property
    def server_caps(self) -> Capabilities:
        """What the server announced."""
        return self.linked.server if self.linked else Capabilities()

    def evidence(self, said: Said) -> Evidence:
        """Where to find a message of this connection."""
        type_ = self.channel_type or 0
        return Evidence(
            said.number,
            said.time_ns,
            self.id,
            self.channel or "?",
            self.hop,
            said.side,
            message_name(type_, said.side, said.id),
            said.size,
            said.touch,
        )

    def link(self) -> Link:
        """The same, for a report."""
        linked, failed = self.linked, self.failed
        return Link(
            self.id,
            self.opened_ns,
            linked.time_ns if linked else None,
            self.connection_id,
            ("mini" if linked.mini_header else "full") if linked else None,
            self.address,
            failed.reason if failed else None,
            failed.code if failed else None,
            failed.by if failed else None,
        )


class Step(NamedTuple):
    """A fact, and what it belongs to.

    The migration is the one in which the connection is left, until that is cancelled; else the one for which it was opened,
    also when that is long over; else None.
    """

    fact: Fact
    connection: ConnectionState
    migration: Migration | None
    channel: ChannelMigration | None  # what the connection's channel does in it
    arriving: bool  # the connection is one to the destination of that migration (False: to its source)


class Judge(Protocol):
    """Looks at every step of a session and puts what it finds wrong into `migration.violations`.

    It may keep what it likes between calls; there is one for each session. It is shown all facts but messages. Of those it is
    shown what is said on main, what is part of a migration, what `watches` asks for, what is said on connections to a
    destination, and, from the source's last word on, what is said on those to the source.
    """

    @property
    def violations(self) -> list[Violation]:
        """Those that belong to no migration."""

    def watches(self, channel_type: int, side: Side, message_id: int) -> bool:
        """Whether this message is to be shown even where no migration goes on. The answer must not change."""

    def before(self, step: Step) -> bool:
        """A fact has come, and the tracker has not yet taken it into account; whether `after` is to be called for it."""

    def after(self, step: Step) -> None:
        """The tracker has; a BEGIN has its migration now."""

    def torn(self) -> None:
        """Something of the session is missing, and nobody knows of which connection."""

    def touched(self, channel: str | None, fault: str) -> None:
        """A fault that was injected has fired on a channel, if it is known on which."""

    def started(self, migration: Migration, source: list[ConnectionState]) -> None:
        """A migration has begun; these connections are open at its source."""

    def ended(self, migration: Migration) -> None:
        """It is over. Facts of its connections may still come."""
