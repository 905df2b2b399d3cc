"""What stands before a message: the full and the mini data header; and messages that ride inside another one.

Source: spice-protocol protocol.h, SpiceDataHeader, SpiceMiniDataHeader, SpiceSubMessageList, SpiceSubMessage. The mini
header is in force on a connection, both ways, if the client (for the server) and the server (for the client) announced
SPICE_COMMON_CAP_MINI_HEADER.
"""

from dataclasses import dataclass
from typing import Final

from dissectors.errors import DissectionError
from dissectors.fields import U16, U32, U64, Count, Data, Items, Record, read

DataHeader: Final[Record] = Record(
    "serial" / U64 * "1 for the first message, then rising",
    "type" / U16,
    "size" / U32 * "bytes of the body that follows",
    "sub_list" / U32 * "offset of a SubMessageList in the body; 0 = none",
)
MiniDataHeader: Final[Record] = Record("type" / U16, "size" / U32 * "bytes of the body that follows")

# spice-server puts two messages in a list (WAIT_FOR_CHANNELS, INVAL_LIST). The count has 16 bits, and every entry may
# name the same bytes, so that a short body could stand for 65535 long ones.
MAX_SUB_MESSAGES: Final = 64

SubMessageList: Final[Record] = Record(
    "size" / Count(U16, "sub_messages"),
    "sub_messages" / Items("size", U32, limit=MAX_SUB_MESSAGES) * "offsets from body start",
)
_SubMessageHeader: Final[Record] = Record("type" / U16, "size" / U32)
_SUB_HEADER_BYTES: Final[int] = _SubMessageHeader.sizeof()


@dataclass(frozen=True, slots=True)
class SubMessage:
    """One message inside another one's body.

    Attributes:
        type: Message id, of the same channel and side as the carrier.
        size: What the wire says, in bytes. 64-bit spice-servers compute it from C structs and say too much
            (dcc-send.cpp, marshal_sub_msg_inval_list), even past the end of the carrier.
        offset: Where its header starts in the carrier's body.
        body: At most `size` bytes after its header, fewer where the carrier ends. Dissect it by content: what is
            left over is not its own. A view, not a copy.
    """

    type: int
    size: int
    offset: int
    body: memoryview


def sub_messages(body: Data, offset: int) -> list[SubMessage]:
    """Find the sub-messages that a message carries, in the order of the list, which is the order of handling.

    Args:
        body: Of the carrying message.
        offset: Where its SubMessageList starts: `sub_list` of the full header, or 0 in a SPICE_MSG_LIST.

    Raises:
        DissectionError: The list or the header of a sub-message does not lie inside the body, or there are too many.
    """
    whole = bytes(body)
    view = memoryview(whole)
    if not 0 <= offset < len(whole):
        raise DissectionError(f"sub-message list at {offset} of a body of {len(whole)}")
    count, _ = read(U16, view[offset : offset + 2])
    offsets = read(SubMessageList, view[offset : offset + 2 + 4 * count])[0]["sub_messages"]
    found = []
    for start in offsets:
        end = start + _SUB_HEADER_BYTES
        if end > len(whole):
            raise DissectionError(f"sub-message at {start} of a body of {len(whole)}")
        header, _ = read(_SubMessageHeader, view[start:end])
        found.append(SubMessage(header["type"], header["size"], start, view[end : end + header["size"]]))
    return found
