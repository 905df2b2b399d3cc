"""Memory of the proxy: many idle channels, and a reader that is slower than its sender.

python benchmarks/memory.py [--channels N] [--mebibytes N] [--read-mb-s N] [--record] [--json]
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import psutil

from benchmarks import peers, relays

MIB = 2**20


def settled_rss(process: psutil.Process) -> int:
    """Resident bytes, once they have stood still for half a second."""
    rss = process.memory_info().rss
    while True:
        time.sleep(0.5)
        now = process.memory_info().rss
        if abs(now - rss) < MIB // 4:
            return now
        rss = now


def slow_transfer(port: int, process: psutil.Process, options: argparse.Namespace) -> int:
    """Read a transfer at a bounded rate; the proxy's highest resident bytes meanwhile."""
    wanted, got, peak = options.mebibytes * MIB, 0, 0
    buffer = bytearray(MIB)
    with peers.connect(port) as connection:
        connection.sendall(peers.REQUEST.pack(101, peers.REQUEST.size - 6, peers.BULK, wanted, 65536))
        started = time.monotonic()
        while got < wanted:
            received = connection.recv_into(buffer)
            if not received:
                raise ConnectionError(f"closed after {got} bytes")
            got += received
            peak = max(peak, process.memory_info().rss)
            time.sleep(max(0.0, started + got / (options.read_mb_s * 1e6) - time.monotonic()))
    return peak


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--channels", type=int, default=200)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--read-mb-s", type=float, default=100)
    parser.add_argument(
        "--record", action="store_true", help="spiceproxy also records (to a temporary folder)"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        server_port = stack.enter_context(relays.server())
        record: list[str] = []
        if options.record:
            record = ["--record", str(Path(stack.enter_context(tempfile.TemporaryDirectory()), "b.pcapng"))]
        relay = stack.enter_context(relays.spiceproxy(server_port, *record))
        process = psutil.Process(relay.pid)
        idle = settled_rss(process)
        for number in range(options.channels):
            stack.enter_context(peers.connect(relay.port, channel_id=number % 256))
        open_channels = settled_rss(process)
        peak = slow_transfer(relay.port, process, options)
    figures = {
        "idle_proxy_mib": idle / MIB,
        f"{options.channels}_channels_cost_mib": (open_channels - idle) / MIB,
        "slow_reader_growth_mib": (peak - open_channels) / MIB,
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name}: {value:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
