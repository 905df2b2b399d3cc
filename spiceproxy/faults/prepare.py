"""Actions, with every name in them looked up: what goes wrong later is only what a message's own bytes decide."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from construct import Construct

from dissectors.side import Side
from spiceproxy.faults import actions, names, schema, streams
from spiceproxy.faults.context import CARRYING, Moment
from spiceproxy.faults.errors import RuleError
from spiceproxy.faults.matching import Matcher, compile_match, many
from spiceproxy.faults.names import SPECS, Capability, Kind
from spiceproxy.faults.schema import Keys
from spiceproxy.faults.tables import Action

VARIABLE: Final = re.compile(r"\$\{([a-z_]+)\}")
"""A value that whoever runs the faults knows: "${destination_port}"."""

_MESSAGE: Final = "message"
_ANYWHERE: Final = frozenset({_MESSAGE, *Moment})
_OPEN: Final = _ANYWHERE - {Moment.SESSION, Moment.CLOSED}
_BYTES: Final = frozenset({_MESSAGE, *CARRYING})
_ONLY_MESSAGES: Final = frozenset({_MESSAGE})
PLACES: Final[dict[type[Action], frozenset[str]]] = {
    actions.Drop: _BYTES,
    actions.Delay: _OPEN,
    actions.Hold: _OPEN,
    actions.Reorder: _ONLY_MESSAGES,
    actions.Duplicate: _ONLY_MESSAGES,
    actions.Set: _ONLY_MESSAGES,
    actions.Replace: _ONLY_MESSAGES,
    actions.Inject: frozenset({_MESSAGE, Moment.LINKED, Moment.PHASE}),
    actions.Corrupt: _BYTES,
    actions.Truncate: _BYTES,
    actions.Pad: _BYTES,
    actions.Header: _ONLY_MESSAGES,
    actions.Split: _BYTES,
    actions.Swap: _ONLY_MESSAGES,
    actions.Copy: _ONLY_MESSAGES,
    streams.Capabilities: frozenset({Moment.LINK_MESSAGE, Moment.LINK_REPLY}),
    streams.Link: frozenset({Moment.LINK_MESSAGE}),
    streams.Ticket: frozenset({Moment.TICKET}),
    streams.LinkError: frozenset({Moment.CONNECT, Moment.LINK_REPLY}),
    streams.AuthFail: frozenset({Moment.AUTH}),
    streams.Refuse: frozenset({Moment.CONNECT}),
    streams.Reset: _OPEN,
    streams.Close: _OPEN,
    streams.Stall: _OPEN,
    streams.Throttle: _OPEN,
    streams.Latency: _OPEN,
    streams.Blackhole: _OPEN,
    actions.Log: _ANYWHERE,
    streams.AbortSession: _ANYWHERE,
    streams.SecondClient: _OPEN,
}
"""What an action goes with: messages, or which moments."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What to do with the bits of a link message on one channel type."""

    add: tuple[Capability, ...]
    clear: tuple[Capability, ...]
    set: tuple[Capability, ...] | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """One action.

    Attributes:
        action: As it stands in the file.
        until: What `hold` waits for.
        targets: What `replace` and `inject` send, by channel type.
        values: What `set`, `replace` and `inject` put into fields, by the message they fit.
        data: What `replace`, `inject` and `corrupt` have as bytes.
        places: Where `corrupt` finds its field: offset and size, by message.
        caps: What `capabilities` does, by channel type.
        code: Of a link error.
    """

    action: Action
    until: Matcher | None = None
    targets: Mapping[int, Kind] = field(default_factory=dict)
    values: Mapping[Kind, Mapping[Keys, Any]] = field(default_factory=dict)
    data: bytes | None = None
    places: Mapping[Kind, tuple[int, int]] = field(default_factory=dict)
    caps: Mapping[int, Caps] = field(default_factory=dict)
    code: int = 0


