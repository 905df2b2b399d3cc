"""Main channel (type 1). Source: spice-common spice.proto, MainChannel.

Ids 102, 103 and 111 mean different things in the two directions. Messages that name a migration's destination have a
module of their own, `dissectors.destination`; `rewrite_destination` is the part of it that a proxy needs.
"""

from enum import IntFlag
from typing import Final

from dissectors import migrate_data
from dissectors.channels import ChannelType
from dissectors.destination import MigrateBegin, MigrateBeginSeamless, SwitchHost, rewrite_destination
from dissectors.fields import (
    U8,
    U16,
    U32,
    U64,
    BulkRest,
    Choice,
    Count,
    CountedText,
    FixedBytes,
    Flags,
    Items,
    Record,
    Rest,
)
from dissectors.link import LinkError
from dissectors.message import MessageSpec, table

__all__ = [
    "CLIENT_MESSAGES",
    "SERVER_MESSAGES",
    "MouseMode",
    "rewrite_destination",
]


class MouseMode(IntFlag):
    """SPICE_MOUSE_MODE_*: who moves the pointer, the server from relative motion or the client by its position."""

    SERVER = 1
    CLIENT = 2


# A session has a handful of channels. The wire allows 256 ids of each type; a list beyond this is not decoded.
MAX_CHANNELS: Final = 1024

_NumTokens: Final = Record("num_tokens" / U32 * "AGENT_DATA messages")

SERVER_MESSAGES: Final = table(
    migrate_data.from_server(migrate_data.MainState),
    MessageSpec(
        101,
        "SPICE_MSG_MAIN_MIGRATE_BEGIN",
        "The guest is about to move: connect to this destination and say whether that worked (semi-seamless).",
        MigrateBegin,
    ),
    MessageSpec(
        102,
        "SPICE_MSG_MAIN_MIGRATE_CANCEL",
        "The migration is off: close the connections to the destination and stay here.",
    ),
    MessageSpec(
        103,
        "SPICE_MSG_MAIN_INIT",
        "Opens the session: its id, the mouse modes, and whether the guest runs an agent.",
        Record(
            "session_id" / U32 * "connection_id of every other link of this session",
            "display_channels_hint" / U32 * "display channels that there will be",
            "supported_mouse_modes" / Flags(U32, MouseMode),
            "current_mouse_mode" / Flags(U32, MouseMode),
            "agent_connected" / U32 * "0 or 1",
            "agent_tokens" / U32 * "AGENT_DATA messages that the client may send",
            "multi_media_time" / U32 * "milliseconds",
            "ram_hint" / U32 * "bytes",
        ),
    ),
    MessageSpec(
        104,
        "SPICE_MSG_MAIN_CHANNELS_LIST",
        "The channels that the client may open; later lists add to it.",
        Record(
            "num_of_channels" / Count(U32, "channels"),
            "channels"
            / Items(
                "num_of_channels", Record("type" / Choice(U8, ChannelType), "id" / U8), limit=MAX_CHANNELS
            ),
        ),
    ),
    MessageSpec(
        105,
        "SPICE_MSG_MAIN_MOUSE_MODE",
        "The mouse mode, and which ones are possible now.",
        Record("supported_modes" / Flags(U16, MouseMode), "current_mode" / Flags(U16, MouseMode) * "one bit"),
    ),
    MessageSpec(
        106,
        "SPICE_MSG_MAIN_MULTI_MEDIA_TIME",
        "The server's clock for sound and video.",
        Record("time" / U32 * "milliseconds"),
    ),
    MessageSpec(
        107,
        "SPICE_MSG_MAIN_AGENT_CONNECTED",
        "The guest's agent is there now (for clients that do not know AGENT_CONNECTED_TOKENS).",
        obsolete=True,
    ),
    MessageSpec(
        108,
        "SPICE_MSG_MAIN_AGENT_DISCONNECTED",
        "The guest's agent is gone.",
        Record("error_code" / Choice(U32, LinkError)),
    ),
    MessageSpec(
        109,
        "SPICE_MSG_MAIN_AGENT_DATA",
        "A piece of the guest agent's stream to the client: clipboard, resolution, files.",
        Record("data" / BulkRest * "at most 2048 bytes of the stream of VDAgentMessages"),
    ),
    MessageSpec(
        110,
        "SPICE_MSG_MAIN_AGENT_TOKEN",
        "Lets the client send that many more agent messages.",
        _NumTokens,
    ),
    MessageSpec(
        111,
        "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST",
        "The guest has moved without the client: leave, and start a new session at this destination.",
        SwitchHost,
    ),
    MessageSpec(
        112,
        "SPICE_MSG_MAIN_MIGRATE_END",
        "The guest has moved: go on at the destination, which sends all state anew (semi-seamless).",
    ),
    MessageSpec(
        113,
        "SPICE_MSG_MAIN_NAME",
        "The virtual machine's name.",
        Record("name_len" / Count(U32, "name") * "bytes, the NUL included", "name" / CountedText("name_len")),
    ),
    MessageSpec(
        114,
        "SPICE_MSG_MAIN_UUID",
        "The virtual machine's UUID.",
        Record("uuid" / FixedBytes(16)),
    ),
    MessageSpec(
        115,
        "SPICE_MSG_MAIN_AGENT_CONNECTED_TOKENS",
        "The guest's agent is there now, and the client may send it that many messages.",
        _NumTokens,
    ),
    MessageSpec(
        116,
        "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS",
        "The guest is about to move: connect to this destination and ask it whether it can take over seamlessly.",
        MigrateBeginSeamless,
    ),
    MessageSpec(
        117,
        "SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK",
        "The destination can take over the session seamlessly.",
    ),
    MessageSpec(
        118,
        "SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_NACK",
        "The destination cannot take over seamlessly; the migration goes on as semi-seamless.",
    ),
)

