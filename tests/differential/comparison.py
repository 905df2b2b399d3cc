"""Holds what tshark says of a unit against what we say of it, by two tables.

`fields.toml` says which of our fields is meant by one of tshark's. `known_differences.toml` says where tshark is wrong.
"""

import functools
import re
import tomllib
import uuid
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from tests.differential.repacked import Sent
from tests.differential.tshark import NO_BYTES, Row, spice_fields

_FOLDER: Final = Path(__file__).parent
_PATH: Final = re.compile(
    r"(?P<path>[\w.@]+)(\[(?P<start>\d+):\]| (?P<operator>&|>>|%|has) (?P<operand>\w+))?"
)
HEADER: Final = frozenset(
    f"spice.{name}"
    for name in ("message_header", "message_type", "message_size", "serial", "message_sublist")
)


@dataclass(frozen=True, slots=True)
class _Path:
    keys: tuple[str, ...]
    start: int
    operator: str | None
    operand: str

    def values(self, fields: Any) -> list[Any]:
        found: list[Any] = []
        _walk(fields, self.keys, found)
        if self.operator is None:
            return [value[self.start :] for value in found] if self.start else found
        if self.operator == "has":
            return [int(self.operand in found)] if found else []
        operand = int(self.operand)
        if self.operator == "&":
            return [int(bool(value & operand)) for value in found]
        return [value >> operand if self.operator == ">>" else value % operand for value in found]


def _walk(value: Any, keys: tuple[str, ...], found: list[Any]) -> None:
    for at, key in enumerate(keys):
        if isinstance(value, list):
            for item in value:
                _walk(item, keys[at:], found)
            return
        if not isinstance(value, dict) or key not in value:
            return
        value = value[key]
    if isinstance(value, list):
        found += value
    elif value is not None:
        found.append(value)


def _path(text: str) -> _Path:
    match = _PATH.fullmatch(text)
    assert match, f"fields.toml: {text!r} is no path"
    return _Path(
        tuple(match["path"].split(".")), int(match["start"] or 0), match["operator"], match["operand"] or ""
    )


class Fields:
    """The table `fields.toml`."""

    def __init__(self) -> None:
        table = tomllib.loads((_FOLDER / "fields.toml").read_text())
        images = table.pop("images")
        self.complaints: frozenset[str] = frozenset(table.pop("complaints")["fields"])
        self.not_compared: dict[str, str] = table.pop("not_compared")
        self.paths: dict[str, list[_Path]] = {}
        for section in table.values():
            for name, texts in section.items():
                assert name not in self.paths, f"{name} stands twice in fields.toml"
                self.paths[name] = [
                    _path(text.replace("{image}", image))
                    for text in texts
                    for image in (images if "{image}" in text else [""])
                ]

    @property
    def names(self) -> set[str]:
        """All fields that the table knows."""
        return {*self.paths, *self.complaints, *self.not_compared}

    def ours(self, name: str, fields: dict[str, Any]) -> list[Any]:
        """Our values for one of tshark's fields."""
        return [value for path in self.paths[name] for value in path.values(fields)]


@dataclass(eq=False)
class Difference:
    """A row of `known_differences.toml`."""

    where: list[str]  # patterns of "channel/message"
    fields: list[str]  # patterns of tshark's fields
    tshark: str
    reason: str
    images: list[str] = field(default_factory=list)  # only in messages with an image of one of these types
    used: Counter[str] = field(default_factory=Counter)

    def excuses(self, sent: Sent, name: str) -> bool:
        """Whether this is why tshark differs, and remember that it was needed."""
        if self.images and not _image_types(sent.fields).intersection(self.images):
            return False
        where = [pattern for pattern in self.where if fnmatchcase(sent.place, pattern)]
        fields = [pattern for pattern in self.fields if fnmatchcase(name, pattern)]
        if where and fields:
            self.used.update([*where, *fields])
        return bool(where and fields)

    @property
    def stale(self) -> list[str]:
        """Patterns that were of no use."""
        return [pattern for pattern in [*self.where, *self.fields] if not self.used[pattern]]


@dataclass
class Misnamed:
    """A field that tshark shows under the name of another."""

    field: str
    shows: str
    reason: str
    differed: int = 0  # how often the two values were not the same


def _image_types(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_image_types, value))
    if not isinstance(value, dict):
        return set()
    found = set(value["as"]) if "as" in value else set()
    return found.union(*(_image_types(item) for key, item in value.items() if key != "as"))


