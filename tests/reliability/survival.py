"""Somebody is killed at each phase of a migration; what becomes of the proxy, of the session, and of one beside it.

Clients, servers and the proxy are processes of their own, and die by SIGKILL.

python -m tests.reliability.survival      # the table of docs/reliability.md
"""

import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from spiceproxy.address import Address
from spiceproxy.capture.events import Summary
from spiceproxy.capture.files import open_capture
from spiceproxy.capture.messages import CapturedMessage, read_messages
from spiceproxy.capture.streams import stream_events
from spiceproxy.simulate import ClientOptions, ServerOptions
from tests.load.proxy_process import ProxyProcess, events_in, proxy_process
from tests.load.sessions import CHANNELS, STEP_S, Front, Session, Tally
from tests.recording.packets import recorded
from tests.recording.test_production import _whole
from tests.reliability.processes import GoneError, PeerProcess, RefusedError, peer_process

WHO: Final = ("client", "source", "destination", "proxy")
# What may be reached of each kind; without BEGIN there is no client to wait for.
PHASES: Final = {
    "seamless": ("quiet", "announced", "connected", "switching", "settled"),
    "semi-seamless": ("announced", "connected", "switching", "settled"),
    "switch-host": ("announced", "switching", "settled"),
}
# The guest is where it was, so the hypervisor there says that nothing has come of the migration.
STAYS: Final = ("quiet", "announced", "connected")
TIME_LIMIT_S: Final = 20.0
GOES_ON_S: Final = 3.0  # for a picture to arrive
GONE_S: Final = 40.0  # a client that was told to switch hosts has 30 s to come back
LAST_S: Final = 0.5  # that may be missing in a recording
BUSY_S: Final = 0.6  # the least that a proxy has recorded when it dies
VICTIM_ID: Final = 0x20000
VICTIM: Final = "s2"  # in the log: the second session


@dataclass
class Row:
    """What came of it."""

    who: str
    kind: str
    phase: str
    goes_on: bool = False  # whether the session of whoever died still has its traffic
    witness: bool = False  # the same of the session beside it
    left_over: int = 0  # descriptors of the proxy that are still open when all peers of the victim are gone
    tasks_left: int = 0  # of its event loop, likewise
    said: list[str] = field(default_factory=list)  # what the log says of the session
    unreadable: list[str] = field(default_factory=list)  # of the recording
    silent_s: float | None = None  # the proxy died: how much of the end is missing in the recording

    def wrong(self) -> list[str]:
        """What is not as it has to be, whoever dies."""
        wrong = [f"the recording: {each}" for each in self.unreadable]
        if self.who == "proxy":
            if self.silent_s is None or self.silent_s > LAST_S:
                wrong.append(f"{self.silent_s} s are missing in the recording")
            return wrong
        if not self.witness:
            wrong.append("the session beside it has no traffic any more")
        if self.left_over > 0:
            wrong.append(f"{self.left_over} descriptors left")
        if self.tasks_left > 0:
            wrong.append(f"{self.tasks_left} tasks left")
        needless = self.phase in STAYS if self.who == "destination" else self.phase == "settled"
        if needless and self.who != "client" and not self.goes_on:
            wrong.append("the session has lost a peer that it does not need, and does not go on")
        return wrong


