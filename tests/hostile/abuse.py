"""What a row of the tables is, and what abusers have in common."""

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from tests.raw_peers import RawProxy, message

Act = Callable[[RawProxy], Awaitable[None]]

TIME_LIMIT_S: Final = 4.0
# The receive buffers of a proxy are 16 MiB at the most (buffers.py); the rest is Python's.
MEMORY_LIMIT_BYTES: Final = 32 * 2**20


@dataclass(frozen=True)
class Abuse:
    """One abuse.

    Attributes:
        name: As a noun phrase: what the peer does.
        act: Does it. Peers are closed afterwards.
        event: What the proxy says to it (docs/events.md).
        said: Fields that the event has; a text need only occur in the field's.
        lingers: Listeners that stay for a while: a client that was told to switch hosts has 30 s to come.
        time_limit_s: Until the event has come, and every descriptor is closed again.
    """

    name: str
    act: Act
    event: str
    said: dict[str, Any] = field(default_factory=dict)
    lingers: int = 0
    time_limit_s: float = TIME_LIMIT_S

    def heard(self, events: list[dict[str, Any]]) -> bool:
        """Whether the event is among these."""
        return any(
            event["event"] == self.event
            and all(
                value in event.get(key, "") if isinstance(value, str) else event.get(key) == value
                for key, value in self.said.items()
            )
            for event in events
        )


def reset(stream: trio.SocketStream) -> None:
    """Close with an RST."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def until_closed(stream: trio.SocketStream) -> None:
    """Read to the end, whatever kind of an end it is."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some(2**16):
            pass


async def pour(stream: trio.SocketStream, data: bytes) -> None:
    """Send as much as is taken before the proxy closes."""
    with suppress(trio.BrokenResourceError):
        await stream.send_all(data)


async def drain(stream: trio.abc.ReceiveStream) -> None:
    """Read to the end, in large steps: the reader is not to be what is slow."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while await stream.receive_some(2**18):
            pass


async def pour_for_ever(stream: trio.abc.SendStream, data: bytes) -> None:
    """Send it over and over until the proxy closes."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            await stream.send_all(data)
            await trio.lowlevel.checkpoint()


async def drip(stream: trio.SocketStream, data: bytes, *, pause_s: float = 0.03) -> None:
    """Send one byte at a time."""
    with suppress(trio.BrokenResourceError):
        for at in range(len(data)):
            await stream.send_all(data[at : at + 1])
            await trio.sleep(pause_s)


def patched(data: bytes, offset: int, value: int) -> bytes:
    """With another 32-bit number at this place."""
    return data[:offset] + struct.pack("<I", value) + data[offset + 4 :]


def destination(id_: int, host: bytes, port: int, sport: int = 0) -> bytes:
    """A message that sends the client elsewhere: MIGRATE_BEGIN (101) or MIGRATE_SWITCH_HOST (111)."""
    return message(id_, struct.pack("<HHIIII", port, sport, len(host) + 1, 20, 0, 0) + host + b"\0")
