"""Names in rules: messages, channels, capabilities, link errors."""

import fnmatch
import re
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from dissectors import common
from dissectors.capabilities import (
    CommonCap,
    DisplayCap,
    InputsCap,
    MainCap,
    PlaybackCap,
    RecordCap,
    SpicevmcCap,
)
from dissectors.channels import ChannelType, channel_name
from dissectors.link import LinkError
from dissectors.message import MessageSpec
from dissectors.registry import MODULES
from dissectors.side import Side
from spiceproxy.faults.errors import RuleError, unknown
from spiceproxy.filter.values import message_names

CHANNELS: Final = {channel_name(kind): int(kind) for kind in ChannelType}
_GLOB: Final = frozenset("*?[")
_CHANNEL: Final = re.compile(r"([a-z_]+)(?::([0-9]{1,3}))?")


class Kind(NamedTuple):
    """One message of one channel type and side."""

    channel_type: int
    side: Side
    id: int


def _every() -> Iterator[tuple[Kind, MessageSpec]]:
    for channel_type, module in MODULES.items():
        for side, shared, own in (
            (Side.SERVER, common.SERVER_MESSAGES, module.SERVER_MESSAGES),
            (Side.CLIENT, common.CLIENT_MESSAGES, module.CLIENT_MESSAGES),
        ):
            for spec in {**shared, **own}.values():
                yield Kind(int(channel_type), side, spec.id), spec


SPECS: Final[dict[Kind, MessageSpec]] = dict(_every())
_BY_NAME: Final[dict[str, set[Kind]]] = {}
for _kind, _spec in SPECS.items():
    for _name in message_names(_spec.name):
        _BY_NAME.setdefault(_name, set()).add(_kind)
MESSAGE_NAMES: Final = tuple(_BY_NAME)


def messages(names: Iterable[str | int], channels: frozenset[int], sides: frozenset[Side]) -> frozenset[Kind]:
    """The messages that these names, globs or ids mean on these channels, sent by these sides.

    Raises:
        RuleError: A name is of no message, or of none on these channels and sides. Its path begins with the
            position of the name.
    """
    found: set[Kind] = set()
    for position, name in enumerate(names):
        if isinstance(name, int):
            found |= {Kind(channel, side, name) for channel in channels for side in sides}
            continue
        meant = _meant(name)
        if not meant:
            raise RuleError(unknown("message", name, MESSAGE_NAMES), (position,))
        here = {kind for kind in meant if kind.channel_type in channels and kind.side in sides}
        if not here:
            raise RuleError(_elsewhere(name, meant, channels), (position,))
        found |= here
    return frozenset(found)


def _meant(name: str) -> set[Kind]:
    if _GLOB.isdisjoint(name):
        return _BY_NAME.get(name, set())
    fits = re.compile(fnmatch.translate(name), re.IGNORECASE).match
    return {kind for each, kinds in _BY_NAME.items() if fits(each) for kind in kinds}


def _elsewhere(name: str, meant: set[Kind], channels: frozenset[int]) -> str:
    if any(kind.channel_type in channels for kind in meant):
        sides = " and ".join(sorted({f"the {kind.side.value}" for kind in meant}))
        return f"`{name}` is sent by {sides}"
    there = ", ".join(sorted({channel_name(kind.channel_type) for kind in meant}))
    return f"`{name}` is a message of {there}"


def channel(text: str) -> tuple[int, int | None]:
    """Channel type, and channel id if one is named.

    Raises:
        RuleError: There is no such channel.
    """
    name = text.partition(":")[0]
    if name not in CHANNELS:
        raise RuleError(unknown("channel", name, CHANNELS))
    found = _CHANNEL.fullmatch(text)
    if found is None:
        raise RuleError(f"a channel is `{name}` or `{name}:0`, not `{text}`")
    number = found.group(2)
    if number is not None and int(number) > 255:
        raise RuleError(f"a channel id is 0 to 255, not {number}")
    return CHANNELS[name], None if number is None else int(number)


_OWN_CAPS: Final[dict[int, type[IntEnum]]] = {
    ChannelType.MAIN: MainCap,
    ChannelType.DISPLAY: DisplayCap,
    ChannelType.INPUTS: InputsCap,
    ChannelType.PLAYBACK: PlaybackCap,
    ChannelType.RECORD: RecordCap,
    ChannelType.USBREDIR: SpicevmcCap,
    ChannelType.PORT: SpicevmcCap,
    ChannelType.WEBDAV: SpicevmcCap,
}
MAX_CAPABILITY: Final = 32 * 8 - 1  # no channel has more than 15


class Capability(NamedTuple):
    """A bit of a link message's words."""

    common: bool
    bit: int


def capability(name: str | int, channels: frozenset[int]) -> dict[int, Capability]:
    """Where the bit with this name is, by channel type: common ones on every channel. A number is one of the channel.

    Raises:
        RuleError: No such capability on any of these channels.
    """
    if isinstance(name, int):
        if name > MAX_CAPABILITY:
            raise RuleError(f"a capability is a bit from 0 to {MAX_CAPABILITY}, not {name}")
        return {each: Capability(common=False, bit=name) for each in channels}
    short = re.sub(r"^SPICE_([A-Z]+_)?CAP_", "", name)
    if short in CommonCap.__members__:
        return {each: Capability(common=True, bit=CommonCap[short]) for each in channels}
    found = {
        each: Capability(common=False, bit=_OWN_CAPS[each][short])
        for each in channels
        if each in _OWN_CAPS and short in _OWN_CAPS[each].__members__
    }
    if not found:
        known = [*CommonCap.__members__]
        for each in sorted(channels):
            known += _OWN_CAPS[each].__members__ if each in _OWN_CAPS else ()
        raise RuleError(unknown("capability", short, dict.fromkeys(known)))
    return found


def link_error(name: str | int) -> int:
    """The number of a link error.

    Raises:
        RuleError: No link error has this name.
    """
    if isinstance(name, int):
        return name
    short = name.removeprefix("SPICE_LINK_ERR_")
    if short not in LinkError.__members__ or short == "OK":
        raise RuleError(unknown("link error", name, [each for each in LinkError.__members__ if each != "OK"]))
    return int(LinkError[short])
