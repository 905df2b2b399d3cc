"""What the kernel has to be told for `--mode transparent`: nftables rules, and routes for TPROXY. Text only.

Sources: nft(8), REDIRECT and TPROXY statements; Linux Documentation/networking/tproxy.rst, also for the route that makes
packets with others' addresses come to a socket here.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from spiceproxy.errors import UsageError
from spiceproxy.ways.mode import OWN_MARK

TABLE: Final = "spiceproxy"
DEFAULT_MARK: Final = 0x5B1CE
DEFAULT_ROUTE_TABLE: Final = 5900

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Interception:
    """Which connections are brought to the proxy, and how."""

    to_port: int  # of the proxy, on any address
    ports: range  # of servers
    servers: tuple[Network, ...] = ()  # none: all
    interface: str | None = None  # that clients come in by; None: any
    tproxy: bool = False
    mark: int = DEFAULT_MARK
    route_table: int = DEFAULT_ROUTE_TABLE
    local: bool = False  # also what programs on this machine send
    proxy_uid: int | None = (
        None  # the user that the proxy runs as, if that is how it is told from them; None: OWN_MARK
    )


def parse_servers(texts: tuple[str, ...]) -> tuple[Network, ...]:
    """Addresses or networks.

    Raises:
        UsageError: One of them is neither.
    """
    try:
        return tuple(ip_network(text.strip("[]"), strict=False) for text in texts)
    except ValueError as error:
        raise UsageError(f"--server takes an address or a network: {error}") from None


def ruleset(what: Interception) -> str:
    """The rules, for `nft -f`. They replace what is there of ours, at once."""
    chains = _tproxy_chains(what) if what.tproxy else _redirect_chains(what)
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{", *chains, "}"]
    return "\n".join(lines) + "\n"


def removal() -> str:
    """Takes the rules away, also if there are none; for `nft -f`."""
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n"


def _redirect_chains(what: Interception) -> list[str]:
    redirect = f"redirect to :{what.to_port}"
    lines = _chain(
        "prerouting",
        "type nat hook prerouting priority dstnat",
        [f"{match} {redirect}" for match in _matches(what, _interface(what))],
    )
    if what.local:
        rules = [f"{_of_the_proxy(what)} accept", *(f"{match} {redirect}" for match in _matches(what))]
        lines += _chain("output", "type nat hook output priority -100", rules)  # nft has no name for it there
    return lines


def _tproxy_chains(what: Interception) -> list[str]:
    mark = f"meta mark set {what.mark:#x}"
    rules = [
        # Packets of connections that are here already, in both directions: servers answer to the client's address.
        f"meta l4proto tcp socket transparent 1 socket wildcard 0 {mark} accept",
        # What this machine sends to itself, but for what the output chain has marked.
        f'iifname "lo" meta mark != {what.mark:#x} accept',
        # Servers here would answer clients elsewhere past us.
        'iifname != "lo" fib daddr type local accept',
    ]
    rules += [
        f"{match} tproxy {'ip' if 'ipv4' in match else 'ip6'} to :{what.to_port} {mark} accept"
        for match in _matches(what, _interface(what))
    ]
    lines = _chain("prerouting", "type filter hook prerouting priority mangle", rules)
    if what.local:  # marked packets are routed anew, by way of lo, and come to prerouting there
        rules = [f"{_of_the_proxy(what)} accept", *(f"{match} {mark}" for match in _matches(what))]
        lines += _chain("output", "type route hook output priority mangle", rules)
    return lines


def _chain(name: str, kind: str, rules: list[str]) -> list[str]:
    return [f"\tchain {name} {{", f"\t\t{kind}; policy accept;", *(f"\t\t{rule}" for rule in rules), "\t}"]


def _of_the_proxy(what: Interception) -> str:
    return f"meta mark {OWN_MARK:#x}" if what.proxy_uid is None else f"meta skuid {what.proxy_uid}"


def _interface(what: Interception) -> str:
    if what.interface is None:
        return ""
    return (
        f'iifname {{ "{what.interface}", "lo" }} '
        if what.local and what.tproxy
        else f'iifname "{what.interface}" '
    )


def _matches(what: Interception, interface: str = "") -> list[str]:
    last = what.ports.stop - 1
    ports = str(what.ports.start) if len(what.ports) == 1 else f"{what.ports.start}-{last}"
    matches = []
    for version, family in ((4, "ip"), (6, "ip6")):
        own = [str(net) for net in what.servers if net.version == version]
        if what.servers and not own:
            continue
        servers = f"{family} daddr {{ {', '.join(own)} }} " if own else ""
        matches.append(f"meta nfproto ipv{version} {interface}{servers}tcp dport {ports}")
    return matches


@dataclass(frozen=True, slots=True)
class Route:
    """What leads marked packets of one address family to this machine: commands that add it and take it away."""

    version: str  # "-4" or "-6"
    add: tuple[list[str], ...]
    remove: tuple[list[str], ...]  # the second only makes sense after the first


def routes(what: Interception) -> list[Route]:
    """For TPROXY."""
    mark, table = f"{what.mark:#x}", str(what.route_table)
    found = []
    for version, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        rule = ["fwmark", mark, "lookup", table]
        found.append(
            Route(
                version,
                add=(
                    ["ip", version, "rule", "add", *rule],
                    ["ip", version, "route", "replace", "local", everything, "dev", "lo", "table", table],
                ),
                remove=(
                    ["ip", version, "rule", "del", *rule],
                    ["ip", version, "route", "flush", "table", table],
                ),
            )
        )
    return found
