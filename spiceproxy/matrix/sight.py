"""What is to be seen of a cell while it runs: who lives, where the client is, whether its session goes on."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, cast

import msgspec
import trio

from spiceproxy.address import Address
from spiceproxy.faults import scenarios as catalog
from spiceproxy.lab.errors import QmpError
from spiceproxy.lab.process import Child
from spiceproxy.lab.qemu import Qemu
from spiceproxy.matrix.results import Attempt, Ending, Observation
from spiceproxy.protocol.migration.model import Party
from spiceproxy.proxy import Proxy
from spiceproxy.relay.connection import ConnectionView
from spiceproxy.report.verdict import Report

_ALIVE_S: Final = 13.0  # more than the 10 s for which a server may wait for MIGRATE_DATA
# A server goes on for 40 messages that nobody acknowledges, a client acknowledges every 20; the guest draws 18 times a
# second. So what goes on for longer than this is not only what was under way.
_ALIVE: Final = {"server": 45, "client": 2}
_REAPED_S: Final = 1.5
_WEDGED_S: Final = 0.5
_POLL_S: Final = 0.1
_GUEST_S: Final = 11.0  # a QEMU whose main loop waits for a client's data does not answer for 10 s
_LINES: Final = 30
_TAIL_BYTES: Final = 16384


class Sight:
    """The eyes on one cell."""

    client: Child
    proxy: Proxy

    def __init__(self) -> None:
        self.servers: dict[str, Qemu] = {}
        self.roles: dict[str, str] = {}
        self.addresses: dict[Address, str] = {}
        self.channels: list[str] = []
        self.qmp: list[str] = []
        self.notes: list[str] = []
        self.killed: set[str] = set()
        self.cancelled = False
        self.left_source: bool | None = None

    def add(self, qemu: Qemu, role: str) -> None:
        """A server is there."""
        self.servers[qemu.name], self.roles[qemu.name] = qemu, role
        self.addresses[qemu.spice] = qemu.name

    def forget(self, qemu: Qemu) -> None:
        """What becomes of this one does not matter any more."""
        self.killed.add(qemu.name)

    def children(self) -> Iterator[Child]:
        """What may still run."""
        yield from (qemu.child for qemu in self.servers.values())
        with suppress(AttributeError):  # it was never started
            yield self.client

    def ended(self) -> list[Ending]:
        """Who has ended by itself, servers first."""
        found = []
        for name, qemu in self.servers.items():
            if qemu.child.returncode is not None and name not in self.killed:
                party = "destination" if self.roles[name] == "destination" else "source"
                ending = ending_of(name, cast(catalog.Party, party), qemu.child)
                # An incoming QEMU ends in good order when nothing comes: that is no end of a session.
                if ending.crashed or party == "source":
                    found.append(ending)
        if self.client.returncode is not None:
            found.append(ending_of("client", "client", self.client))
        return found

    async def somebody_ended(self) -> None:
        """Return when somebody has."""
        while not self.ended():  # noqa: ASYNC110 - programs of which each ends in a task of its own
            await trio.sleep(_POLL_S)

    async def until_over(self, timeout_s: float) -> None:
        """Wait so long, or until somebody has ended and whom that takes along as well."""
        with trio.move_on_after(timeout_s):
            await self.somebody_ended()
            await trio.sleep(_POLL_S * 6)

    def connections(self) -> list[ConnectionView]:
        """The client's, of its latest session."""
        return [
            each for session in self.proxy.sessions for each in session.connections if each.state == "open"
        ]

    def open_channels(self) -> set[tuple[str, int]]:
        """Channels that are linked, with the hop."""
        return {(each.channel, each.hop) for each in self.connections()}

    def migration_over(self) -> bool:
        """Whether the last migration has an outcome, or there is none."""
        migrations = self.proxy.migrations
        return not migrations or migrations[-1].outcome is not None

    def wedged(self) -> bool:
        """Whether the last migration stands still, and it is not the destination that keeps the others waiting.

        A destination that waits for MIGRATE_DATA of a display serves nobody for 10 s, and then goes on.
        """
        migrations = self.proxy.migrations
        if not migrations or migrations[-1].outcome is not None or migrations[-1].stalled_ns is None:
            return False
        if migrations[-1].ending.switch_host is not None:
            return False  # the client may yet give up, or get there
        waiting = migrations[-1].waiting
        return bool(waiting) and all(each.whom is not Party.DESTINATION for each in waiting)

    def _clear(self) -> bool:
        """Whether the guest has moved and the client has not: what goes on besides does not matter then."""
        return self.wedged() and self.qmp[-1:] == ["completed"]

    def _mains(self) -> list[ConnectionView]:
        """Main connections that are open; two while a client has begun to move and has not left."""
        return [each for each in self.connections() if each.channel == "main:0"]

    async def look(self) -> Observation:
        """Say what is to be seen now; takes as long as it needs to see the display's messages."""
        alive = await self._alive()
        if not self._mains():  # whoever has died is known a moment after its connections are
            await self.until_over(_REAPED_S)
        guest_on = await self._guest()
        servers = [each.server for each in reversed(self._mains())]
        # Where its display goes on, or else where the guest is, or where it went last.
        with_guest = [server for server in servers if self.addresses.get(server) == guest_on]
        server = alive or next(iter([*with_guest, *servers]), None)
        here = {each.channel for each in self.connections() if each.server == server}
        return Observation(
            endings=self.ended(),
            attempts=attempts_of(self.proxy.report()),
            cancelled=self.cancelled,
            qmp=self.qmp,
            guest_on=guest_on,
            client_on=None if server is None else self.addresses.get(server),
            roles=self.roles,
            channels=self.channels,
            missing=sorted(set(self.channels) - here) if server is not None else [],
            alive=alive is not None,
            left_source=self.left_source,
            notes=self.notes,
        )

    async def _alive(self) -> Address | None:
        """Where both ends of a display speak, beside a main channel: the server draws, the client acknowledges."""
        begun: dict[str, dict[str, int]] = {}
        since = trio.current_time()
        while mains := {each.server for each in self._mains()}:
            for each in self.connections():
                if each.channel != "display:0" or each.server not in mains:
                    continue
                before = begun.setdefault(each.id, dict(each.messages))
                if all(each.messages[side] >= count + _ALIVE[side] for side, count in before.items()):
                    return each.server
            if trio.current_time() - since > (_WEDGED_S if self._clear() else _ALIVE_S):
                break
            await trio.sleep(_POLL_S)
        return None

    async def _guest(self) -> str | None:
        """Which server runs the guest; the latest one first, as a source that has handed it over says postmigrate."""
        for name, qemu in reversed(self.servers.items()):
            if self.roles[name] == "other" or qemu.child.returncode is not None:
                continue
            with suppress(QmpError):
                if (await qemu.qmp.execute("query-status", timeout_s=_GUEST_S))["status"] == "running":
                    return name
        return None


