"""Networks of a test's own: a client, a router, two server hosts, each a network namespace, joined by veth pairs.

client ──c0── router ──s1── server1
                    └──s2── server2
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.programs import require_programs

CLONE_NEWNET = 0x40000000
CLIENT = {4: "10.77.0.2", 6: "fd77::2"}
SERVERS = ({4: "10.77.1.2", 6: "fd77:1::2"}, {4: "10.77.2.2", 6: "fd77:2::2"})
_ROUTER = ("c0", "s1", "s2")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)


@dataclass(frozen=True)
class Network:
    """Names of the four namespaces."""

    client: str
    router: str
    servers: tuple[str, str]

    @staticmethod
    def inside(namespace: str, *command: str) -> list[str]:
        """The command line of a program in a namespace."""
        return ["ip", "netns", "exec", namespace, *command]


def _build(net: Network) -> None:
    names = (net.client, net.router, *net.servers)
    for name in names:
        _run("ip", "netns", "add", name)
    for number, (link, peer) in enumerate(zip(_ROUTER, (net.client, *net.servers), strict=True)):
        _run(
            "ip", "-n", net.router, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", peer
        )
        ipv6 = f"fd77:{number}" if number else "fd77:"
        for name, device, last in ((net.router, link, 1), (peer, "eth0", 2)):
            _run("ip", "-n", name, "address", "add", f"10.77.{number}.{last}/24", "dev", device)
            prefix = f"fd77::{last}/64" if not number else f"{ipv6}::{last}/64"
            _run("ip", "-n", name, "address", "add", prefix, "dev", device, "nodad")
            _run("ip", "-n", name, "link", "set", "dev", device, "up")
        _run("ip", "-n", peer, "route", "add", "default", "via", f"10.77.{number}.1")
        _run("ip", "-n", peer, "route", "add", "default", "via", "fd77::1" if not number else f"{ipv6}::1")
    for name in names:
        _run("ip", "-n", name, "link", "set", "lo", "up")
    forwarding = "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
    _run(*Network.inside(net.router, *forwarding.split()))


@contextmanager
def network() -> Iterator[Network]:
    """The network, for as long as the block runs. Skips the test where there can be none, or fails it in the lab."""
    require_programs("ip", "nft", "sysctl")
    mark = f"spx{os.getpid()}"
    net = Network(f"{mark}c", f"{mark}r", (f"{mark}s1", f"{mark}s2"))
    try:
        try:
            _build(net)
        except subprocess.CalledProcessError as error:
            if error.cmd[:3] != ("ip", "netns", "add"):
                raise AssertionError(f"{error.cmd}: {error.stderr}") from error
            reason = f"no network namespaces here: {error.stderr.strip()}"
            if os.environ.get("SPICEPROXY_REQUIRE_LAB") == "1":
                pytest.fail(f"{reason} (and SPICEPROXY_REQUIRE_LAB=1)", pytrace=False)
            pytest.skip(reason)
        yield net
    finally:
        for name in (net.client, net.router, *net.servers):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=30, check=False)


@contextmanager
def sockets_in(namespace: str) -> Iterator[None]:
    """Sockets that this thread makes in the block belong to a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(str(Path("/run/netns") / namespace), os.O_RDONLY)
    try:
        _enter(libc, other)
        try:
            yield
        finally:
            _enter(libc, own)
    finally:
        os.close(own)
        os.close(other)


def _enter(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
