"""How clients come to the proxy, and what that means."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from spiceproxy.address import Address
from spiceproxy.ways.allowing import Allowed
from spiceproxy.ways.upstream import UpstreamProxy

ANYWHERE: Final = Address("*", 0)
"""In the place of a server: each client says where it goes."""


OWN_MARK: Final = 0x5B1CF
"""Of the packets of our connections to servers with `local`, so that the kernel does not bring them back here."""


class Mode(StrEnum):
    """How the server of a connection is known."""

    LISTEN = "listen"  # each port of ours leads to one server
    CONNECT = "connect"  # the client says so, in an HTTP CONNECT request
    TRANSPARENT = "transparent"  # the client meant to go there; the kernel brought it here

    @property
    def rewrites(self) -> bool:
        """Whether a migration has to be rewritten, or the client comes through here by itself."""
        return self is Mode.LISTEN


@dataclass(frozen=True)
class WaysIn:
    """What the user said of it."""

    mode: Mode = Mode.LISTEN
    allowed: Allowed | None = None  # CONNECT: where to; None: what `allowing.default` says
    credentials: str | None = field(default=None, repr=False)  # CONNECT: USER:PASSWORD, or nobody is asked
    tproxy: bool = (
        False  # TRANSPARENT: the kernel hands over connections as they are; servers see the client's address
    )
    local: bool = (
        False  # TRANSPARENT: programs on this machine are brought here too; our connections have to be marked
    )
    upstream: UpstreamProxy | None = None  # through which servers are reached
    websocket: str | None = None  # path, if the first server is spoken to through a WebSocket
    origins: tuple[str, ...] = ()  # further web pages that may connect through a WebSocket
