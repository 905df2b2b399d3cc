"""USB packets inside a usbredir channel's stream, both directions."""

from typing import Any, ClassVar

from dissectors.side import Side
from dissectors.usbredir import (
    HEADER_32,
    HEADER_64,
    HEADER_SIZE_32,
    HEADER_SIZE_64,
    HELLO_SIZE,
    MAX_CAP_WORDS,
    MAX_PACKET,
    common_caps,
    usbredir_layout,
)
from dissectors.usbredir_names import NO_CAPS, UsbredirCap, UsbredirType
from spiceproxy.protocol.payload.inner import Inner, take_apart
from spiceproxy.protocol.payload.stream import PacketStream, UnreadableStreamError
from spiceproxy.protocol.payload.vmc import VmcPayload


class Hellos:
    """Capability words of both ends, once they said them."""

    def __init__(self) -> None:
        self.words: dict[Side, list[int]] = {}
        self.caps: UsbredirCap = NO_CAPS

    def add(self, side: Side, words: list[int]) -> None:
        """Note what one end has said."""
        self.words[side] = words
        if len(self.words) == len(Side):
            self.caps = common_caps(self.words[Side.SERVER], self.words[Side.CLIENT])


class UsbredirStream(PacketStream):
    """One direction of a usbredir stream: a hello, and packets once both hellos are there."""

    protocol: ClassVar[str] = "usbredir"

    def __init__(self, hellos: Hellos, side: Side) -> None:
        super().__init__()
        self._hellos, self._side = hellos, side

    def _is_wide(self) -> bool:
        return bool(self._hellos.caps & UsbredirCap.IDS_64BITS)

    def _header_size(self) -> int:
        return HEADER_SIZE_64 if self._is_wide() else HEADER_SIZE_32

    def _open(self, head: bytes) -> tuple[dict[str, Any], int]:
        header = (HEADER_64 if self._is_wide() else HEADER_32).dissect(head).fields
        type_, length = header["type"], header["length"]
        if self._side not in self._hellos.words:
            words, odd = divmod(length - HELLO_SIZE, 4)
            if type_ != UsbredirType.HELLO or odd or not 0 <= words <= MAX_CAP_WORDS:
                raise UnreadableStreamError("no hello at the beginning: the stream is joined in the middle")
        elif self._side.other not in self._hellos.words:
            raise UnreadableStreamError("a packet before the hello of the other end: its layout is not known")
        elif type_ == UsbredirType.HELLO:
            raise UnreadableStreamError("a second hello")
        elif length > MAX_PACKET:
            raise UnreadableStreamError(f"a packet of {length} bytes; none has more than {MAX_PACKET}")
        return header, length

    def _name(self, header: dict[str, Any]) -> str:
        spec = usbredir_layout(header["type"], caps=self._hellos.caps)
        return spec.name if spec else f"unknown_{int(header['type'])}"

    def _read(self, header: dict[str, Any], body: bytes) -> Inner:
        type_ = header["type"]
        inner = take_apart(self.protocol, header, type_, usbredir_layout(type_, caps=self._hellos.caps), body)
        if type_ == UsbredirType.HELLO:
            self._hellos.add(self._side, inner.fields["capabilities"])
        return inner


class UsbredirPayload(VmcPayload):
    """Packets of a usbredir channel."""

    protocol: ClassVar[str] = UsbredirStream.protocol

    def __init__(self) -> None:
        hellos = Hellos()
        self._streams = {side: UsbredirStream(hellos, side) for side in Side}

    def _stream(self, side: Side) -> PacketStream:
        return self._streams[side]
