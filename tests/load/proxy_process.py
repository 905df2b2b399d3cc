"""A proxy in a process of its own, and what its process takes."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from spiceproxy.address import Address, parse_address


@dataclass
class Sample:
    """The process at one moment."""

    seconds: float  # since the start
    resident_bytes: int
    descriptors: int
    threads: int


@dataclass
class ProxyProcess:
    """The process and its event log."""

    process: trio.Process
    address: Address
    log: Path
    started: float = field(default_factory=trio.current_time)
    _metrics: Address | None = None

    def sample(self) -> Sample:
        """What it takes now."""
        base = Path(f"/proc/{self.process.pid}")
        status = dict(
            line.split(":", 1) for line in (base / "status").read_text().splitlines() if ":" in line
        )
        return Sample(
            trio.current_time() - self.started,
            int(status["VmRSS"].split()[0]) * 1024,
            len(os.listdir(base / "fd")),  # noqa: PTH208
            int(status["Threads"]),
        )

    def cpu_seconds(self) -> float:
        """Of the processor, so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def tasks(self) -> int:
        """Of its event loop, as `/metrics` has them."""
        if self._metrics is None:
            self._metrics = parse_address(events_in(self.log, "metrics_started")[0]["listen"])
        stream = await trio.open_tcp_stream(*self._metrics)
        async with stream:
            await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            text = b"".join([piece async for piece in stream])
        (found,) = re.findall(rb"^spiceproxy_tasks (\d+)", text, re.MULTILINE)
        return int(found)

    def events(self) -> tuple[Counter[str], list[str]]:
        """Events by name, and those that are warnings or errors, in short."""
        names: Counter[str] = Counter()
        bad: list[str] = []
        with self.log.open(encoding="utf-8") as file:
            for line in file:
                event = json.loads(line)
                names[event["event"]] += 1
                # A machine that is busy makes migrations stand still for a while: that is no fault of anybody's.
                if event["level"] in {"warning", "error"} and event["event"] != "migration_stalled":
                    bad.append(
                        f"{event['event']}: {event.get('reason') or event.get('message') or event.get('verdict')}"
                    )
        return names, bad


def events_in(log: Path, *names: str) -> list[dict[str, Any]]:
    """The events with these names, so far: the last line may be in the making."""
    lines = log.read_text("utf-8").splitlines(keepends=True)
    return [e for line in lines if line.endswith("\n") and (e := json.loads(line))["event"] in names]


@asynccontextmanager
async def proxy_process(
    directory: Path, server: Address, *arguments: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[ProxyProcess]:
    """`spiceproxy run` in front of `server`; it has to end with status 0."""
    log = directory / "events.jsonl"
    command = [
        sys.executable, "-m", "spiceproxy", "run", "--json", "--listen", "127.0.0.1:0", "--server", str(server),
        "--events", str(log), "--log-level", "error", "--metrics", "127.0.0.1:0", *arguments,
    ]  # fmt: skip
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(
            partial(
                trio.run_process,
                command,
                stdout=subprocess.PIPE,
                check=False,
                env=os.environ | (environment or {}),
            )
        )
        assert process.stdout is not None
        line = b""
        with trio.fail_after(60):
            while not line.endswith(b"\n"):
                line += await process.stdout.receive_some(1)
        nursery.start_soon(_drain, process.stdout)
        yield ProxyProcess(process, Address("127.0.0.1", json.loads(line)["port"]), log)
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(60):
            assert await process.wait() == 0


async def _drain(stream: trio.abc.ReceiveStream) -> None:
    while await stream.receive_some(65536):
        pass
