"""Faults that were injected, as reports tell of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spiceproxy.reading.style import printable
from spiceproxy.report.words import Clock, short_name


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """A fault that has fired.

    Attributes:
        fault: Its name.
        actions: What it did, in a few words.
        name: The message's C name, or the moment; "" where a recording does not say it.
        session: Where: of the proxy, as "s1".
        connection: As "c5".
        channel: As "display:0".
        hop: Of the connection.
        time_ns: When, nanoseconds since 1970.
        firing: Which firing of this fault it was, from 1.
        migration: The session's present or last migration; None before the first.
        failed: What of it could not be carried out.
    """

    fault: str
    actions: str
    name: str
    session: str
    connection: str
    channel: str
    hop: int
    time_ns: int
    firing: int
    migration: int | None = None
    failed: str = ""


def rows(faults: Sequence[InjectedFault], clock: Clock) -> Iterator[tuple[str, str]]:
    """For each fault when and where it fired, and what it did; repetitions of one fault on one channel are one row."""
    groups: dict[tuple[str, ...], list[InjectedFault]] = {}
    for each in faults:
        same = each.session, str(each.migration), each.fault, each.name, each.connection, each.failed
        groups.setdefault(same, []).append(each)
    for found in groups.values():
        first = found[0]
        where = f"{first.session} {first.connection} {first.channel} hop {first.hop}"
        more = f", {len(found)} times until {clock.moment(found[-1].time_ns)}" if len(found) > 1 else ""
        failed = f"; failed: {first.failed}" if first.failed else ""
        at = f" at {short_name(first.name, first.channel)}" if first.name else ""
        what = f"{first.fault}: {first.actions}{at}{more}{failed}"
        yield f"{clock.moment(first.time_ns)} {where}", printable(what)
