"""One row of a channel's message table: what a message is called, how its body is laid out, what it means."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from construct import Construct

from dissectors.errors import DissectionError
from dissectors.fields import Data, Record, read, write


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


@dataclass(frozen=True, slots=True)
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
    schema: Construct = field(default_factory=Record, repr=False, compare=False)
    obsolete: bool = False

    def dissect(self, body: Data) -> Dissection:
        """Take a body apart.

        Raises:
            DissectionError: The body does not fit the schema.
        """
        try:
            fields, end = read(self.schema, body)
        except DissectionError as error:
            raise DissectionError(f"{self.name}: {error}") from error
        return Dissection(self.name, fields, bytes(body[end:]))

    def build(self, fields: Mapping[str, Any], trailing: bytes = b"") -> bytes:
        """Put a body together; `build(d.fields, d.trailing)` gives back the very body that was dissected.

        Raises:
            DissectionError: The fields do not fit the schema.
        """
        try:
            return write(self.schema, fields) + trailing
        except DissectionError as error:
            raise DissectionError(f"{self.name}: {error}") from error


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
