"""The acknowledgement windows of display and cursor, both ends. Source: red-channel-client.cpp, spice-channel.c."""

from dissectors.channels import ChannelType
from dissectors.message_ids import Msg
from dissectors.registry import build_named
from dissectors.side import Side
from spiceproxy.simulate.errors import RuleBroken
from spiceproxy.simulate.messages import fields_of


class ServerWindow:
    """How many messages a server has out that its client has not acknowledged.

    Attributes:
        outstanding: 0 at SET_ACK, which counts itself; minus the window per ACK.
    """

    def __init__(self, window: int, channel: str) -> None:
        self.window, self.generation, self.outstanding = window, 0, 0
        self._synced, self._channel = 0, channel

    @property
    def is_open(self) -> bool:
        """Whether the next message may go out."""
        return self.outstanding <= 2 * self.window

    def next_set_ack(self) -> bytes:
        """Body of the SET_ACK that starts the next generation."""
        self.generation += 1
        return build_named("SPICE_MSG_SET_ACK", generation=self.generation, window=self.window)

    def count_sent(self, kind: int) -> None:
        """A message goes out."""
        self.outstanding = 1 if kind == Msg.SET_ACK else self.outstanding + 1

    def ack_sync(self, body: bytes) -> None:
        """Take ACK_SYNC.

        Raises:
            RuleBroken: It names another generation than SET_ACK did.
        """
        if body != _ack_sync(self.generation):
            detail = f"ACK_SYNC {body.hex()} after SET_ACK of generation {self.generation}"
            raise RuleBroken("ack", by=Side.CLIENT, channel=self._channel, detail=detail)
        self._synced = self.generation

    def ack(self) -> None:
        """Take an ACK; one from before ACK_SYNC counts for nothing.

        Raises:
            RuleBroken: More is acknowledged than was sent. spice-server's count wraps, and the channel is frozen.
        """
        if self._synced != self.generation or not self.generation:
            return
        if self.outstanding < self.window:
            detail = f"ACK for {self.window} messages while {self.outstanding} are out"
            raise RuleBroken("ack", by=Side.CLIENT, channel=self._channel, detail=detail)
        self.outstanding -= self.window


class ClientWindow:
    """When a client has to acknowledge. Its count lives on through a seamless migration until the next SET_ACK."""

    def __init__(self) -> None:
        self._window = self._left = 0

    def set_ack(self, body: bytes) -> bytes:
        """Take SET_ACK; the answer is the body of ACK_SYNC.

        Raises:
            DissectionError: The body does not fit.
        """
        fields = fields_of(ChannelType.DISPLAY, Side.SERVER, Msg.SET_ACK, body)
        self._window = self._left = fields["window"]
        return _ack_sync(fields["generation"])

    def count_received(self) -> bool:
        """A message has arrived: whether an ACK is due before it is handled."""
        if self._left:
            self._left -= 1
            if not self._left:
                self._left = self._window
                return True
        return False


def _ack_sync(generation: int) -> bytes:
    return build_named("SPICE_MSGC_ACK_SYNC", generation=generation)
