"""Comments of packets, and what was wrong with a capture: of both only what this program writes stays.

A recording says in comments which faults fired on which message, and the report goes by that: what a fault broke is
nobody's breach. It also quotes what a peer sent; of that the length stays.
"""

import errno
import os
import re
from typing import Final

from dissectors.channels import ChannelType, channel_name
from dissectors.registry import find
from spiceproxy.capture.pcapng import ORIGINAL_DAMAGED, RECORDING_ENDED
from spiceproxy.capture.sessions import REPEATED
from spiceproxy.faults.actions import NAMES
from spiceproxy.faults.comments import BEFORE, FAILED, LEDGER, PUT_IN

_CHANNEL: Final = rf"(?:{'|'.join(map(channel_name, ChannelType))}|channel_[0-9]{{1,3}}):[0-9]{{1,3}}"
_HOP: Final = re.compile(rf"{_CHANNEL} hop [0-9]{{1,6}}")
_PLAIN: Final = re.compile(rf"{re.escape(REPEATED)}|{re.escape(LEDGER)}")
_ADDRESSES: Final = re.compile(
    r"The client's port is [0-9]{1,5}, as on another connection to [0-9a-fA-F:.]{2,45} port [0-9]{1,5}\."
    r"|SPICE_MSG_MAIN_MIGRATE_[A-Z_]{1,20} rewritten by spiceproxy; the server sent host [\w.:\[\]-]{1,253} port -?[0-9]+ "
    r"sport -?[0-9]+",
    re.ASCII,
)

# Of faults: spiceproxy.faults.comments writes them, spiceproxy.injection.passing what stands before and behind.
_ACTION: Final = (
    rf"(?:{'|'.join(sorted(NAMES.values(), key=len, reverse=True))})(?: [\w.\[\]-]{{1,80}}(?: s)?)?"
)
_ACTIONS: Final = rf"{_ACTION}(?:, (?:{_ACTION}|[a-z][\w.\[\]-]{{0,80}}))*(?:{re.escape(FAILED)})?"
_FIRED: Final = rf"fault `[^`\n]{{1,256}}`, firing [0-9]{{1,9}}: {_ACTIONS}"
_FAULT: Final = re.compile(
    rf"(?P<said>(?:{BEFORE}(?:, on c[0-9]{{1,9}} {_CHANNEL} hop [0-9]{{1,9}})?: )?{_FIRED}(?:; {_FIRED})*)"
    r"(?:(?P<sent>; the (?:client|server) sent (?P<name>\w{1,64}), [0-9]{1,10} bytes: )(?P<quoted>[0-9a-f]*(?:\.\.\.)?))?"
    rf"(?P<made>{re.escape(PUT_IN)})?",
    re.ASCII,
)
_UNKNOWN: Final = re.compile(r"unknown_[0-9]{1,5}")
QUOTED: Final = "removed"
"""In the place of what a peer sent."""

_PROBLEM: Final = re.compile(
    rf"(?:{re.escape(ORIGINAL_DAMAGED)})?(?:"
    r"packet [0-9]+: (?:the file ends within it|interface [0-9]+ or [0-9]+ bytes: impossible|its interface or length is impossible"
    r"|a block of [0-9]+ bytes is left out)"
    r"|the file ends within the block at byte [0-9]+"
    r"|the (?:gzip|zstd) data end in the middle: the file is cut"
    r"|more problems are not listed"
    rf"|{re.escape(RECORDING_ENDED)}(?:{'|'.join(re.escape(os.strerror(code)) for code in sorted(errno.errorcode))}"
    r"|the limit of [0-9]+ bytes is reached))"
)
_SOMETHING: Final = "it could not be read as a whole"


def public_comment(text: str, *, addresses: bool) -> tuple[str | None, int]:
    """What may stay of a packet's comment, and how many of its lines are not what they were.

    Args:
        text: All comments of the packet, one a line.
        addresses: Addresses and host names may stay.
    """
    lines = text.split("\n")
    kept = [_public_line(line, addresses=addresses) for line in lines]
    stay = [line for line in kept if line is not None]
    return "\n".join(stay) if stay else None, sum(a != b for a, b in zip(lines, kept, strict=True))


def _public_line(line: str, *, addresses: bool) -> str | None:
    if _HOP.fullmatch(line) or _PLAIN.fullmatch(line) or (addresses and _ADDRESSES.fullmatch(line)):
        return line
    fault = _FAULT.fullmatch(line)
    if fault is None:
        return None
    name, sent = fault["name"], fault["sent"] or ""
    if name is not None and not find(name) and not _UNKNOWN.fullmatch(name):
        return None
    return fault["said"] + sent + (QUOTED if fault["quoted"] else "") + (fault["made"] or "")


def public_problem(text: str) -> str:
    """What a copy says of what was wrong with its original: the same, if it is a sentence of this program."""
    told = text if _PROBLEM.fullmatch(text) else _SOMETHING
    return told if told.startswith(ORIGINAL_DAMAGED) else f"{ORIGINAL_DAMAGED}{told}"
