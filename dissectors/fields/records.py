"""Named fields, one after another."""

from collections.abc import Mapping
from typing import Any

from construct import Construct, Struct, ValidationError

from dissectors.fields.arrays import Count, CountedText
from dissectors.fields.boundary import Body, Target, unwrapped
from dissectors.fields.references import Pointer

# ruff: noqa: ARG002, SLF001 - construct is extended by overriding _parse and _build and calling those of others


class Record(Struct):
    """A struct that parses to a plain dict and, when built, takes exactly its own fields."""

    def __init__(self, *subcons: Any) -> None:
        super().__init__(*subcons)
        self.members: list[tuple[str, Construct]] = [(s.name, unwrapped(s)) for s in self.subcons]
        self._offsets = {f"{name}_offset" for name, schema in self.members if isinstance(schema, Pointer)}
        self._names = {name for name, _ in self.members} | self._offsets
        self._tell_counts_of_text()

    def _tell_counts_of_text(self) -> None:
        """A count of text has to know whether there is a NUL at its end."""
        by_name = dict(self.members)
        for _, count in self.members:
            if isinstance(count, Count):
                counted = by_name.get(count.of)
                text = counted.schema if isinstance(counted, Pointer) else counted
                count.nul = isinstance(text, CountedText) and text.nul

    def _parse(self, stream: Body, context: Any, path: str) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, schema in self.members:
            value = schema._parsereport(stream, fields, f"{path} -> {name}")
            if isinstance(value, Target):
                value.settle(fields, name)
            else:
                fields[name] = value
        return fields

    def _build(self, obj: Any, stream: Body, context: Any, path: str) -> Any:
        if not isinstance(obj, Mapping):
            raise ValidationError(f"wants a mapping of its fields, not {type(obj).__name__}", path=path)
        if unknown := obj.keys() - self._names:
            raise ValidationError(f"has no field {', '.join(sorted(map(repr, unknown)))}", path=path)
        missing = [name for name, s in self.members if not s.flagbuildnone and obj.get(name) is None]
        if missing:
            raise ValidationError(f"wants a value for {', '.join(missing)}", path=path)
        for name, schema in self.members:
            targets = len(stream.targets)
            schema._build(obj.get(name), stream, obj, f"{path} -> {name}")
            if isinstance(schema, Pointer) and len(stream.targets) > targets:
                stream.targets[-1].offset = obj.get(f"{name}_offset")
        return obj
