"""Throughput and round trip of the relay, side by side with socat and haproxy in one run.

    python benchmarks/relay.py [--rounds N] [--megabytes N] [--message-bytes N ...] [--record] [--json]

The relays take turns within each round, so that a machine that is busy for a moment is so for all of them; the
ratios are medians over the rounds. Bulk: one display channel, server to client. Round trip: a 64-byte message.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from benchmarks import peers, relays


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Run the rounds; medians per relay: `rtt_us`, and `bulk_N_mb_s` for each message size N."""
    samples: dict[str, dict[str, list[float]]] = {}
    with contextlib.ExitStack() as stack:
        server_port = stack.enter_context(relays.server())
        record: list[str] = []
        if options.record:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            record = ["--record", str(Path(folder, "benchmark.pcapng"))]
        ports = {"direct": server_port}
        for start in (relays.socat, relays.haproxy):
            if start.__name__ not in relays.missing():
                relay = stack.enter_context(start(server_port))
                ports[relay.name] = relay.port
        relay = stack.enter_context(relays.spiceproxy(server_port, *record))
        ports[relay.name] = relay.port
        for _ in range(options.rounds):
            for name, port in ports.items():
                figures = samples.setdefault(name, {})
                trips = peers.round_trips(port, options.trips)
                figures.setdefault("rtt_us", []).append(statistics.median(trips) * 1e6)
                for size in options.message_bytes:
                    rate = peers.bulk(port, options.megabytes * 10**6, size) / 1e6
                    figures.setdefault(f"bulk_{size}_mb_s", []).append(rate)
    return {
        name: {key: statistics.median(values) for key, values in figures.items()}
        for name, figures in samples.items()
    }


def main() -> int:
    """Measure, print, compare with the bars that are asked of the relay."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=2000, help="per bulk transfer")
    parser.add_argument("--trips", type=int, default=3000, help="round trips per round")
    parser.add_argument("--message-bytes", type=int, nargs="+", default=[4096, 65536, 1048576])
    parser.add_argument(
        "--record", action="store_true", help="spiceproxy also records (to a temporary folder)"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options)
    ratios = {}
    if not relays.missing():
        ratios["rtt_to_socat"] = figures["spiceproxy"]["rtt_us"] / figures["socat"]["rtt_us"]
        for size in options.message_bytes:
            key = f"bulk_{size}_mb_s"
            ratios[f"bulk_{size}_to_haproxy"] = figures["spiceproxy"][key] / figures["haproxy"][key]
    if options.json:
        print(json.dumps({"figures": figures, "ratios": ratios}))
        return 0
    table = Table(
        "relay", "round trip, median us", *(f"bulk MB/s, {n} byte messages" for n in options.message_bytes)
    )
    for name, values in figures.items():
        bulk = (f"{values[f'bulk_{size}_mb_s']:.0f}" for size in options.message_bytes)
        table.add_row(name, f"{values['rtt_us']:.0f}", *bulk)
    console = Console()
    console.print(table)
    for key, ratio in ratios.items():
        console.print(f"{key}: {ratio:.2f}")
    if relays.missing():
        console.print(f"not installed, so not compared: {', '.join(relays.missing())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
