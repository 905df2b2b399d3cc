"""One direction of the agent's stream, and what both ends of it announced."""

from typing import Any, ClassVar

from dissectors.side import Side
from dissectors.vd_agent import (
    CLIPBOARD_MESSAGES,
    HEADER,
    HEADER_SIZE,
    PROTOCOL,
    agent_layout,
    capability_bits,
)
from dissectors.vd_agent_names import AgentCap, AgentMessage
from spiceproxy.protocol.payload.inner import Found, Inner, note, take_apart, unread
from spiceproxy.protocol.payload.stream import PacketStream, UnreadableStreamError


class AgentCapabilities:
    """What both ends announced, as far as we saw it."""

    def __init__(self, both: int | None = None) -> None:
        self._announced: dict[Side, int | None] = dict.fromkeys(Side, both)

    def announce(self, side: Side, bits: int) -> None:
        """Note what one end can do."""
        self._announced[side] = bits

    def forget(self) -> None:
        """Another agent, or another run of it: nothing is known any more."""
        self._announced = dict.fromkeys(Side)

    def both(self) -> int | None:
        """Bits that both announced; None if one of the two announcements is not there."""
        server, client = self._announced[Side.SERVER], self._announced[Side.CLIENT]
        return None if server is None or client is None else server & client


class AgentStream(PacketStream):
    """One direction of the agent's stream.

    Where nobody saw it begin, a chunk that looks like the beginning of a message is taken for one: client and server
    never put two messages in one chunk, and twenty bytes of a header are hard to hit by chance.

    Args:
        capabilities: Of both ends; what this one announces is added.
        side: Who speaks; None leaves the capabilities as they are.
    """

    protocol: ClassVar[str] = "vd_agent"

    def __init__(self, capabilities: AgentCapabilities, side: Side | None) -> None:
        super().__init__()
        self._capabilities, self._side = capabilities, side
        self._joining, self._said = True, False

    def feed(self, data: bytes, found: Found) -> None:
        """Take the next chunk."""
        if self._joining and data:
            if not begins_message(data):
                if not self._said:
                    self._said = True
                    found.add(note(self.protocol, "the stream is joined inside a message"))
                return
            self._joining = False
        super().feed(data, found)

    def restart(self, why: str, found: Found) -> None:
        """Begin anew with the next chunk."""
        super().restart(why, found)
        self._joining = False

    def _header_size(self) -> int:
        return HEADER_SIZE

    def _open(self, head: bytes) -> tuple[dict[str, Any], int]:
        header = HEADER.dissect(head).fields
        if header["protocol"] != PROTOCOL:
            raise UnreadableStreamError(f"a message of agent protocol {header['protocol']}, not {PROTOCOL}")
        return header, header["size"]

    def _name(self, header: dict[str, Any]) -> str:
        spec = agent_layout(header["type"], header["size"], selection=True, grab_serial=True)
        return spec.name if spec else f"unknown_{int(header['type'])}"

    def _read(self, header: dict[str, Any], body: bytes) -> Inner:
        type_, both = header["type"], self._capabilities.both()
        if both is None and type_ in CLIPBOARD_MESSAGES:
            why = "its layout depends on capabilities that were not seen"
            return unread(self.protocol, self._name(header), header, body, why)
        both = both or 0
        spec = agent_layout(
            type_,
            len(body),
            selection=bool(both & 1 << AgentCap.CLIPBOARD_SELECTION),
            grab_serial=bool(both & 1 << AgentCap.CLIPBOARD_GRAB_SERIAL),
        )
        inner = take_apart(self.protocol, header, type_, spec, body)
        if type_ == AgentMessage.ANNOUNCE_CAPABILITIES and self._side is not None and inner.error is None:
            self._capabilities.announce(self._side, capability_bits(inner.fields["caps"]))
        return inner


def begins_message(chunk: bytes) -> bool:
    """Tell whether a chunk looks like the first one of an agent message."""
    if len(chunk) < HEADER_SIZE:
        return False
    header = HEADER.dissect(chunk[:HEADER_SIZE]).fields
    return (
        header["protocol"] == PROTOCOL
        and header["opaque"] == 0
        and isinstance(header["type"], AgentMessage)
        and len(chunk) - HEADER_SIZE <= header["size"]
    )
