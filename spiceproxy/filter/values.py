"""How one value is compared with what a filter says. Every function here makes a test of one value that is not null."""

import enum
import fnmatch
import operator
import re
from collections.abc import Callable
from typing import Any, Final

Decide = Callable[[Any], bool]

# Values that a peer chose may be long: a pattern looks at that much of them, which bounds the time it takes.
MAX_MATCHED_CHARACTERS: Final = 65_536
_REMEMBERED: Final = 1024

_MESSAGE_PREFIX: Final = re.compile("SPICE_MSGC?_")
# What enums.h puts before the name of a message that belongs to one channel.
_CHANNEL_WORD: Final = re.compile(
    "(?:MAIN|DISPLAY|INPUTS|CURSOR|PLAYBACK|RECORD|TUNNEL|SMARTCARD|SPICEVMC|USBREDIR|PORT|WEBDAV)_"
)
ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def message_names(name: str) -> tuple[str, ...]:
    """A message's name and what people call it: without SPICE_MSG_ or SPICE_MSGC_, and without the channel's word."""
    if (prefix := _MESSAGE_PREFIX.match(name)) is None:
        return (name,)
    short = name[prefix.end() :]
    if (word := _CHANNEL_WORD.match(short)) is None:
        return (name, short)
    return (name, short, short[word.end() :])


def channel_names(channel: str) -> tuple[str, ...]:
    """A channel as `display:0` and as `display`."""
    kind, colon, _ = channel.partition(":")
    return (channel, kind) if colon else (channel,)


# Top-level names whose values go by more than one name.
ALIASES: Final[dict[str, Callable[[str], tuple[str, ...]]]] = {
    "name": message_names,
    "channel": channel_names,
}


class _Remembered(dict[str, bool]):
    """Answers for texts that come again and again: there are few names of messages and channels."""

    def __init__(self, answer: Callable[[str], bool]) -> None:
        self.answer = answer

    def __missing__(self, text: str) -> bool:
        found = self.answer(text)
        if len(self) < _REMEMBERED:
            self[text] = found
        return found


def texts_of(value: Any) -> tuple[str, ...]:
    """A value as text: itself, the names of an enum or of flags that are set, bytes in hexadecimal; else nothing."""
    if isinstance(value, str):
        return (value.value,) if isinstance(value, enum.Enum) else (value,)
    if isinstance(value, enum.Flag):
        return (value.name or "", *(member.name or "" for member in value))
    if isinstance(value, enum.Enum):
        return (value.value,) if isinstance(value.value, str) else (value.name,)
    if isinstance(value, bytes | bytearray | memoryview):
        return (bytes(value[: MAX_MATCHED_CHARACTERS // 2]).hex(),)
    return ()


def _names(value: enum.Enum, text: str) -> bool:
    """Whether the text is this value's name; several flags are written A|B."""
    if not isinstance(value, enum.Flag):
        return text in texts_of(value)
    return (bits := bits_named(value, text)) is not None and bits == value.value


def bits_named(value: Any, text: str) -> int | None:
    """The bits that a text names in flags of this value's kind, as 2 for "NEED_DATA_TRANSFER"; None if it does not."""
    if not isinstance(value, enum.IntFlag):
        return None
    members, bits = type(value).__members__, 0
    for name in text.split("|"):
        if (member := members.get(name.strip())) is None:
            return None
        bits |= member.value
    return bits


def equals(literal: Any, top_level: str | None) -> Decide:
    """Whether a value is this one. `top_level` is the name it comes from, if it has one of the ALIASES."""
    if not isinstance(literal, str):
        return lambda value: value == literal
    if (aliases := ALIASES.get(top_level or "")) is not None:
        known = _Remembered(lambda text: literal in aliases(text))
        return lambda value: (
            known[value] if value.__class__ is str else any(map(known.__getitem__, texts_of(value)))
        )
    try:
        as_bytes: bytes | None = bytes.fromhex(literal)
    except ValueError:
        as_bytes = None

    def is_it(value: Any) -> bool:
        if value.__class__ is str:
            return bool(value == literal)
        if isinstance(value, enum.Enum):
            return _names(value, literal)
        if isinstance(value, bytes | bytearray | memoryview):
            return as_bytes is not None and value == as_bytes
        return bool(value == literal)

    return is_it


def glob(pattern: str, top_level: str | None) -> Decide:
    """Whether a text fits a shell pattern, upper and lower case alike."""
    # Since Python 3.9 fnmatch makes a star atomic once what follows it was found: no exponential backtracking.
    fits = re.compile(fnmatch.translate(pattern), re.IGNORECASE).match

    def one(text: str) -> bool:
        return fits(text[:MAX_MATCHED_CHARACTERS]) is not None

    aliases = ALIASES.get(top_level or "")
    if aliases is None:
        return lambda value: one(value) if value.__class__ is str else any(map(one, texts_of(value)))
    known = _Remembered(lambda text: any(map(one, aliases(text))))
    return lambda value: (
        known[value] if value.__class__ is str else any(map(known.__getitem__, texts_of(value)))
    )


def ordered(sign: str, literal: Any) -> Decide:
    """Whether a value is smaller or larger than this one: numbers by size, texts by their letters, nothing else."""
    compare = ORDERS[sign]
    if isinstance(literal, str):
        return lambda value: isinstance(value, str) and compare(value, literal)
    return lambda value: isinstance(value, int | float) and compare(value, literal)


def same(left: Any, right: Any) -> bool:
    """Whether two values of a record are the same."""
    if isinstance(left, enum.Enum) and right.__class__ is str:
        return _names(left, right)
    if isinstance(right, enum.Enum) and left.__class__ is str:
        return _names(right, left)
    return bool(left == right)


def in_order(sign: str, left: Any, right: Any) -> bool:
    """Whether two values of a record are in this order."""
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    texts = isinstance(left, str) and isinstance(right, str)
    return (numbers or texts) and ORDERS[sign](left, right)
