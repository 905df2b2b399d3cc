"""What the kernel has to be told for `--mode transparent`: nftables rules, and routes for TPROXY. Text only.

Sources: nft(8), REDIRECT and TPROXY statements; Linux Documentation/networking/tproxy.rst, also for the route that makes
packets with others' addresses come to a socket here.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from spiceproxy.errors import UsageError

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
    chain = _tproxy_chain(what) if what.tproxy else _redirect_chain(what)
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{", *chain, "}"]
    return "\n".join(lines) + "\n"


def removal() -> str:
    """Takes the rules away, also if there are none; for `nft -f`."""
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n"


def _redirect_chain(what: Interception) -> list[str]:
    return [
        "\tchain prerouting {",
        "\t\ttype nat hook prerouting priority dstnat; policy accept;",
        *(f"\t\t{match} redirect to :{what.to_port}" for match in _matches(what)),
        "\t}",
    ]


def _tproxy_chain(what: Interception) -> list[str]:
    mark = f"meta mark set {what.mark:#x}"
    rules = [
        f"\t\t{match} tproxy {'ip' if 'ipv4' in match else 'ip6'} to :{what.to_port} {mark} accept"
        for match in _matches(what)
    ]
    return [
        "\tchain prerouting {",
        "\t\ttype filter hook prerouting priority mangle; policy accept;",
        # Packets of connections that are here already, in both directions: servers answer to the client's address.
        f"\t\tmeta l4proto tcp socket transparent 1 socket wildcard 0 {mark} accept",
        *rules,
        "\t}",
    ]


def _matches(what: Interception) -> list[str]:
    interface = f'iifname "{what.interface}" ' if what.interface else ""
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


def routes(what: Interception, *, add: bool) -> list[list[str]]:
    """The commands that lead marked packets to this machine, or undo that; none without TPROXY."""
    if not what.tproxy:
        return []
    commands = []
    for version, everything in (("-4", "0.0.0.0/0"), ("-6", "::/0")):
        verb = "add" if add else "del"
        mark, table = f"{what.mark:#x}", str(what.route_table)
        commands += [
            ["ip", version, "rule", verb, "fwmark", mark, "lookup", table],
            ["ip", version, "route", "replace" if add else "flush"]
            + (["local", everything, "dev", "lo", "table", table] if add else ["table", table]),
        ]
    return commands
