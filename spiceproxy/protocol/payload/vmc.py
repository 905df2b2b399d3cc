"""A device's stream in SPICEVMC_DATA and SPICEVMC_COMPRESSED_DATA, which the usbredir and webdav channels share."""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from dissectors.compression import decompress
from dissectors.errors import DissectionError
from dissectors.message import MessageSpec
from dissectors.side import Side
from dissectors.spicevmc import CompressedData
from spiceproxy.protocol.payload.inner import Found, Inner
from spiceproxy.protocol.payload.stream import PacketStream

# The same both ways. Source: spice-common spice.proto, SpicevmcChannel.
_DATA: Final = 101
_COMPRESSED_DATA: Final = 102

_COMPRESSED: Final = MessageSpec(_COMPRESSED_DATA, "COMPRESSED_DATA", "Bytes of the stream.", CompressedData)


class VmcPayload(ABC):
    """Packets of a stream in SPICEVMC_DATA and SPICEVMC_COMPRESSED_DATA."""

    protocol: ClassVar[str]

    @abstractmethod
    def _stream(self, side: Side) -> PacketStream:
        """Return the stream of what this side says."""

    def _event(self, side: Side, message_id: int, body: bytes, found: Found) -> None:  # noqa: B027 - none need be
        """Look at a message that has no part of the stream."""

    def message(self, side: Side, message_id: int, body: bytes) -> list[Inner]:
        """Return the packets that become whole with this message."""
        found = Found(self.protocol)
        if message_id == _DATA:
            self._stream(side).feed(body, found)
        elif message_id == _COMPRESSED_DATA:
            self._feed_compressed(self._stream(side), body, found)
        else:
            self._event(side, message_id, body, found)
        return found.all()

    def _feed_compressed(self, stream: PacketStream, body: bytes, found: Found) -> None:
        if stream.is_lost:
            return
        try:
            fields = _COMPRESSED.dissect(body).fields
            data = decompress(fields["type"], fields["u"].get("uncompressed_size"), fields["compressed_data"])
        except DissectionError as error:
            stream.lose(f"a part of the stream cannot be unpacked: {error}", found)
        else:
            stream.feed(data, found)
