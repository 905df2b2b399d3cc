"""Models of a display server and its client that count strictly, of an inputs client, and of an agent's client."""

import struct
from typing import Final

from dissectors.message_ids import Inputs, InputsC, Main, MainC, Msg, MsgC
from tests.faults.relaying import wire

DRAW: Final = 304  # DRAW_COPY
WAIT: Final = struct.Struct("<BBBQ")  # one entry: count, channel type, channel id, serial
TAG: Final = struct.Struct("<Q")


class Server:
    """A display server: it numbers its messages, and stops when too many are not acknowledged."""

    def __init__(self, *, mini: bool, window: int, first: int = 1) -> None:
        self.mini, self.window, self.generation = mini, window, 0
        self.serial = first - 1
        self.outstanding, self.synced = 0, 0

    @property
    def may_send(self) -> bool:
        """spice-server red-channel-client.cpp: it sends while not more than two windows are out."""
        return self.generation == 0 or self.outstanding <= 2 * self.window

    def send(self, id_: int, body: bytes) -> bytes:
        """The next message."""
        self.serial += 1
        self.outstanding += 1
        return wire(id_, body, serial=self.serial, mini=self.mini)

    def set_ack(self) -> bytes:
        """A new generation."""
        self.generation += 1
        data = self.send(Msg.SET_ACK, struct.pack("<II", self.generation, self.window))
        self.outstanding = 1
        return data

    def draw(self, tag: int) -> bytes:
        """A message that the model can tell from others."""
        return self.send(DRAW, TAG.pack(tag))

    def hear(self, id_: int, body: bytes) -> None:
        """An ACK too many would stop the channel for good."""
        if id_ == MsgC.ACK_SYNC:
            (self.synced,) = struct.unpack("<I", body)
            assert self.synced <= self.generation
        elif id_ == MsgC.ACK and self.synced == self.generation:
            self.outstanding -= self.window
            assert self.outstanding >= 0, "more was acknowledged than was sent"


class Client:
    """A display client: it numbers what it gets, acknowledges, and knows which number each draw had."""

    def __init__(self, *, mini: bool) -> None:
        self.mini, self.serial, self.window, self.left = mini, 0, 0, 0
        self.numbers: dict[int, int] = {}  # of draws, by tag
        self.waits: list[int] = []  # for which numbers, of the other display
        self.state = b""  # MIGRATE_DATA
        self.sent = 0

    def hear(self, serial: int, id_: int, body: bytes) -> list[bytes]:
        """A message; what is said in answer."""
        if not self.mini:
            assert serial == self.serial + 1, "serials rise by one"
        self.serial += 1
        said = []
        if self.left:
            self.left -= 1
            if not self.left:
                self.left = self.window
                said.append(self._say(MsgC.ACK))
        if id_ == Msg.SET_ACK:
            generation, self.window = struct.unpack("<II", body)
            self.left = self.window
            said.append(self._say(MsgC.ACK_SYNC, struct.pack("<I", generation)))
        elif id_ == DRAW:
            self.numbers.setdefault(TAG.unpack(body)[0], self.serial)
        elif id_ == Msg.WAIT_FOR_CHANNELS:
            self.waits.append(WAIT.unpack(body)[3])
        elif id_ == Msg.MIGRATE_DATA:
            self.state = body
        return said

    def _say(self, id_: int, body: bytes = b"") -> bytes:
        self.sent += 1
        return wire(id_, body, serial=self.sent, mini=self.mini)


class MotionClient:
    """An inputs client: it stops when 8 motions are out, and takes no acknowledgement for what it never sent."""

    def __init__(self) -> None:
        self.outstanding = self.moved = 0

    @property
    def may_move(self) -> bool:
        """spice-gtk channel-inputs.c: SPICE_INPUT_MOTION_ACK_BUNCH * 2."""
        return self.outstanding < 8

    def move(self) -> bytes:
        """One motion."""
        self.outstanding += 1
        self.moved += 1
        return wire(InputsC.MOUSE_MOTION, bytes(10))

    def acked(self) -> None:
        """Four of them."""
        self.outstanding -= 4
        assert self.outstanding >= 0, "more was acknowledged than was sent"


class MotionServer:
    """An inputs server: it acknowledges every fourth motion."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def hear(self, id_: int) -> list[bytes]:
        """A message; what is said in answer."""
        if id_ != InputsC.MOUSE_MOTION:
            return []
        self.count += 1
        if self.count < 4:
            return []
        self.count -= 4
        return [wire(Inputs.MOUSE_MOTION_ACK)]


class AgentClient:
    """A client that sends to the agent what it has tokens for."""

    def __init__(self, tokens: int) -> None:
        self.tokens = self.all = tokens
        self.sent = 0

    def send(self) -> bytes:
        """One message."""
        self.tokens -= 1
        self.sent += 1
        return wire(MainC.AGENT_DATA, b"x")

    def given(self, body: bytes) -> None:
        """Tokens come back: never more than there are."""
        self.tokens += struct.unpack("<I", body)[0]
        assert self.tokens <= self.all, "more tokens came back than there are"


class AgentServer:
    """A server that gives tokens back in bunches."""

    def __init__(self) -> None:
        self.taken = 0

    def hear(self, id_: int) -> None:
        """A message."""
        self.taken += id_ == MainC.AGENT_DATA

    def give_back(self) -> bytes | None:
        """All tokens so far."""
        taken, self.taken = self.taken, 0
        return wire(Main.AGENT_TOKEN, struct.pack("<I", taken)) if taken else None
