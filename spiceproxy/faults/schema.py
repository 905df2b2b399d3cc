"""A message's fields by name: whether there are such fields, what they may be set to, and where they stand."""

import re
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Any, Final

from construct import Construct, FormatField, SizeofError, ValidationError

from dissectors.fields import (
    Choice,
    Count,
    CountedBytes,
    CountedText,
    FixedBytes,
    FixedItems,
    Flags,
    ImageBytes,
    Pointer,
    Record,
    RestBytes,
    Switch,
)
from dissectors.fields.arrays import ListOf
from dissectors.migrate_data import EitherItems
from spiceproxy.faults.errors import RuleError, unknown

Keys = tuple[str | int, ...]
"""A field by its names and places in lists: ("surfaces", 0, "id")."""

_PART: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)((?:\[[0-9]{1,5}\])*)")
_OFFSET: Final = "_offset"


def keys_of(text: str) -> Keys:
    """Names and places of "dst_info.port" or "surfaces[0].id".

    Raises:
        RuleError: The text is no such thing.
    """
    keys: list[str | int] = []
    for part in text.split("."):
        found = _PART.fullmatch(part)
        if found is None:
            raise RuleError(f"`{text}` is no name of a field")
        keys.append(found.group(1))
        keys += (int(each) for each in re.findall(r"\d+", found.group(2)))
    return tuple(keys)


def flat(fields: Mapping[str, Any]) -> dict[Keys, Any]:
    """Values by the keys of their fields: tables of a file are fields inside of fields, and so are dotted names.

    Raises:
        RuleError: A name is no name.
    """
    found: dict[Keys, Any] = {}
    for name, value in fields.items():
        keys = keys_of(name)
        if isinstance(value, Mapping):
            found |= {(*keys, *inner): each for inner, each in flat(value).items()}
        else:
            found[keys] = value
    return found


def target(schema: Construct) -> Construct:
    """What a pointer names; anything else as it is."""
    return schema.schema if isinstance(schema, Pointer) else schema


def step(schema: Construct, key: str | int, *, where: str) -> Construct | None:
    """The schema of one thing inside of another; None if only a message can tell.

    Raises:
        RuleError: There is no such thing.
    """
    schema = target(schema)
    if isinstance(key, int):
        if isinstance(schema, EitherItems):
            return None
        if not isinstance(schema, ListOf):
            raise RuleError(f"{where} is no list")
        item: Construct = schema.subcon
        return item
    if isinstance(schema, EitherItems):
        raise RuleError(f"{where} is a list: name one of its items as [0]")
    members: dict[str, Construct] = {}
    if isinstance(schema, Record):
        members = dict(schema.members)
    elif isinstance(schema, Switch):
        members = {case.name: case.schema for case in schema.cases}
    if not members:
        raise RuleError(f"{where} has no fields inside")
    if key.endswith(_OFFSET) and isinstance(members.get(key.removesuffix(_OFFSET)), Pointer):
        return None
    if key not in members:
        raise RuleError(unknown("field", key, members, where=f" in {where}"))
    return members[key]


def find(schema: Construct, keys: Keys, *, where: str) -> Construct | None:
    """The schema of a field; None if only a message can tell.

    Raises:
        RuleError: There is no such field.
    """
    for position, key in enumerate(keys):
        found = step(schema, key, where=where)
        if found is None:
            if len(keys) > position + 1 and isinstance(key, str):
                raise RuleError(f"{key} has no fields inside")
            return None
        schema = found
        where = f"{where}[{key}]" if isinstance(key, int) else f"{where}.{key}"
    return schema