def prepare(action: Action, matcher: Matcher) -> Prepared:
    """Look up every name in an action of a rule.

    Raises:
        RuleError: One is wrong, or the action does not go with what is matched. The path is below the action's name.
    """
    _check_place(action, matcher)
    match action:
        case actions.Hold():
            if action.until is None and action.seconds is None:
                raise RuleError("`hold` wants `until`, `seconds` or both")
            if action.until is not None and action.until.probability is not None:
                raise RuleError("what is waited for is not left to chance", ("until", "probability"))
            try:
                return Prepared(action, until=None if action.until is None else compile_match(action.until))
            except RuleError as error:
                raise error.under("until") from None
        case actions.Set():
            if not action.fields:
                raise RuleError("`set` wants at least one field")
            return Prepared(action, values=_values(_known(action, matcher), action.fields))
        case actions.Replace():
            return _replace(action, matcher)
        case actions.Inject():
            return _inject(action, matcher)
        case actions.Corrupt():
            return _corrupt(action, matcher)
        case actions.Truncate() if (action.to is None) == (action.by is None):
            raise RuleError("`truncate` wants `to` or `by`")
        case actions.Header() if action == actions.Header():
            raise RuleError("`header` wants something to change")
        case streams.Link() if action == streams.Link():
            raise RuleError("`link` wants something to change")
        case streams.Capabilities():
            return _capabilities(action, matcher.channel_types)
        case streams.LinkError() | streams.AuthFail():
            try:
                return Prepared(action, code=names.link_error(action.code))
            except RuleError as error:
                raise error.under("code") from None
    return Prepared(action)


def check_after(before: Collection[Action], action: Action) -> None:
    """See that an action finds what it is about still there.

    Raises:
        RuleError: One of those before it has dropped that.
    """
    kind = type(action)
    about_it = PLACES[kind] <= _BYTES and kind not in {actions.Drop, streams.AuthFail}
    if about_it and any(isinstance(each, actions.Drop) for each in before):
        raise RuleError(f"behind `drop` there is no message left to `{actions.NAMES[kind]}`")


def _check_place(action: Action, matcher: Matcher) -> None:
    places = PLACES[type(action)]
    at = matcher.moments or {_MESSAGE}
    for each in sorted(at):
        if each not in places:
            where = ", ".join(sorted(f"moment `{place}`" for place in places - {_MESSAGE}))
            good = " and ".join(part for part in ("messages" if _MESSAGE in places else "", where) if part)
            here = "messages" if each == _MESSAGE else f"moment `{each}`"
            raise RuleError(f"`{actions.NAMES[type(action)]}` does not go with {here}, but with {good}")


def _known(action: Action, matcher: Matcher) -> list[Kind]:
    """The messages that a rule names, if its action has to know them."""
    if not matcher.kinds:
        raise RuleError(f"`{actions.NAMES[type(action)]}` needs a rule that says which `message` it is for")
    known = [kind for kind in sorted(matcher.kinds, key=str) if kind in SPECS]
    if not known:
        raise RuleError("nobody knows the fields of this message; `corrupt` needs none")
    return known


def _schema(kind: Kind) -> Construct:
    return SPECS[kind].schema


def is_variable(value: Any) -> bool:
    """Whether a value is one that is filled in when the fault fires."""
    return isinstance(value, str) and VARIABLE.fullmatch(value) is not None


def _values(kinds: Collection[Kind], fields: Mapping[str, Any]) -> dict[Kind, dict[Keys, Any]]:
    """Fields for each message that has all of them.

    Raises:
        RuleError: None has.
    """
    found, first = {}, None
    for kind in kinds:
        try:
            found[kind] = schema.checked(
                _schema(kind), fields, message=SPECS[kind].name, is_variable=is_variable
            )
        except RuleError as error:
            first = first or error
    if not found and first is not None:
        raise first
    return found


def _body(action: actions.Replace | actions.Inject) -> bytes | None:
    if action.body is None:
        return None
    if action.fields:
        raise RuleError("`body` and `fields` exclude each other", ("body",))
    try:
        return schema.hexadecimal(action.body, "`body`")
    except RuleError as error:
        raise error.under("body") from None


