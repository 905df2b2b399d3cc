"""Where an HTTP CONNECT proxy leads to, and who may ask. Pure."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from spiceproxy.address import Address, parse_port_range
from spiceproxy.errors import UsageError

# QEMU and libvirt count SPICE ports from 5900; Proxmox VE gives its guests 61000 to 61099 (PVE::Tools, next_spice_port()).
DEFAULT_PORTS: Final = (range(5900, 6000), range(61000, 61100))
_LOCALHOST: Final = {"localhost", "localhost.localdomain"}


@dataclass(frozen=True, slots=True)
class _Rule:
    host: str  # a name, or * for any
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None  # of addresses
    ports: tuple[range, ...]

    def fits(self, target: Address) -> bool:
        if not any(target.port in ports for ports in self.ports):
            return False
        if self.network is not None:
            address = _ip(target.host)
            return address is not None and address in self.network
        host = (target.proxmox_node or target.host).lower().rstrip(".")
        if self.host.startswith("*."):
            return host.endswith(self.host[1:])
        return self.host in {"*", host}


class Allowed:
    """A list of destinations.

    Args:
        texts: HOST:PORTS each; HOST is a name, `*.name`, an address, a network with its prefix, or `*`; PORTS is one
            port, a range A-B, or `*`.

    Raises:
        UsageError: One of them is no such thing.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._rules = [_parse(text) for text in texts]

    def __contains__(self, target: Address) -> bool:
        """Whether the client may go there."""
        return any(rule.fits(target) for rule in self._rules)


def default(listens: Iterable[Address]) -> Allowed:
    """What is allowed if nobody says: SPICE ports of any host if only who is on this machine can ask, else nothing."""
    if not all(map(_is_local, listens)):
        return Allowed(())
    return Allowed(f"*:{ports.start}-{ports.stop - 1}" for ports in DEFAULT_PORTS)


def _is_local(listen: Address) -> bool:
    address = _ip(listen.machine)
    return address.is_loopback if address is not None else listen.host.lower() in _LOCALHOST


def is_localhost_or_address(host: str) -> bool:
    """Whether it is no name that somebody else can let point here."""
    return _ip(host) is not None or host.lower() in _LOCALHOST


def _parse(text: str) -> _Rule:
    host, _, ports_text = text.rpartition(":")
    ports = range(1, 65536) if ports_text == "*" else parse_port_range(ports_text)
    if bracketed := re.fullmatch(r"\[([^]]+)\](/[0-9]+)?", host):
        host = bracketed[1] + (bracketed[2] or "")
    elif ":" in host:
        raise UsageError(f"{text!r}: put an IPv6 address in brackets, for example [2001:db8::]/32:5900-5999")
    if not host or not host.isprintable() or " " in host:
        raise UsageError(f"{text!r} is not HOST:PORTS, for example *.example.org:5900-5999")
    network = None
    if "/" in host or _ip(host) is not None:
        try:
            network = ipaddress.ip_network(host, strict=False)
        except ValueError as error:
            raise UsageError(f"{text!r}: {error}") from None
    return _Rule(host.lower().rstrip("."), network, (ports,))


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
