"""Full disks, descriptors that run out, peers whose packets vanish: what comes of it, and who notices.

The proxy is a process of its own. All of it happens in namespaces of this program's own (network, mounts), which takes root.

python -m tests.reliability.troubles                      # the second table of docs/reliability.md
python -m tests.reliability.troubles client switching     # only rows that have all of these words
"""

import errno
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from tests.load.proxy_process import ProxyProcess, events_in, proxy_process
from tests.load.sessions import Front, Session, Tally
from tests.reliability.disks import small_disk
from tests.reliability.survival import Victims, keep_busy, open_victims, unreadable

INSIDE: Final = "--inside"
PEER_TIMEOUT_S: Final = 2
LIMIT_S: Final = 30.0
GOES_ON_S: Final = 5.0
DISK_KIB: Final = 512
NEWCOMERS: Final = 24
NO_SPACE: Final = os.strerror(errno.ENOSPC)
# Peers whose packets vanish, and when: the source has no connection any more when all is done, the destination has none before.
VANISHING: Final = (
    *(("client", phase) for phase in ("quiet", "connected", "switching", "settled")),
    *(("source", phase) for phase in ("quiet", "connected", "switching")),
    *(("destination", phase) for phase in ("connected", "switching", "settled")),
)


@dataclass
class Row:
    """What came of it."""

    trouble: str
    how: str
    said: list[str] = field(default_factory=list)
    after_s: float | None = None  # until the proxy said so
    goes_on: bool = False  # the session that is concerned
    witness: bool | None = None  # the one beside it; None: it is concerned as well
    left_over: int = 0  # descriptors
    tasks_left: int = 0
    recording: list[str] = field(default_factory=list)  # what reading it finds
    wrong: list[str] = field(default_factory=list)

    def expect(self, holds: bool, otherwise: str) -> None:
        """Take note if it does not hold."""
        if not holds:
            self.wrong.append(otherwise)

    def cells(self) -> list[str]:
        """Of the table."""
        after = "" if self.after_s is None else f"{self.after_s:.1f} s"
        beside = {True: "goes on", False: "BROKEN", None: ""}[self.witness]
        return [
            self.trouble, self.how, ", ".join(self.said), after, "goes on" if self.goes_on else "ends", beside,
            f"{self.left_over}, {self.tasks_left}", ", ".join(self.recording) or "whole",
        ]  # fmt: skip


HEAD: Final = (
    "trouble", "how", "the proxy says", "after", "its session", "the session beside it", "descriptors, tasks left",
    "recording",
)  # fmt: skip


