"""What a scenario takes: which guest, which channels, how the client is sent; or why the lab cannot give that."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from spiceproxy.faults.scenarios import Scenario
from spiceproxy.lab.result import ClientKind, Traffic
from spiceproxy.matrix import smartcard

_BASE: Final = frozenset({"main", "display", "inputs", "cursor", "playback", "record", "usbredir"})
# spicy opens these. remote-viewer does not by itself, and what is offered and not opened wedges it (docs/lab.md).
_OPENED: Final = frozenset({"webdav", "port"})
_MAX_DELAY_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class GuestKind:
    """What a guest is to do, which is to be known before it boots."""

    traffic: frozenset[Traffic]
    heads: int = 1
    smartcard: bool = False
    webdav: bool = True

    @property
    def name(self) -> str:
        """For files."""
        words = [*sorted(self.traffic), f"{self.heads}-heads" if self.heads > 1 else ""]
        words += ["smartcard" if self.smartcard else "", "" if self.webdav else "no-webdav"]
        return "-".join(filter(None, words))


@dataclass(frozen=True, slots=True)
class Setup:
    """How a scenario is set up.

    Attributes:
        guest: The kind of guest.
        acts: What the client's user does.
        patience_s: How much longer than usual one has to wait for what comes late on purpose.
        quiet_s: How old the session has to be before it is migrated.
        why_not: Why the lab cannot play it, or None.
    """

    guest: GuestKind
    acts: frozenset[Traffic] = frozenset()
    patience_s: float = 0.0
    quiet_s: float = 0.0
    why_not: str | None = None

    @property
    def channels(self) -> frozenset[str]:
        """Those that the client will open."""
        more = {
            "port": Traffic.PORT in self.guest.traffic,
            "webdav": self.guest.webdav,
            "smartcard": self.guest.smartcard,
        }
        return _BASE | {name for name, there in more.items() if there}


def setup_of(scenario: Scenario, client: ClientKind = ClientKind.SPICY) -> Setup:
    """What this scenario takes with this client."""
    needs, lab = scenario.needs, scenario.lab
    opens = client.opens_webdav
    traffic = {Traffic.PORT} if opens else set()
    acts: set[Traffic] = set()
    if "agent" in needs.channels:
        traffic.add(Traffic.CLIPBOARD)
    if lab.traffic is not None:
        kind = Traffic(lab.traffic)
        traffic.add(kind)
        acts.add(kind)
    wanted = "smartcard" in needs.channels
    unknown = sorted(
        set(needs.channels) - _BASE - {"agent", "smartcard"} - (_OPENED if opens else frozenset())
    )
    why_not = None
    if wanted and not smartcard.there():
        why_not = f"a smartcard takes {smartcard.PROGRAM} (Debian: {smartcard.PACKAGE})"
    elif unknown:
        why_not = f"there is no {', '.join(unknown)} channel with {client}"
    return Setup(
        GuestKind(frozenset(traffic - {Traffic.INPUT}), needs.heads, wanted, webdav=opens),
        frozenset(acts),
        patience_s=min(_MAX_DELAY_S, max((_longest(fault.do) for fault in scenario.fault), default=0.0)),
        quiet_s=max((fault.match.after + 1 for fault in scenario.fault if fault.match.after), default=0.0),
        why_not=why_not,
    )


def _longest(actions: Any) -> float:
    """The longest time that actions, as they are written, let something wait."""
    return max(_waits(actions), default=0.0)


def _waits(actions: Any) -> Iterator[float]:
    if isinstance(actions, list):
        for each in actions:
            yield from _waits(each)
    elif isinstance(actions, dict):
        for key, value in actions.items():
            if key in {"delay", "hold", "stall", "latency", "seconds", "second_client"} and isinstance(
                value, int | float
            ):
                yield float(value)
            else:
                yield from _waits(value)
