"""Where the fields of a message lie in its body, and which of them are secret.

The decoder says what the values are; this module walks the same schema along them and needs to read nothing but
offsets. What it has not seen stays out: bytes that belong to no field are neither kept nor secret, and so are lost.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

from construct import Construct, SizeofError

from dissectors.fields import (
    CountedBytes,
    FixedBytes,
    ImageBytes,
    Items,
    ItemsToEnd,
    Pointer,
    Record,
    RestBytes,
    Switch,
)
from dissectors.fields.arrays import CountedText, ListOf, as_bytes
from dissectors.fields.boundary import found
from dissectors.image import Image
from dissectors.migrate_data import EitherItems
from spiceproxy.redaction.kinds import Kind
from spiceproxy.redaction.table import KEPT, RULES, How, Rule

_UNLISTED: Final = Rule(Kind.UNREAD)
_BYTES: Final = (CountedBytes, FixedBytes, RestBytes, ImageBytes)

Rules = Mapping[Record, Mapping[str, Rule]]


class Secret(NamedTuple):
    """A secret field."""

    start: int
    end: int
    rule: Rule
    image: Mapping[str, Any] | None  # descriptor of the image that it is the data of
    jpeg_size: int | None


class Places(NamedTuple):
    """What was found in a body: half-open ranges."""

    kept: list[tuple[int, int]]
    secret: list[Secret]


class _Step(NamedTuple):
    """A field, or a run of neighbouring fields that stay."""

    name: str  # empty for a run
    schema: Construct
    rule: Rule | None
    cases: Mapping[str, Rule]
    size: int  # of a run


class Plan:
    """How to walk every schema, with one choice of kinds that stay.

    Args:
        keep: Kinds that are not secret this time.
        rules: The table.
    """

    def __init__(self, keep: Collection[Kind] = frozenset(), rules: Rules = RULES) -> None:
        self._keep, self._rules = frozenset(keep), rules
        self._steps: dict[Record, list[_Step]] = {}

    def places(self, schema: Construct, fields: Any, body: bytes) -> Places:
        """Find the fields of a body.

        Args:
            schema: Of the message.
            fields: As the decoder read them.
            body: The bytes that they were read from.
        """
        walk = _Walk(self, body)
        walk.value(schema, fields, {}, 0)
        for target, value, context, at, rule in walk.targets:  # which grows meanwhile
            walk.image = context.get("descriptor") if isinstance(context, Mapping) else None
            if rule is not None:
                walk.secret(at, at + extent(target, value, context), rule, context)
            else:
                walk.value(target, value, context, at)
        return Places(walk.kept, walk.secrets)

    def size_if_public(self, schema: Construct) -> int:
        """How many bytes every body has whose fields all stay; -1 if some do not, or if bodies differ in size."""
        return self._size_if_plain(schema)

    def keeps(self, kind: Kind) -> bool:
        """Whether this kind is no secret this time."""
        return kind in self._keep

    def stays(self, rule: Rule | None) -> bool:
        """Whether a field with this rule is kept. Of a stream only what is inside can say what it is."""
        return rule is None or (rule.kind in self._keep and rule.how not in {How.STREAM, How.BLOCK})

    def steps(self, record: Record) -> list[_Step]:
        """The steps through a record, made when it is met first."""
        steps = self._steps.get(record)
        if steps is None:
            steps = self._steps[record] = list(_joined(self._fields(record)))
        return steps

    def _fields(self, record: Record) -> Iterator[_Step]:
        rules, kept = self._rules.get(record, {}), KEPT.get(record, ())
        for name, schema in record.members:
            rule = rules.get(name)
            named = schema.schema if isinstance(schema, Pointer) else schema
            if rule is None and isinstance(named, _BYTES) and name not in kept:
                rule = _UNLISTED
            if self.stays(rule):
                rule = None
            cases = {
                case.name: rules.get(f"{name}.{case.name}", _UNLISTED)
                for case in (schema.cases if isinstance(schema, Switch) else ())
                if f"{name}.{case.name}" in rules or isinstance(case.schema, _BYTES)
            }
            cases = {case: each for case, each in cases.items() if not self.stays(each)}
            size = -1 if rule is not None else self._size_if_plain(schema)
            yield _Step(name if size < 0 else "", schema, rule, cases, size)

    def _size_if_plain(self, schema: Construct) -> int:
        """Bytes of a schema that has one size and no secret; -1 for any other."""
        if isinstance(schema, Record):
            sizes = [step.size if not step.name else -1 for step in self.steps(schema)]
            return -1 if -1 in sizes else sum(sizes)
        if isinstance(
            schema, ListOf | Switch | Pointer | EitherItems | CountedBytes | RestBytes | ImageBytes
        ):
            return -1
        size: int = schema.sizeof()
        return size


def _joined(steps: Iterator[_Step]) -> Iterator[_Step]:
    """Neighbouring runs made one."""
    run = 0
    last: Construct | None = None
    for step in steps:
        if not step.name:
            run, last = run + step.size, step.schema
            continue
        if run:
            yield _Step("", last, None, {}, run)
            run = 0
        yield step
    if run:
        yield _Step("", last, None, {}, run)


class _Walk:
    """One way through one body."""

    def __init__(self, plan: Plan, body: bytes) -> None:
        self._plan, self._body = plan, body
        self.kept: list[tuple[int, int]] = []
        self.secrets: list[Secret] = []
        self.targets: list[tuple[Construct, Any, Any, int, Rule | None]] = []
        self.image: Mapping[str, Any] | None = None

    def secret(self, start: int, end: int, rule: Rule, context: Any) -> None:
        """Note a secret field."""
        jpeg_size = context.get("jpeg_size") if isinstance(context, Mapping) else None
        self.secrets.append(Secret(start, end, rule, self.image, jpeg_size))

    def value(self, schema: Construct, value: Any, context: Any, at: int) -> int:
        """Walk along a value that begins at `at`; return where it ends."""
        if isinstance(schema, Record):
            return self._record(schema, value, at)
        if isinstance(schema, Switch):
            return self._switch(schema, value, context, at, {})
        if isinstance(schema, Pointer):
            return self._pointer(schema, value, context, at, None)
        if isinstance(schema, ListOf):
            return self._list(schema, value, at)
        end = at + extent(schema, value, context)
        self.kept.append((at, end))
        return end

    def _record(self, record: Record, fields: Mapping[str, Any], at: int) -> int:
        if record is Image:
            self.image = fields["descriptor"]
        for name, schema, rule, cases, size in self._plan.steps(record):
            if not name:
                self.kept.append((at, at + size))
                at += size
            elif isinstance(schema, Pointer):
                at = self._pointer(schema, fields[name], fields, at, rule)
            elif rule is not None:
                end = at + extent(schema, fields[name], fields)
                self.secret(at, end, rule, fields)
                at = end
            elif isinstance(schema, Switch):
                at = self._switch(schema, fields[name], fields, at, cases)
            else:
                at = self.value(schema, fields[name], fields, at)
        return at

    def _switch(
        self,
        switch: Switch,
        value: Mapping[str, Any] | None,
        context: Any,
        at: int,
        rules: Mapping[str, Rule],
    ) -> int:
        if value is None:
            return at
        case = _case(switch, context)
        inside, rule = value[case.name], rules.get(case.name)
        if isinstance(case.schema, Pointer):
            return self._pointer(case.schema, inside, context, at, rule)
        if rule is not None:
            end = at + extent(case.schema, inside, context)
            self.secret(at, end, rule, context)
            return end
        return self.value(case.schema, inside, context, at)

    def _pointer(self, pointer: Pointer, value: Any, context: Any, at: int, rule: Rule | None) -> int:
        self.kept.append((at, at + 4))
        if value is not None:
            offset = int.from_bytes(self._body[at : at + 4], "little")
            self.targets.append((pointer.schema, value, context, offset, rule))
        return at + 4

    def _list(self, schema: ListOf, items: list[Any], at: int) -> int:
        size = self._plan.size_if_public(schema.subcon)
        if size >= 0:
            self.kept.append((at, at + size * len(items)))
            return at + size * len(items)
        for item in items:
            at = self.value(schema.subcon, item, {}, at)
        return at


def _case(switch: Switch, context: Any) -> Any:
    value = found(context, switch.on)
    return next(case for case in switch.cases if case.fits(value))


def extent(schema: Construct, value: Any, context: Any) -> int:
    """How many bytes a value takes where it stands, without what its pointers name."""
    if isinstance(schema, CountedText) and isinstance(value, str):
        return len(value.encode()) + schema.nul
    if isinstance(schema, _BYTES):
        return len(as_bytes(value))
    if isinstance(schema, Items | ItemsToEnd):
        return sum(extent(schema.subcon, item, {}) for item in value) if value else 0
    if isinstance(schema, EitherItems):
        return _either(schema, value)
    if isinstance(schema, Switch):
        if value is None:
            return 0
        case = _case(schema, context)
        return extent(case.schema, value[case.name], context)
    try:
        size: int = schema.sizeof()
    except SizeofError:
        return sum(extent(member, value[name], value) for name, member in schema.members)
    return size


def _either(schema: EitherItems, items: list[Mapping[str, Any]]) -> int:
    for kind in schema.kinds:
        if items and set(items[0]) == {name for name, _ in kind.subcon.members}:
            return len(items) * kind.least
    return 0