def _sent(action: actions.Replace | actions.Inject, kinds: Iterable[Kind]) -> Prepared:
    targets = {kind.channel_type: kind for kind in kinds}
    body = _body(action)
    values: dict[Kind, dict[Keys, Any]] = {}
    if body is None:
        unknown = [kind for kind in targets.values() if kind not in SPECS]
        if unknown:
            raise RuleError("nobody knows the fields of this message: give its `body`", ("message",))
        try:
            values = _values(list(targets.values()), action.fields)
        except RuleError as error:
            raise error.under("fields") from None
    return Prepared(action, targets=targets, values=values, data=body)


def _replace(action: actions.Replace, matcher: Matcher) -> Prepared:
    if not matcher.kinds:
        raise RuleError("`replace` needs a rule that says which `message` it is for")
    sides = frozenset(kind.side for kind in matcher.kinds)
    if len(sides) > 1:
        raise RuleError("`replace` needs a rule for messages `from` one side")
    try:
        kinds = names.messages([action.message], matcher.channel_types, sides)
    except RuleError as error:
        raise RuleError(error.reason, ("message",)) from None
    return _sent(action, _one(kinds, "message"))


def _inject(action: actions.Inject, matcher: Matcher) -> Prepared:
    sides = frozenset(Side) if action.to is None else frozenset({action.to.other})
    if isinstance(action.message, int) and action.to is None:
        raise RuleError("a message that is a number does not say who gets it: add `to`", ("message",))
    try:
        kinds = names.messages([action.message], matcher.channel_types, sides)
    except RuleError as error:
        raise RuleError(error.reason, ("message",)) from None
    return _sent(action, _one(kinds, "message"))


def _one(kinds: frozenset[Kind], key: str) -> list[Kind]:
    """Of each channel type one message.

    Raises:
        RuleError: A name means more than one.
    """
    found: dict[int, Kind] = {}
    for kind in sorted(kinds, key=str):
        other = found.setdefault(kind.channel_type, kind)
        if other != kind:
            both = " or ".join(sorted({SPECS[other].name, SPECS[kind].name}))
            raise RuleError(f"this name means more than one message: write {both}", (key,))
    return list(found.values())


def _corrupt(action: actions.Corrupt, matcher: Matcher) -> Prepared:
    if action.at is not None and action.field is not None:
        raise RuleError("`at` and `field` exclude each other", ("field",))
    given = [name for name in ("bytes", "xor", "count") if getattr(action, name) is not None]
    if len(given) != 1:
        raise RuleError("`corrupt` wants one of `bytes`, `xor` and `count`")
    text = action.bytes if action.xor is None else action.xor
    data = None
    if text is not None:
        if action.at is None and action.field is None:
            raise RuleError(f"`{given[0]}` wants `at` or `field`", (given[0],))
        try:
            data = schema.hexadecimal(text, f"`{given[0]}`")
        except RuleError as error:
            raise error.under(given[0]) from None
    places: dict[Kind, tuple[int, int]] = {}
    if action.field is not None:
        first = None
        for kind in _known(action, matcher):
            try:
                keys = schema.keys_of(action.field)
                places[kind] = schema.place(_schema(kind), keys, where=SPECS[kind].name)
            except RuleError as error:
                first = first or error
        if not places and first is not None:
            raise RuleError(first.reason, ("field",))
    return Prepared(action, data=data, places=places)


def _capabilities(action: streams.Capabilities, channels: frozenset[int]) -> Prepared:
    if action == streams.Capabilities():
        raise RuleError("`capabilities` wants `add`, `clear` or `set`")
    found = {
        key: _bits(getattr(action, key), key, channels)
        for key in ("add", "clear", "set")
        if getattr(action, key) is not None
    }
    return Prepared(
        action,
        caps={
            each: Caps(
                tuple(found["add"].get(each, ())),
                tuple(found["clear"].get(each, ())),
                tuple(found["set"].get(each, ())) if "set" in found else None,
            )
            for each in channels
        },
    )


def _bits(value: Any, key: str, channels: frozenset[int]) -> dict[int, list[Capability]]:
    bits: dict[int, list[Capability]] = {}
    for position, name in enumerate(many(value)):
        try:
            for channel, bit in names.capability(name, channels).items():
                bits.setdefault(channel, []).append(bit)
        except RuleError as error:
            raise RuleError(error.reason, (key, position) if isinstance(value, list) else (key,)) from None
    return bits
