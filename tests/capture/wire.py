"""SPICE connections as stream events: what a capture of them would show."""

import struct
from collections.abc import Iterable, Iterator

from dissectors.channels import ChannelType
from dissectors.link import LinkMessage, LinkReplyMessage, build_link_mess, build_link_reply
from dissectors.message_ids import Main
from dissectors.registry import build
from dissectors.side import Side
from spiceproxy.capture.events import Closed, Data, Endpoint, Gap, Opened

SELECTS, SPICE_AUTH, MINI = 1, 2, 8  # bits of the common capability word
CLIENT, SERVER = Side.CLIENT, Side.SERVER
SECOND_NS = 10**9
START_NS = 1_700_000_000 * SECOND_NS


class Wire:
    """Writes events down, a millisecond apart."""

    def __init__(self) -> None:
        self.events: list[Opened | Data | Gap | Closed] = []
        self._time_ns = START_NS
        self._mini: dict[int, bool] = {}
        self._serials: dict[tuple[int, Side], int] = {}
        self._packets = 0

    def wait(self, seconds: float) -> None:
        """Nothing happens for so long."""
        self._time_ns += int(seconds * SECOND_NS)

    def now(self) -> int:
        """The time of the next event."""
        self._time_ns += SECOND_NS // 1000
        return self._time_ns

    def open(
        self,
        number: int,
        *,
        server: str = "10.0.0.1",
        port: int = 5900,
        client: str = "10.0.0.9",
        comment: str | None = None,
        from_start: bool = True,
    ) -> None:
        """A TCP connection."""
        ends = Endpoint(client, 40000 + number), Endpoint(server, port)
        self.events.append(Opened(number, self.now(), *ends, from_start, comment))

    def link(
        self,
        number: int,
        *,
        channel: int = ChannelType.MAIN,
        channel_id: int = 0,
        connection_id: int = 0,
        mini: bool = True,
        result: int = 0,
    ) -> None:
        """A whole link phase with a ticket."""
        caps = SELECTS | SPICE_AUTH | (MINI if mini else 0)
        self._mini[number] = mini
        mess = LinkMessage(connection_id, channel, channel_id, (caps,), (15,))
        self.data(number, CLIENT, build_link_mess(mess))
        self.data(number, SERVER, build_link_reply(LinkReplyMessage(0, bytes(162), (caps,), (9,))))
        self.data(number, CLIENT, struct.pack("<I", 1) + bytes(128))
        self.data(number, SERVER, struct.pack("<I", result))

    def data(self, number: int, side: Side, data: bytes) -> None:
        """Bytes, in one packet."""
        self._packets += 1
        self.events.append(Data(number, self.now(), side, data, self._packets))

    def raw(self, number: int, side: Side, id_: int, body: bytes = b"", *, sub_list: int = 0) -> bytes:
        """A message's bytes, with the header of the connection."""
        if self._mini[number]:
            return struct.pack("<HI", id_, len(body)) + body
        serial = self._serials[number, side] = self._serials.get((number, side), 0) + 1
        return struct.pack("<QHII", serial, id_, len(body), sub_list) + body

    def say(self, number: int, side: Side, id_: int, body: bytes = b"", *, sub_list: int = 0) -> None:
        """A message, in one packet."""
        self.data(number, side, self.raw(number, side, id_, body, sub_list=sub_list))

    def init(self, number: int, session_id: int) -> None:
        """MAIN_INIT."""
        self.say(number, SERVER, Main.INIT, struct.pack("<8I", session_id, 1, 3, 1, 0, 0, 0, 0))

    def gap(self, number: int, side: Side, size: int) -> None:
        """Bytes that are not in the capture."""
        self.events.append(Gap(number, self.now(), side, size))

    def close(self, number: int, side: Side | None = SERVER, *, reset: bool = False) -> None:
        """The end of one side; of both with None or a reset."""
        self.events.append(Closed(number, self.now(), side, reset))


def announcement(kind: int, host: str, port: int, *, sport: int = 0xFFFF) -> bytes:
    """The body of MIGRATE_BEGIN, MIGRATE_BEGIN_SEAMLESS or MIGRATE_SWITCH_HOST."""
    name = host.encode() + b"\0"
    fixed = struct.pack("<HH", port, sport)
    size = 20 + (4 if kind == Main.MIGRATE_BEGIN_SEAMLESS else 0)
    fixed += struct.pack("<IIII", len(name), size, 0, 0)
    return (fixed + (struct.pack("<I", 1) if size == 24 else b"")) + name


def cut(
    events: Iterable[Opened | Data | Gap | Closed], cuts: Iterable[int]
) -> Iterator[Opened | Data | Gap | Closed]:
    """The same with every piece of data cut at these offsets."""
    at = sorted(set(cuts))
    for event in events:
        if not isinstance(event, Data):
            yield event
            continue
        start = 0
        for end in [*(c for c in at if 0 < c < len(event.data)), len(event.data)]:
            yield event._replace(data=event.data[start:end])
            start = end


__all__ = ["CLIENT", "SERVER", "Wire", "announcement", "build", "cut"]
