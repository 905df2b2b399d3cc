"""The one door to what rides inside messages: a channel type, and the messages one by one."""

import copy
from typing import Final, Protocol

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.protocol.payload.inner import Inner
from spiceproxy.protocol.payload.main import MainPayload
from spiceproxy.protocol.payload.usbredir import UsbredirPayload
from spiceproxy.protocol.payload.vscard import VscardPayload
from spiceproxy.protocol.payload.webdav import WebdavPayload


class _Payload(Protocol):
    def message(self, side: Side, message_id: int, body: bytes) -> list[Inner]: ...


class _Nothing:
    """A channel with nothing inside that has a layout: a port's bytes belong to an application."""

    def message(self, side: Side, message_id: int, body: bytes) -> list[Inner]:  # noqa: ARG002
        return []


_KINDS: Final[dict[int, type[_Payload]]] = {
    ChannelType.MAIN: MainPayload,
    ChannelType.SMARTCARD: VscardPayload,
    ChannelType.USBREDIR: UsbredirPayload,
    ChannelType.WEBDAV: WebdavPayload,
}


class Payloads:
    """What rides inside the messages of one channel, both directions.

    One for each SPICE connection, from its first message on; after a seamless migration the streams go on where they
    were, so the connection to the destination begins with `moved()` of the one before, or with the very same object.
    Memory is bounded, whatever is announced: two messages of `MAX_KEPT` bytes under way, and `MAX_INNERS` returned.

    Args:
        channel_type: As in the link message.
    """

    def __init__(self, channel_type: int) -> None:
        self._channel_type = channel_type
        self._payload = _KINDS.get(channel_type, _Nothing)()

    def message(self, side: Side, message_id: int, body: bytes) -> list[Inner]:
        """Look into one message; every message of the channel is to come by here, in order.

        Args:
            side: Who sends it.
            message_id: `type` of its header.
            body: Without the header.

        Returns:
            The inner messages that become whole with it, in order, and notes on what cannot be told.
        """
        return self._payload.message(side, message_id, body)

    def moved(self) -> "Payloads":
        """Return what goes on at the destination of a seamless migration, messages under way included."""
        return copy.deepcopy(self)
