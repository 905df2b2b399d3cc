"""What a run of the lab found out, and what it is asked to do."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from spiceproxy.filter import Filter
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


@dataclass(frozen=True, slots=True)
class LabOptions:
    """One run."""

    migration: MigrationKind = MigrationKind.SEAMLESS
    hops: int = 1  # 0: no migration at all
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
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class LabResult:
    """One run: `ok` if every migration ended as asked and every channel moved, and then `problems` is empty."""

    migration: MigrationKind
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


def judge(result: HopResult, asked: MigrationKind, channels: Collection[str], *, direct: bool) -> list[str]:
    """Return what is wrong with a migration, a sentence each; nothing if it ended as asked and every channel moved.

    Args:
        result: What was seen; its `problems` are not read.
        asked: Which kind of migration it should have been.
        channels: What the client had before.
        direct: Whether the run was without the proxy.
    """
    source, destination = result.source, result.destination
    problems = []
    if result.qmp_status != "completed":
        problems.append(f"QEMU's migration ended as {result.qmp_status!r}")
    if not result.completed_event:
        problems.append(f"{source.name} sent no SPICE_MIGRATE_COMPLETED")
    if not source.migrated:
        problems.append(f"{source.name} does not say migrated")
    if destination.guest != "running":
        problems.append(f"the guest is {destination.guest!r} on {destination.name}")
    if source.channels:
        problems.append(f"{source.name} still has {', '.join(source.channels)}")
    if not direct and result.kind != asked:
        problems.append(f"the migration was {result.kind or 'not finished'}, not {asked}")
    if destination.channels and result.session_kept == (asked is MigrationKind.SWITCH_HOST):
        state = "kept its session" if result.session_kept else "began a new session"
        problems.append(f"the client {state} on {destination.name}")
    places = {place.channel: place for place in result.channels}
    for channel in channels:
        place = places.get(channel)
        if place is None or place.peer is None:
            problems.append(f"{channel} is not connected to {destination.name}")
        elif not direct:
            if not place.through_proxy:
                problems.append(
                    f"{channel} is connected to {destination.name} past the proxy, from {place.peer}"
                )
            if place.server is None:
                problems.append(f"the proxy has no open connection for {channel} to {destination.name}")
            elif place.hop != result.hop:
                problems.append(f"the proxy has {channel} on hop {place.hop}, not {result.hop}")
    if result.picture in {Picture.ABSENT, Picture.STILL}:
        state = "is not on the client's screen" if result.picture is Picture.ABSENT else "stands still"
        problems.append(f"the guest's picture {state}")
    return problems
