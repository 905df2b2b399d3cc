"""How times, messages and those who sent them are written in a report."""

from typing import Final, NamedTuple

from dissectors.side import Side
from spiceproxy.protocol.migration.model import Evidence, Migration, Share, Violation
from spiceproxy.reading.style import printable

ARROWS: Final = {Side.SERVER: "s→c", Side.CLIENT: "c→s"}
# From here on tenths of a millisecond say nothing.
LONG_MS: Final = 10_000


def duration(ms: float) -> str:
    """A time with its unit."""
    return f"{ms / 1000:.1f} s" if abs(ms) >= LONG_MS else f"{ms:.1f} ms"


def milliseconds(ms: float) -> str:
    """The same for columns that name the unit at their head."""
    return f"{ms:.0f}" if abs(ms) >= LONG_MS else f"{ms:.1f}"


def short_name(name: str, channel: str) -> str:
    """Of a message, as `spiceproxy read` writes it: without SPICE_MSG_ and the channel, which stands beside it."""
    plain = name.removeprefix("SPICE_MSGC_").removeprefix("SPICE_MSG_")
    return printable(plain.removeprefix(f"{channel.partition(':')[0].upper()}_"))


class Clock(NamedTuple):
    """Moments as `spiceproxy read` shows them."""

    start_ns: int  # of the capture; they count from here

    def moment(self, time_ns: int) -> str:
        """Seconds, with microseconds."""
        return f"{(time_ns - self.start_ns) / 1e9:.6f}"

    def place(self, evidence: Evidence) -> str:
        """Number and moment of a message."""
        moment = self.moment(evidence.time_ns)
        return moment if evidence.number is None else f"{moment} #{evidence.number}"


def leg(migration: Migration | None, hop: int) -> str:
    """Which of its two servers this hop is; of no migration, its number."""
    if migration is None:
        return f"hop {hop}"
    if hop == migration.source_hop:
        return "source"
    return "destination" if hop == migration.destination_hop else f"hop {hop}"


_SHARES: Final = {
    Share.CHANGED: ", in what fault `{}` had a hand in",
    Share.CHANNEL: ", after fault `{}` on this channel",
    Share.SESSION: ", after fault `{}` in this session",
}


def accused(violation: Violation) -> str:
    """Who broke a rule, and what a fault that was injected has to do with it: "by the client, after fault `x` ..."."""
    if (cause := violation.cause) is None:
        return f"by the {violation.by}"
    if cause.share is Share.MADE:
        return printable(f"by fault `{cause.fault}` in the place of the {violation.by}")
    return printable(f"by the {violation.by}" + _SHARES[cause.share].format(cause.fault))


def title(migration: Migration) -> str:
    """Which migration this is."""
    return f"{printable(migration.session)} migration {migration.number}"


def way(migration: Migration) -> str:
    """From where to where."""
    source = printable(migration.source_address) or "a server that is not in the capture"
    return f"{source} → {printable(migration.destination_address) or 'an unknown destination'}"


def times(count: int, one: str, many: str) -> str:
    """A number and what is counted."""
    return f"{count} {one if count == 1 else many}"
