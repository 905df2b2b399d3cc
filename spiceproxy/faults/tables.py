"""What the tables of a file of rules are made of. Durations are seconds, sizes bytes."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

NonNegative = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Leg = Literal["source", "destination"]
PhaseName = Literal["none", "connecting", "waiting", "switching", "settling", "over"]
"""Of spiceproxy.protocol.migration.model.Phase, and "none" before the first migration."""

Fields = dict[str, Any]
U8 = Annotated[int, Meta(ge=0, lt=2**8)]
U16 = Annotated[int, Meta(ge=0, lt=2**16)]
U32 = Annotated[int, Meta(ge=0, lt=2**32)]
Password = Annotated[str, Meta(max_length=59)]
"""As long as spice-server keeps them."""
ErrorCode = Annotated[int, Meta(ge=1, lt=2**32)]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of a file of rules: an unknown key is an error."""


class Action(Table, frozen=True):
    """One thing that a fault does."""

    short: ClassVar[str | None] = None
    """The key that a bare value stands for. "*": the whole table is this key's value."""
