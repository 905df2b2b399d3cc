"""Port channel (type 10): a named character device of the guest, for whatever program knows the name.

PORT_EVENT is 202 from the server and 201 from the client. Source: spice-common spice.proto, PortChannel.
"""

from enum import IntEnum
from typing import Final

from dissectors import spicevmc
from dissectors.fields import U8, U32, Choice, Count, CountedText, Pointer, Record
from dissectors.message import MessageSpec, table


class PortEvent(IntEnum):
    """SPICE_PORT_EVENT_*. Source: spice-protocol protocol.h."""

    OPENED = 0
    CLOSED = 1
    BREAK = 2


Event: Final = Record("event" / Choice(U8, PortEvent))

FROM_SERVER: Final = (
    *spicevmc.FROM_SERVER,
    MessageSpec(
        201,
        "SPICE_MSG_PORT_INIT",
        "Opens the channel: the port's name, and whether the guest has it open.",
        Record(
            "name_size" / Count(U32, "name") * "bytes, the NUL included",
            "name" / Pointer(CountedText("name_size"), null=False),
            "opened" / U8 * "0 or 1",
        ),
    ),
    MessageSpec(
        202, "SPICE_MSG_PORT_EVENT", "The guest has opened or closed the port, or sent a break.", Event
    ),
)
FROM_CLIENT: Final = (
    *spicevmc.FROM_CLIENT,
    MessageSpec(
        201,
        "SPICE_MSGC_PORT_EVENT",
        "The client sends a break; that it has opened or closed the port, the connection says.",
        Event,
    ),
)

SERVER_MESSAGES: Final = table(*FROM_SERVER)
CLIENT_MESSAGES: Final = table(*FROM_CLIENT)
