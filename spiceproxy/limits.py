"""How much of the proxy peers may take, and who is let in."""

import resource
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import msgspec
import trio

from spiceproxy.errors import UsageError
from spiceproxy.eventlog import EventLog
from spiceproxy.relay.fairness import Allowance, pause

# Beside two sockets for each connection: listeners, recording, event log, name look-ups, Python's own files.
SPARE_DESCRIPTORS: Final = 64
# A flood of connections that are turned away is one event in this time, which says how many there were.
TELL_INTERVAL_S: Final = 1.0

# A message that is looked at takes some 0.2 ms; a migration has fifty of them. One direction of a connection may use
# this much of the processor for them at once, and this share of it in the long run; more is a part of what its session uses.
LOOKING_BURST_S: Final = 0.02
LOOKING_SHARE: Final = 0.02
# A connection takes about a millisecond until it is linked, or closed again. Some sixty may come at once, five or more
# sessions; then it is about 300 a second for all clients together. What it takes is measured, but for how much of it is
# still to come when it is accepted, and when it joins a session.
ACCEPT_COST_S: Final = 0.00005
JOIN_COST_S: Final = 0.0003
NEWCOMERS_BURST_S: Final = 0.06
NEWCOMERS_SHARE: Final = 0.3

_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What peers may take. A session has 6 to 12 connections; one that migrates has twice as many for a moment.

    Attributes:
        connections: In all. Fewer are let in where the process may not open two descriptors for each.
        connections_per_address: From one client address.
        linking_per_address: From one client address, whose link message is still awaited.
        destinations_per_session: Listeners for servers that a session was told of; the oldest one goes for a new one.
        destinations: Listeners in all.
        peer_timeout_s: Seconds after which a peer is given up that acknowledges nothing, or does not read.
    """

    connections: _Count = 8192
    connections_per_address: _Count = 4096
    linking_per_address: _Count = 256
    destinations_per_session: _Count = 16
    destinations: _Count = 1024
    peer_timeout_s: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 300.0


def load_limits(path: Path) -> Limits:
    """Read limits from a TOML file whose keys are the attributes of `Limits`.

    Raises:
        UsageError: It cannot be read, or something in it is no limit.
    """
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Limits)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error


class Gate:
    """Lets connections in as long as there is room for them.

    Args:
        limits: The limits; may be replaced while the proxy runs, which ends no connection.
        log: Is told who was turned away.
        clock: Seconds, steady.

    Attributes:
        limits: As given.
        inside: Connections that have been let in and have not left.
        turned_away: How many were not let in.
        newcomers: What all that come may use of the processor, until they are a part of a session.
    """

    def __init__(
        self, limits: Limits, log: EventLog, *, clock: Callable[[], float] = trio.current_time
    ) -> None:
        self.limits = limits
        self.inside = 0
        self.turned_away = 0
        self.newcomers = Allowance(NEWCOMERS_BURST_S, NEWCOMERS_SHARE)
        self._log, self._clock = log, clock
        self._by_address: Counter[str] = Counter()
        self._linking: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()  # by reason
        self._told_at: dict[str, float] = {}

    def enter(self, host: str) -> "Place | None":
        """A place for a connection of this client's; None if there is none."""
        limits = self.limits
        room = min(limits.connections, _room_for_connections())
        if self.inside >= room:
            self._turn_away(host, "all", f"{room} connections are open")
            return None
        if self._by_address[host] >= limits.connections_per_address:
            reason = f"{limits.connections_per_address} connections of this address are open"
            self._turn_away(host, "address", reason)
            return None
        if self._linking[host] >= limits.linking_per_address:
            reason = f"{limits.linking_per_address} connections of this address have not sent a link message"
            self._turn_away(host, "linking", reason)
            return None
        self.inside += 1
        self._by_address[host] += 1
        self._linking[host] += 1
        return Place(self, host)

    async def pause(self) -> None:
        """Somebody was accepted: wait as long as newcomers have used too much. The kernel keeps who comes meanwhile."""
        await pause(self.newcomers.use(ACCEPT_COST_S))

    def _linked(self, host: str) -> None:
        _less(self._linking, host)

    def _left(self, host: str) -> None:
        self.inside -= 1
        _less(self._by_address, host)

    def _turn_away(self, host: str, limit: str, reason: str) -> None:
        self.turned_away += 1
        self._untold[limit] += 1
        now = self._clock()
        if now - self._told_at.get(limit, -TELL_INTERVAL_S) >= TELL_INTERVAL_S:
            self._told_at[limit] = now
            self._log.warning(
                "connection_refused", client=host, reason=reason, connections=self._untold.pop(limit)
            )


class Place:
    """What a connection takes of the limits. `Gate.enter` gives it."""

    def __init__(self, gate: Gate, host: str) -> None:
        self._gate, self._host = gate, host
        self._linking = self._inside = True

    def linked(self) -> None:
        """Its link message has come, or none is awaited; may be said twice."""
        if self._linking:
            self._linking = False
            self._gate._linked(self._host)  # noqa: SLF001  both halves of one thing

    def leave(self) -> None:
        """It is over; may be said twice."""
        self.linked()
        if self._inside:
            self._inside = False
            self._gate._left(self._host)  # noqa: SLF001


def _less(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]  # hosts that come once must not stay for ever


def _room_for_connections() -> int:
    """How many connections the process has descriptors for, two each."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if soft == resource.RLIM_INFINITY else max(1, (soft - SPARE_DESCRIPTORS) // 2)
