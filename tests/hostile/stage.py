"""Where abuse happens: a proxy in a process of its own, a witness in another, and the abuser here.

What is measured is the proxy's process alone: its descriptors, the peak of its memory, and the round trips that the
witness makes through it meanwhile.
"""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, cast

import trio

from dissectors.channels import ChannelType
from spiceproxy.address import Address
from spiceproxy.proxy import Proxy
from tests.raw_peers import Events, RawProxy

LINK_TIMEOUT_S: Final = 0.3
LIMITS: Final = "linking_per_address = 100\ndestinations_per_session = 4\npeer_timeout_s = 1\n"
# A round trip of 16 bytes with a pause, over and over, both ends in one process that does nothing else.
WITNESS: Final = """
import socket, struct, sys, time
client, server = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
for end in client, server:
    end.setblocking(True)
    end.settimeout(30)
def pass_on(source, sink, data):
    source.sendall(data)
    left = len(data)
    while left:
        got = sink.recv(left)
        if not got:
            sys.exit("closed")
        left -= len(got)
there, back = struct.pack("<HI", 101, 10) + bytes(10), struct.pack("<HI", 304, 10) + bytes(10)
out = sys.stdout.buffer
while True:
    start = time.monotonic()
    pass_on(client, server, there)
    pass_on(server, client, back)
    out.write(struct.pack("<dd", start, time.monotonic() - start))
    out.flush()
    time.sleep(0.0005)
"""


@dataclass
class _Outside:
    """As much of a proxy as a peer sees."""

    address: Address


@dataclass
class Stage:
    """One run of the suite. `raw` is what abusers use: it opens peers that are closed after each abuse."""

    process: trio.Process
    listener: trio.SocketListener
    events: Events
    address: Address
    round_trips: list[tuple[float, float]] = field(default_factory=list)  # (when, seconds); steady clock

    @asynccontextmanager
    async def peers(self) -> AsyncIterator[RawProxy]:
        """Peers for one abuse."""
        await self._turn_leftovers_away()
        async with AsyncExitStack() as streams:
            outside = cast("Proxy", _Outside(self.address))
            yield RawProxy(outside, self.listener, self.events, streams)

    async def _turn_leftovers_away(self) -> None:
        """Connections out of the proxy that an earlier abuser did not take."""
        while True:
            with trio.move_on_after(0.005) as none_left:
                await (await self.listener.accept()).aclose()
            if none_left.cancelled_caught:
                return

    def descriptors(self) -> int:
        """How many the proxy has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208

    @contextmanager
    def peak_memory(self) -> Iterator[list[int]]:
        """Appends by how many bytes the proxy's resident memory was higher than at the beginning, at its highest."""
        base = Path(f"/proc/{self.process.pid}")
        (base / "clear_refs").write_text("5")  # proc(5): the peak begins anew
        before, grown = self._status("VmRSS"), list[int]()
        yield grown
        grown.append(self._status("VmHWM") - before)

    def resident(self) -> int:
        """Bytes of the proxy's memory that are in use now."""
        return self._status("VmRSS")

    def _status(self, key: str) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith(f"{key}:"))
        return int(line.split()[1]) * 1024

    def round_trips_between(self, start: float, end: float) -> list[float]:
        """Those of the witness that began in this time."""
        return [seconds for when, seconds in self.round_trips if start <= when <= end]


DOORS: Final = ("--tls-listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--metrics", "127.0.0.1:0")


@asynccontextmanager
async def stage(directory: Path, *options: str, witness: bool = True) -> AsyncIterator[Stage]:
    """A proxy with short time-outs and small limits, a server to play, and a witness at work.

    Args:
        directory: For what the proxy writes.
        options: Of the proxy.
        witness: Without, it is only there to be abused.
    """
    log, limits = directory / "events.jsonl", directory / "limits.toml"
    limits.write_text(LIMITS)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        port = listener.socket.getsockname()[1]
        command = [
            sys.executable, "-m", "spiceproxy", "run", "--listen", "127.0.0.1:0",
            "--server", f"127.0.0.1:{port}", "--events", str(log), "--log-level", "error",
            "--link-timeout", str(LINK_TIMEOUT_S), "--connect-timeout", "1", "--limits", str(limits),
            *options,
        ]  # fmt: skip
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process, command, stdout=subprocess.DEVNULL, check=False,
                env=os.environ | {"XDG_RUNTIME_DIR": str(directory), "XDG_DATA_HOME": str(directory)},
            )
        )  # fmt: skip
        events = Events()
        nursery.start_soon(_read_events, log, events)
        started = await events.wait_for("proxy_started", timeout_s=20)
        it = Stage(process, listener, events, Address("127.0.0.1", started["port"]))
        async with it.peers() as raw, trio.open_nursery() as beside:
            ends = await raw.linked(ChannelType.INPUTS)
            if witness:
                await beside.start(_witness, it, ends)
            yield it
            beside.cancel_scope.cancel()
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(20):
            assert await process.wait() == 0
        nursery.cancel_scope.cancel()


async def _read_events(log: Path, events: Events) -> None:
    log.touch()  # noqa: ASYNC240  at once; the proxy writes into what is there
    with log.open("rb") as file:
        rest = b""
        while True:
            *lines, rest = (rest + file.read()).split(b"\n")
            for line in lines:
                events(json.loads(line))
            await trio.sleep(0.005)


async def _witness(
    it: Stage, ends: tuple[trio.SocketStream, trio.SocketStream], task_status: trio.TaskStatus[None]
) -> None:
    numbers = [end.socket.fileno() for end in ends]
    command = [sys.executable, "-c", WITNESS, *map(str, numbers)]
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(trio.run_process, command, stdout=subprocess.PIPE, pass_fds=numbers)
        )
        assert process.stdout is not None
        task_status.started()
        rest, one = b"", struct.calcsize("<dd")
        while True:
            rest += await process.stdout.receive_some(4096)
            whole = len(rest) // one * one
            it.round_trips += struct.iter_unpack("<dd", rest[:whole])
            rest = rest[whole:]
