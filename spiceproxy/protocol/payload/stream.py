"""One direction of a stream of packets, each a header and as many bytes as it says, cut over SPICE messages anyhow."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from spiceproxy.protocol.payload.inner import MAX_KEPT, Found, Inner, note


class UnreadableStreamError(Exception):
    """A header that cannot be: from here on nobody knows where a packet begins. Never leaves this package."""


class PacketStream(ABC):
    """Puts packets together. Keeps at most a header and MAX_KEPT bytes, whatever is announced."""

    protocol: ClassVar[str]

    def __init__(self) -> None:
        self._head = bytearray()
        self._body = bytearray()
        self._header: dict[str, Any] | None = None
        self._size = 0
        self._missing = 0
        self.is_lost = False

    @abstractmethod
    def _header_size(self) -> int:
        """Bytes of the header that comes next."""

    @abstractmethod
    def _open(self, head: bytes) -> tuple[dict[str, Any], int]:
        """Read a header.

        Returns:
            Its fields, and how many bytes belong to the packet behind it.

        Raises:
            UnreadableStreamError: No packet begins here.
        """

    @abstractmethod
    def _name(self, header: dict[str, Any]) -> str:
        """Name a packet by its header alone."""

    @abstractmethod
    def _read(self, header: dict[str, Any], body: bytes) -> Inner:
        """Dissect a whole packet."""

    def feed(self, data: bytes, found: Found) -> None:
        """Take the next bytes of the stream and add the packets that become whole with them."""
        at, end = 0, len(data)
        while at < end and not self.is_lost:
            if self._header is None:
                piece = data[at : at + self._header_size() - len(self._head)]
                self._head += piece
                at += len(piece)
                if len(self._head) < self._header_size():
                    return
                try:
                    self._header, self._size = self._open(bytes(self._head))
                except UnreadableStreamError as error:
                    self.lose(str(error), found)
                    return
                self._head.clear()
                self._missing = self._size
            take = min(self._missing, end - at)
            if self._size <= MAX_KEPT:
                self._body += data[at : at + take]
            self._missing -= take
            at += take
            if not self._missing:
                self._close(found)

    def _close(self, found: Found) -> None:
        header, body, size = self._header, bytes(self._body), self._size
        self._header = None
        self._body.clear()
        if header is None or not found.has_room():
            return
        if size > MAX_KEPT:
            why = f"{size} bytes are not kept; the limit is {MAX_KEPT}"
            found.add(Inner(self.protocol, self._name(header), {"header": header}, why, size))
        else:
            found.add(self._read(header, body))

    def lose(self, why: str, found: Found) -> None:
        """Give the stream up and say so; all that follows is passed over, up to `restart`."""
        self._forget()
        self.is_lost = True
        found.add(note(self.protocol, why))

    def restart(self, why: str, found: Found) -> None:
        """Begin anew: the next byte is the first of a header. A packet under way is given up and `why` says why."""
        if self._header is not None:
            had = self._size - self._missing
            cut = f"cut off by {why} after {had} of {self._size} bytes"
            found.add(
                Inner(self.protocol, self._name(self._header), {"header": self._header}, cut, self._size)
            )
        elif self._head:
            found.add(note(self.protocol, f"cut off by {why} inside a header"))
        self._forget()
        self.is_lost = False

    def _forget(self) -> None:
        self._head.clear()
        self._body.clear()
        self._header = None