class Scene:
    """A proxy, a session with traffic that nothing should happen to, and what there is of both."""

    def __init__(self, proxy: ProxyProcess, front: Front, witness: Session) -> None:
        self.proxy, self.front, self.witness = proxy, front, witness
        self._descriptors, self._tasks = 0, 0

    async def begin(self) -> None:
        """What is there now is not left over."""
        await self.witness.traffic()
        self._descriptors, self._tasks = self.proxy.sample().descriptors, await self.proxy.tasks()

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Of the log, so far."""
        return events_in(self.proxy.log, *names)

    async def wait_for(self, name: str) -> dict[str, Any]:
        """The first event of this name."""
        with trio.fail_after(LIMIT_S):
            while not (found := self.events(name)):  # noqa: ASYNC110  it is in another process
                await trio.sleep(0.02)
        return found[0]

    async def end(self, row: Row) -> None:
        """Whether the witness has traffic, and nothing is left of anybody else."""
        row.witness = await goes_on(self.witness)
        row.expect(row.witness, "the session beside it has no traffic any more")
        with trio.move_on_after(LIMIT_S):
            while self.proxy.sample().descriptors > self._descriptors:  # noqa: ASYNC110
                await trio.sleep(0.02)
        row.left_over = self.proxy.sample().descriptors - self._descriptors
        row.tasks_left = await self.proxy.tasks() - self._tasks
        row.expect(row.left_over <= 0, f"{row.left_over} descriptors left")
        row.expect(row.tasks_left <= 0, f"{row.tasks_left} tasks left")


async def goes_on(session: Session) -> bool:
    """Whether it has traffic."""
    with trio.move_on_after(GOES_ON_S):
        await session.traffic()
        return True
    return False


@asynccontextmanager
async def scene(directory: Path, recording: Path, *options: str) -> AsyncIterator[Scene]:
    """Set one."""
    front = Front()
    arguments = ("--record", str(recording), "--peer-timeout", str(PEER_TIMEOUT_S), *options)
    async with (
        front.open() as server,
        proxy_process(directory, server, *arguments) as proxy,
        Session(1, Tally()).open(front, proxy.address) as witness,
    ):
        made = Scene(proxy, front, witness)
        await made.begin()
        yield made


# Disks and descriptors ------------------------------------------------------------------------------------


async def full_disk(choice: str, directory: Path) -> Row:
    """ENOSPC while the only recording is written."""
    row = Row("the disk is full", f"a tmpfs of {DISK_KIB} KiB, `--record-on-full {choice}`")
    with small_disk(directory / "disk", DISK_KIB) as disk:
        recording = disk / "r.pcapng"
        try:
            async with scene(directory, recording, "--record-on-full", choice) as made:
                began = time.time()
                while not made.events("recording_failed"):
                    await goes_on(made.witness)
                failed = made.events("recording_failed")[0]
                row.said, row.after_s = ["`recording_failed`"], failed["time"] - began
                row.expect(failed["reason"].endswith(NO_SPACE), f"the reason is {failed['reason']}")
                if choice == "go-on":
                    await made.end(row)
                    row.goes_on = bool(row.witness)
                else:
                    await made.wait_for("session_ended")
                    row.said.append("`session_ended`")
        except* Exception:
            if choice == "go-on":
                raise
            # A strict client complains of the end of its session.
        row.recording = unreadable(recording)
    said = ["`recording_failed`"] if choice == "go-on" else ["`recording_failed`", "`session_ended`"]
    row.expect(row.said == said, f"it said {row.said}")
    row.expect(row.recording == [f"recording ended: {NO_SPACE}"], "no mark in the recording")
    return row


async def few_descriptors(spare: int, directory: Path) -> Row:
    """The limit is lowered while the proxy runs; with none to spare accept() says EMFILE, otherwise the proxy sees it coming."""
    row = Row("no descriptors" if not spare else "few descriptors", f"a limit {spare} above what is open")
    name = "connection_refused" if spare else "accept_failed"
    async with scene(directory, directory / "r.pcapng") as made:
        pid = made.proxy.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        began, streams = time.time(), list[trio.SocketStream]()
        with trio.fail_after(LIMIT_S):
            while not (said := made.events(name)):  # once more where one was given back meanwhile
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free(pid) + spare, hard))
                streams += [await trio.open_tcp_stream(*made.proxy.address) for _ in range(NEWCOMERS)]
                await trio.sleep(0.2)
        row.said, row.after_s = [f"`{name}`: {said[0]['reason']}"], said[0]["time"] - began
        row.expect(await goes_on(made.witness), "who is inside does not go on")
        for stream in streams:
            await stream.aclose()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        async with Session(2, Tally()).open(made.front, made.proxy.address) as newcomer:
            row.goes_on = await goes_on(newcomer)
        row.expect(row.goes_on, "who comes when there are some again is not let in")
        await made.end(row)
    row.recording = unreadable(directory / "r.pcapng")
    row.expect(bool(spare) or said[0]["reason"] == os.strerror(errno.EMFILE), "the reason is another one")
    row.expect(not row.recording, "the recording is not whole")
    return row


def lowest_free(pid: int) -> int:
    """The number that the process's next descriptor will have."""
    used = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in itertools.count() if number not in used)


# Networks -------------------------------------------------------------------------------------------------


