"""What is found inside the messages of a channel, and how much of it is kept."""

from functools import lru_cache
from typing import Any, Final, NamedTuple

from dissectors.errors import DissectionError
from dissectors.message import MessageSpec
from dissectors.plain import plain

# Of one inner message. Larger ones are clipboard pictures, whose contents nobody reads here.
MAX_KEPT: Final = 2**20
# Inner messages of one SPICE message: 64 KiB, what the server reads from a device at once, hold 4096 frames of 16 bytes.
MAX_INNERS: Final = 4096

_RAW: Final = frozenset({"raw"})


class Inner(NamedTuple):
    """A message of a protocol that rides inside SPICE, or a note on why there is none.

    Attributes:
        protocol: "vd_agent", "usbredir", "webdav" or "vscard"; "vdi_port" for what only the guest's port has.
        name: As the protocol's own header file has it; "unknown_99"; "lost" in a note on the stream.
        fields: `header` with the fields of its header, then its own by their names. {"header": ..., "raw": bytes} if
            the type is not known or the message does not fit it; no raw if it was not kept. {} in a note.
        error: Why it is not whole or not readable. Never has contents in it.
        size: Bytes of the message without its header, as the header says.
        trailing: Bytes after the last field.
        bulk: Names of the fields that hold contents rather than control: shown by their length.
    """

    protocol: str
    name: str
    fields: dict[str, Any]
    error: str | None = None
    size: int = 0
    trailing: bytes = b""
    bulk: frozenset[str] = frozenset()

    def plain(self, *, bulk: bool = False) -> dict[str, Any]:
        """Return the fields as JSON has them: bytes in hexadecimal, contents as their length unless `bulk`."""
        return {
            name: len(value) if name in self.bulk and not bulk else plain(None, value, bulk=bulk)
            for name, value in self.fields.items()
        }


@lru_cache(maxsize=256)  # a spec is one of a hundred that are there for good
def _bulk_fields(spec: MessageSpec) -> frozenset[str]:
    members: list[tuple[str, Any]] = getattr(spec.schema, "members", [])
    return frozenset(name for name, schema in members if getattr(schema, "bulk", False))


def take_apart(
    protocol: str, header: dict[str, Any], type_: int, spec: MessageSpec | None, body: bytes
) -> Inner:
    """Dissect one whole inner message; a body that does not fit keeps its bytes and says why."""
    if spec is None:
        return Inner(
            protocol, f"unknown_{type_}", {"header": header, "raw": body}, None, len(body), bulk=_RAW
        )
    try:
        dissection = spec.dissect(body)
    except DissectionError as error:
        return unread(protocol, spec.name, header, body, str(error))
    fields = {"header": header, **dissection.fields}
    return Inner(protocol, spec.name, fields, None, len(body), dissection.trailing, _bulk_fields(spec))


def unread(protocol: str, name: str, header: dict[str, Any], body: bytes, why: str) -> Inner:
    """Keep an inner message whose fields cannot be told as its bytes."""
    return Inner(protocol, name, {"header": header, "raw": body}, why, len(body), bulk=_RAW)


def note(protocol: str, why: str) -> Inner:
    """Say something of the stream itself."""
    return Inner(protocol, "lost", {}, why)


class Found:
    """The inner messages of one SPICE message: no more than MAX_INNERS, however many there are.

    Args:
        protocol: Of the note on those that are left out.
    """

    def __init__(self, protocol: str) -> None:
        self._protocol = protocol
        self._inners: list[Inner] = []
        self._left_out = 0

    def has_room(self) -> bool:
        """Whether another one is kept; if not, it counts as left out."""
        if len(self._inners) < MAX_INNERS:
            return True
        self._left_out += 1
        return False

    def add(self, inner: Inner) -> None:
        """Keep one."""
        self._inners.append(inner)

    def all(self) -> list[Inner]:
        """Return what is kept, in order, with a note at the end if something is not."""
        if not self._left_out:
            return self._inners
        return [*self._inners, note(self._protocol, f"{self._left_out} more in this message are not shown")]
