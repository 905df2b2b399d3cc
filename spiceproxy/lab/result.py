"""What a run of the lab found out, and what it is asked to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from spiceproxy.control.options import ControlOptions
from spiceproxy.filter import Filter
from spiceproxy.injection import Faults
from spiceproxy.report.verdict import Report


class MigrationKind(StrEnum):
    """The three ways in which a SPICE client can follow a guest."""

    SEAMLESS = "seamless"
    SEMI_SEAMLESS = "semi-seamless"
    SWITCH_HOST = "switch-host"


class ClientKind(StrEnum):
    """The clients that the lab can start."""

    SPICY = "spicy"
    REMOTE_VIEWER = "remote-viewer"
    SIMULATED = "simulated"

    @property
    def opens_webdav(self) -> bool:
        """Whether it opens the webdav channel when the server offers one.

        remote-viewer waits until the user shares a directory. But when a migration begins, spice-gtk (0.42,
        migrate_channel_connect()) also connects the channel that was never opened, and then waits for its MIGRATE: the
        client never leaves the source, which drops it after 10 s, and the next migration has no client that answers.
        """
        return self is not ClientKind.REMOTE_VIEWER


class Picture(StrEnum):
    """What the client showed of the guest; without a screen, whether drawing commands reached it."""

    MOVING = "moving"  # the guest's picture, and it changes: the display channel is alive
    STILL = "still"  # the guest's picture as it once was
    ABSENT = "absent"
    UNSEEN = "unseen"  # nobody has looked


class Traffic(StrEnum):
    """What a session may be filled with."""

    DRAWING = "drawing"  # every drawing operation, images of every format, surfaces, pointer shapes
    VIDEO = "video"  # a photograph that moves, for spice-server to take for a video
    SOUND = "sound"  # a tone from the guest; what the client's microphone hears
    INPUT = "input"  # keys, mouse and wheel of the client
    CLIPBOARD = "clipboard"  # a made-up text each way, by a guest agent
    PORT = "port"  # lines of text from the guest on a port channel
    WEBDAV = "webdav"  # the guest asks for a directory that the client shares
    USB = "usb"  # the client redirects a CD drive that it emulates


class Course(StrEnum):
    """What happens to the first migration of a run. How each is played and what it comes to: courses.PLANS."""

    PLAIN = "plain"  # nothing
    CANCEL = "cancel"  # migrate_cancel while the guest moves
    UNREACHABLE = "unreachable"  # nobody listens where the client is sent
    SILENT = "silent"  # no answer at all from where the client is sent
    TOO_EARLY = "too-early"  # `migrate` at once after client_migrate_info
    TWICE = "twice"  # a second client_migrate_info when the client has replied to the first
    HANGING = "hanging"  # the destination stands still while the client connects
    WRONG_TICKET = "wrong-ticket"  # the destination has another password
    EXPIRED_TICKET = "expired-ticket"  # the destination's password has expired
    KILL_BEFORE = "kill-before"  # the destination dies when the client has connected, before `migrate`
    KILL_DURING = "kill-during"  # the destination dies while the guest moves
    KILL_AFTER = "kill-after"  # the destination dies when the guest has moved
    KILL_SOURCE = "kill-source"  # the source dies while the guest moves
    KILL_SOURCE_BEFORE = "kill-source-before"  # when the client has connected, before `migrate`
    KILL_SOURCE_AFTER = "kill-source-after"  # when the guest has moved
    KILL_CLIENT_BEFORE = "kill-client-before"  # the client dies when it has connected, before `migrate`
    KILL_CLIENT_DURING = "kill-client-during"  # while the guest moves
    KILL_CLIENT_AFTER = "kill-client-after"  # when the guest has moved
    UNOPENED_WEBDAV = "unopened-webdav"  # webdav is offered to a client that does not open it
    IDLE_HEAD = (
        "idle-head"  # the guest leaves its second screen alone, and spicy does not open that one's pointer
    )
    MORE_ON_SOURCE = "more-on-source"  # the source has a channel that the destination has not
    MORE_ON_DESTINATION = "more-on-destination"  # and the other way round


@dataclass(frozen=True, slots=True)
class LabOptions:
    """One run."""

    migration: MigrationKind = MigrationKind.SEAMLESS
    course: Course = Course.PLAIN
    hops: int = 1  # 0: no migration at all
    back: bool = False  # every second hop comes back to the address of the first server
    ticket: bool = False  # the servers ask for a password
    tls: bool = False  # the servers have a TLS port, and no other
    sasl: str | None = None  # mechanism by which the servers ask for a user and password
    traffic: frozenset[Traffic] = frozenset()  # beside the guest's moving picture
    heads: int = 1  # screens of the guest
    one_adapter: bool = False  # all heads on one graphics adapter; otherwise each has its own
    spice: Mapping[str, str] = field(default_factory=dict)  # more of QEMU's -spice: image-compression ...
    preferred_compression: str | None = None  # of images, that the client asks for
    seconds: float = 0  # that the traffic goes on before the first migration and after each
    client: ClientKind = ClientKind.SPICY
    direct: bool = False  # without the proxy
    accelerators: tuple[str, ...] = ("kvm", "tcg")
    record: Path | None = None
    events: Path | None = None
    events_filter: Filter | None = None  # which of them; None for all
    screenshot: Path | None = None
    keep_logs: Path | None = None
    faults: Faults | None = None  # that the proxy injects
    control: ControlOptions | None = None  # where the proxy is controlled from


@dataclass(frozen=True, slots=True)
class ServerState:
    """What one QEMU says about itself."""

    name: str
    address: str
    guest: str  # query-status: "running", "postmigrate" ...
    migrated: bool  # query-spice
    channels: list[str]  # query-spice: "display:0"


@dataclass(frozen=True, slots=True)
class ChannelPlace:
    """Where one channel of the client is after a migration."""

    channel: str
    peer: str | None  # as the destination's query-spice names it; None: the destination has no such channel
    through_proxy: bool | None  # that peer is a socket of the proxy; None in a run without the proxy
    hop: int | None = (
        None  # by the proxy's own table: how many migrations this connection is away from the start
    )
    server: str | None = None  # by the proxy's own table
    messages: dict[str, int] | None = (
        None  # that passed on this connection so far, from "client" and "server"
    )


@dataclass(slots=True)
class HopResult:
    """One migration."""

    hop: int
    kind: str | None  # what passed through the proxy amounts to; None in a run without the proxy
    qmp_status: str  # query-migrate on the source
    total_ms: int | None
    downtime_ms: int | None
    completed_event: bool  # SPICE_MIGRATE_COMPLETED on the source
    session_kept: bool  # the destination's channels carry the connection id of the source's
    source: ServerState
    destination: ServerState
    channels: list[ChannelPlace]
    picture: Picture
    rewritten: list[str] = field(
        default_factory=list
    )  # messages that the proxy changed, "NAME: before -> after"
    client_hop: int = 0  # how many servers the client has left behind, if it has come along
    guest_on: str = ""  # by the way that it went: "the source", "the destination" or "nowhere"
    client_on: str = ""
    outcomes: tuple[tuple[str, ...], ...] = ()  # what a report may say of it
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class LabResult:
    """One run: `ok` if every migration ended as asked and every channel moved, and then `problems` is empty."""

    migration: MigrationKind
    course: Course
    hops: int
    client: ClientKind
    direct: bool
    ok: bool = False
    accelerator: str = ""
    channels: list[str] = field(default_factory=list)  # what the client had before the first migration
    migrations: list[HopResult] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    recording: str | None = None
    events: str | None = None
    screenshot: str | None = None
    duration_s: float = 0.0
    report: Report | None = (
        None  # on the migrations, as the proxy saw them, or else the capture of a direct run
    )
