"""What is known of a migration. Filled by the tracker, shown by reports; plain data, times in nanoseconds.

Everything is there from the start of a migration on and becomes fuller; `outcome` is None while it goes on. Lists are
bounded, since peers may be hostile: `left_out` counts what did not fit.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from dissectors.side import Side


class Kind(StrEnum):
    """The three ways in which a client can follow its guest."""

    SEAMLESS = "seamless"
    SEMI_SEAMLESS = "semi-seamless"
    SWITCH_HOST = "switch-host"


class Outcome(StrEnum):
    """How a migration ended."""

    COMPLETED = "completed"  # every channel of the session moved, and speaks or may be quiet
    CANCELLED = "cancelled"  # the source said so; the client stays with it
    FAILED = "failed"  # the client, or some of its channels, did not get there
    WEDGED = "wedged"  # somebody waits for something that will not come
    INCOMPLETE = "incomplete"  # the capture does not show how it ended


class Party(StrEnum):
    """Who acts in a migration."""

    CLIENT = "client"
    SOURCE = "source"
    DESTINATION = "destination"


class Severity(StrEnum):
    """How bad a violation is."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Phase(StrEnum):
    """Where a migration stands, in order. A switch-host goes from WAITING or straight from its start to SWITCHING."""

    CONNECTING = "connecting"  # BEGIN is out, the client connects to the destination and has not replied
    WAITING = "waiting"  # the client has replied, the guest moves
    SWITCHING = "switching"  # the source has said how it ends; channels change over
    SETTLING = "settling"  # all have changed over; the destination has not spoken everywhere, or the source is not left
    OVER = "over"


class Touch(NamedTuple):
    """What a fault that was injected has to do with a message."""

    fault: str  # its name
    made: (
        bool  # the message is the fault's: no peer sent it; else a peer did, and the fault changed or kept it
    )


class Evidence(NamedTuple):
    """A message, and where to find it."""

    number: int | None  # as `spiceproxy read` counts; None live
    time_ns: int
    connection: str  # "c5"
    channel: str  # "main:0"
    hop: int
    side: Side  # who sent it
    name: str  # "SPICE_MSG_MIGRATE"
    size: int = 0  # bytes of body
    touch: Touch | None = None  # by a fault


class Closing(NamedTuple):
    """The first end of a connection."""

    time_ns: int
    by: str  # "client", "server", or "capture": nobody did, the capture ends
    reset: bool


class Link(NamedTuple):
    """A connection of a channel, or the attempt at one."""

    connection: str
    opened_ns: int | None
    linked_ns: int | None  # None: not, or not yet
    connection_id: int | None
    header: str | None  # "mini" or "full"
    address: str
    error: str | None = None  # why it failed
    error_code: int | None = None  # SPICE_LINK_ERR_*
    error_by: Side | None = None


@dataclass(slots=True)
class Offer:
    """What the source proposed."""

    kind: Kind
    evidence: Evidence
    version: int | None = None  # src_mig_version, of BEGIN_SEAMLESS
    host: str | None = None  # None: the body is not known or does not decode
    port: int | None = None  # as on the wire: 0 and 65535 mean none
    sport: int | None = None
    subject: str | None = None  # that the certificate has to have
    reason: str = ""  # why not seamless, in words


@dataclass(slots=True)
class Handshake:
    """What client, source and destination said before the guest had moved."""

    do_seamless: Evidence | None = None
    version: int | None = None  # in DO_SEAMLESS
    verdict: str | None = None  # "ack" or "nack"
    verdict_evidence: Evidence | None = None
    reply: str | None = None  # "connected", "connected-seamless" or "connect-error"
    reply_evidence: Evidence | None = None
    late: bool = False  # the reply came more than 10 s after BEGIN
    extra_replies: list[Evidence] = field(default_factory=list)


@dataclass(slots=True)
class Ending:
    """How the source ended it. MIGRATE: the first one; the others are with their channels."""

    migrate: Evidence | None = None
    end: Evidence | None = None
    cancel: Evidence | None = None
    switch_host: Evidence | None = None
    client_end: Evidence | None = None  # semi-seamless: the client's MIGRATE_END to the destination
    init: Evidence | None = None  # semi-seamless and switch-host: MAIN_INIT of the destination
    switch_to: "Offer | None" = None  # where SWITCH_HOST sends the client


