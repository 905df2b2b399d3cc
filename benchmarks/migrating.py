"""What following a migration costs: throughput and round trip of a channel while one goes on in its session, and before.

    python benchmarks/migrating.py [--rounds N] [--megabytes N] [--message-bytes N ...]

Both in turns, in the same proxy. Bulk: one display channel, server to client. Round trip: a 64-byte message.
"""

import argparse
import contextlib
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks import peers, relays

QUIET, MIGRATING = "no migration", "during a migration"


@contextlib.contextmanager
def quiet(_port: int) -> Iterator[int]:
    """A session of its own in which nothing happens."""
    yield 0


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=500, help="per bulk transfer")
    parser.add_argument("--trips", type=int, default=3000, help="round trips per round")
    parser.add_argument("--message-bytes", type=int, nargs="+", default=[256, 1024, 4096, 65536, 1048576])
    options = parser.parse_args()
    samples: dict[str, dict[int, list[float]]] = {
        name: {size: [] for size in (0, *options.message_bytes)} for name in (QUIET, MIGRATING)
    }
    with relays.server() as server_port, relays.spiceproxy(server_port) as relay:
        for _ in range(options.rounds):
            for name, session in ((QUIET, quiet), (MIGRATING, peers.migrating)):
                with session(relay.port) as connection_id:
                    trips = peers.round_trips(relay.port, options.trips, connection_id)
                    samples[name][0].append(statistics.median(trips) * 1e6)
                    for size in options.message_bytes:
                        rate = peers.bulk(relay.port, options.megabytes * 10**6, size, connection_id) / 1e6
                        samples[name][size].append(rate)
    table = Table(
        "", "round trip, median us", *(f"bulk MB/s, {size} B messages" for size in options.message_bytes)
    )
    for name, figures in samples.items():
        table.add_row(name, *(f"{statistics.median(values):.0f}" for values in figures.values()))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
