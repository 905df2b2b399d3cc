"""Names in a `where` against those that there are: fields, values of enums and flags, messages, channels.

A filter that names what does not exist is never true, and a fault that cannot fire is the one mistake that a user does not see.
"""

import re
from collections.abc import Collection
from difflib import SequenceMatcher
from typing import Final

from construct import Construct

from dissectors.fields import Choice, Flags
from dissectors.side import Side
from spiceproxy.faults import names
from spiceproxy.faults.context import Moment
from spiceproxy.faults.errors import RuleError, unknown
from spiceproxy.faults.names import Kind
from spiceproxy.faults.schema import Keys, find, target, value_for
from spiceproxy.filter.parser import parse
from spiceproxy.filter.syntax import Path, compared, walk

OF_MOMENTS: Final = {
    Moment.LINK_MESSAGE: ("connection_id", "channel_type", "channel_id"),
    Moment.LINK_REPLY: ("error",),
    Moment.AUTH: ("error",),
}
"""What `fields` has at the moments that have any."""

_NEAR: Final = re.compile(r"`([^`]*)`.*did you mean `([^`]*)`")
_LEGS: Final = ("source", "destination")


def check_where(text: str, kinds: frozenset[Kind], moments: Collection[Moment]) -> None:
    """Look up what a filter asks for.

    Args:
        text: Of the filter, which compiles.
        kinds: Messages that it is asked about.
        moments: Moments that it is asked about.

    Raises:
        RuleError: None of these has such a field, or no field such a value.
    """
    specs = [spec for kind in sorted(kinds, key=_order) if (spec := names.SPECS.get(kind)) is not None]
    schemas = {spec.name: spec.schema for spec in specs}
    # A message that is named by a number that nobody knows has no fields that could be looked up.
    is_known = len(schemas) > 0 or not kinds
    for node, _ in walk(parse(text)):
        try:
            if isinstance(node, Path) and node.name == "fields" and node.steps and is_known:
                _field(node.steps, schemas, moments)
            for path, text_there, _ in compared(node):
                _value(path, text_there, schemas, moments)
        except RuleError as error:
            raise RuleError(f"column {node.position + 1} of the filter: {error.reason}") from None


def _order(kind: Kind) -> tuple[int, str, int]:
    return kind.channel_type, kind.side.value, kind.id


def _field(steps: Keys, schemas: dict[str, Construct], moments: Collection[Moment]) -> None:
    known = [each for moment in moments for each in OF_MOMENTS.get(moment, ())]
    if moments and not (len(steps) == 1 and steps[0] in known):
        raise RuleError(unknown("field", str(steps[-1]), known, where=f" at {', '.join(sorted(moments))}"))
    errors = []
    for name, schema in schemas.items():
        try:
            find(schema, steps, where=name)
        except RuleError as error:
            errors.append(error)
        else:
            return
    if errors:
        raise max(errors, key=_nearness)


def _nearness(error: RuleError) -> float:
    """Of several messages that lack a field, the one with the most similar name is the one to be told of."""
    near = _NEAR.search(error.reason)
    return SequenceMatcher(None, near[1], near[2]).ratio() if near is not None else 0.0


def _value(path: Path, text: str, schemas: dict[str, Construct], moments: Collection[Moment]) -> None:
    match path:
        case Path("fields"):
            _named(path.steps, text, schemas)
        case Path("name"):
            known = tuple(moments) if moments else names.MESSAGE_NAMES
            _one_of("moment" if moments else "message", text, known)
        case Path("channel"):
            names.channel(text)
        case Path("from"):
            _one_of("side", text, tuple(each.value for each in Side))
        case Path("leg"):
            _one_of("leg", text, _LEGS)


def _one_of(kind: str, text: str, known: Collection[str]) -> None:
    if text not in known:
        raise RuleError(unknown(kind, text, known))


def _named(steps: Keys, text: str, schemas: dict[str, Construct]) -> None:
    """A name of an enum or of flags has to be one in at least one of the messages that have the field."""
    wrong = None
    for name, schema in schemas.items():
        try:
            found = find(schema, steps, where=name)
        except RuleError:
            continue
        if found is None or not isinstance(target(found), Choice | Flags):
            return
        try:
            value_for(found, text, name=str(steps[-1]))
        except RuleError as error:
            wrong = error
        else:
            return
    if wrong is not None:
        raise wrong
