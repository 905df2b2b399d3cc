"""Read a capture to its last byte: what is in it, and everything that is not as it should be."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dissectors.registry import build
from spiceproxy.capture.events import Summary
from spiceproxy.capture.files import open_capture
from spiceproxy.capture.messages import CapturedMessage, Happening, read_messages
from spiceproxy.capture.streams import stream_events
from spiceproxy.reading.decode import Decoder

# What a happening of a capture that is whole may be.
GOOD_HAPPENINGS = {"connection_opened", "channel_linked", "connection_closed", "link_refused"}


@dataclass
class WholeCapture:
    """What was found."""

    messages: int = 0
    names: Counter[tuple[str, str]] = field(default_factory=Counter)  # ("display:0", "SPICE_MSG_...")
    images: Counter[str] = field(default_factory=Counter)  # "GLZ_RGB"
    inside: Counter[tuple[str, str]] = field(default_factory=Counter)  # ("vd_agent", "VD_AGENT_CLIPBOARD")
    heads: int = 0  # the most that a MONITORS_CONFIG had
    undecoded: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    not_rebuilt: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)  # of the capture: gaps, lost framing, damaged packets

    def count(self, name: str) -> int:
        """How many messages have this name, on whatever channel."""
        return sum(number for (_, found), number in self.names.items() if found == name)


def read_whole(path: Path) -> WholeCapture:
    """Decode every message, and build each again from its fields."""
    whole, decoder, summary = WholeCapture(), Decoder(), Summary()
    with open_capture(str(path)) as source:
        for item in read_messages(stream_events(source, summary=summary)):
            if isinstance(item, CapturedMessage):
                _look(whole, decoder, item)
            elif item.event not in GOOD_HAPPENINGS and not _hung_up(item):
                whole.unreadable.append(f"{item.event}: {item.fields.get('reason')}")
    whole.unreadable += summary.problems
    return whole


def _hung_up(happening: Happening) -> bool:
    """Whether a peer has closed a connection before it was linked: all that there was of it has been read."""
    reason = str(happening.fields.get("reason"))
    return happening.event == "link_failed" and reason.startswith("closed where the")


def _look(whole: WholeCapture, decoder: Decoder, captured: CapturedMessage) -> None:
    view, message, connection = decoder.view(captured), captured.message, captured.connection
    what = f"{captured.number} {connection.channel} {message.side.value} {view.name} of {message.size} bytes"
    whole.messages += 1
    whole.names[connection.channel or "", view.name] += 1
    for inner in view.inside or ():
        whole.inside[inner.protocol, inner.name] += 1
        if inner.error is not None:
            whole.undecoded.append(f"{what}: inside, {inner.protocol} {inner.name}: {inner.error}")
    found, error = view.dissection()
    if found is None or view.name.startswith("unknown"):
        whole.undecoded.append(f"{what}: {error or 'unknown'}")
        return
    # The text of a NOTIFY of spice-server ends with a NUL that its length does not count (main-channel-client.cpp).
    if found.trailing and not (view.name == "SPICE_MSG_NOTIFY" and found.trailing == b"\0"):
        whole.left_over.append(f"{what}: {found.trailing[:16].hex()}")
    if view.name == "SPICE_MSG_DISPLAY_MONITORS_CONFIG":
        whole.heads = max(whole.heads, len(found.fields["heads"]))
    whole.images.update(_image_types(found.fields))
    channel_type = connection.channel_type or 0
    again = build(channel_type, message.side, message.id, found.fields, trailing=found.trailing)
    if again != bytes(message.body):
        whole.not_rebuilt.append(what)


def _image_types(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        descriptor = value.get("descriptor")
        if isinstance(descriptor, dict) and "type" in descriptor:
            kind = descriptor["type"]
            yield getattr(kind, "name", str(kind))
        for part in value.values():
            yield from _image_types(part)
    elif isinstance(value, list):
        for part in value:
            if not isinstance(part, int | bytes):
                yield from _image_types(part)
