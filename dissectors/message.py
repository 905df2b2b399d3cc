"""One row of a channel's message table: what a message is called, how its body is laid out, what it means."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from construct import Construct

from dissectors.compiler import UNFIT, NotCompilable, Reader, Style, Unfit, compile_reader
from dissectors.errors import DissectionError
from dissectors.fields import Data, Record, read, write
from dissectors.plain import plain


@dataclass(frozen=True, slots=True)
class Dissection:
    """A message taken apart.

    Attributes:
        name: C name, or "unknown_123".
        fields: Plain Python values by the field names of spice.proto; {"raw": body} for an unknown message.
        trailing: Bytes after the last field. Both ends ignore them, and spice-server sends some (NOTIFY).
    """

    name: str
    fields: dict[str, Any]
    trailing: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class MessageSpec:
    """What is known of one message of one side.

    Attributes:
        id: Message type on the wire.
        name: C name of enums.h: SPICE_MSG_... from the server, SPICE_MSGC_... from the client.
        meaning: One sentence for people.
        schema: Layout of the body; parses to a plain dict.
        obsolete: Neither spice-server 0.15.1 nor spice-gtk 0.42 sends it to a present-day peer.
    """

    id: int
    name: str
    meaning: str
    schema: Construct = field(default_factory=Record, repr=False)
    obsolete: bool = False

    def dissect(self, body: Data) -> Dissection:
        """Take a body apart.

        Raises:
            DissectionError: The body does not fit the schema.
        """
        data = body if type(body) is bytes else bytes(body)
        try:
            fields, end = _VALUES[self](data)
        except UNFIT:
            fields, end = self._interpret(data)
        return Dissection(self.name, fields, data[end:])

    def dissect_plain(self, body: bytes, *, bulk: bool = False) -> tuple[dict[str, Any], bytes]:
        """Take a body apart into what JSON can say.

        Args:
            body: Of the message.
            bulk: Show images, sound and the like in hexadecimal instead of by their length.

        Returns:
            The fields, with plain numbers and bytes in hexadecimal, and the trailing bytes.

        Raises:
            DissectionError: The body does not fit the schema.
        """
        try:
            fields, end = (_JSON_BULK if bulk else _JSON)[self](body)
        except UNFIT:
            values, end = self._interpret(body)
            fields = plain(self.schema, values, bulk=bulk)
        return fields, body[end:]

    def _interpret(self, body: bytes) -> tuple[dict[str, Any], int]:
        """Read with construct: slow, but it knows what is wrong."""
        try:
            return read(self.schema, body)
        except DissectionError as error:
            raise DissectionError(f"{self.name}: {error}") from error

    def build(self, fields: Mapping[str, Any], trailing: bytes = b"") -> bytes:
        """Put a body together; `build(d.fields, d.trailing)` gives back the very body that was dissected.

        Raises:
            DissectionError: The fields do not fit the schema.
        """
        try:
            return write(self.schema, fields) + trailing
        except DissectionError as error:
            raise DissectionError(f"{self.name}: {error}") from error


class _Readers(dict[MessageSpec, Reader]):
    """Compiled readers of one style; each is made when the first message comes that needs it."""

    def __init__(self, style: Style) -> None:
        super().__init__()
        self._style = style

    def __missing__(self, spec: MessageSpec) -> Reader:
        try:
            reader = compile_reader(spec.schema, self._style)
        except NotCompilable:
            reader = _unfit
        self[spec] = reader
        return reader


def _unfit(_body: bytes) -> tuple[Any, int]:
    raise Unfit


_VALUES: Final = _Readers(Style.VALUES)
_JSON: Final = _Readers(Style.JSON)
_JSON_BULK: Final = _Readers(Style.JSON_BULK)


def table(*specs: MessageSpec) -> dict[int, MessageSpec]:
    """Make one side's table of a channel, by message id.

    Raises:
        ValueError: An id is there twice: a slip of ours, found at import.
    """
    by_id: dict[int, MessageSpec] = {}
    for spec in specs:
        if by_id.setdefault(spec.id, spec) is not spec:
            raise ValueError(f"message id {spec.id} is there twice: {by_id[spec.id].name}, {spec.name}")
    return by_id