def value_for(schema: Construct | None, value: Any, *, name: str) -> Any:
    """What a value of a file is on the wire's side: names become numbers, hexadecimal becomes bytes.

    Args:
        schema: Of the field; None if it is not known.
        value: As it stands in the file.
        name: Of the field, for errors.

    Raises:
        RuleError: The field cannot have this value.
    """
    if schema is None:
        return value
    schema = target(schema)
    if isinstance(schema, Choice | Flags):
        return _named(schema, value, name)
    if isinstance(schema, Count):
        raise RuleError(f"{name} is counted, from {schema.of}; `corrupt` can make it wrong")
    if isinstance(schema, FormatField):
        return _integer(schema, value, name)
    if isinstance(schema, CountedText):
        if not isinstance(value, str):
            raise RuleError(f"{name} is text, not {_shown(value)}")
        return value
    if isinstance(schema, FixedBytes | CountedBytes | RestBytes | ImageBytes):
        data = hexadecimal(value, name)
        if isinstance(schema, FixedBytes) and len(data) != schema.size:
            raise RuleError(f"{name} has {schema.size} bytes, not {len(data)}")
        return data
    if isinstance(schema, ListOf | EitherItems):
        return _list(schema, value, name)
    if isinstance(schema, Record):
        if not isinstance(value, Mapping):
            raise RuleError(f"{name} wants a table of its fields, not {_shown(value)}")
        return {key: value_for(step(schema, key, where=name), each, name=key) for key, each in value.items()}
    return value  # a switch: only a message can tell


