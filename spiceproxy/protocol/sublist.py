"""Name the messages inside a message.

A display server lets cache invalidations ride on a draw message: under full headers through `sub_list`, under mini
headers in a SPICE_MSG_LIST of its own just before. Source: spice-server red-channel-client.cpp and dcc-send.cpp,
marshal_sub_msg_inval_list(); spice-gtk spice-channel.c, spice_channel_recv_msg(), which handles them before the carrier.
"""

from typing import NamedTuple

from dissectors.headers import SubMessage, sub_messages
from dissectors.message_ids import Msg
from dissectors.registry import message_name
from dissectors.side import Side
from spiceproxy.protocol.framer import Message


class NamedSubMessage(NamedTuple):
    """A message inside another one, in the order of handling."""

    name: str  # as SPICE_MSG_WAIT_FOR_CHANNELS
    sub_message: SubMessage


def named_sub_messages(message: Message, channel_type: int) -> list[NamedSubMessage]:
    """What `message` carries besides itself; empty for most messages.

    Raises:
        DissectionError: The list does not lie inside the body, or the body was too long to be kept.
    """
    if message.side is not Side.SERVER or not (message.sub_list or message.id == Msg.LIST):
        return []
    found = sub_messages(message.body, 0 if message.id == Msg.LIST else message.sub_list)
    return [NamedSubMessage(message_name(channel_type, Side.SERVER, sub.type), sub) for sub in found]
