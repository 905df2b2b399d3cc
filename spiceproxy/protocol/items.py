"""What a framer is asked for, and what it says: messages, and what happens to the bytes of them."""

from enum import Enum
from typing import NamedTuple

from dissectors.side import Side
from spiceproxy.errors import ProtocolError


class Want(Enum):
    """What somebody wants of a message."""

    NOTE = "note"  # that it passed: id, size and serial; nothing of it is copied
    SEE = "see"  # a copy; the bytes go out as they come in
    HOLD = "hold"  # the message itself, before anything of it has gone out


class Message(NamedTuple):
    """One message, whole unless it is longer than what is kept."""

    side: Side  # who sent it
    id: int  # 1..100 mean the same on every channel, 101 and up belong to one
    size: int  # bytes of body, as announced
    serial: int  # as in the full header; counted from 1 under mini headers
    sub_list: int  # offset of the sub-message list in the body, 0 for none or under mini headers
    header: bytes  # as received
    body: bytes  # shorter than `size` if the message was too long to be kept, or bytes of it were skipped

    @property
    def whole(self) -> bool:
        """Whether `body` is all of it."""
        return len(self.body) == self.size


Note = tuple[int, int, int, int]
"""Id, size, serial and number, counted from 1, of a message; a plain tuple, since there may be millions."""


class Pass(NamedTuple):
    """These bytes go out now."""

    data: memoryview
    ends: list[int]  # offsets in `data` where a message ends; empty unless the framer traces


class Noted(NamedTuple):
    """Messages that were wanted for their headers, in order. Their last bytes are in a `Pass` that follows."""

    notes: list[Note]


class Seen(NamedTuple):
    """A message that was wanted for reading. Its bytes are in a `Pass`."""

    message: Message


class Held(NamedTuple):
    """A message that waits for a decision. Its bytes are in no `Pass`."""

    message: Message


class Broken(NamedTuple):
    """The stream cannot be read any further. Always the last item."""

    error: ProtocolError


Item = Pass | Noted | Seen | Held | Broken