class Payload(NamedTuple):
    """A MIGRATE_DATA that passed."""

    evidence: Evidence
    size: int
    serial: int
    digest: bytes | None  # SHA-256 of the body, None if the body is not known
    magic: str  # the four letters, "" if not known
    head: bytes  # of the body


@dataclass(slots=True)
class Crossing:
    """What else was said on a channel while it changed over, and should not have been, or is lost. Lists are bounded."""

    repeated: list[Evidence] = field(default_factory=list)  # MIGRATE, FLUSH_MARK, MIGRATE_DATA, once more
    unasked: list[Evidence] = field(
        default_factory=list
    )  # FLUSH_MARK or MIGRATE_DATA without a MIGRATE that wants it
    returned: Evidence | None = None  # MIGRATE_DATA that the client sent to the source
    after_migrate: list[Evidence] = field(default_factory=list)  # of the source, where MIGRATE_DATA was due
    after_flush: list[Evidence] = field(default_factory=list)  # of the client to the source
    after_end: list[Evidence] = field(
        default_factory=list
    )  # of the client to a source that had ended it without state
    before_data: list[Evidence] = field(default_factory=list)  # of the client to the destination


class ChannelStep(StrEnum):
    """Where a channel stands."""

    STAYING = "on the source"
    FLUSHING = "MIGRATE received, FLUSH_MARK is due"
    UNLOADING = "MIGRATE_DATA of the source is due"
    CARRYING = "the client has MIGRATE_DATA, the destination has not"
    MOVED = "on the destination"


@dataclass(slots=True)
class ChannelMigration:
    """What one channel did."""

    channel: str  # "display:0"
    channel_type: int
    channel_id: int
    source: Link | None = None  # None: it was not open at the source
    destination: Link | None = None  # the last attempt to link it there
    step: ChannelStep = ChannelStep.STAYING
    step_ns: int = 0  # since when
    migrate: Evidence | None = None
    flags: int | None = None  # of MIGRATE: 1 NEED_FLUSH, 2 NEED_DATA_TRANSFER
    flush_mark: Evidence | None = None
    data_from_source: Payload | None = None
    data_to_destination: Payload | None = None
    early_from_destination: int = 0  # messages that the destination sent before the switch
    first_early_from_destination: Evidence | None = None
    last_from_source: Evidence | None = None  # the last message of any kind
    first_from_destination: Evidence | None = None  # the first one after the switch
    last_seen_from_source: Evidence | None = None  # the last one that the user could have seen
    first_seen_from_destination: Evidence | None = None
    source_closed: Closing | None = None
    destination_closed: Closing | None = None
    damaged: bool = False  # bytes of it are missing in the capture
    crossing: Crossing = field(default_factory=Crossing)

    @property
    def source_linked(self) -> bool:
        """Whether it was open at the source."""
        return self.source is not None and self.source.linked_ns is not None

    @property
    def destination_linked(self) -> bool:
        """Whether it got through the link phase at the destination."""
        return self.destination is not None and self.destination.linked_ns is not None

    @property
    def flag_names(self) -> list[str]:
        """The flags of its MIGRATE."""
        flags = self.flags or 0
        names = [name for bit, name in ((1, "NEED_FLUSH"), (2, "NEED_DATA_TRANSFER")) if flags & bit]
        return [*names, *([f"{flags & ~3:#x}"] if flags & ~3 else [])]

    @property
    def data_equal(self) -> bool | None:
        """Whether the destination got the bytes that the source sent; None if one of them is not known."""
        sent, got = self.data_from_source, self.data_to_destination
        if sent is None or got is None or sent.digest is None or got.digest is None:
            return None
        return sent.digest == got.digest

    @property
    def pause_ms(self) -> float | None:
        """How long the user saw nothing new on it: from the last visible message here to the first one there."""
        last, first = self.last_seen_from_source, self.first_seen_from_destination
        return None if last is None or first is None else (first.time_ns - last.time_ns) / 1e6


class Waiting(NamedTuple):
    """Somebody waits."""

    who: Party
    what: str  # "FLUSH_MARK"
    whom: Party  # who would have to send it
    channel: str | None  # None: no channel in particular
    since_ns: int
    deadline_ns: int | None  # when `who` gives up, by the protocol; None: never
    text: str  # all of it in one sentence


