"""Fields whose shape or place depends on another one: switches and offset pointers."""

from collections.abc import Mapping
from typing import Any

from construct import Construct, StreamError, ValidationError

from dissectors.fields.boundary import Body, Target, found, unwrapped
from dissectors.fields.scalars import U32

# ruff: noqa: ARG002, SLF001 - construct is extended by overriding _parse and _build and calling those of others


class Case:
    """One way a switch may go.

    Args:
        name: Of the field that is there then.
        schema: Its layout.
        equal: The value, or one of the values, of the discriminator.
        bit: Any of these bits is set.
        no_bit: None of these bits is set.

    Without a condition the case is the default.
    """

    def __init__(
        self,
        name: str,
        schema: Construct,
        *,
        equal: int | tuple[int, ...] | None = None,
        bit: int | None = None,
        no_bit: int | None = None,
    ) -> None:
        self.name, self.schema, self.docs = name, unwrapped(schema), schema.docs
        self.equal = (equal,) if isinstance(equal, int) else equal
        self.bit, self.no_bit = bit, no_bit

    def fits(self, value: int) -> bool:
        """Whether the discriminator has this value or these bits."""
        if self.equal is not None:
            return value in self.equal
        if self.bit is not None:
            return bool(value & self.bit)
        return self.no_bit is None or not value & self.no_bit


class Switch(Construct):
    """A field that is one thing or another, as the field `on` says: {name of the case: value}, or None for no bytes.

    The first case that fits wins, as in the generated parsers (spice-common python_modules/ptypes.py, SwitchType).
    """

    def __init__(self, on: str, *cases: Case) -> None:
        super().__init__()
        self.on, self.cases = on, cases
        self.flagbuildnone = True

    def _case(self, context: Any, path: str) -> Case | None:
        try:
            value = found(context, self.on)
        except KeyError:
            raise ValidationError(f"needs {self.on}", path=path) from None
        return next((case for case in self.cases if case.fits(value)), None)

    def _parse(self, stream: Body, context: Any, path: str) -> dict[str, Any] | None:
        case = self._case(context, path)
        if case is None:
            return None
        value = case.schema._parsereport(stream, context, f"{path} -> {case.name}")
        if isinstance(value, Target):
            holder: dict[str, Any] = {}
            value.settle(holder, case.name)
            return holder
        return {case.name: value}

    def _build(self, obj: Any, stream: Body, context: Any, path: str) -> Any:
        case = self._case(context, path)
        given = set(obj) if isinstance(obj, Mapping) else set()
        if case is None:
            if obj is not None:
                raise ValidationError(f"has a value, but {self.on} says that there is none", path=path)
            return obj
        is_pointer = isinstance(case.schema, Pointer)
        allowed = {case.name, f"{case.name}_offset"} if is_pointer else {case.name}
        if case.name not in given or given - allowed:
            raise ValidationError(f"wants {{{case.name!r}: ...}}, as {self.on} says", path=path)
        targets = len(stream.targets)
        case.schema._build(obj[case.name], stream, context, f"{path} -> {case.name}")
        if is_pointer and len(stream.targets) > targets:
            stream.targets[-1].offset = obj.get(f"{case.name}_offset")
        return obj

    def _sizeof(self, context: Any, path: str) -> int:
        raise ValidationError("a switch has no size of its own", path=path)


class Pointer(Construct):
    """The offset, from body start, of something that lies elsewhere in the body; its value is that thing's value.

    0 is None. Targets lie behind the fixed part, breadth first, in the order of their pointers: so does
    spice-server's marshaller write them (spice-common marshaller.c, spice_marshaller_get_ptr_submarshaller()). For
    any other offset the record has a field more, `<name>_offset`. The generated demarshallers take every offset that
    is below the body's length.

    Args:
        schema: Of what lies there; its counts may be siblings of the pointer.
        null: Whether 0 is allowed.
    """

    def __init__(self, schema: Construct, *, null: bool = True) -> None:
        super().__init__()
        self.schema, self.null = schema, null
        self.flagbuildnone = null

    def _parse(self, stream: Body, context: Any, path: str) -> Target | None:
        offset = U32._parsereport(stream, context, path)
        if offset == 0:
            if not self.null:
                raise ValidationError("is a null pointer", path=path)
            return None
        size = len(stream.getbuffer())
        if offset >= size:
            raise StreamError(f"points to {offset} in a body of {size} bytes", path=path)
        target = Target(self.schema, offset, context, path)
        stream.targets.append(target)
        return target

    def _build(self, obj: Any, stream: Body, context: Any, path: str) -> Any:
        if obj is None and not self.null:
            raise ValidationError("wants a value", path=path)
        if obj is not None:
            stream.targets.append(Target(self.schema, None, context, path, value=obj, at=stream.tell()))
        stream.write(b"\0\0\0\0")
        return obj

    def _sizeof(self, context: Any, path: str) -> int:
        return 4
