"""The virtual machine behind a simulated server: what moves from host to host beside SPICE."""

from collections import Counter
from dataclasses import dataclass, field

from spiceproxy.simulate.wire import ChannelKey


@dataclass(slots=True)
class Guest:
    """State of the devices.

    Attributes:
        surfaces: Surface ids with width and height in pixels; 0 is the screen.
        pointer: Position of the mouse pointer in pixels.
        drawn: Drawing commands so far.
        keys: Key messages that reached the guest. Which keys is nobody's business.
        motions: Mouse motions and positions that reached the guest.
        agent_bytes: Bytes that the guest's agent has read.
        device_bytes: Bytes that usbredir, port and webdav devices have read.
    """

    surfaces: dict[int, tuple[int, int]] = field(default_factory=lambda: {0: (640, 480)})
    pointer: tuple[int, int] = (0, 0)
    drawn: int = 0
    keys: int = 0
    motions: int = 0
    agent_bytes: int = 0
    device_bytes: Counter[ChannelKey] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Handover:
    """What a destination is told about the session that comes with the guest; it holds the client to it.

    Attributes:
        session_id: From the source's MAIN_INIT (R11, R40).
        channels: Open at the source (R12).
        payloads: MIGRATE_DATA as the source wrote it, filled in while the channels leave (R31).
    """

    session_id: int
    channels: frozenset[ChannelKey]
    payloads: dict[ChannelKey, bytes]
