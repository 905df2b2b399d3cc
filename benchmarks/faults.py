"""What faults cost those whom no rule is about: throughput and round trip of a display, with and without rules.

    python benchmarks/faults.py [--rounds N] [--megabytes N] [--message-bytes N ...]

Proxies in turns: one without faults, one that is controlled (`--control`) and has no rule yet, one with a rule that names a message of the main channel, and one with a rule that
names a message of the display which never comes; `with every message` has a rule about all that the display's server sends.
Bulk: one display channel, server to client. Round trip: a 64-byte message.
"""

import argparse
import contextlib
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks import peers, relays

RULES = {
    "no faults": [],
    "no faults, but --control": ["--control", "127.0.0.1:0"],
    "a rule for a message of main": [
        "--fault",
        '{ match = { message = "MIGRATE_DST_SEAMLESS_ACK" }, do = "drop" }',
    ],
    "a rule for a message of the display": [
        "--fault",
        '{ match = { message = "DISPLAY_STREAM_CREATE" }, do = "drop" }',
    ],
    "a rule for every message of the display": [
        "--fault",
        '{ match = { channel = "display", from = "server", nth = 1 }, do = "log" }',
    ],
}


def main() -> int:
    """Measure and print, with ratios to the proxy without faults."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=500, help="per bulk transfer")
    parser.add_argument("--trips", type=int, default=3000, help="round trips per round")
    parser.add_argument("--message-bytes", type=int, nargs="+", default=[256, 1024, 4096, 65536, 1048576])
    options = parser.parse_args()
    samples: dict[str, dict[int, list[float]]] = {
        name: {size: [] for size in (0, *options.message_bytes)} for name in RULES
    }
    with relays.server() as server_port, contextlib.ExitStack() as stack:
        proxies = {
            name: stack.enter_context(relays.spiceproxy(server_port, *rules)) for name, rules in RULES.items()
        }
        for _ in range(options.rounds):
            for name, relay in proxies.items():
                trips = peers.round_trips(relay.port, options.trips)
                samples[name][0].append(statistics.median(trips) * 1e6)
                for size in options.message_bytes:
                    megabytes = options.megabytes if "every" not in name else max(1, options.megabytes // 10)
                    samples[name][size].append(peers.bulk(relay.port, megabytes * 10**6, size) / 1e6)
    table = Table(
        "", "round trip, median us", *(f"bulk MB/s, {size} B messages" for size in options.message_bytes)
    )
    plain = samples["no faults"]
    for name, figures in samples.items():
        cells = [
            f"{statistics.median(values):.0f} ({statistics.median(values) / statistics.median(plain[size]):.2f})"
            for size, values in figures.items()
        ]
        table.add_row(name, *cells)
    Console(width=140).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
