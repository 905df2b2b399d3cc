"""What our reader makes of captures, and one file in which every unit of theirs has a packet of its own.

tshark 4.0 loses its way in a stream where messages share segments. It reads this file packet by packet, so that what
it says of a message depends on that message alone, and its packet n is our unit n.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from dissectors.capabilities import CommonCap, capability_names
from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.fields import read
from dissectors.image import BitmapFlags, ImageType
from dissectors.image_headers import header_of_image
from dissectors.link import (
    AuthMech,
    LinkHeader,
    LinkMess,
    LinkMessage,
    LinkReply,
    LinkReplyMessage,
    build_link_mess,
    build_link_reply,
    parse_link_mess,
    parse_link_reply,
)
from dissectors.registry import build, dissect, find
from dissectors.side import Side
from spiceproxy.capture.events import Data, Opened, StreamEvent
from spiceproxy.capture.messages import CapturedMessage, read_messages
from spiceproxy.capture.streams import stream_events
from spiceproxy.protocol.link import LinkPhase, Phase, Unit
from spiceproxy.reading.decode import Decoder

SPICE_PORT: Final = 5900
FIRST_PORT: Final = 10_000
_RAW_IP: Final = 101
_MAX_PACKET: Final = 262_144  # wiretap's WTAP_MAX_PACKET_SIZE_STANDARD
_HEADERS: Final = 40  # IP and TCP
_FULL: Final = struct.Struct("<QHII")
_FULL_KEYS: Final = ("serial", "id", "size", "sub_list")
_LZ: Final = (
    ImageType.LZ_RGB,
    ImageType.LZ_PLT,
    ImageType.GLZ_RGB,
    ImageType.ZLIB_GLZ_RGB,
    ImageType.JPEG_ALPHA,
)


@dataclass(slots=True)
class Sent:
    """One unit of the link phase or one message."""

    capture: str
    side: Side
    name: str  # C name of the message, or what the unit of the link phase is
    channel: str  # without its number: "display"
    fields: dict[str, Any] = field(repr=False)
    error: str | None = None

    @property
    def place(self) -> str:
        """As entries of the tables name it."""
        return f"{self.channel}/{self.name}"

    @property
    def has_body(self) -> bool:
        """Whether there is more than the header."""
        return any(not key.startswith("@") for key in self.fields)


class Repacked:
    """Writes a pcap file.

    Args:
        path: Where.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent: list[Sent] = []
        self.left_out: list[str] = []  # too long for a packet, or not whole in the capture
        self._connections = 0
        self._next: dict[tuple[int, Side], int] = {}  # sequence numbers
        self._file: BinaryIO = path.open("wb")
        self._file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, _MAX_PACKET, _RAW_IP))

    def close(self) -> None:
        """The file is whole."""
        self._file.close()

    def add(self, name: str, source: BinaryIO, *, full_header: bool = False) -> None:
        """Append what a capture holds.

        Args:
            name: Of the capture.
            source: The capture.
            full_header: Give every message the header of 18 bytes, and let no peer announce the short one.
        """
        self._full_header = full_header
        first = self._connections
        phases: dict[int, LinkPhase] = {}
        numbers: dict[int, int] = {}

        def watched(events: Iterable[StreamEvent]) -> Iterator[StreamEvent]:
            for event in events:
                if isinstance(event, Opened):
                    phases[event.connection] = LinkPhase()
                    numbers[event.connection] = self._connections
                    self._connections += 1
                elif isinstance(event, Data) and not phases[event.connection].finished:
                    phase = phases[event.connection]
                    for unit in phase.receive(event.side, event.data):
                        self._unit(name, numbers[event.connection], phase, unit)
                yield event

        decoder = Decoder(bulk=True)
        for item in read_messages(watched(stream_events(source))):
            if isinstance(item, CapturedMessage):
                self._message(name, first + item.connection.number - 1, item, decoder)

    def make_up(
        self, capture: str, channel: ChannelType, messages: Iterable[tuple[str, dict[str, Any]]]
    ) -> None:
        """Append a connection with these messages (C name, fields), built by us."""
        connection, phase = self._connections, LinkPhase()
        self._connections += 1
        self._full_header = False
        caps = (
            1 << CommonCap.PROTOCOL_AUTH_SELECTION | 1 << CommonCap.AUTH_SPICE | 1 << CommonCap.MINI_HEADER,
        )
        for side, block in (
            (Side.CLIENT, build_link_mess(LinkMessage(0x01020304, channel, 7, caps))),
            (Side.SERVER, build_link_reply(LinkReplyMessage(0, bytes(range(162)), caps))),
            (Side.CLIENT, struct.pack("<I128x", AuthMech.SPICE)),
            (Side.SERVER, bytes(4)),
        ):
            for unit in phase.receive(side, block):
                self._unit(capture, connection, phase, unit)
        for name, fields in messages:
            ((side, spec),) = ((side, spec) for on, side, spec in find(name) if on in {None, channel})
            body = build(channel, side, spec.id, fields)
            found = _with_image_headers(dissect(channel, side, spec.id, body).fields)
            found["@header"] = {"id": spec.id, "size": len(body)}
            self._packet(connection, side, struct.pack("<HI", spec.id, len(body)) + body)
            self.sent.append(Sent(capture, side, name, channel.name.lower(), found))

    def _unit(self, capture: str, connection: int, phase: LinkPhase, unit: Unit) -> None:
        if self._full_header:
            unit = unit._replace(data=_without_mini_header(unit))
        self._packet(connection, unit.side, unit.data)
        fields = link_fields(unit, phase.mess)
        self.sent.append(Sent(capture, unit.side, unit.phase.value, "link", fields))

    def _message(self, capture: str, connection: int, captured: CapturedMessage, decoder: Decoder) -> None:
        message, inside = captured.message, decoder.view(captured).inside or []
        name, channel = decoder.name(captured), (captured.connection.channel or "?").partition(":")[0]
        if not message.whole or len(message.header) + message.size + _HEADERS > _MAX_PACKET:
            self.left_out.append(f"{capture}: {channel} {name}, {len(message.body)} of {message.size} bytes")
            return
        header = {key: getattr(message, key) for key in _FULL_KEYS}
        sent = Sent(capture, message.side, name, channel, {"@header": header})
        try:
            assert captured.connection.channel_type is not None
            fields = dissect(captured.connection.channel_type, message.side, message.id, message.body).fields
            sent.fields |= _with_image_headers(fields)
            sent.fields["@inside"] = [inner.fields | {"@size": inner.size} for inner in inside]
        except DissectionError as error:
            sent.error = str(error)
        wire = message.header if not self._full_header else _FULL.pack(*(header[key] for key in _FULL_KEYS))
        self._packet(connection, message.side, wire + message.body)
        self.sent.append(sent)

    def _packet(self, connection: int, side: Side, data: bytes) -> None:
        ends = [(0x0A000001, FIRST_PORT + connection), (0x0A000002, SPICE_PORT)]
        (source, sport), (destination, dport) = ends if side is Side.CLIENT else reversed(ends)
        total = _HEADERS + len(data)
        # A length of 0 is what a network card that cuts segments itself is given: then the packet goes to its end.
        length = total if total < 2**16 else 0
        packet = struct.pack(">BBHIBBHII", 0x45, 0, length, 0, 64, 6, 0, source, destination)
        seq, ack = (self._next.get((connection, which), 1) for which in (side, side.other))
        self._next[connection, side] = seq + len(data)
        packet += struct.pack(">HHIIHHI", sport, dport, seq, ack, 0x5018, 2**16 - 1, 0) + data
        number = len(self.sent)
        self._file.write(struct.pack("<IIII", number, 0, total, total) + packet)


