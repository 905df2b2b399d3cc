"""What is said of a fault on a packet of a recording, and how that is read again."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

LEDGER: Final = "put in by spiceproxy, so that what counts messages adds up"
BEFORE: Final = "before this"
"""In front of what is about no byte of its packet; behind it, where that was if it was on another connection."""
PUT_IN: Final = "; put in by spiceproxy"
"""Behind what is said of a message that no peer has sent."""

_FIRED: Final = re.compile(
    r"fault `([^`]{1,256})`, firing (\d{1,9}): (.*?)(?=; (?:fault `|the (?:client|server) sent )|"
    + re.escape(PUT_IN)
    + "|$)"
)
_ELSEWHERE: Final = re.compile(BEFORE + r", on (\w{1,32}) ([\w:-]{1,64}) hop (\d{1,9}): ")
_SENT: Final = re.compile(r"; the (?:client|server) sent (\w+),")


class Place(NamedTuple):
    """A connection of which a recording may have nothing."""

    connection: str  # "c5"
    channel: str  # "display:0"
    hop: int


class Firing(NamedTuple):
    """A fault that has fired, as a comment has it."""

    fault: str
    number: int  # which firing it was, from 1
    actions: str
    name: str  # of the message as it was sent; "" if the comment does not say it
    before: bool  # it is about no byte of the packet
    made: bool  # the message is the fault's: no peer sent it
    elsewhere: "Place | None" = None  # on another connection than that of the packet

    @property
    def touches(self) -> bool:
        """Whether it does something to the connection on which it fired."""
        return self.actions != "log" and not self.actions.endswith(FAILED)


FAILED: Final = ", failed"
"""Behind actions of which none could be carried out."""


def fired(fault: str, number: int, actions: str) -> str:
    """The comment of a fault that has fired."""
    name = " ".join(fault.replace("`", "'").split())
    return f"fault `{name}`, firing {number}: {actions}"


def before(comment: str, place: Place | None = None) -> str:
    """What is said of a fault on the next packet; of its connection, or of another one if it had none."""
    where = "" if place is None else f", on {place.connection} {place.channel} hop {place.hop}"
    return f"{BEFORE}{where}: {comment}"


def firings(comment: str) -> Iterator[Firing]:
    """All that a packet's comment, of any number of lines, says of faults; other comments say nothing of them."""
    for line in comment.splitlines():
        sent, made, other = _SENT.search(line), line.endswith(PUT_IN), _ELSEWHERE.match(line)
        place = Place(other[1], other[2], int(other[3])) if other is not None else None
        for fault, number, actions in _FIRED.findall(line):
            yield Firing(
                fault,
                int(number),
                actions,
                sent[1] if sent is not None else "",
                line.startswith(BEFORE),
                made,
                place,
            )