class Share(StrEnum):
    """What a fault has to do with a breach of a rule, from the surest on."""

    MADE = "made"  # the message that is wrong is the fault's own
    CHANGED = "changed"  # it had a hand in a message that shows the breach
    CHANNEL = "channel"  # it has fired on that channel before
    SESSION = "session"  # it has fired elsewhere in the session before


class Cause(NamedTuple):
    """The fault that may be behind a breach."""

    fault: str  # its name
    share: Share


@dataclass(slots=True)
class Violation:
    """A rule of the protocol was broken."""

    rule: str  # "R28"
    by: Party
    severity: Severity
    message: str
    evidence: list[Evidence] = field(default_factory=list)
    channel: str | None = None
    session: str | None = None  # if it belongs to no migration: in which session it was
    cause: Cause | None = None  # None: no fault was injected before

    @property
    def counts(self) -> bool:
        """Whether a peer broke the rule, and would be to blame: not where it was said by a fault, or made of what it said."""
        injected = self.cause is not None and self.cause.share in {Share.MADE, Share.CHANGED}
        return self.severity is Severity.ERROR and not injected


@dataclass(slots=True)
class Diagnosis:
    """What went wrong, in words, and what to look at next."""

    code: str  # "too-early-migrate"
    text: str
    channels: list[str] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    next: str = ""


# Keys of `Migration.times_ms`; a time that cannot be known is not there.
TIMES: Final[dict[str, str]] = {
    "handshake": "from BEGIN to the client's reply",
    "reply_to_end": "from the reply to MIGRATE, MIGRATE_END, CANCEL or SWITCH_HOST: the guest moves",
    "migrate_to_flush": "from MIGRATE to FLUSH_MARK, the longest of all channels",
    "data_transit": "from MIGRATE_DATA out of the source to MIGRATE_DATA into the destination, the longest of all channels",
    "switch": "from the source's last word on how it ends to the last channel that changed over",
    "pause": "the longest pause of a channel on which the user saw or heard something in the second before the switch",
    "unseen": "from the last message of the source that the user could have seen, on any channel, to the first one of the "
    "destination",
    "source_left": "from the source's last word to the end of its last connection",
    "total": "from BEGIN, or SWITCH_HOST if there was none, to the end",
}


@dataclass(slots=True)
class Migration:
    """One attempt to move a session's client from one server to the next."""

    session: str
    number: int  # from 1 within the session
    source_hop: int
    destination_hop: int
    started_ns: int
    ended_ns: int | None = None
    source_address: str = ""
    destination_address: str = ""  # as dialled, if it was; else as announced
    session_id: int | None = None  # of the source's MAIN_INIT
    source_caps: str = ""  # "mini" or "full" header and so on, for people
    offered: Offer | None = None  # None: the capture begins later than the migration
    handshake: Handshake = field(default_factory=Handshake)
    agreed: Kind | None = None
    agreed_reason: str = ""
    ending: Ending = field(default_factory=Ending)
    performed: Kind | None = None
    phase: Phase = Phase.CONNECTING
    phases: list[tuple[Phase, int]] = field(default_factory=list)  # entered when
    outcome: Outcome | None = None
    reason: str = ""
    channels: dict[str, ChannelMigration] = field(default_factory=dict)
    waiting: list[Waiting] = field(default_factory=list)  # at its end, or when it was last looked at
    stalled_ns: int | None = None  # since when nothing has moved, if it was noticed to stand still
    losses: list[str] = field(default_factory=list)  # what the client lost though it got there, in words
    times_ms: dict[str, float] = field(default_factory=dict)
    messages: list[Evidence] = field(
        default_factory=list
    )  # main in full, of other channels those of the migration
    left_out: int = 0  # messages that `messages` had no room for
    violations: list[Violation] = field(default_factory=list)
    diagnoses: list[Diagnosis] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)  # parts that the capture has not, in words
    torn: bool = False  # some of these may be of any channel

    @property
    def blocking(self) -> list[str]:
        """The channels that somebody waits for, in order."""
        return list(dict.fromkeys(each.channel for each in self.waiting if each.channel is not None))