def _without_mini_header(unit: Unit) -> bytes:
    if unit.phase not in {Phase.LINK_MESS, Phase.LINK_REPLY}:
        return unit.data
    side = Side.CLIENT if unit.phase is Phase.LINK_MESS else Side.SERVER
    parse, build = _LINK_BLOCKS[side]
    block = parse(unit.data)
    words = tuple(word & ~(1 << CommonCap.MINI_HEADER) for word in block.common_caps)
    data: bytes = build(replace(block, common_caps=words))
    return data


_LINK_BLOCKS: Final[dict[Side, tuple[Any, Any]]] = {
    Side.CLIENT: (parse_link_mess, build_link_mess),
    Side.SERVER: (parse_link_reply, build_link_reply),
}


def link_fields(unit: Unit, mess: LinkMessage | None) -> dict[str, Any]:
    """What is in a unit of the link phase, under the names of the schemas; `caps` are names."""
    caps: LinkMessage | LinkReplyMessage
    if unit.phase is Phase.LINK_MESS:
        schema, caps = LinkMess, parse_link_mess(unit.data)
    elif unit.phase is Phase.LINK_REPLY:
        schema, caps = LinkReply, parse_link_reply(unit.data)
    else:
        return {"value": int.from_bytes(unit.data, "little"), "data": unit.data}
    assert mess is not None
    header, end = read(LinkHeader, unit.data)
    fields: dict[str, Any] = header | read(schema, unit.data[end:])[0]
    fields["caps"] = capability_names(None, caps.common_caps)
    fields["caps"] += capability_names(mess.channel_type, caps.channel_caps)
    fields["channel_caps"] = list(caps.channel_caps)
    fields["@header"] = {"size": header["size"]}
    return fields


def _with_image_headers(value: Any) -> Any:
    """The same, and in each image what its data begin with."""
    if isinstance(value, list):
        return (
            [_with_image_headers(item) for item in value] if value and isinstance(value[0], dict) else value
        )
    if not isinstance(value, dict):
        return value
    found = {key: _with_image_headers(item) for key, item in value.items()}
    if "descriptor" in value and "u" in value:
        kind, data = value["descriptor"]["type"], value["u"]
        image = {"u": data, "header": header_of_image(value)}
        if kind == ImageType.ZLIB_GLZ_RGB:
            image["unpacked"] = zlib.decompress(data["zlib_glz"]["data"])
        elif kind == ImageType.JPEG_ALPHA:
            image["header"] = image["header"]["alpha"]  # the other one is for tshark's JPEG dissector
        found["as"] = {getattr(kind, "name", str(kind)): image}
        if kind in _LZ:
            found["lz"] = image
            if kind != ImageType.LZ_PLT:
                found["lz_rgb"] = image
        if kind == ImageType.BITMAP and data["bitmap"]["flags"] & BitmapFlags.PAL_FROM_CACHE:
            found["as"]["BITMAP with PAL_FROM_CACHE"] = image
    return found
