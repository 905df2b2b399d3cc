"""Smartcard channel (type 8): a card reader of the client's in the guest.

One message each way, a VSCMsgHeader and what belongs to its type; numbers are little-endian here, while the guest's
device has them in network order. Source: spice-common spice.proto, SmartcardChannel; libcacard vscard_common.h.
"""

from enum import IntEnum
from typing import Final

from dissectors import migrate_data
from dissectors.fields import U32, Choice, Count, CountedBytes, Record
from dissectors.message import MessageSpec, table


class VscMessageType(IntEnum):
    """SPICE_VSC_MESSAGE_TYPE_*, as enums.h spells them."""

    Init = 1
    Error = 2
    ReaderAdd = 3
    ReaderRemove = 4
    ATR = 5
    CardRemove = 6
    APDU = 7
    Flush = 8
    FlushComplete = 9


SmartcardData: Final = Record(
    "type" / Choice(U32, VscMessageType),
    "reader_id" / U32 * "0xFFFFFFFF = not known yet, or none",
    "length" / Count(U32, "data") * "bytes",
    "data"
    / CountedBytes("length", bulk=True)
    * "as the type says: a card's answer, a command, an error code",
)

SERVER_MESSAGES: Final = table(
    migrate_data.from_server(migrate_data.SmartcardState),
    MessageSpec(
        101,
        "SPICE_MSG_SMARTCARD_DATA",
        "A command from the guest to the card, or the answer to what the client said.",
        SmartcardData,
    ),
)

CLIENT_MESSAGES: Final = table(
    migrate_data.from_client(migrate_data.SmartcardState),
    MessageSpec(
        101,
        "SPICE_MSGC_SMARTCARD_DATA",
        "A reader or a card comes or goes, or the card answers.",
        SmartcardData,
    ),
)
