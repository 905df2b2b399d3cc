"""A capture of the loopback interface, made by Wireshark's dumpcap: what passes when there is no proxy to record it."""

from collections.abc import Collection
from pathlib import Path
from typing import Final

import trio

from spiceproxy.lab.errors import LabError
from spiceproxy.lab.hop import until
from spiceproxy.lab.process import Child, start_child

_START_S: Final = 15.0
_LAST_PACKETS_S: Final = 1.0  # dumpcap empties the kernel's buffer twice a second


def dumpcap_command(file: Path, ports: Collection[int]) -> list[str]:
    """Return the command line that captures the TCP connections of `ports`, and nothing of what else is going on."""
    terms = " or ".join(f"tcp port {port}" for port in sorted(ports))
    return ["dumpcap", "-q", "-i", "lo", "-f", terms, "-w", str(file)]


class Capture:
    """A running capture. Made by `start_capture`."""

    def __init__(self, child: Child) -> None:
        self._child = child

    async def stop(self) -> None:
        """Wait for the last packets, and end it."""
        await trio.sleep(_LAST_PACKETS_S)
        await self._child.stop()


async def start_capture(
    nursery: trio.Nursery, file: Path, ports: Collection[int], directory: Path
) -> Capture:
    """Start to capture to `file`; a task of `nursery`.

    Args:
        nursery: Where it lives.
        file: Written anew, as pcapng.
        ports: TCP ports of the servers.
        directory: For its log.

    Raises:
        LabError: It does not come up; mostly that takes rights that the user does not have.
    """
    await trio.to_thread.run_sync(_create_private, file)
    child = await start_child(nursery, "dumpcap", dumpcap_command(file, ports), log=directory / "dumpcap.log")

    async def writing() -> bool | None:
        return True if (await trio.Path(file).stat()).st_size else None

    if await until(writing, _START_S) is None:
        raise LabError(f"dumpcap does not capture: {child.tail()}")
    return Capture(child)


def _create_private(file: Path) -> None:
    """Create the file, or empty it, readable by nobody else; dumpcap keeps the mode of what is there."""
    file.touch(mode=0o600)
    file.chmod(0o600)
    file.write_bytes(b"")
