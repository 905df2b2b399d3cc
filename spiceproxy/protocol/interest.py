"""Which messages the proxy looks at, and what for. Everything else passes unread.

Ids and names: spice-protocol spice/enums.h. The three HOLD rows are the messages that tell a client where the
next server is; a proxy that forwards one of them unchanged loses the session.
"""

from collections.abc import Mapping
from typing import Final

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.protocol.framer import Want

MSG_MIGRATE: Final = 1
MSG_MIGRATE_DATA: Final = 2
MSGC_MIGRATE_FLUSH_MARK: Final = 4
MSGC_MIGRATE_DATA: Final = 5

MSG_MAIN_MIGRATE_BEGIN: Final = 101
MSG_MAIN_MIGRATE_CANCEL: Final = 102
MSG_MAIN_INIT: Final = 103
MSG_MAIN_CHANNELS_LIST: Final = 104
MSG_MAIN_MIGRATE_SWITCH_HOST: Final = 111
MSG_MAIN_MIGRATE_END: Final = 112
MSG_MAIN_MIGRATE_BEGIN_SEAMLESS: Final = 116
MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK: Final = 117
MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK: Final = 118

MSGC_MAIN_MIGRATE_CONNECTED: Final = 102
MSGC_MAIN_MIGRATE_CONNECT_ERROR: Final = 103
MSGC_MAIN_MIGRATE_END: Final = 109
MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS: Final = 110
MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS: Final = 111

DESTINATION_MESSAGES: Final = frozenset(
    {MSG_MAIN_MIGRATE_BEGIN, MSG_MAIN_MIGRATE_BEGIN_SEAMLESS, MSG_MAIN_MIGRATE_SWITCH_HOST}
)

_COMMON: Final[dict[Side, dict[int, Want]]] = {
    Side.SERVER: {MSG_MIGRATE: Want.SEE, MSG_MIGRATE_DATA: Want.SEE},
    Side.CLIENT: {MSGC_MIGRATE_FLUSH_MARK: Want.SEE, MSGC_MIGRATE_DATA: Want.SEE},
}
_MAIN: Final[dict[Side, dict[int, Want]]] = {
    Side.SERVER: {
        **_COMMON[Side.SERVER],
        MSG_MAIN_INIT: Want.SEE,
        MSG_MAIN_CHANNELS_LIST: Want.SEE,
        MSG_MAIN_MIGRATE_BEGIN: Want.HOLD,
        MSG_MAIN_MIGRATE_BEGIN_SEAMLESS: Want.HOLD,
        MSG_MAIN_MIGRATE_SWITCH_HOST: Want.HOLD,
        MSG_MAIN_MIGRATE_CANCEL: Want.SEE,
        MSG_MAIN_MIGRATE_END: Want.SEE,
        MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK: Want.SEE,
        MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK: Want.SEE,
    },
    Side.CLIENT: {
        **_COMMON[Side.CLIENT],
        MSGC_MAIN_MIGRATE_CONNECTED: Want.SEE,
        MSGC_MAIN_MIGRATE_CONNECT_ERROR: Want.SEE,
        MSGC_MAIN_MIGRATE_END: Want.SEE,
        MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS: Want.SEE,
        MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS: Want.SEE,
    },
}


def wanted_messages(channel_type: int, side: Side) -> Mapping[int, Want]:
    """What the proxy wants of the messages that `side` sends on a channel of this type."""
    return (_MAIN if channel_type == ChannelType.MAIN else _COMMON)[side]
