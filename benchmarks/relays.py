"""Start the relays that the benchmarks compare, each in a process of its own, in front of one server."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

HAPROXY_CONFIG = """
global
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 10m
    timeout server 10m
listen spice
    bind 127.0.0.1:{port}
    server spice 127.0.0.1:{server}
"""


@dataclass(frozen=True)
class Relay:
    """A running relay."""

    name: str
    port: int
    pid: int


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, timeout_s: float = 10) -> None:
    """Block until somebody listens; raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nobody listens on port {port}")


@contextlib.contextmanager
def process(*command: str, stdout: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    """Run a program until the block ends."""
    running = subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL, text=True)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(5)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def first_line(running: subprocess.Popen[str]) -> str:
    """The first line a program prints; raises RuntimeError if it prints none."""
    assert running.stdout is not None
    line = running.stdout.readline()
    if not line:
        raise RuntimeError(f"{running.args!r} ended without a word")
    return line


@contextlib.contextmanager
def server(pem: Path | None = None) -> Iterator[int]:
    """The benchmark's SPICE server; yields its port. With a certificate and its key, in one file, it has TLS."""
    more = [] if pem is None else [str(pem)]
    with process(sys.executable, "-m", "benchmarks.peers", *more, stdout=subprocess.PIPE) as running:
        yield int(first_line(running))


@contextlib.contextmanager
def spiceproxy(server_port: int, *options: str) -> Iterator[Relay]:
    """`spiceproxy run` as a user starts it."""
    command = [sys.executable, "-m", "spiceproxy", "run", "--listen", "127.0.0.1:0", "--json"]
    command += ["--server", f"127.0.0.1:{server_port}", *options]
    with process(*command, stdout=subprocess.PIPE) as running:
        yield Relay("spiceproxy", json.loads(first_line(running))["port"], running.pid)


@contextlib.contextmanager
def spiceproxy_tls(server_port: int, pem: Path, *options: str) -> Iterator[Relay]:
    """The same with TLS on both sides, which `pem` is for."""
    command = [
        sys.executable,
        "-m",
        "spiceproxy",
        "run",
        "--json",
        "--tls-server",
        f"127.0.0.1:{server_port}",
    ]
    command += ["--insecure", "--cert", str(pem), "--key", str(pem), *options]
    with process(*command, stdout=subprocess.PIPE) as running:
        listen = json.loads(first_line(running))["tls_listen"]
        yield Relay("spiceproxy", int(listen.rpartition(":")[2]), running.pid)


@contextlib.contextmanager
def socat(server_port: int) -> Iterator[Relay]:
    """A socat that forks for each connection, with TCP_NODELAY."""
    port = free_port()
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,nodelay"
    with process("socat", listen, f"TCP:127.0.0.1:{server_port},nodelay") as running:
        wait_for_port(port)
        yield Relay("socat", port, running.pid)


@contextlib.contextmanager
def haproxy(server_port: int, pem: Path | None = None) -> Iterator[Relay]:
    """A haproxy in TCP mode with one thread; with TLS on both sides if there is something for it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "haproxy.cfg")
        text = HAPROXY_CONFIG.format(port=port, server=server_port)
        if pem is not None:
            text = text.replace(f"bind 127.0.0.1:{port}", f"bind 127.0.0.1:{port} ssl crt {pem}")
            text = text.replace(f":{server_port}\n", f":{server_port} ssl verify none\n")
        config.write_text(text)
        with process("haproxy", "-f", str(config)) as running:
            wait_for_port(port)
            yield Relay("haproxy", port, running.pid)


def missing() -> list[str]:
    """Programs of the comparison that are not installed."""
    return [name for name in ("socat", "haproxy") if shutil.which(name) is None]