async def packets_vanish(who: str, phase: str, directory: Path) -> Row:
    """Nothing of what one peer and the proxy send each other arrives any more; nobody is told."""
    row = Row(f"the {who}'s packets vanish", f"dropped by nftables; seamless, {phase}")
    async with scene(directory, directory / "r.pcapng") as made:
        before = connections()
        async with open_victims("seamless", made.proxy.log) as victims, trio.open_nursery() as nursery:
            nursery.start_soon(keep_busy, made.witness)
            await victims.connect(made.front, made.proxy.address)
            await victims.reach(phase, nursery)
            ports = await ports_of(who, victims, made, before)
            with dropped(ports):
                began = time.time()
                row.goes_on = await victims.goes_on(who, phase)
                if not row.goes_on:  # else nobody has to be waited for: what is gone is closed
                    await given_up(row, made, who, began)
            nursery.cancel_scope.cancel()
        await made.end(row)
    row.recording = unreadable(directory / "r.pcapng")
    row.expect(not row.recording, "the recording is not whole")
    if (who, phase) == ("destination", "connected"):
        row.expect(row.goes_on, "the session does not need the destination, and does not go on")
    return row


async def given_up(row: Row, made: Scene, who: str, began: float) -> None:
    """Wait until the proxy gives the peer up."""
    by = "client" if who == "client" else "server"
    timed_out = os.strerror(errno.ETIMEDOUT).lower()
    with trio.move_on_after(LIMIT_S):
        while True:
            for event in made.events("channel_closed"):
                if event["by"] == by and str(event["reason"]).lower() == timed_out and event["time"] >= began:
                    row.said, row.after_s = [f"`channel_closed`: {event['reason']}"], event["time"] - began
                    return
            await trio.sleep(0.05)
    row.wrong.append("the peer is not given up")


def connections() -> set[tuple[int, int]]:
    """Local and remote port of every TCP connection of this network namespace (proc_net_tcp in the kernel's documentation)."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if state == "01":  # TCP_ESTABLISHED
            found.add((int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16)))
    return found


async def ports_of(who: str, victims: Victims, made: Scene, before: set[tuple[int, int]]) -> set[int]:
    """The ports by which packets between this peer and the proxy are known: those of the side that connected."""
    new = connections() - before
    if who == "client":
        listening = {made.proxy.address.port} | {
            int(event["listen"].rpartition(":")[2]) for event in made.events("destination_opened")
        }
    elif who == "source":
        listening = {int(made.events("proxy_started")[0]["server"].rpartition(":")[2])}
    else:
        listening = {(await victims.destination.do("address"))[1]}
    ports = {local for local, remote in new if remote in listening}
    assert ports, f"the {who} has no connection"
    return ports


@contextmanager
def dropped(ports: set[int]) -> Iterator[None]:
    """Drop what goes to these TCP ports and what comes from them."""
    rules = f"""
        table inet vanish {{
            set ports {{ type inet_service; elements = {{ {", ".join(map(str, sorted(ports)))} }} }}
            chain input {{
                type filter hook input priority 0;
                tcp sport @ports drop
                tcp dport @ports drop
            }}
        }}"""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "vanish"], check=True)


# All of them ----------------------------------------------------------------------------------------------

ROWS: Final[dict[str, Callable[[Path], Awaitable[Row]]]] = {
    "full disk go-on": partial(full_disk, "go-on"),
    "full disk end-sessions": partial(full_disk, "end-sessions"),
    "no descriptors": partial(few_descriptors, 0),
    "few descriptors": partial(few_descriptors, 8),
    **{f"vanish {who} {phase}": partial(packets_vanish, who, phase) for who, phase in VANISHING},
}


def main(*words: str) -> int:
    """Print the table; 1 if something is not as it has to be, 2 if there are no namespaces here."""
    if INSIDE not in words:
        command = [sys.executable, "-m", "tests.reliability.troubles", INSIDE, *words]
        return subprocess.run(["unshare", "--net", "--mount", *command], check=False).returncode
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    rows = []
    for name, play in ROWS.items():
        if all(word in name for word in words if word != INSIDE):
            with ExitStack() as stack:
                directory = stack.enter_context(tempfile.TemporaryDirectory())
                rows.append(row := trio.run(play, Path(directory)))
            print(f"{name}:", *row.wrong or ["as it has to be"], file=sys.stderr, flush=True)
    print(f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|", sep="\n")
    for row in rows:
        print(f"| {' | '.join(row.cells())} |")
    return 1 if not rows or any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
