"""The connections of one recording."""

from spiceproxy import clock
from spiceproxy.recording.conversation import Conversation


class Conversations:
    """The connections of a recording, whatever becomes of their packets."""

    def __init__(self) -> None:
        self._conversations: dict[frozenset[bytes], Conversation] = {}
        self._opened = 0
        self._lost_bytes = 0

    @property
    def ended(self) -> bool:
        """Whether nothing more is recorded."""
        raise NotImplementedError

    @property
    def error(self) -> OSError | None:
        """Why the recording ended early, if it did."""
        return None

    @property
    def lost_bytes(self) -> int:
        """Bytes of connections that are not recorded."""
        return self._lost_bytes

    def lose(self, size: int) -> None:
        """Count `size` bytes that are not recorded."""
        self._lost_bytes += size

    def packet(
        self, time_ns: int, header: bytes, payload: bytes | bytearray | memoryview, comment: str | None
    ) -> None:
        """Take one packet from a conversation."""
        raise NotImplementedError

    def begun(self, conversation: Conversation) -> None:
        """A conversation begins; called before its first packet."""

    async def checkpoint(self) -> None:
        """Wait while packets come faster than they can be kept."""

    def conversation(
        self,
        client: tuple[str, int],
        server: tuple[str, int],
        *,
        comment: str | None = None,
        time_ns: int | None = None,
    ) -> Conversation:
        """Begin a connection in the file: its handshake.

        Of two connections that are open at once between the same addresses and ports, which a reader could not tell
        apart, the second gets another client port, and a comment that says so.

        Args:
            client: Address and port of the client, as the kernel tells them.
            server: Address and port of the server that the connection really leads to.
            comment: For the first packet.
            time_ns: When, nanoseconds since 1970 (UTC); None is now.

        Raises:
            ValueError: Not an IP address, or no port.
        """
        # Consecutive numbers of the Weyl sequence lie far apart: a later connection between the same addresses and
        # ports is taken for a new one by its SYN's number.
        self._opened += 1
        client_isn = self._opened * 0x9E3779B1
        server_isn = client_isn + 0x5BD1E995
        port = client[1]
        while True:
            made = Conversation(self, (client[0], port), server, client_isn=client_isn, server_isn=server_isn)
            twin = self._conversations.get(made.ends)
            if twin is None or twin.closed:
                break
            port = port + 1 if port < 65535 else 1024
        if port != client[1]:
            note = (
                f"The client's port is {client[1]}, as on another connection to {server[0]} port {server[1]}."
            )
            comment = note if comment is None else f"{comment}\n{note}"
        self._conversations[made.ends] = made
        self.begun(made)
        made.open(clock.now_ns() if time_ns is None else time_ns, comment)
        return made
