"""Throughput and round trip with TLS on both sides, beside haproxy doing the same and without TLS, in one run.

    python benchmarks/tls.py [--rounds N] [--megabytes N] [--message-bytes N ...] [--json]

TLS 1.3 with AES-256-GCM, a certificate on P-256. As benchmarks/relay.py: the relays take turns within each round. `direct` is
client and server without a relay; every relay with TLS decrypts and encrypts.
"""

import argparse
import contextlib
import json
import ssl
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from rich.console import Console
from rich.table import Table

from benchmarks import peers, relays
from spiceproxy.tls.authority import Authority

PEM = serialization.Encoding.PEM


def certificate(file: Path) -> None:
    """Write a certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
    made = Authority.new().issue(name, [], key).public_bytes(PEM)
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(made + private)


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Run the rounds; medians per relay: `rtt_us`, and `bulk_N_mb_s` for each message size N."""
    samples: dict[str, dict[str, list[float]]] = {}
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    with contextlib.ExitStack() as stack:
        pem = Path(stack.enter_context(tempfile.TemporaryDirectory()), "both.pem")
        certificate(pem)
        plain = stack.enter_context(relays.server())
        secure = stack.enter_context(relays.server(pem))
        ways: dict[str, tuple[int, ssl.SSLContext | None]] = {"direct, TLS": (secure, anybody)}
        if "haproxy" not in relays.missing():
            ways["haproxy, TLS"] = stack.enter_context(relays.haproxy(secure, pem)).port, anybody
        ways["spiceproxy, TLS"] = stack.enter_context(relays.spiceproxy_tls(secure, pem)).port, anybody
        ways["spiceproxy, in clear"] = stack.enter_context(relays.spiceproxy(plain)).port, None
        for _ in range(options.rounds):
            for name, (port, tls) in ways.items():
                figures = samples.setdefault(name, {})
                trips = peers.round_trips(port, options.trips, tls=tls)
                figures.setdefault("rtt_us", []).append(statistics.median(trips) * 1e6)
                for size in options.message_bytes:
                    rate = peers.bulk(port, options.megabytes * 10**6, size, tls=tls) / 1e6
                    figures.setdefault(f"bulk_{size}_mb_s", []).append(rate)
    return {
        name: {key: statistics.median(values) for key, values in figures.items()}
        for name, figures in samples.items()
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=500, help="per bulk transfer")
    parser.add_argument("--trips", type=int, default=3000, help="round trips per round")
    parser.add_argument("--message-bytes", type=int, nargs="+", default=[1024, 4096, 65536, 1048576])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = measure(options)
    if options.json:
        print(json.dumps({"figures": figures}))
        return 0
    table = Table(
        "relay", "round trip, median us", *(f"bulk MB/s, {n} byte messages" for n in options.message_bytes)
    )
    for name, values in figures.items():
        bulk = (f"{values[f'bulk_{size}_mb_s']:.0f}" for size in options.message_bytes)
        table.add_row(name, f"{values['rtt_us']:.0f}", *bulk)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
