"""What all connections of a proxy share, and what the user told it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spiceproxy.address import Address
from spiceproxy.buffers import BufferPool
from spiceproxy.destinations import Destinations
from spiceproxy.eventlog import EventLog
from spiceproxy.following import MigrationFollower
from spiceproxy.protocol.migration.connections import Judge
from spiceproxy.protocol.migration.rules import RuleJudge
from spiceproxy.protocol.migration.settings import Settings
from spiceproxy.protocol.session import Sessions
from spiceproxy.recording.recorder import Recorder
from spiceproxy.watching import Watching
from spiceproxy.ways.dialing import Dialer
from spiceproxy.ways.mode import WaysIn

if TYPE_CHECKING:  # it looks at this module itself
    from spiceproxy.control.options import ControlOptions
    from spiceproxy.injection import Faults, Injector

LOOPBACK: Final = Address("127.0.0.1", 0)


@dataclass(frozen=True)
class ProxyConfig:
    """What a proxy is told. Times in seconds."""

    server: Address  # `ways.mode.ANYWHERE` where clients say where they go
    listen: Address = LOOPBACK
    advertise: str | None = (
        None  # host clients are sent to; None: the address by which they reached the proxy
    )
    destination_ports: range | None = None  # None: any free port
    record: Path | None = None
    events: EventLog = field(default_factory=EventLog)
    connect_timeout_s: float = 10.0  # as the clients' own: spice-gtk gives a channel 10 s to connect
    link_timeout_s: float = 60.0
    judge: Callable[[], Judge] | None = RuleJudge  # makes what checks the rules of a session's migrations
    patience: Settings = field(default_factory=Settings)  # when a migration counts as standing still
    ways: WaysIn = field(default_factory=WaysIn)  # how clients come here, and by what we reach the server
    faults: "Faults | None" = None  # what to break; None: nothing, and there never will be, but for `control`
    control: "ControlOptions | None" = None  # where it is controlled from; None: nowhere


@dataclass(frozen=True)
class Shared:
    """One of each for a whole proxy."""

    config: ProxyConfig
    destinations: Destinations
    recorder: Recorder | None
    follower: MigrationFollower
    dialer: Dialer
    sessions: Sessions
    injector: "Injector | None" = None
    pool: BufferPool = field(default_factory=BufferPool)
    watching: Watching = field(default_factory=Watching)

    @property
    def log(self) -> EventLog:
        """The event log, bound to nothing."""
        return self.config.events