def ending_of(name: str, party: catalog.Party, child: Child) -> Ending:
    """How a program ended."""
    code = child.returncode or 0
    word = ""
    if code < 0:
        try:
            word = signal.Signals(-code).name
        except ValueError:
            word = f"signal {-code}"
    return Ending(name, party, code, word, _last_lines(child))


def _last_lines(child: Child) -> list[str]:
    with suppress(OSError), child.log.open("rb") as file:
        file.seek(max(0, child.log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
        return [line.strip()[:400] for line in lines[-_LINES:] if line.strip()]
    return []


def attempts_of(report: Report) -> list[Attempt]:
    """The migrations of a report."""
    return [
        Attempt(
            offered=str(each.offered.kind) if each.offered is not None else None,
            performed=str(each.performed) if each.performed is not None else None,
            outcome=str(each.outcome) if each.outcome is not None else None,
            reason=each.reason,
            agreed_reason=each.agreed_reason,
            stalled=each.stalled_ns is not None,
            waiting=[waiting.text for waiting in each.waiting],
            diagnoses=[diagnosis.code for diagnosis in each.diagnoses],
        )
        for each in report.migrations
    ]


def with_outcomes(before: list[Attempt], after: list[Attempt]) -> list[Attempt]:
    """What the report says in the end, with who waited for whom when all was still there."""
    if len(before) != len(after):
        return after
    return [
        msgspec.structs.replace(
            late,
            outcome=late.outcome if early.outcome is None and early.stalled else early.outcome,
            reason=early.reason or late.reason,
            stalled=early.stalled,
            waiting=early.waiting or late.waiting,
            missing=early.missing,
        )
        for early, late in zip(before, after, strict=True)
    ]