@dataclass
class Victims:
    """One session, each of its peers a process."""

    kind: str  # of its migration
    client: PeerProcess[ClientOptions]
    source: PeerProcess[ServerOptions]
    destination: PeerProcess[ServerOptions]
    log: Path  # of the proxy

    async def connect(self, front: Front, proxy: Address) -> None:
        """Open the session through the proxy."""
        with trio.fail_after(STEP_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(front.next_client, self.source)
                await front.ready_for(self.source)
                await self.client.do("connect", *proxy)
            await self.source.do("wait_client_arrived")
            assert await self.shows(self.source)

    async def reach(self, phase: str, nursery: trio.Nursery) -> None:
        """Play a migration up to this phase."""
        if phase == "quiet":
            return
        await self.source.do("migrate_connect", *await self.destination.do("address"))
        while self.kind != "switch-host" and not said_of_victim(self.log, "migration_started"):  # noqa: ASYNC110
            await trio.sleep(0.002)
        if phase == "announced":
            return
        await self.source.do("wait_client_connected")
        if phase == "connected":
            return
        await self.destination.do("guest_arrives", await self.source.do("give_guest"))
        if phase == "switching":
            nursery.start_soon(_quietly, self.source.do, "migrate_end")
            await trio.sleep(0.002)
            return
        await self.source.do("migrate_end")
        await self.client.do("wait_migrated")
        await self.destination.do("wait_client_arrived")

    async def goes_on(self, who: str, phase: str) -> bool:
        """Whether the client sees what the guest draws, wherever the guest is."""
        if who == "client":
            return False
        here = self.source if phase in STAYS else self.destination
        with trio.move_on_after(GOES_ON_S), suppress(GoneError, RefusedError):
            if who == "destination" and phase in STAYS[1:]:
                await self.source.do("wait_client_connected")
                await self.source.do("cancel")
            return await self.shows(here)
        return False

    async def shows(self, server: PeerProcess[ServerOptions]) -> bool:
        """Whether what this server draws arrives; waits until it does."""
        before = await self.client.do("seen")
        await server.do("draw", 4)
        while await self.client.do("seen") < before + 4:  # noqa: ASYNC110  it cannot tell by itself
            await trio.sleep(0.01)
        return True

    async def kill(self, who: str) -> None:
        """SIGKILL for the process."""
        peers: dict[str, PeerProcess[ClientOptions] | PeerProcess[ServerOptions]] = {
            "client": self.client,
            "source": self.source,
            "destination": self.destination,
        }
        await peers[who].kill()


async def _quietly(act: Callable[..., Awaitable[object]], *arguments: object) -> None:
    with suppress(GoneError, RefusedError):  # somebody dies here
        await act(*arguments)


async def keep_busy(witness: Session) -> None:
    """Traffic without a pause; if it stops, `play` finds out."""
    with suppress(Exception):
        while True:
            await witness.traffic()


@asynccontextmanager
async def open_victims(kind: str, log: Path) -> AsyncIterator[Victims]:
    seamless = kind == "seamless"
    words = ClientOptions().main_caps
    client = ClientOptions(
        name="victim", main_caps=(words[0] & ~1, *words[1:]) if kind == "switch-host" else words
    )
    async with (
        peer_process(client) as c,
        peer_process(
            ServerOptions(
                name="s1", session_id=VICTIM_ID, channels=CHANNELS, net_test=False, seamless=seamless
            )
        ) as source,
        peer_process(
            ServerOptions(name="s2", incoming=True, channels=CHANNELS, net_test=False, seamless=seamless)
        ) as destination,
    ):
        yield Victims(kind, c, source, destination, log)


async def play(directory: Path, who: str, kind: str, phase: str) -> Row:
    """One death."""
    recording = directory / "r.pcapng"
    front, row = Front(), Row(who, kind, phase)
    async with front.open() as server, AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(_proxy(directory, server, recording))
        async with beside_it(front, proxy) as witness:
            await witness.traffic()
            with_witness, tasks = proxy.sample().descriptors, await proxy.tasks()
            async with open_victims(kind, proxy.log) as victims, trio.open_nursery() as nursery:
                nursery.start_soon(keep_busy, witness)
                await trio.sleep(BUSY_S)
                await victims.connect(front, proxy.address)
                with trio.fail_after(TIME_LIMIT_S):
                    await victims.reach(phase, nursery)
                if who == "proxy":
                    proxy.process.kill()
                    await proxy.process.wait()
                    row.silent_s = _silent(recording)
                else:
                    await victims.kill(who)
                    row.goes_on = await victims.goes_on(who, phase)
                nursery.cancel_scope.cancel()
            if who != "proxy":
                with trio.move_on_after(TIME_LIMIT_S):
                    await witness.traffic()
                    row.witness = True
                with trio.move_on_after(GONE_S):
                    while proxy.sample().descriptors > with_witness:  # noqa: ASYNC110
                        await trio.sleep(0.05)
                row.left_over = proxy.sample().descriptors - with_witness
                row.tasks_left = await proxy.tasks() - tasks
    if who != "proxy":
        row.said = [
            f"migration {event['outcome']}" if "outcome" in event else "session ended"
            for event in said_of_victim(proxy.log, "migration_ended", "session_ended")
        ]
    row.unreadable = unreadable(recording)
    return row


@asynccontextmanager
async def _proxy(directory: Path, server: Address, recording: Path) -> AsyncIterator[ProxyProcess]:
    try:
        async with proxy_process(directory, server, "--record", str(recording)) as proxy:
            yield proxy
    except* AssertionError:  # it was killed, and has another exit status
        if proxy.process.returncode != -9:
            raise


@asynccontextmanager
async def beside_it(front: Front, proxy: ProxyProcess) -> AsyncIterator[Session]:
    """The session that nothing should happen to, unless the proxy dies, which its strict peers complain of."""
    try:
        async with Session(1, Tally()).open(front, proxy.address) as session:
            yield session
    except Exception:
        if proxy.process.returncode is None:
            raise


def said_of_victim(log: Path, *names: str) -> list[dict[str, Any]]:
    """What the log says of the victim's session, of events with these names."""
    return [each for each in events_in(log, *names) if each.get("session") == VICTIM]


def _silent(recording: Path) -> float:
    """Seconds between the last packet in the recording and the proxy's death, which was just now."""
    data = recording.read_bytes()
    times = [each.time_ns for each in recorded(data[: _whole(data)])]
    return time.time() - times[-1] / 1e9


def unreadable(recording: Path) -> list[str]:
    summary, messages = Summary(), 0
    with open_capture(str(recording)) as source:
        for item in read_messages(stream_events(source, summary=summary)):
            messages += isinstance(item, CapturedMessage)
    problems = [each for each in summary.problems if "ends within the block" not in each]
    return problems if messages else [*problems, "no message"]


def table(rows: list[Row]) -> str:
    """As Markdown."""
    lines = [
        "| who is killed | migration | when | its session | the session beside it | descriptors, tasks left | recording | log |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        dead = row.who == "proxy"
        own = "(gone with the proxy)" if dead else "goes on" if row.goes_on else "is lost"
        beside = "(gone with the proxy)" if dead else "goes on" if row.witness else "BROKEN"
        missing = f", the last {row.silent_s * 1000:.0f} ms missing" if row.silent_s is not None else ""
        reads = ("readable" if not row.unreadable else f"UNREADABLE: {row.unreadable}") + missing
        lines.append(
            f"| {row.who} | {row.kind if row.phase != 'quiet' else ''} | {row.phase} | {own} | {beside} |"
            f" {row.left_over}, {row.tasks_left} | {reads} | {', '.join(row.said)} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 if something is not as it has to be."""
    rows = []
    for who in WHO:
        for kind, phases in PHASES.items():
            for phase in phases:
                with tempfile.TemporaryDirectory() as directory:
                    rows.append(row := trio.run(play, Path(directory), who, kind, phase))
                print(who, kind, phase, *row.wrong(), file=sys.stderr, flush=True)
    print(table(rows))
    return 1 if any(row.wrong() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
