"""What the packets of a capture say, as values: connections, their bytes in order, and what is missing."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dissectors.side import Side

MAX_PROBLEMS: Final = 100
"""A file that is broken everywhere is not described packet by packet."""


class Endpoint(NamedTuple):
    """An address (text; an IPv4 address mapped into IPv6 stands as IPv4) and a TCP port."""

    host: str
    port: int


class Opened(NamedTuple):
    """A TCP connection that carries SPICE, or one of whose ports was asked for."""

    connection: int  # counts from 1, in the order in which they are recognised
    time_ns: (
        int  # of its first packet, since 1970 (UTC): earlier than the event before if bytes had to be awaited
    )
    client: Endpoint
    server: Endpoint
    from_start: bool  # its SYN, or its first bytes "REDQ", are in the capture
    comment: str | None  # pcapng comment of the SYN packet


class Data(NamedTuple):
    """Bytes of one side in order, each once."""

    connection: int
    time_ns: int
    side: Side
    data: bytes
    packet: int  # number in the file, from 1, of the last packet that was needed


class Gap(NamedTuple):
    """Bytes that were sent and are not in the capture."""

    connection: int
    time_ns: int
    side: Side
    size: int


class Closed(NamedTuple):
    """A FIN or RST of one side; `side` None: the capture ends, or the connection was given up, before they came."""

    connection: int
    time_ns: int
    side: Side | None
    reset: bool


class Commented(NamedTuple):
    """A comment of a packet; it stands before the packet's bytes where the connection is known by then."""

    connection: int
    time_ns: int
    side: Side  # who sent the packet
    text: str  # one line each


StreamEvent = Opened | Data | Gap | Closed | Commented


@dataclass(slots=True)
class Summary:
    """Counts while the file is read; whole after the last event."""

    packets: int = 0
    tcp_connections: int = 0
    spice_connections: int = 0
    other_connections: int = 0
    """Those that were recognised as something else. What said nothing is in none of the two."""

    problems: list[str] = field(default_factory=list)
    """One line each; at most MAX_PROBLEMS and a last line that says so."""

    def problem(self, text: str) -> None:
        """Add a line."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(text)
        elif len(self.problems) == MAX_PROBLEMS:
            self.problems.append("more problems are not listed")
