"""One migration, from client_migrate_info to what everybody says afterwards."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import trio

from dissectors.channels import channel_name
from spiceproxy.address import Address
from spiceproxy.lab.courses import Act, Expected, Moment, Place, Plan, Target
from spiceproxy.lab.errors import QmpError
from spiceproxy.lab.forwarder import Forwarder, silent_port, start_forwarder
from spiceproxy.lab.judge import judge
from spiceproxy.lab.procfs import connections_of
from spiceproxy.lab.qemu import HOST, Qemu
from spiceproxy.lab.result import (
    ChannelPlace,
    HopResult,
    LabOptions,
    Picture,
    ServerState,
)
from spiceproxy.lab.secured import subject_of
from spiceproxy.lab.watch import EventWatch
from spiceproxy.relay.connection import ConnectionView

_REPLY_S: Final = 15.0  # spice-server stops waiting for the client's answer after 10 s
_MIGRATION_S: Final = 60.0  # moving 128 MiB takes half a second
_COMPLETED_S: Final = 20.0  # spice-server drops a client that stays on the source after 10 s
_SETTLE_S: Final = 15.0
_POLL_S: Final = 0.05
_FAST_BYTES: Final = 2**33
_DOWNTIME_MS: Final = 2000  # longer than the move takes: the guest is stopped at once
_SLOW_BYTES: Final = 2**18  # a second: the guest takes far longer than anything that is done to it meanwhile
# Without the proxy nobody tells us of CONNECT_ERROR; a refused connection on loopback takes milliseconds.
_DIRECT_REFUSAL_S: Final = 1.5

T = TypeVar("T")
# The proxy's connections of all sessions; none without a proxy.
Table = Callable[[], Iterable[ConnectionView]]


@dataclass(frozen=True, slots=True)
class Observer:
    """The eyes of the lab on one run."""

    options: LabOptions
    plan: Plan
    ways: Sequence[Expected]
    client_hop: int  # where the proxy will see the client if it comes along
    channels: Collection[str]  # what the client had before the first migration
    watch: EventWatch
    table: Table
    picture: Callable[[], Awaitable[Picture]]
    progress: Callable[[str], None]
    kill_client: Callable[[], Awaitable[None]] | None = None


async def until(check: Callable[[], Awaitable[T | None]], timeout_s: float) -> T | None:
    """Ask again and again until the answer is not None; None if it still is after `timeout_s` seconds."""
    with trio.move_on_after(timeout_s):
        while True:
            if (answer := await check()) is not None:
                return answer
            await trio.sleep(_POLL_S)
    return None


async def migrate(
    nursery: trio.Nursery,
    hop: int,
    source: Qemu,
    destination: Qemu,
    observer: Observer,
    forwarder_port: int = 0,
) -> HopResult:
    """Migrate the guest and its client from `source` to `destination` and find out where everything is then.

    Args:
        nursery: Where what must outlive this migration goes on running.
        hop: Which migration of the run this is, from 1.
        source: Where the guest runs and the client is.
        destination: A QEMU that was started as incoming.
        observer: How to look at the client and the proxy.
        forwarder_port: Where the client is sent if not to the destination itself; 0 for any.

    Raises:
        QmpError: The migration could not even be tried, or a QEMU stopped answering.
    """
    since, plan = len(observer.watch.events), observer.plan
    before = await source.query_spice()
    forwarder = None
    with ExitStack() as stack:
        if plan.target in {Target.REFUSES, Target.REFUSES_AT_FIRST}:
            forwarder = await start_forwarder(nursery, HOST, destination.spice, forwarder_port)
            target = forwarder.address
        elif plan.target is Target.SILENT:
            target = stack.enter_context(silent_port(HOST, forwarder_port))
        else:
            target = destination.spice
        status = await play(source, destination, observer, target, forwarder, channel_names(before))
        moved = status["status"] == "completed"
        completed = moved and await completed_event(source)

    async def look(picture: Picture = Picture.UNSEEN) -> HopResult:
        after = await _spice(destination)
        result = HopResult(
            hop=hop,
            kind=observer.watch.kind(since=since),
            qmp_status=status["status"],
            total_ms=status.get("total-time"),
            downtime_ms=status.get("downtime"),
            completed_event=completed,
            session_kept=_session_ids(before) == _session_ids(after),
            source=await _state(source, await _spice(source)),
            destination=await _state(destination, after),
            channels=_places(observer, after, target, forwarder),
            picture=picture,
            rewritten=observer.watch.rewritten(since=since),
            client_hop=observer.client_hop,
        )
        way, result.problems = judge(result, observer.ways, observer.channels, direct=options.direct)
        result.guest_on, result.client_on, result.outcomes = way.guest, way.client, way.outcomes
        return result

    async def settled() -> bool | None:
        return None if (await look()).problems else True

    options = observer.options
    await until(settled, _SETTLE_S)
    result = await look()
    return result if result.client_on is Place.NOWHERE else await look(await observer.picture())


async def play(
    source: Qemu,
    destination: Qemu,
    observer: Observer,
    target: Address,
    forwarder: Forwarder | None,
    channels: Collection[str],
) -> dict[str, Any]:
    """Do what the plan says; return what `query-migrate` says in the end.

    Args:
        source: Where the guest runs.
        destination: A QEMU that was started as incoming.
        observer: Its plan, and how to see the client's reply.
        target: Where the client is sent.
        forwarder: What listens there, if that is not the destination.
        channels: What the client has.
    """
    plan = observer.plan
    if plan.hangs:
        destination.child.stand_still(True)
    try:
        await _announce(source, destination, observer, target, channels)
        if plan.twice:
            await _announce(source, destination, observer, target, channels)
    finally:
        if plan.hangs:
            destination.child.stand_still(False)
    if forwarder is not None and plan.target is Target.REFUSES_AT_FIRST:
        forwarder.open()
    stroke = plan.stroke

    async def struck(moment: Moment) -> bool:
        """Do what is to be done now, if anything is; whether the source has died of it, or by itself."""
        if stroke is not None and stroke.moment is moment:
            if moment is Moment.MOVING:
                await until(partial(_moving, source), _MIGRATION_S)
            await _strike(stroke.act, source, destination, observer)
        return source.gone

    if await struck(Moment.CONNECTED):
        return {"status": "gone"}
    if plan.hurried:
        await source.qmp.execute(
            "migrate-set-parameters", max_bandwidth=_FAST_BYTES, downtime_limit=_DOWNTIME_MS
        )
    if stroke is not None and stroke.moment is Moment.MOVING:
        await source.qmp.execute("migrate-set-parameters", max_bandwidth=_SLOW_BYTES)
    observer.progress(f"{source.name}: migrate to {destination.name}")
    await source.qmp.execute("migrate", uri=destination.config.migration_uri)
    if await struck(Moment.MOVING):
        return {"status": "gone"}
    status = await until(partial(_finished, source), _MIGRATION_S) or {"status": "active"}
    return {"status": "gone"} if await struck(Moment.MOVED) else status


async def _announce(
    source: Qemu, destination: Qemu, observer: Observer, target: Address, channels: Collection[str]
) -> None:
    """Tell the client where to go, and wait for its answer if the plan has so much patience."""
    since = len(observer.watch.events)
    observer.progress(f"{source.name}: client_migrate_info to {destination.name} at {target}")
    ports: dict[str, Any] = {"port": target.port}
    if observer.options.tls:  # QEMU's word for no plain port is 65535, which spice-gtk would dial
        ports = {"port": 0, "tls-port": target.port, "cert-subject": subject_of(destination.name)}
    await source.qmp.execute("client_migrate_info", protocol="spice", hostname=target.host, **ports)
    if observer.plan.patient:
        await _client_is_ready(observer, since, channels, destination)


async def _strike(act: Act, source: Qemu, destination: Qemu, observer: Observer) -> None:
    if act is Act.KILL_CLIENT:
        assert observer.kill_client is not None  # noqa: S101  who plans this can do it
        observer.progress("client: killed")
        await observer.kill_client()
        return
    destination.child.may_fail = True  # QEMU ends when what it receives ends too early
    if act is Act.CANCEL:
        observer.progress(f"{source.name}: migrate_cancel")
        await source.qmp.execute("migrate_cancel")
        await source.qmp.execute("migrate-set-parameters", max_bandwidth=_FAST_BYTES)
        return
    victim = source if act is Act.KILL_SOURCE else destination
    observer.progress(f"{victim.name}: killed")
    await victim.kill()


async def _client_is_ready(
    observer: Observer, since: int, channels: Collection[str], destination: Qemu
) -> None:
    """Wait until the client has tried to connect to the destination: `migrate` before that is too early for it."""
    if not observer.options.direct:
        reply = await observer.watch.client_reply(since=since, timeout_s=_REPLY_S)
        observer.progress(
            f"client: {reply}" if reply else f"client: no answer in {_REPLY_S:g} s; migrating all the same"
        )
        return
    if observer.plan.target is Target.REFUSES_AT_FIRST or observer.plan.target is Target.REFUSES:
        await trio.sleep(_DIRECT_REFUSAL_S)
        return
    if observer.plan.hangs or observer.plan.target is Target.SILENT:
        await trio.sleep(_REPLY_S)
        return

    async def connected() -> bool | None:
        return True if set(channel_names(await destination.query_spice())) >= set(channels) else None

    await until(connected, 3)


async def _moving(source: Qemu) -> bool | None:
    status: dict[str, Any] = await source.qmp.execute("query-migrate")
    return True if status.get("ram", {}).get("transferred", 0) > 0 else None


async def _finished(source: Qemu) -> dict[str, Any] | None:
    status: dict[str, Any] = await source.qmp.execute("query-migrate")
    return status if status.get("status") in {"completed", "failed", "cancelled"} else None


async def completed_event(source: Qemu) -> bool:
    """Whether SPICE_MIGRATE_COMPLETED has come: spice-server says so when the last client has left the source."""
    with trio.move_on_after(_COMPLETED_S):
        await source.qmp.wait_event("SPICE_MIGRATE_COMPLETED", _COMPLETED_S + 1)
        return True
    return False


async def _spice(qemu: Qemu) -> dict[str, Any]:
    """What it says of its channels; nothing if it is gone."""
    try:
        return await qemu.query_spice()
    except QmpError:
        if not qemu.child.may_fail:
            raise
        return {}


async def _state(qemu: Qemu, spice: dict[str, Any]) -> ServerState:
    try:
        guest = (await qemu.qmp.execute("query-status"))["status"]
    except QmpError:
        if not qemu.child.may_fail:
            raise
        guest = "gone"
    return ServerState(qemu.name, str(qemu.spice), guest, bool(spice.get("migrated")), channel_names(spice))


def channel_names(spice: dict[str, Any]) -> list[str]:
    """Return the channels of a `query-spice` answer as "display:0", sorted."""
    return sorted(_name(channel) for channel in spice.get("channels", ()))


def _name(channel: dict[str, Any]) -> str:
    return f"{channel_name(channel['channel-type'])}:{channel['channel-id']}"


def _session_ids(spice: dict[str, Any]) -> set[int]:
    return {channel["connection-id"] for channel in spice.get("channels", ())}


def _places(
    observer: Observer, spice: dict[str, Any], target: Address, forwarder: Forwarder | None
) -> list[ChannelPlace]:
    """Put together what the destination says of its peers with what the kernel and the proxy say of them."""
    ours = (
        set()
        if observer.options.direct
        else {local for local, remote in connections_of() if remote == target}
    )
    table = {(entry.upstream, entry.channel): entry for entry in observer.table() if entry.state == "open"}
    served = {
        _name(channel): Address(channel["host"], int(channel["port"]))
        for channel in spice.get("channels", ())
    }
    places = []
    for channel in sorted({*observer.channels, *served}):
        peer = served.get(channel)
        origin = peer if forwarder is None or peer is None else forwarder.origin(peer)
        entry = table.get((origin, channel))
        places.append(
            ChannelPlace(
                channel,
                peer=None if peer is None else str(peer),
                through_proxy=None if observer.options.direct else origin in ours,
                hop=None if entry is None else entry.hop,
                server=None if entry is None else str(entry.server),
                messages=None if entry is None else dict(entry.messages),
            )
        )
    return places
