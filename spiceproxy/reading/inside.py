"""What rides inside messages: sub-messages, and the protocols of agent, USB, files and smart cards.

The inner streams go on from one message to the next, and after a seamless migration from the source's connection to
the destination's: their state follows the channel of the session.
"""

from collections.abc import Callable
from typing import Any, Final, Protocol

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.message_ids import Msg, MsgC
from dissectors.registry import dissect
from dissectors.side import Side
from spiceproxy.capture.messages import CapturedMessage, Connection
from spiceproxy.protocol.framer import Message
from spiceproxy.protocol.payload import Inner, Payloads
from spiceproxy.protocol.sublist import named_sub_messages

CARRIERS: Final = frozenset(
    {ChannelType.MAIN, ChannelType.SMARTCARD, ChannelType.USBREDIR, ChannelType.PORT, ChannelType.WEBDAV}
)
# Channels of sessions whose inner streams may go on elsewhere. Beyond this the oldest are forgotten.
MAX_STREAMS: Final = 256


class Looker(Protocol):
    """What `spiceproxy.protocol.payload.Payloads` does for one channel."""

    def message(self, side: Side, message_id: int, body: bytes) -> list[Inner]:
        """Look into one message."""


class Inside:
    """Takes out what is inside, for all connections of a capture.

    Args:
        make: Makes what looks into the messages of a channel, given its type.
    """

    def __init__(self, make: Callable[[int], Looker] = Payloads) -> None:
        self._make = make
        self._streams: dict[tuple[str, str], Looker] = {}

    def take(self, captured: CapturedMessage) -> list[Inner] | None:
        """What is inside this message, or becomes whole with it; None for nothing."""
        message, connection = captured.message, captured.connection
        found: list[Inner] | None = None
        if (message.sub_list or message.id == Msg.LIST) and message.side is Side.SERVER and message.whole:
            found = _sub_messages(message, connection)
        if connection.channel_type in CARRIERS:
            if captured.error is not None:
                connection.reading = None  # a piece of the inner stream is missing: begin anew
                return found
            payloads: Looker = connection.reading or self._begin(connection)
            if message.side is Side.CLIENT and message.id == MsgC.MIGRATE_DATA:
                payloads = self._go_on(connection, payloads)
            inner = payloads.message(message.side, message.id, message.body)
            if inner:
                found = found or []
                found += inner
        return found

    def _begin(self, connection: Connection) -> Looker:
        assert connection.channel_type is not None  # noqa: S101  it is one of CARRIERS
        payloads = connection.reading = self._make(connection.channel_type)
        if not connection.hop:
            self._remember(connection, payloads)
        return payloads

    def _go_on(self, connection: Connection, payloads: Looker) -> Looker:
        """A seamless migration: what the source's connection had begun goes on here."""
        earlier = self._streams.get((connection.session or "", connection.channel or ""))
        if earlier is not None:
            payloads = connection.reading = earlier
        self._remember(connection, payloads)
        return payloads

    def _remember(self, connection: Connection, payloads: Looker) -> None:
        if connection.session is not None and connection.channel is not None:
            while len(self._streams) >= MAX_STREAMS:
                del self._streams[next(iter(self._streams))]
            self._streams[connection.session, connection.channel] = payloads


def _sub_messages(message: Message, connection: Connection) -> list[Inner]:
    channel_type = connection.channel_type or 0
    try:
        named = named_sub_messages(message, channel_type)
    except DissectionError as error:
        return [Inner("spice", "sub_list", {}, str(error), message.size)]
    found = []
    for name, sub in named:
        fields: dict[str, Any] = {}
        error_text = None
        try:
            # What is left over is not its own, and its size is not what the wire says: dissectors.headers.SubMessage
            fields = dissect(channel_type, Side.SERVER, sub.type, sub.body).fields
        except DissectionError as error:
            error_text = str(error)
        found.append(Inner("spice", name, fields, error_text, sub.size))
    return found
