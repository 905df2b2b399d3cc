"""Which messages the proxy looks at, and what for. Everything else passes unread.

Ids and names: spice-protocol spice/enums.h. The three HOLD rows are the messages that tell a client where the
next server is; a proxy that forwards one of them unchanged loses the session.
"""

from collections.abc import Mapping
from typing import Final

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.protocol.framer import Want

DESTINATION_MESSAGES: Final = frozenset(
    {Main.MIGRATE_BEGIN, Main.MIGRATE_BEGIN_SEAMLESS, Main.MIGRATE_SWITCH_HOST}
)

_COMMON: Final[dict[Side, dict[int, Want]]] = {
    Side.SERVER: {Msg.MIGRATE: Want.SEE, Msg.MIGRATE_DATA: Want.SEE},
    Side.CLIENT: {MsgC.MIGRATE_FLUSH_MARK: Want.SEE, MsgC.MIGRATE_DATA: Want.SEE},
}
_MAIN: Final[dict[Side, dict[int, Want]]] = {
    Side.SERVER: {
        **_COMMON[Side.SERVER],
        Main.INIT: Want.SEE,
        Main.CHANNELS_LIST: Want.SEE,
        Main.MIGRATE_BEGIN: Want.HOLD,
        Main.MIGRATE_BEGIN_SEAMLESS: Want.HOLD,
        Main.MIGRATE_SWITCH_HOST: Want.HOLD,
        Main.MIGRATE_CANCEL: Want.SEE,
        Main.MIGRATE_END: Want.SEE,
        Main.MIGRATE_DST_SEAMLESS_ACK: Want.SEE,
        Main.MIGRATE_DST_SEAMLESS_NACK: Want.SEE,
    },
    Side.CLIENT: {
        **_COMMON[Side.CLIENT],
        MainC.MIGRATE_CONNECTED: Want.SEE,
        MainC.MIGRATE_CONNECT_ERROR: Want.SEE,
        MainC.MIGRATE_END: Want.SEE,
        MainC.MIGRATE_DST_DO_SEAMLESS: Want.SEE,
        MainC.MIGRATE_CONNECTED_SEAMLESS: Want.SEE,
    },
}


def wanted_messages(channel_type: int, side: Side) -> Mapping[int, Want]:
    """What the proxy wants of the messages that `side` sends on a channel of this type."""
    return (_MAIN if channel_type == ChannelType.MAIN else _COMMON)[side]
