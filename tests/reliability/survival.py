"""Somebody dies at each phase of a migration; what becomes of the proxy, of the session, and of one beside it.

python -m tests.reliability.survival      # the table of docs/reliability.md
"""

import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import trio

from spiceproxy.capture.events import Summary
from spiceproxy.capture.files import open_capture
from spiceproxy.capture.messages import CapturedMessage, read_messages
from spiceproxy.capture.streams import stream_events
from spiceproxy.simulate import SimulatedClient, SimulatedServer
from tests.load.proxy_process import ProxyProcess, proxy_process
from tests.load.sessions import Front, Session, Tally
from tests.recording.packets import recorded
from tests.recording.test_production import _whole

PHASES: Final = ("quiet", "announced", "connected", "switching", "settled")
WHO: Final = ("client", "source", "destination", "proxy")
TIME_LIMIT_S: Final = 20.0
GONE_S: Final = 10.0


_Session = TypeVar("_Session", bound=Session)


@dataclass
class Row:
    """What came of it."""

    who: str
    phase: str
    witness: bool  # the session beside it still has its traffic; True for a proxy that died: there is no one
    left_over: int  # descriptors of the proxy that are still open when all peers of the victim are gone
    session: str  # what the log says became of the session
    unreadable: list[str]  # of the recording
    silent_s: float | None  # the proxy died: how much of the end is missing in the recording


class Victim(Session):
    """A session of which somebody dies."""

    @property
    def client(self) -> SimulatedClient:
        """The client."""
        return self._client

    @property
    def source(self) -> SimulatedServer:
        """Where the guest is."""
        return self._servers[0]

    @property
    def destination(self) -> SimulatedServer:
        """Where it goes."""
        return self._servers[1]

    async def reach(self, phase: str, nursery: trio.Nursery) -> None:
        """Play a migration up to this phase."""
        await self.traffic()
        if phase == "quiet":
            return
        assert self.destination.address is not None
        self.source.migrate_connect(*self.destination.address)
        if phase == "announced":
            return
        await self.source.wait_client_connected()
        if phase == "connected":
            return
        self.source.hand_over_to(self.destination)
        if phase == "switching":
            nursery.start_soon(_quietly, self.source.migrate_end)
            await trio.sleep(0.002)
            return
        await self.source.migrate_end()
        await self.client.wait_migrated()
        await self.destination.wait_client_arrived()

    def kill(self, who: str) -> None:
        """Reset its connections, as the kernel does for a process that was killed with bytes unread."""
        if who == "client":
            for channel in self.client.session.channels.values() if self.client.session is not None else ():
                channel.wire.abort()
            self.client.close()
        else:
            (self.source if who == "source" else self.destination).abort()


async def _quietly(act: Callable[[], Awaitable[object]]) -> None:
    with suppress(Exception):  # somebody dies here
        await act()


async def play(directory: Path, who: str, phase: str) -> Row:
    """One death."""
    recording = directory / "r.pcapng"
    front, tally = Front(), Tally()
    row = Row(who, phase, False, 0, "", [], None)
    async with front.open() as server, AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(_proxy(directory, server, recording))
        await trio.sleep(0.3)
        async with _survives(Session(1, tally), front, proxy) as witness:
            await witness.traffic()
            with_witness = proxy.sample().descriptors
            async with _survives(Victim(2, tally), front, proxy) as victim, trio.open_nursery() as nursery:
                with trio.move_on_after(TIME_LIMIT_S):
                    await victim.reach(phase, nursery)
                    if who == "proxy":
                        proxy.process.kill()
                        await proxy.process.wait()
                        row.silent_s = _silent(recording)
                    else:
                        victim.kill(who)
                        await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
            if who == "proxy":
                row.witness = True
            else:
                with trio.move_on_after(TIME_LIMIT_S):
                    await witness.traffic()
                    row.witness = True
                with trio.move_on_after(GONE_S):
                    while proxy.sample().descriptors > with_witness:  # noqa: ASYNC110
                        await trio.sleep(0.05)
                row.left_over = proxy.sample().descriptors - with_witness
        if who != "proxy":
            names, _ = proxy.events()
            row.session = ", ".join(
                f"{names[name]} {name}"
                for name in ("migration_ended", "channel_closed", "session_ended")
                if names[name]
            )
    row.unreadable = _unreadable(recording)
    return row


@asynccontextmanager
async def _proxy(directory: Path, server: object, recording: Path) -> AsyncIterator[ProxyProcess]:
    try:
        async with proxy_process(directory, server, "--record", str(recording)) as proxy:  # type: ignore[arg-type]
            yield proxy
    except* AssertionError:  # it was killed, and has another exit status
        pass


@asynccontextmanager
async def _survives(session: _Session, front: Front, proxy: ProxyProcess) -> AsyncIterator[_Session]:
    """A session whose peers may say that something is broken: that is what happens here."""
    with suppress(Exception):
        async with session.open(front, proxy.address):
            yield session


def _silent(recording: Path) -> float:
    """Seconds between the last packet in the recording and the proxy's death, which was just now."""
    data = recording.read_bytes()
    times = [each.time_ns for each in recorded(data[: _whole(data)])]
    return time.time() - times[-1] / 1e9


def _unreadable(recording: Path) -> list[str]:
    summary, messages = Summary(), 0
    with open_capture(str(recording)) as source:
        for item in read_messages(stream_events(source, summary=summary)):
            messages += isinstance(item, CapturedMessage)
    problems = [each for each in summary.problems if "ends within the block" not in each]
    return problems if messages else [*problems, "no message"]


def table(rows: list[Row]) -> str:
    """As Markdown."""
    lines = [
        "| who is killed | when | the session beside it | descriptors left | recording | log |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        beside = "(gone with the proxy)" if row.who == "proxy" else "goes on" if row.witness else "BROKEN"
        missing = f", the last {row.silent_s * 1000:.0f} ms missing" if row.silent_s is not None else ""
        reads = ("readable" if not row.unreadable else f"UNREADABLE: {row.unreadable}") + missing
        lines.append(f"| {row.who} | {row.phase} | {beside} | {row.left_over} | {reads} | {row.session} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    rows = []
    for who in WHO:
        for phase in PHASES:
            with tempfile.TemporaryDirectory() as directory:
                rows.append(trio.run(play, Path(directory), who, phase))
    print(table(rows))


if __name__ == "__main__":
    main()
