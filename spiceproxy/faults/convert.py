"""Tables of a file to typed rules, with errors that say what would have been right."""

import re
from enum import Enum
from typing import Any, Final, TypeVar, get_args

import msgspec

from spiceproxy.faults import actions
from spiceproxy.faults.errors import Path, RuleError, unknown
from spiceproxy.faults.tables import Action

T = TypeVar("T", bound=msgspec.Struct)

_AT: Final = re.compile(r"^(.*?)(?: - at `\$(.*)`)?$", re.DOTALL)
_PART: Final = re.compile(r"\.([A-Za-z_]+)|\[(\d+)\]")
_KINDS: Final = {
    "float": "a number", "int": "a whole number", "str": "text", "bool": "true or false", "array": "a list",
    "object": "a table", "null": "nothing", "date": "a date", "time": "a time", "datetime": "a date",
}  # fmt: skip


def convert(value: Any, kind: type[T]) -> T:
    """Make a typed table of a plain one.

    Raises:
        RuleError: A key or a value is wrong; the path leads to it.
    """
    _check_keys(value, kind)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        found = _AT.match(str(error))
        assert found is not None  # noqa: S101  it fits any text
        path: Path = tuple(name or int(number) for name, number in _PART.findall(found.group(2) or ""))
        raise RuleError(_in_words(found.group(1), value, path, kind), path) from None


def _check_keys(value: Any, kind: type[msgspec.Struct]) -> None:
    if not isinstance(value, dict):
        return  # msgspec says so
    fields = {each.encode_name: each.type for each in msgspec.structs.fields(kind)}
    for key, each in value.items():
        if key not in fields:
            raise RuleError(unknown("key", key, fields), (key,))
        inner = _struct_in(fields[key])
        if inner is None:
            continue
        items = each if isinstance(each, list) else [each]
        for position, item in enumerate(items):
            try:
                _check_keys(item, inner)
            except RuleError as error:
                raise error.under(key, *((position,) if isinstance(each, list) else ())) from None


def _struct_in(annotation: Any) -> type[msgspec.Struct] | None:
    """The table that a key may hold, if it may hold one."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    return next((found for each in get_args(annotation) if (found := _struct_in(each))), None)


def _in_words(text: str, value: Any, path: Path, kind: type[msgspec.Struct]) -> str:
    name = next((str(each) for each in reversed(path) if isinstance(each, str)), "")
    if text.startswith("Invalid enum value"):
        wrong = value
        for each in path:
            wrong = wrong[each]
        return unknown(f"{name} called", str(wrong), _choices(kind, name))
    if missing := re.fullmatch("Object missing required field `(.*)`", text):
        return f"`{missing.group(1)}` is missing"
    subject = f"`{name}`" if name else "this"
    if found := re.fullmatch("Expected `(.*)`, got `(.*)`", text):
        wanted = [
            _KINDS.get(each.strip(), each) for each in found.group(1).split("|") if each.strip() != "null"
        ]
        got = _KINDS.get(found.group(2), found.group(2))
        return f"{subject} wants {' or '.join(wanted)}, not {got}"
    limit = re.fullmatch(r"Expected `\w+` (.*)", text)
    return f"{subject} has to be {limit.group(1)}" if limit else f"{subject}: {text}"


def _choices(kind: type[msgspec.Struct], name: str) -> list[str]:
    """The texts that a key may have, wherever in the table or in one inside of it the key stands."""
    for each in msgspec.structs.fields(kind):
        if each.encode_name == name:
            return _texts(each.type)
        inner = _struct_in(each.type)
        if inner is not None and (found := _choices(inner, name)):
            return found
    return []


def _texts(annotation: Any) -> list[str]:
    if isinstance(annotation, str):
        return [annotation]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return [str(member.value) for member in annotation]
    return list(dict.fromkeys(text for each in get_args(annotation) for text in _texts(each)))


def actions_of(do: Any) -> list[Action]:
    """The actions that `do` says.

    Raises:
        RuleError: One is no action; the path leads to it.
    """
    if not isinstance(do, list):
        return [_action(do)]
    if not do:
        raise RuleError("there is nothing to do")
    found = []
    for position, each in enumerate(do):
        try:
            found.append(_action(each))
        except RuleError as error:
            raise error.under(position) from None
    return found


def _action(do: Any) -> Action:
    value: Any
    if isinstance(do, str):
        name, value, word = do, {}, True
    elif isinstance(do, dict) and len(do) == 1:
        name, value, word = next(iter(do)), do[next(iter(do))], False
    else:
        raise RuleError('an action is a word, as "drop", or a table with one key, as { delay = 2 }')
    kind = actions.ACTIONS.get(name)
    if kind is None:
        raise RuleError(unknown("action", name, actions.ACTIONS), () if word else (name,))
    if kind.short == "*":
        value = {"fields": value} if not word else {}
    elif not isinstance(value, dict):
        if kind.short is None:
            raise RuleError(f"`{name}` takes no value", (name,))
        value = {kind.short: value}
    try:
        return convert(value, kind)
    except RuleError as error:
        if word:
            raise RuleError(f"`{name}` needs more: {error.reason}") from None
        # A short form has no key of its own in the file.
        inside = isinstance(do[name], dict) and kind.short != "*"
        raise RuleError(error.reason, (name, *error.path) if inside else (name,)) from None