@dataclass
class Lost:
    """Where tshark loses its way in a stream as it is."""

    reason: str
    after: list[str] = field(
        default_factory=list
    )  # patterns: "channel/message" that it reads, and then no more
    at: list[str] = field(default_factory=list)  # patterns: "channel/message" that it does not find
    used: set[str] = field(default_factory=set)

    def explains(self, after: str, at: str) -> bool:
        """Whether this is where it happened, and remember that it was needed."""
        found = {f"after {pattern}" for pattern in self.after if fnmatchcase(after, pattern)}
        found |= {f"at {pattern}" for pattern in self.at if fnmatchcase(at, pattern)}
        self.used |= found
        return bool(found)

    @property
    def stale(self) -> list[str]:
        """Patterns that were of no use."""
        patterns = [f"after {pattern}" for pattern in self.after] + [f"at {pattern}" for pattern in self.at]
        return [pattern for pattern in patterns if pattern not in self.used]


class KnownDifferences:
    """The table `known_differences.toml`."""

    def __init__(self) -> None:
        table = tomllib.loads((_FOLDER / "known_differences.toml").read_text())
        self.differences = [Difference(**row) for row in table["difference"]]
        self.lost = [Lost(**row) for row in table["lost"]]
        self.misnamed = {row["field"]: Misnamed(**row) for row in table["misnamed"]}

    def excuse(self, sent: Sent, name: str) -> bool:
        """Whether tshark is known to be wrong there."""
        return sum(row.excuses(sent, name) for row in self.differences) > 0  # each of them

    def explain(self, after: str, at: str) -> bool:
        """Whether tshark is known to lose its way between these two."""
        return sum(row.explains(after, at) for row in self.lost) > 0


@dataclass(slots=True)
class Verdict:
    """What came out for one capture."""

    messages: int = 0
    agreed: int = 0  # messages with type, size and whatever else tshark shows as we have it
    excused: int = 0  # messages in which a difference is known
    bare: int = 0  # messages of whose body tshark shows nothing in fields
    values: int = 0  # fields that are the same
    differences: int = 0  # known ones
    unexplained: list[str] = field(default_factory=list)

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    def __str__(self) -> str:
        return f"{self.messages:6} {self.agreed:6} {self.excused:5} {self.bare:4} {self.values:7}"


class Comparison:
    """Goes through units one by one."""

    def __init__(self) -> None:
        self.fields, self.known = Fields(), KnownDifferences()
        self.verdicts: dict[str, Verdict] = {}
        self.unmapped: set[str] = set()
        self.seen: set[str] = set()

    def compare(self, sent: Sent, row: Row) -> None:
        """One unit of ours and the packet that tshark read."""
        verdict = self.verdicts.setdefault(sent.capture, Verdict())
        verdict.messages += 1
        verdict.bare += sent.has_body and HEADER.issuperset(row)
        wrong = known = 0
        for name, texts in row.items():
            self.seen.add(name)
            if name in self.fields.not_compared:
                continue
            ours = self.ours(name, sent)
            if ours is not None and same(name, texts, ours):
                verdict.values += 1
                continue
            if ours is None and name not in self.fields.complaints:
                self.unmapped.add(name)
                continue
            if self.known.excuse(sent, name):
                known += 1
                continue
            wrong += 1
            shown = [text[:60] for text in texts]
            verdict.unexplained.append(f"{sent.place}: {name} is {shown}, ours {str(ours)[:200]}")
        verdict.differences += known
        if not wrong:
            verdict.excused += bool(known)
            verdict.agreed += not known

    def ours(self, name: str, sent: Sent) -> list[Any] | None:
        """Our values for one of tshark's fields, right or wrong its name; None if it is not compared."""
        if name not in self.fields.paths:
            return None
        misnamed = self.known.misnamed.get(name)
        if misnamed is None:
            return self.fields.ours(name, sent.fields)
        values = self.fields.ours(misnamed.shows, sent.fields)
        misnamed.differed += values != self.fields.ours(name, sent.fields)
        return values


@functools.cache
def _kind(name: str) -> str:
    return spice_fields()[name]


def same(name: str, texts: list[str], ours: list[Any]) -> bool:
    """Whether tshark's values are ours, in order."""
    if len(texts) != len(ours):
        return False
    kind = _kind(name)
    return all(_same(kind, text, value) for text, value in zip(texts, ours, strict=True))


def _same(kind: str, text: str, value: Any) -> bool:
    if kind == "FT_BYTES":
        return isinstance(value, bytes) and ("" if text == NO_BYTES else text) == value.hex()
    if kind == "FT_GUID":
        return isinstance(value, bytes) and text == str(uuid.UUID(bytes=value))
    if kind.startswith("FT_STRING"):
        return text == (value.decode("latin1") if isinstance(value, bytes) else value)
    # Signed or not is a matter of taste for coordinates; the bits are what stands on the wire.
    bits = int(kind.removeprefix("FT_").removeprefix("U").removeprefix("INT")) if "INT" in kind else 64
    return isinstance(value, int) and (int(text, 0) - value) % 2**bits == 0