def _list(schema: Construct, value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise RuleError(f"{name} is a list, not {_shown(value)}")
    if isinstance(schema, FixedItems) and len(value) != schema.count:
        raise RuleError(f"{name} has {schema.count} items, not {len(value)}")
    item = schema.subcon if isinstance(schema, ListOf) else None
    return [value_for(item, each, name=f"{name}[{number}]") for number, each in enumerate(value)]


def hexadecimal(value: Any, name: str) -> bytes:
    """Bytes that are written in hexadecimal.

    Raises:
        RuleError: They are not.
    """
    if isinstance(value, str):
        try:
            return bytes.fromhex(value)
        except ValueError:
            pass
    raise RuleError(f'{name} is bytes, written in hexadecimal as "00ff", not {_shown(value)}')


def _named(schema: Choice | Flags, value: Any, name: str) -> int:
    names: type[IntEnum | IntFlag] = schema.names
    if isinstance(value, str):
        parts = value.split("|") if isinstance(schema, Flags) else [value]
        number = 0
        for part in parts:
            member = names.__members__.get(part.strip())
            if member is None:
                raise RuleError(unknown("value", part.strip(), names.__members__, where=f" of {name}"))
            number |= int(member)
        return number
    return _integer(schema.subcon, value, name)


_RANGES: Final = {"B": 8, "H": 16, "I": 32, "L": 32, "Q": 64}


def _integer(schema: Any, value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise RuleError(f"{name} is a number, not {_shown(value)}")
    letter = schema.fmtstr[-1]
    bits = _RANGES[letter.upper()]
    least, most = (0, 2**bits - 1) if letter.isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if not least <= value <= most:
        raise RuleError(f"{name} is {least} to {most}, not {value}")
    return int(value)


def _shown(value: Any) -> str:
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a fraction",
        str: "text",
        list: "a list",
        dict: "a table",
    }
    return kinds.get(type(value), type(value).__name__)


def checked(
    schema: Construct, fields: Mapping[str, Any], *, message: str, is_variable: Any
) -> dict[Keys, Any]:
    """Values for fields of a message, ready to be set; what `is_variable` says yes to is left for later.

    Raises:
        RuleError: A field is not there or cannot have its value; the path leads to it.
    """
    ready: dict[Keys, Any] = {}
    for name, value in fields.items():
        try:
            for keys, each in flat({name: value}).items():
                found = find(schema, keys, where=message)
                ready[keys] = each if is_variable(each) else value_for(found, each, name=dotted(keys))
        except RuleError as error:
            raise RuleError(error.reason, (name, *error.path)) from None
    return ready


def dotted(keys: Keys) -> str:
    """As a name is written: "surfaces[0].id"."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def put(schema: Construct, fields: dict[str, Any], keys: Keys, value: Any) -> None:
    """Set a field of a dissected message; what counts it is left to be counted anew.

    Raises:
        RuleError: The message has no such field, or not so many items.
    """
    holder: Any = fields
    inner: Construct | None = schema
    for position, key in enumerate(keys[:-1]):
        holder = _within(holder, key, dotted(keys[: position + 1]))
        inner = None if inner is None else step(inner, key, where=dotted(keys[: position + 1]))
    last = keys[-1]
    if isinstance(last, int):
        _within(holder, last, dotted(keys))
    elif not isinstance(holder, dict):
        raise RuleError(f"{dotted(keys[:-1])} has no fields inside")
    holder[last] = value
    record = None if inner is None else target(inner)
    if isinstance(record, Record):
        for name, member in record.members:
            if isinstance(member, Count) and member.of == last:
                holder.pop(name, None)


def _within(holder: Any, key: str | int, name: str) -> Any:
    try:
        found = holder[key]
    except (KeyError, IndexError, TypeError):
        raise RuleError(f"this message has no {name}") from None
    if found is None:
        raise RuleError(f"{name} of this message is empty")
    return found


def place(schema: Construct, keys: Keys, *, where: str) -> tuple[int, int]:
    """Offset and size in bytes of a field that always stands at the same place; of a pointer, of the offset itself.

    Raises:
        RuleError: There is no such field, or what stands before it has no fixed size.
    """
    offset, current = 0, schema
    for key in keys:
        if isinstance(key, int):
            item = step(current, key, where=where)
            if not isinstance(current, FixedItems) or item is None or key >= current.count:
                raise RuleError(f"{dotted(keys)} does not always stand at the same place")
            offset, current = offset + key * item.sizeof(), item
            continue
        found = step(current, key, where=where)
        if not isinstance(current, Record) or found is None:
            raise RuleError(f"{dotted(keys)} does not always stand at the same place")
        names = [name for name, _ in current.members]
        offset += sum(_fixed(member, dotted(keys)) for _, member in current.members[: names.index(key)])
        where, current = f"{where}.{key}", found
    return offset, _fixed(current, dotted(keys))


def _fixed(schema: Construct, name: str) -> int:
    try:
        size: int = schema.sizeof()
    except (SizeofError, ValidationError):
        raise RuleError(f"{name} does not always stand at the same place, or is not always as long") from None
    return size


def leaves(schema: Construct, keys: Keys = ()) -> list[Keys]:
    """Every field of a record that is no record itself and stands at a fixed place, in order."""
    if isinstance(schema, Record):
        found: list[Keys] = []
        for name, member in schema.members:
            found += leaves(member, (*keys, name))
        return found
    if isinstance(schema, FixedItems):
        return [each for number in range(schema.count) for each in leaves(schema.subcon, (*keys, number))]
    return [keys]


def blank(schema: Construct) -> Any:
    """The least that builds: zeros, nothing in lists, no text. None where nothing may be left out entirely."""
    if isinstance(schema, Record):
        values = {name: blank(member) for name, member in schema.members}
        return {name: value for name, value in values.items() if value is not None}
    if isinstance(schema, Pointer):
        return None if schema.null else blank(schema.schema)
    if isinstance(schema, Count | Switch):
        return None
    if isinstance(schema, CountedText):
        return ""
    if isinstance(schema, FixedBytes):
        return bytes(schema.size)
    if isinstance(schema, CountedBytes | RestBytes | ImageBytes):
        return b""
    if isinstance(schema, FixedItems):
        return [blank(schema.subcon) for _ in range(schema.count)]
    if isinstance(schema, ListOf | EitherItems):
        return []
    return 0


def common_fields(schema: Construct, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Of the fields of one message, those that another one with this schema has as well.

    DstInfo is a field of MIGRATE_BEGIN and all of SWITCH_HOST, so records are looked into, and looked for.
    """
    if not isinstance(schema, Record):
        return {}
    inner = {
        name: each for value in fields.values() if isinstance(value, Mapping) for name, each in value.items()
    }
    found: dict[str, Any] = {}
    for name, member in schema.members:
        if isinstance(member, Count):
            continue
        if name in fields or name in inner:
            found[name] = fields.get(name, inner.get(name))
        elif kept := common_fields(member, fields):
            found[name] = {**blank(member), **kept}
    return found
