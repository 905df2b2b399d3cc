"""What one connection keeps count of for as long as it lives: serials, the ACK window, and what the agent may send.

Sources: spice-server red-channel-client.cpp (handle_message(), begin_send_message(), init_send_data()) and reds.cpp
(reds_agent_state_restore()); spice-gtk spice-channel.c (spice_msg_out_new(), spice_channel_recv_msg()) and channel-main.c
(agent_send_msg_queue()).
"""

import struct
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.facts import Said

_MAX_HOLES: Final = 64
_AGENT_HEADER_BYTES: Final = 20  # VDAgentMessage: protocol, type, opaque, size

_KEPT_COMMON: Final[dict[Side, frozenset[int]]] = {
    Side.SERVER: frozenset({Msg.SET_ACK}),
    Side.CLIENT: frozenset({MsgC.ACK_SYNC, MsgC.ACK}),
}
_KEPT_MAIN: Final[dict[Side, frozenset[int]]] = {
    Side.SERVER: frozenset({
        Main.INIT, Main.AGENT_CONNECTED, Main.AGENT_DISCONNECTED, Main.AGENT_CONNECTED_TOKENS, Main.AGENT_DATA,
        Main.AGENT_TOKEN,
    }),
    Side.CLIENT: frozenset({MainC.AGENT_DATA}),
}  # fmt: skip


def is_kept(channel_type: int | None, side: Side, message_id: int) -> bool:
    """Whether a message changes the books."""
    if message_id in _KEPT_COMMON[side]:
        return True
    return channel_type == ChannelType.MAIN and message_id in _KEPT_MAIN[side]


class Hole(NamedTuple):
    """Serials that were left out."""

    first: int
    last: int
    after: Said  # the message behind them


@dataclass(slots=True)
class Serials:
    """One side's serials, under full headers."""

    last: int | None = None  # the highest one
    holes: list[Hole] = field(default_factory=list)
    back: list[Said] = field(default_factory=list)  # messages whose serial is lower than one before

    def take(self, said: Said) -> None:
        """A message. Serials that come late fill their holes."""
        serial = said.serial
        if self.last is None or serial == self.last + 1:
            self.last = serial
        elif serial > self.last:
            if len(self.holes) < _MAX_HOLES:
                self.holes.append(Hole(self.last + 1, serial - 1, said._replace(body=None)))
            self.last = serial
        else:
            if len(self.back) < _MAX_HOLES:
                self.back.append(said._replace(body=None))
            self._fill(serial)

    def _fill(self, serial: int) -> None:
        for index, hole in enumerate(self.holes):
            if hole.first <= serial <= hole.last:
                parts = [hole._replace(last=serial - 1), hole._replace(first=serial + 1)]
                self.holes[index : index + 1] = [part for part in parts if part.first <= part.last]
                return


@dataclass(slots=True)
class Window:
    """The acknowledgements that a server asked for last."""

    asked: Said  # SET_ACK, without its body
    size: int | None  # messages
    sent: int  # messages of the server up to it
    answered_ns: int | None = None  # ACK_SYNC
    acks: int = 0


@dataclass(slots=True)
class AgentStream:
    """Where one side is in the stream of agent messages."""

    known: bool = True  # False from the first message that was not read
    remaining: int = 0  # bytes of the message that has begun
    total: int = 0
    _header: bytes = b""

    def take(self, body: bytes | None) -> None:
        """AGENT_DATA; of what is in it only the size in its header matters."""
        if body is None or not self.known:
            self.known = False
            return
        at = 0
        while at < len(body):
            if not self.remaining:
                need = _AGENT_HEADER_BYTES - len(self._header)
                self._header += body[at : at + need]
                at += need
                if len(self._header) < _AGENT_HEADER_BYTES:
                    return
                self.total = self.remaining = int.from_bytes(self._header[16:20], "little")
                self._header = b""
            else:
                step = min(self.remaining, len(body) - at)
                self.remaining -= step
                at += step

    @property
    def cut(self) -> bool:
        """Whether a message has begun and is not whole."""
        return self.known and bool(self.remaining or self._header)


