"""Which messages tshark finds in the streams of a capture as it is, and where it loses its way."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from dissectors.registry import message_name
from dissectors.side import Side
from spiceproxy.capture.messages import CapturedMessage, read_messages
from spiceproxy.capture.streams import stream_events
from tests.differential import tshark

# (address, port) of the sender and of the receiver
Direction = tuple[str, str, str, str]
_ENDS = ("ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport")
_FIELDS = (*_ENDS, "spice.magic", "spice.message_type", "spice.message_size")


@dataclass
class Framing:
    """What came out for one capture."""

    messages: int = 0
    seen: int = 0  # that tshark has, one after the other from the start of a stream
    lost: list[tuple[str, str]] = field(default_factory=list)  # the last message that it has, and the next
    whole: int = 0  # streams in which it has them all


def compare_framing(capture: Path) -> Framing:
    """Hold our messages of each stream against tshark's: type and size, one after the other."""
    ours: dict[Direction, list[tuple[str, int, int]]] = defaultdict(list)
    ports: set[int] = set()
    with capture.open("rb") as source:
        for item in read_messages(stream_events(source)):
            ports.add(item.connection.server.port)
            if isinstance(item, CapturedMessage):
                connection, message = item.connection, item.message
                sender, receiver = connection.client, connection.server
                if message.side is Side.SERVER:
                    sender, receiver = receiver, sender
                direction = (sender.host, str(sender.port), receiver.host, str(receiver.port))
                channel = (connection.channel or "?").partition(":")[0]
                name = message_name(connection.channel_type or 0, message.side, message.id)
                ours[direction].append((f"{channel}/{name}", message.id, message.size))
    theirs = _theirs(capture, ports)
    framing = Framing()
    for direction, messages in ours.items():
        found = theirs[direction]
        agreed = 0
        for (_, *mine), other in zip(messages, found, strict=False):
            if tuple(mine) != other:
                break
            agreed += 1
        framing.messages += len(messages)
        framing.seen += agreed
        if agreed == len(messages) == len(found):
            framing.whole += 1
        else:
            channel = messages[0][0].partition("/")[0]
            places = [f"{channel}/link", *(place for place, _, _ in messages), f"{channel}/end"]
            framing.lost.append((places[agreed], places[agreed + 1]))
    return framing


def _theirs(capture: Path, ports: set[int]) -> dict[Direction, list[tuple[int, int]]]:
    theirs: dict[Direction, list[tuple[int, int]]] = defaultdict(list)
    for row in tshark.rows(capture, _FIELDS, sorted(ports), together=True):
        types, sizes = row.get("spice.message_type", []), row.get("spice.message_size", [])
        sizes = sizes[len(row.get("spice.magic", [])) :]  # what a link message says of its own size
        if types:
            v4, v6, sport, to_v4, to_v6, dport = (row.get(name, [""])[0] for name in _ENDS)
            pairs = zip(map(int, types), map(int, sizes), strict=False)
            theirs[v4 or v6, sport, to_v4 or to_v6, dport] += pairs
    return theirs
