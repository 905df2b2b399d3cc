"""What the demo is asked to do, what it tells, and how it ended."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from spiceproxy.control.options import ControlOptions
from spiceproxy.faults.scenarios import Lab, Outcome, Scenario
from spiceproxy.filter import Filter
from spiceproxy.injection import Faults
from spiceproxy.protocol.migration.model import Kind
from spiceproxy.report.verdict import Report

EventKind = Literal["phase", "message", "routine", "sum", "link", "proxy"]
MigrationKind = Literal["seamless", "semi-seamless", "switch-host", "none"]
# What simulated servers can have besides.
MORE_CHANNELS: Final = frozenset({"port"})
KINDS: Final[tuple[MigrationKind, ...]] = ("seamless", "semi-seamless", "switch-host")


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to show.

    Attributes:
        migration: How the client is to follow the guest.
        hops: Migrations in a row.
        record: Where the proxy records the session, as pcapng.
        events: Where the proxy writes its event log, as JSON lines.
        events_filter: Which of them; None for all.
        expected: What the report holds each migration against.
        faults: What the proxy breaks on the way; then a migration that fails is a result, and no error.
        control: Where the proxy is controlled from, while it lasts.
        tls: With TLS on both sides of the proxy.
        course: What happens besides a plain migration, where there are faults.
        channels: More of them than usual.
        other_server: Have a server that has nothing to do with the migration: ${other_host} and ${other_port}.
        ticket: The servers ask for a password, which the client knows.
        time_limit_s: For all of it, where there are faults: whoever has not got on by then never will.
    """

    migration: MigrationKind = "seamless"
    hops: int = 1
    record: Path | None = None
    events: Path | None = None
    events_filter: Filter | None = None
    expected: Kind | None = None
    faults: Faults | None = None
    control: ControlOptions | None = None
    tls: bool = False
    course: Lab = field(default_factory=Lab)
    channels: tuple[str, ...] = ()
    other_server: bool = False
    ticket: bool = False
    time_limit_s: float = 20.0


def for_scenario(
    options: DemoOptions, scenario: Scenario, *, migration: MigrationKind | None = None
) -> DemoOptions:
    """The options with what a scenario needs, as far as a demo can have it.

    Args:
        options: Of the demo.
        scenario: Of the catalog; its faults are in `options` already.
        migration: Instead of the one that it needs.
    """
    needs = scenario.needs
    offered = tuple(name for name in needs.channels if name in MORE_CHANNELS)
    return replace(
        options,
        migration=migration or needs.migration,
        course=scenario.lab,
        channels=(*options.channels, *(each for each in offered if each not in options.channels)),
        other_server=options.other_server or needs.other_server,
        ticket=options.ticket or needs.ticket,
    )


@dataclass(frozen=True, slots=True)
class Happening:
    """One thing that happened.

    Attributes:
        event: ``phase`` (what the demo does), ``message`` (passed from one peer to the other), ``routine`` (the same, of
            the kind that never ends), ``sum`` (of routine messages), ``link`` (a connection is up), or ``proxy`` (what the
            proxy did or noticed besides).
        time_s: Since the demo began.
        sender, receiver: s1, s2 ..., or c.
        message: C name.
        size: Bytes of its body.
        meaning: In plain words.
    """

    event: EventKind
    time_s: float
    meaning: str
    sender: str = ""
    receiver: str = ""
    channel: str = ""
    message: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class ChannelPlace:
    """Where a channel began and where it is now.

    Attributes:
        was, now: The server's name and address, as the proxy and the server itself say; empty if nowhere.
        connection: The proxy's number for the connection on which it is now; empty if it is not on the proxy.
        header: ``mini`` or ``full``.
        from_server, from_client: Messages that the proxy has relayed on that connection.
    """

    channel: str
    was: str
    now: str
    connection: str
    header: str
    from_server: int
    from_client: int


@dataclass(frozen=True, slots=True)
class HopResult:
    """One migration.

    Attributes:
        outcome: As the client lived it: seamless, semi-seamless, switch-host, cancelled or pending.
        told: What the source told the client at the end.
        duration_s: From the announcement of the destination to the last channel's arrival.
    """

    source: str
    destination: str
    outcome: str
    told: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class DemoResult:
    """How the demo ended.

    Attributes:
        ok: Every migration ended as asked, and every channel moved and is still on the proxy; with faults: there is an
            outcome.
        verdict: That in one sentence.
        reasons: What is wrong if not.
        report: On the migrations, as the proxy saw them.
        outcome: With faults: how it ended, as scenarios have it.
        findings: With faults: what the peers said of each other.
    """

    ok: bool
    verdict: str
    reasons: list[str]
    migration: str
    hops: list[HopResult]
    channels: list[ChannelPlace]
    duration_s: float
    recording: str | None = None
    report: Report | None = None
    outcome: Outcome | None = None
    findings: list[str] = field(default_factory=list)