@dataclass(slots=True)
class Books:
    """What one connection keeps count of."""

    serials: dict[Side, Serials] = field(default_factory=lambda: {side: Serials() for side in Side})
    window: Window | None = None
    early_acks: int = 0  # ACKs before any SET_ACK was answered
    agent: dict[Side, AgentStream] = field(default_factory=lambda: {side: AgentStream() for side in Side})
    tokens: int | None = None  # that the client holds; None: not told on this connection
    granted: int = 0  # by AGENT_TOKEN
    grants: list[Said] = field(default_factory=list)  # the last of them
    spent: int = 0  # AGENT_DATA of the client
    last_spent: Said | None = None
    spent_ns: int = 0
    restarted: bool = False  # the agent came or went while messages to it may have been on their way
    unread: bool = False  # messages passed that nobody read

    def take(self, channel_type: int | None, said: Said, sent: int) -> None:
        """A message that changes the books.

        Args:
            channel_type: Of the connection.
            said: The message.
            sent: How many messages its sender sent before.
        """
        if said.side is Side.SERVER and said.id == Msg.SET_ACK:
            size = int.from_bytes(said.body[4:8], "little") if said.body and len(said.body) >= 8 else None
            self.window = Window(said._replace(body=None), size, sent)
        elif said.side is Side.CLIENT and said.id in {MsgC.ACK_SYNC, MsgC.ACK}:
            self._acknowledged(said)
        elif channel_type == ChannelType.MAIN:
            self._agent(said)

    def _acknowledged(self, said: Said) -> None:
        if self.window is None or (self.window.answered_ns is None and said.id == MsgC.ACK):
            self.early_acks += said.id == MsgC.ACK
        elif said.id == MsgC.ACK_SYNC:
            self.window.answered_ns = self.window.answered_ns or said.time_ns
        else:
            self.window.acks += 1

    def _agent(self, said: Said) -> None:
        if said.side is Side.CLIENT:
            self.spent += 1
            self.last_spent = said._replace(body=None)
            self.agent[Side.CLIENT].take(said.body)
            return
        if said.id == Main.AGENT_DATA:
            self.agent[Side.SERVER].take(said.body)
        elif said.id == Main.AGENT_TOKEN:
            self.granted += _number(said)
            self.grants = [*self.grants[-3:], said._replace(body=None)]
        elif said.id == Main.INIT:
            self.tokens = _number(said, 20)
            self.granted = self.spent = 0
        elif said.id == Main.AGENT_CONNECTED_TOKENS:
            self._begin()
            self.tokens = _number(said)
            self.granted = self.spent = 0
        else:
            self._begin()

    def _begin(self) -> None:
        """The agent comes or goes: streams begin again."""
        self.restarted = self.restarted or self.spent > 0
        self.agent = {side: AgentStream(known=not self.unread) for side in Side}

    def passed(self, side: Side) -> None:
        """Messages of one side have passed unread."""
        self.unread = True
        self.serials[side].last = None  # they had serials too
        for stream in self.agent.values():
            stream.known = False

    def carry_on(self, source: "Books") -> None:
        """The client has changed over from another connection with all its state."""
        self.tokens, self.unread = source.balance, self.unread or source.unread
        self.restarted = self.restarted or source.restarted
        self.agent = source.agent

    @property
    def balance(self) -> int | None:
        """Tokens that the client holds, if all is known that it needs."""
        return None if self.tokens is None or self.unread else self.tokens + self.granted - self.spent


def _number(said: Said, at: int = 0) -> int:
    """A u32 of the body."""
    body = said.body or b""
    return struct.unpack_from("<I", body, at)[0] if len(body) >= at + 4 else 0
