"""One migration, from client_migrate_info to what everybody says afterwards."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import trio

from dissectors.channels import channel_name
from spiceproxy.address import Address
from spiceproxy.connection import ConnectionView
from spiceproxy.lab.forwarder import Forwarder, start_forwarder
from spiceproxy.lab.procfs import connections_of
from spiceproxy.lab.qemu import HOST, Qemu
from spiceproxy.lab.result import (
    ChannelPlace,
    HopResult,
    LabOptions,
    MigrationKind,
    Picture,
    ServerState,
    judge,
)
from spiceproxy.lab.watch import EventWatch

_REPLY_S: Final = 15.0  # spice-server stops waiting for the client's answer after 10 s
_MIGRATION_S: Final = 60.0  # moving 128 MiB takes half a second
_COMPLETED_S: Final = 20.0  # spice-server drops a client that stays on the source after 10 s
_SETTLE_S: Final = 15.0
_POLL_S: Final = 0.05
# Without the proxy nobody tells us of CONNECT_ERROR; a refused connection on loopback takes milliseconds.
_DIRECT_REFUSAL_S: Final = 1.5

T = TypeVar("T")
# The proxy's connections of all sessions; none without a proxy.
Table = Callable[[], Iterable[ConnectionView]]


@dataclass(frozen=True, slots=True)
class Observer:
    """The eyes of the lab on one run."""

    options: LabOptions
    channels: Collection[str]  # what the client had before the first migration
    watch: EventWatch
    table: Table
    picture: Callable[[], Awaitable[Picture]]
    progress: Callable[[str], None]


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
        forwarder_port: Where a switch-host leads, which refuses connections at first; 0 for any.

    Raises:
        QmpError: The migration could not even be tried, or a QEMU stopped answering.
    """
    options, since = observer.options, len(observer.watch.events)
    before = await source.query_spice()
    forwarder = None
    if options.migration is MigrationKind.SWITCH_HOST:
        forwarder = await start_forwarder(nursery, HOST, destination.spice, forwarder_port)
    target = destination.spice if forwarder is None else forwarder.address
    observer.progress(f"{source.name}: client_migrate_info to {destination.name} at {target}")
    await source.qmp.execute("client_migrate_info", protocol="spice", hostname=target.host, port=target.port)
    await _client_is_ready(observer, since, channel_names(before), destination)
    if forwarder is not None:
        forwarder.open()
    observer.progress(f"{source.name}: migrate to {destination.name}")
    await source.qmp.execute("migrate", uri=destination.config.migration_uri)
    status = await until(partial(_finished, source), _MIGRATION_S) or {"status": "active"}
    moved = status["status"] == "completed"
    completed = moved and await _completed(source)

    async def look(picture: Picture = Picture.UNSEEN) -> HopResult:
        after = await destination.query_spice()
        result = HopResult(
            hop=hop,
            kind=observer.watch.kind(since=since),
            qmp_status=status["status"],
            total_ms=status.get("total-time"),
            downtime_ms=status.get("downtime"),
            completed_event=completed,
            session_kept=_session_ids(before) == _session_ids(after),
            source=await _state(source),
            destination=await _state(destination, after),
            channels=_places(observer, after, target, forwarder),
            picture=picture,
            rewritten=observer.watch.rewritten(since=since),
        )
        result.problems = judge(result, options.migration, observer.channels, direct=options.direct)
        return result

    async def settled() -> bool | None:
        return None if (await look()).problems else True

    await until(settled, _SETTLE_S if moved else 1)
    return await look(await observer.picture())


async def _client_is_ready(
    observer: Observer, since: int, channels: Collection[str], destination: Qemu
) -> None:
    """Wait until the client has tried to connect to the destination: `migrate` before that makes it a switch-host."""
    if not observer.options.direct:
        reply = await observer.watch.client_reply(since=since, timeout_s=_REPLY_S)
        observer.progress(
            f"client: {reply}" if reply else f"client: no answer in {_REPLY_S:g} s; migrating all the same"
        )
    elif observer.options.migration is MigrationKind.SWITCH_HOST:
        await trio.sleep(_DIRECT_REFUSAL_S)
    else:

        async def connected() -> bool | None:
            return True if set(channel_names(await destination.query_spice())) >= set(channels) else None

        await until(connected, 3)


async def _finished(source: Qemu) -> dict[str, Any] | None:
    status: dict[str, Any] = await source.qmp.execute("query-migrate")
    return status if status.get("status") in {"completed", "failed", "cancelled"} else None


async def _completed(source: Qemu) -> bool:
    """Whether SPICE_MIGRATE_COMPLETED has come: spice-server says so when the last client has left the source."""
    with trio.move_on_after(_COMPLETED_S):
        await source.qmp.wait_event("SPICE_MIGRATE_COMPLETED", _COMPLETED_S + 1)
        return True
    return False


async def _state(qemu: Qemu, spice: dict[str, Any] | None = None) -> ServerState:
    spice = spice or await qemu.query_spice()
    guest = (await qemu.qmp.execute("query-status"))["status"]
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
