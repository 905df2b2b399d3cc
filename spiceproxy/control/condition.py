"""What a condition names, against what there is: one that asks for a message that does not exist is waited for in vain.

A condition looks at messages and at events; what either may have is right.
"""

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Final

from dissectors.side import Side
from spiceproxy.eventlog import EVENTS
from spiceproxy.faults import names
from spiceproxy.faults.context import Moment
from spiceproxy.faults.errors import RuleError, unknown
from spiceproxy.filter import FilterError
from spiceproxy.filter.parser import parse
from spiceproxy.filter.syntax import Glob, Path, compared, walk

# Of messages and channels that nobody knows.
_UNKNOWN: Final = re.compile(r"unknown_\d+|channel_\d+(:\d+)?")
_MOMENTS: Final = tuple(Moment)  # in place of a message's name, where a fault fires at one


def check_condition(text: str) -> None:
    """Look up the events, messages, channels, sides and legs that a condition names.

    Args:
        text: Of a filter, which compiles.

    Raises:
        FilterError: There is no such thing; it says which one may be meant.
    """
    for node, _ in walk(parse(text)):
        for path, named, position in compared(node):
            try:
                if not path.steps and (check := _CHECKS.get(path.name)) is not None:
                    check(named)
            except RuleError as error:
                raise FilterError(error.reason, text, position) from None
        match node:
            case Glob(left=Path(name="name" | "event" as name, steps=())):
                _pattern(name, node, text)


def _one_of(kind: str, known: tuple[str, ...]) -> Callable[[str], None]:
    def check(text: str) -> None:
        if text not in known:
            raise RuleError(unknown(kind, text, known))

    return check


def _message(text: str) -> None:
    if text not in _MOMENTS and not _UNKNOWN.fullmatch(text) and text not in names.MESSAGE_NAMES:
        raise RuleError(unknown("message", text, names.MESSAGE_NAMES))


def _channel(text: str) -> None:
    if not _UNKNOWN.fullmatch(text):
        names.channel(text)


def _pattern(name: str, node: Glob, text: str) -> None:
    kind, known = ("event", EVENTS) if name == "event" else ("message", {*names.MESSAGE_NAMES, *_MOMENTS})
    fits = re.compile(fnmatch.translate(node.pattern), re.IGNORECASE).match
    if not any(map(fits, known)) and not (kind == "message" and node.pattern.lower().startswith("unknown")):
        raise FilterError(f"no {kind} fits `{node.pattern}`", text, node.position)


_CHECKS: Final[Mapping[str, Callable[[str], None]]] = {
    "event": _one_of("event", tuple(sorted(EVENTS))),
    "name": _message,
    "channel": _channel,
    "from": _one_of("side", tuple(side.value for side in Side)),
    "leg": _one_of("leg", ("source", "destination")),
}
