"""A proxy on the router of a test's network, and captures on both sides of it."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from dissectors.side import Side
from spiceproxy.capture.streams import Data, Endpoint, Gap, Opened, stream_events
from tests.ways.network import Network

PROXY_PORT = 5999
PORTS = range(5900, 5990)  # of servers
SPICEPROXY = [sys.executable, "-m", "spiceproxy"]


class RoutedProxy:
    """`spiceproxy run --mode transparent` on the router, with rules of `spiceproxy nft --apply`."""

    def __init__(self, directory: Path) -> None:
        self._events = directory / "events.jsonl"
        self.recording = directory / "session.pcapng"
        self.ca = directory / "spiceproxy" / "ca.pem"
        self.ends: dict[str, Any] = {}

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """What the proxy has said so far."""
        lines = [json.loads(line) for line in self._events.read_text().splitlines()]
        return [line for line in lines if name is None or line["event"] == name]


@asynccontextmanager
async def routed_proxy(
    net: Network,
    directory: Path,
    *,
    tproxy: bool,
    local: bool = False,
    more: Sequence[str] = (),
    only_rules: Sequence[str] = (),
) -> AsyncIterator[RoutedProxy]:
    """The proxy, with further options, and further ones for the rules; its own CA is in `directory`."""
    proxy = RoutedProxy(directory)
    options = [*(["--tproxy"] if tproxy else []), *(["--local"] if local else [])]
    rules = [
        *only_rules,
        "--to",
        str(PROXY_PORT),
        "--ports",
        f"{PORTS[0]}-{PORTS[-1]}",
        "--interface",
        "c0",
        *options,
    ]
    await trio.run_process(net.inside(net.router, *SPICEPROXY, "nft", *rules, "--apply"))
    command = [
        *SPICEPROXY,
        "run",
        "--json",
        "--mode",
        "transparent",
        "--listen",
        f"[::]:{PROXY_PORT}",
        *options,
    ]
    command += [
        "--record",
        str(proxy.recording),
        "--events",
        str(directory / "events.jsonl"),
        "--expect",
        "seamless",
        *more,
    ]
    environment = os.environ | {"XDG_DATA_HOME": str(directory)}
    with (directory / "proxy.log").open("wb") as log:
        async with trio.open_nursery() as nursery:
            run = partial(trio.run_process, stdout=subprocess.PIPE, stderr=log, check=False, env=environment)
            process: trio.Process = await nursery.start(run, net.inside(net.router, *command))
            output = process.stdout
            assert output is not None
            with trio.fail_after(30):
                assert json.loads(await _line(output))["mode"] == "transparent", (
                    directory / "proxy.log"
                ).read_text()
            try:
                yield proxy
            finally:
                process.terminate()
                with trio.move_on_after(10, shield=True):
                    proxy.ends = json.loads(await _line(output) or "{}")
                    await process.wait()
                nursery.cancel_scope.cancel()


async def _line(stream: trio.abc.ReceiveStream) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (more := await stream.receive_some(1 if not line else 65536)):
        line += more
    return line


@asynccontextmanager
async def captured(net: Network, directory: Path) -> AsyncIterator[tuple[Path, Path]]:
    """Captures of what passes between client and router, and between router and servers; whole after the block."""
    files = (directory / "client-side.pcapng", directory / "server-side.pcapng")
    async with trio.open_nursery() as nursery:
        running = []
        for file, interfaces in zip(files, (["c0"], ["s1", "s2"]), strict=True):
            command = [
                "dumpcap",
                "-q",
                "-B",
                "64",
                "-f",
                f"tcp portrange {PORTS[0]}-{PORTS[-1]}",
                "-w",
                str(file),
            ]
            for interface in interfaces:
                command += ["-i", interface]
            run = partial(trio.run_process, capture_stderr=True, check=False)
            running.append(await nursery.start(run, net.inside(net.router, *command)))
        with trio.fail_after(20):
            while not all(file.exists() and file.stat().st_size for file in files):  # noqa: ASYNC110
                await trio.sleep(0.05)
        await trio.sleep(0.3)  # the header is written before the interface is open
        yield files
        await trio.sleep(1)  # dumpcap empties the kernel's buffer twice a second
        for process in running:
            process.terminate()


Streams = Counter[tuple[Endpoint, bytes, bytes]]


def streams_of(file: Path) -> tuple[Streams, set[str]]:
    """The connections to servers of a capture as server, bytes of client, bytes of server; and the clients' addresses."""
    opened: dict[int, Opened] = {}
    data: dict[tuple[int, Side], bytearray] = {}
    with file.open("rb") as source:
        for event in stream_events(source, ports=PORTS):
            match event:
                case Opened():
                    opened[event.connection] = event
                case Data():
                    data.setdefault((event.connection, event.side), bytearray()).extend(event.data)
                case Gap():
                    raise AssertionError(
                        f"{file.name} has a gap of {event.size} bytes: the capture lost packets"
                    )
    streams = Counter(
        (each.server, bytes(data.get((n, Side.CLIENT), b"")), bytes(data.get((n, Side.SERVER), b"")))
        for n, each in opened.items()
    )
    return streams, {each.client.host for each in opened.values()}
