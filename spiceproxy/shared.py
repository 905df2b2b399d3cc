"""What all connections of a proxy share, and what the user told it."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spiceproxy.address import Address
from spiceproxy.destinations import Destinations, Way
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import EventLog
from spiceproxy.following.follower import MigrationFollower
from spiceproxy.following.watching import Watching
from spiceproxy.limits import Gate, Limits
from spiceproxy.protocol.migration.connections import Judge
from spiceproxy.protocol.migration.rules import RuleJudge
from spiceproxy.protocol.migration.settings import Settings
from spiceproxy.protocol.session import Sessions
from spiceproxy.recording.options import RecordingOptions
from spiceproxy.recording.recordings import Recordings
from spiceproxy.relay.buffers import BufferPool
from spiceproxy.relay.fairness import Fairness
from spiceproxy.tickets import Tickets
from spiceproxy.tls.ends import Tls
from spiceproxy.tls.settings import TlsConfig
from spiceproxy.ways.dialing import Dialer
from spiceproxy.ways.inside_tls import Subjects
from spiceproxy.ways.mode import WaysIn

if TYPE_CHECKING:  # it looks at this module itself
    from spiceproxy.control.options import ControlOptions
    from spiceproxy.injection import Faults, Injector

LOOPBACK: Final = Address("127.0.0.1", 0)


@dataclass(frozen=True)
class ProxyConfig:
    """What a proxy is told. Times in seconds."""

    server: (
        Address | None
    )  # None: the first server is reached with TLS only; `ways.mode.ANYWHERE`: clients say which
    listen: Address | None = LOOPBACK  # None: clients come with TLS only
    inherited: socket.socket | None = None  # listens already, in the place of the first of `first_ways`
    advertise: str | None = (
        None  # host clients are sent to; None: the address by which they reached the proxy
    )
    destination_ports: range | None = None  # None: any free port
    record: Path | None = None
    recording: RecordingOptions = field(default_factory=RecordingOptions)
    events: EventLog = field(default_factory=EventLog)
    connect_timeout_s: float = 10.0  # as the clients' own: spice-gtk gives a channel 10 s to connect
    link_timeout_s: float = 60.0
    limits: Limits = field(default_factory=Limits)  # to begin with
    judge: Callable[[], Judge] | None = RuleJudge  # makes what checks the rules of a session's migrations
    patience: Settings = field(default_factory=Settings)  # when a migration counts as standing still
    ways: WaysIn = field(default_factory=WaysIn)  # how clients come here, and by what we reach the server
    faults: "Faults | None" = None  # what to break; None: nothing, and there never will be, but for `control`
    control: "ControlOptions | None" = None  # where it is controlled from; None: nowhere
    tickets: Tickets | None = None  # None: they pass through as they are, unread
    tls: TlsConfig | None = None  # None: a TLS port that a server names leads through unread

    @property
    def first_server(self) -> Address:
        """The server where sessions begin: its plain port, if it is used, else its TLS port."""
        return self.first_ways()[0][1].server

    def first_ways(self) -> list[tuple[Address, Way]]:
        """Where the proxy listens, and where that leads: to the server's port of the same kind, else to its other one."""
        plain, tls = self.server, self.tls
        secure = tls.server if tls is not None else None
        subject = tls.server_subject if tls is not None else None
        ways = []
        for listen, client_tls in ((self.listen, False), (tls.listen if tls is not None else None, True)):
            if listen is not None:
                server_tls = secure is not None and (client_tls or plain is None)
                server = secure if server_tls else plain
                if server is None:
                    raise UsageError("there is no server")
                ways.append((listen, Way(server, client_tls, server_tls, subject if server_tls else None)))
        return ways


@dataclass(frozen=True)
class Shared:
    """One of each for a whole proxy."""

    config: ProxyConfig
    destinations: Destinations
    recordings: Recordings | None
    follower: MigrationFollower
    gate: Gate
    dialer: Dialer
    sessions: Sessions
    subjects: Subjects
    injector: "Injector | None" = None
    tls: Tls | None = None
    offered: Mapping[bool, bool] = field(default_factory=lambda: {False: False})
    """How clients can come, with TLS or not, and whether that leads to TLS of the first server."""
    pool: BufferPool = field(default_factory=BufferPool)
    fairness: Fairness = field(default_factory=Fairness)
    watching: Watching = field(default_factory=Watching)

    @property
    def log(self) -> EventLog:
        """The event log, bound to nothing."""
        return self.config.events
