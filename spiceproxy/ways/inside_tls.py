"""TLS of clients that chose their server by themselves: which certificate that server has to have.

The client knows a subject or a host; we see an address, and what servers said of the servers that come next.
"""

from typing import Final

from spiceproxy.address import Address
from spiceproxy.destinations import Way

MAX_SUBJECTS: Final = 256


class Subjects:
    """Subjects of servers' certificates.

    Args:
        other: Of all servers that nobody has announced; None: their certificates have to be of their hosts.
    """

    def __init__(self, other: str | None) -> None:
        self._other = other
        self._announced: dict[Address, str | None] = {}

    def announced(self, server: Address, subject: str | None) -> None:
        """A server has told its client of this one."""
        self._announced.pop(server, None)
        self._announced[server] = subject
        while len(self._announced) > MAX_SUBJECTS:
            del self._announced[next(iter(self._announced))]

    def way(self, server: Address) -> Way:
        """The way of a client that speaks TLS to a server."""
        return Way(server, tls=True, server_tls=True, subject=self._announced.get(server, self._other))
