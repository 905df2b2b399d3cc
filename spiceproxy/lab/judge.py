"""The verdict on one migration: did it go as its course should?"""

from collections.abc import Collection, Iterator, Sequence
from itertools import chain, product

from spiceproxy.lab.courses import Expected, Place
from spiceproxy.lab.result import HopResult, Picture


def judge(
    result: HopResult, ways: Sequence[Expected], channels: Collection[str], *, direct: bool
) -> tuple[Expected, list[str]]:
    """Return the way that a migration went, and what is wrong with it: a sentence each, nothing if all is as it should be.

    Args:
        result: What was seen; its `problems` are not read.
        ways: In which it may go, one or more; the one that fits best is taken.
        channels: What the client had before.
        direct: Whether the run was without the proxy.
    """
    verdicts = [(way, list(_problems(result, way, channels, direct=direct))) for way in ways]
    return min(verdicts, key=lambda verdict: len(verdict[1]))


def judge_report(hops: Sequence[HopResult], outcomes: Sequence[str]) -> list[str]:
    """Return in what a report contradicts what was seen: nothing if each migration has an outcome that it may have.

    Args:
        hops: The migrations, as QEMU and the client's screen show them.
        outcomes: What the report says of each attempt, in order.
    """
    said = tuple(outcomes)
    ways = [tuple(chain.from_iterable(way)) for way in product(*(hop.outcomes for hop in hops))]
    if said in ways:
        return []
    allowed = " or ".join(", ".join(way) for way in ways)
    return [f"the report says {', '.join(said) or 'nothing'}, not {allowed}"]


def _problems(result: HopResult, way: Expected, channels: Collection[str], *, direct: bool) -> Iterator[str]:
    if result.qmp_status != way.qmp_status:
        yield f"QEMU's migration ended as {result.qmp_status!r}"
    if not direct and result.kind != way.kind:
        yield f"the migration was {result.kind or 'not finished'}, not {way.kind or 'left unfinished'}"
    if way.qmp_status == "completed":
        yield from _left(result)
    yield from _guest(result, way.guest)
    if way.client is Place.DESTINATION:
        yield from _arrived(result, way, channels, direct=direct)
    elif way.client is Place.SOURCE:
        yield from _stayed(result, channels)
    else:
        for server in (result.source, result.destination):
            if server.channels:
                yield f"the client is still on {server.name}, with {', '.join(server.channels)}"
    if way.client is not Place.NOWHERE and result.picture in {Picture.ABSENT, Picture.STILL}:
        state = "is not on the client's screen" if result.picture is Picture.ABSENT else "stands still"
        yield f"the guest's picture {state}"


def _left(result: HopResult) -> Iterator[str]:
    source = result.source
    if not result.completed_event:
        yield f"{source.name} sent no SPICE_MIGRATE_COMPLETED"
    if not source.migrated:
        yield f"{source.name} does not say migrated"
    if source.channels:
        yield f"{source.name} still has {', '.join(source.channels)}"


def _guest(result: HopResult, place: Place) -> Iterator[str]:
    for server, here in ((result.source, Place.SOURCE), (result.destination, Place.DESTINATION)):
        if place is here and server.guest != "running":
            yield f"the guest is {server.guest!r} on {server.name}"
        elif place is not here and server.guest == "running":
            yield f"the guest runs on {server.name}"


def _arrived(result: HopResult, way: Expected, channels: Collection[str], *, direct: bool) -> Iterator[str]:
    destination = result.destination
    if destination.channels and result.session_kept == way.new_session:
        state = "kept its session" if result.session_kept else "began a new session"
        yield f"the client {state} on {destination.name}"
    places = {place.channel: place for place in result.channels}
    for channel in channels:
        place = places.get(channel)
        if channel.partition(":")[0] in way.missing:
            if place is not None and place.peer is not None:
                yield f"{channel} is connected to {destination.name}, which has no such channel"
        elif place is None or place.peer is None:
            yield f"{channel} is not connected to {destination.name}"
        elif not direct:
            if not place.through_proxy:
                yield f"{channel} is connected to {destination.name} past the proxy, from {place.peer}"
            if place.server is None:
                yield f"the proxy has no open connection for {channel} to {destination.name}"
            elif place.hop != result.client_hop:
                yield f"the proxy has {channel} on hop {place.hop}, not {result.client_hop}"


def _stayed(result: HopResult, channels: Collection[str]) -> Iterator[str]:
    if result.destination.channels:
        yield f"{result.destination.name} has {', '.join(result.destination.channels)}"
    if missing := sorted(set(channels) - set(result.source.channels)):
        yield f"{result.source.name} has lost {', '.join(missing)}"