CLIENT_MESSAGES: Final = table(
    migrate_data.from_client(migrate_data.MainState),
    MessageSpec(
        101,
        "SPICE_MSGC_MAIN_CLIENT_INFO",
        "The client's cache size; no server takes it any more.",
        Record("cache_size" / U64 * "bytes"),
        obsolete=True,
    ),
    MessageSpec(
        102,
        "SPICE_MSGC_MAIN_MIGRATE_CONNECTED",
        "The client is connected to the destination with all its channels; seamless was not agreed.",
    ),
    MessageSpec(
        103,
        "SPICE_MSGC_MAIN_MIGRATE_CONNECT_ERROR",
        "The client could not connect to the destination.",
    ),
    MessageSpec(
        104,
        "SPICE_MSGC_MAIN_ATTACH_CHANNELS",
        "Asks for the list of channels.",
    ),
    MessageSpec(
        105,
        "SPICE_MSGC_MAIN_MOUSE_MODE_REQUEST",
        "Asks for another mouse mode.",
        Record("mode" / Flags(U16, MouseMode) * "one bit"),
    ),
    MessageSpec(
        106,
        "SPICE_MSGC_MAIN_AGENT_START",
        "The client is ready for agent data, and the agent may send that many messages.",
        _NumTokens,
    ),
    MessageSpec(
        107,
        "SPICE_MSGC_MAIN_AGENT_DATA",
        "A piece of the client's stream to the guest agent: clipboard, resolution, files.",
        Record("data" / BulkRest * "at most 2048 bytes of the stream of VDAgentMessages"),
    ),
    MessageSpec(
        108,
        "SPICE_MSGC_MAIN_AGENT_TOKEN",
        "Lets the agent send that many more messages.",
        _NumTokens,
    ),
    MessageSpec(
        109,
        "SPICE_MSGC_MAIN_MIGRATE_END",
        "The client has left the source and starts over at the destination (semi-seamless).",
    ),
    MessageSpec(
        110,
        "SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS",
        "Asks the destination whether it can take over seamlessly from a source of this migration version.",
        Record("src_version" / U32 * "src_mig_version of BEGIN_SEAMLESS"),
    ),
    MessageSpec(
        111,
        "SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS",
        "The client is connected to the destination with all its channels, and the destination agreed to seamless.",
    ),
    MessageSpec(
        112,
        "SPICE_MSGC_MAIN_QUALITY_INDICATOR",
        "Reserved for additions to the server; a plain spice-server drops the connection.",
        Record("data" / Rest),
    ),
)
