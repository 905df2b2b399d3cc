"""What is known of a TCP connection while its packets come by."""

from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from dissectors.side import Side
from spiceproxy.capture.events import Endpoint
from spiceproxy.capture.reassembly import Half


class End(Half):
    """One end of a connection. All that is asked for each packet is here."""

    __slots__ = ("closed", "connection", "first", "flow", "key", "patience", "peer", "side", "waits_at")

    flow: "Flow"
    peer: "End"

    def __init__(self, key: bytes, connection: int = 0) -> None:
        super().__init__()
        self.key = key  # addresses and ports as in the packets that it sends
        self.connection = connection  # 0 as long as nobody knows whether it is SPICE
        self.side = Side.CLIENT
        self.first: bytes | None = (
            b""  # its first bytes, until they are judged; None: they are not in the capture
        )
        self.closed = False
        self.patience = 0  # packets until bytes count as missing; 0: none do
        self.waits_at = 0  # `next` when that began


class Flow:
    """A connection."""

    __slots__ = (
        "comment",
        "first_packet",
        "held",
        "held_bytes",
        "is_wanted",
        "kept_bytes",
        "last_packet",
        "one",
        "other",
        "roles_known",
        "time_ns",
    )

    def __init__(self, one: End, other: End, time_ns: int, *, is_wanted: bool) -> None:
        self.one, self.other = one, other  # client and server if `roles_known`
        self.roles_known = False  # there was a SYN
        self.is_wanted = is_wanted  # one of its ports was asked for
        self.time_ns = time_ns
        self.comment: str | None = None
        # Until it is decided: sender, time, number of the packet, bytes or how many are missing.
        self.held: list[tuple[End, int, int, bytes | int]] = []
        self.held_bytes = 0
        self.kept_bytes = 0  # of all that waits, as counted in the sum of all connections
        self.last_packet = self.first_packet = 0  # numbers in the file

    @property
    def ends(self) -> tuple[End, End]:
        """Both."""
        return self.one, self.other


class Route(NamedTuple):
    """Which packets carry a SPICE connection, for who reads them a second time.

    A packet between these ends belongs to the last connection whose first packet does not come after it. `begin` of an
    end is the sequence number of its first byte, plus a multiple of 2**32; -1 if it said nothing.
    """

    connection: int  # as in `Opened`
    first_packet: int  # number in the file
    client: End
    server: End


def reverse(key: bytes) -> bytes:
    """The key of the other direction."""
    half = (len(key) - 4) // 2
    return key[half : 2 * half] + key[:half] + key[-2:] + key[-4:-2]


def endpoints(key: bytes) -> tuple[Endpoint, Endpoint]:
    """Source and destination in a key."""
    half = (len(key) - 4) // 2
    return (
        Endpoint(_host(key[:half]), int.from_bytes(key[-4:-2])),
        Endpoint(_host(key[half : 2 * half]), int.from_bytes(key[-2:])),
    )


def _host(packed: bytes) -> str:
    address = ip_address(packed)
    # So a recording names an IPv4 peer of a connection whose other leg is IPv6.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
