"""Bodies for every schema there is, and everything that a hostile peer may do to their counts and offsets."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final, NamedTuple

import hypothesis
from construct import FormatField
from hypothesis import HealthCheck, Phase, given, settings

from dissectors import common, headers, link, registry, usbredir, vd_agent, vscard, webdav_mux
from dissectors.errors import DissectionError
from dissectors.fields import Count, Pointer, read
from dissectors.message import MessageSpec
from dissectors.side import Side
from tests.dissectors.bodies import values


def _all_specs() -> dict[str, MessageSpec]:
    specs: dict[str, MessageSpec] = {}

    def add(where: str, *rows: MessageSpec) -> None:
        for row in rows:
            specs.setdefault(f"{where}-{row.name}", row)

    for side in Side:
        add("common", *getattr(common, f"{side.name}_MESSAGES").values())
        for channel, module in registry.MODULES.items():
            add(channel.name.lower(), *getattr(module, f"{side.name}_MESSAGES").values())
    for selection in (False, True):
        for grab_serial in (False, True):
            layout = vd_agent._messages(selection=selection, grab_serial=grab_serial)
            add(f"vd_agent-{selection:d}{grab_serial:d}", *layout.values())
    add("vd_agent", vd_agent.HEADER, vd_agent.CHUNK_HEADER, vd_agent._PLAIN_STATUS, vd_agent._DETAILED_STATUS)
    add("usbredir", usbredir.HEADER_32, usbredir.HEADER_64, *usbredir.USBREDIR_PACKETS.values())
    for variants in usbredir.USBREDIR_VARIANTS.values():
        for caps, row in variants:
            add(f"usbredir-{int(caps):x}", row)
    add("vscard", *vscard.VSC_MESSAGES.values())
    add("webdav", webdav_mux.HEADER, webdav_mux.FRAME)
    for name in ("LinkMess", "LinkReply"):
        add("link", MessageSpec(0, name, "", getattr(link, name)))
    for name in ("DataHeader", "MiniDataHeader", "SubMessageList"):
        add("headers", MessageSpec(0, name, "", getattr(headers, name)))
    return specs


ALL_SPECS: Final = _all_specs()
EXAMPLES: Final = 8


@cache
def bodies(spec: MessageSpec) -> tuple[bytes, ...]:
    """The same bodies every time: the smallest one, the longest, and two between, of those that hypothesis makes up."""
    made: set[bytes] = set()

    @hypothesis.seed(8)  # with which every schema gets a body that has its counts and offsets
    @settings(
        max_examples=EXAMPLES, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(values(spec.schema))
    def make(fields: Any) -> None:
        body = spec.build(fields)
        # Two lists may share one count (MONITORS_CONFIG), and values of different lengths for them build.
        with suppress(DissectionError):
            if not spec.dissect(body).trailing:
                made.add(body)

    make()
    ordered = sorted(made, key=lambda body: (len(body), body))
    return tuple(dict.fromkeys(ordered[len(ordered) * part // 3 - (part == 3)] for part in range(4)))


class Number(NamedTuple):
    """A little-endian integer of a body."""

    at: int
    size: int  # bytes
    role: str  # "count" of something that is there, "offset", "other"


def numbers(spec: MessageSpec, body: bytes) -> list[Number]:
    """Where the integers of a body stand: found by looking on while construct reads it."""
    with _watched() as seen:
        read(spec.schema, body)
    found: dict[int, Number] = {}
    for at, size, schema, context in seen:
        role = "other"
        if isinstance(schema, Pointer):
            role = "offset"
        elif isinstance(schema, Count) and context.get(schema.of) is not None:
            role = "count"  # of a null pointer any number is taken
        if at not in found or role != "other":
            found[at] = Number(at, size, role)
    return list(found.values())


@contextmanager
def _watched() -> Iterator[list[tuple[int, int, Any, Any]]]:
    """Notes where, in how many bytes, by which schema and in which record every integer is read."""
    seen: list[tuple[int, int, Any, Any]] = []
    kinds: tuple[Any, ...] = (FormatField, Count, Pointer)
    kept = {kind: kind._parse for kind in kinds}

    def watching(kind: Any) -> Any:
        def parse(self: Any, stream: Any, context: Any, path: str) -> Any:
            at = stream.tell()
            value = kept[kind](self, stream, context, path)
            seen.append((at, stream.tell() - at, self, context))
            return value

        return parse

    try:
        for kind in kept:
            kind._parse = watching(kind)
        yield seen
    finally:
        for kind, parse in kept.items():
            kind._parse = parse


def cuts(body: bytes) -> Iterator[bytes]:
    """The body cut at each byte."""
    return (body[:size] for size in range(len(body)))


def extremes(body: bytes, number: Number) -> Iterator[bytes]:
    """The body with this integer at its extremes; counts and offsets also at what just fits the body and just not."""
    bits = 8 * number.size
    every = [2**bits - 1, 2 ** (bits - 1)]
    if number.role != "other":
        every += [2 ** (bits - 1) - 1, len(body), len(body) + 1, len(body) - 1, 0, 1]
    present = body[number.at : number.at + number.size]
    for value in dict.fromkeys(each % 2**bits for each in every):
        data = value.to_bytes(number.size, "little")
        if data != present:
            yield body[: number.at] + data + body[number.at + number.size :]


def damaged(spec: MessageSpec, body: bytes) -> Iterator[bytes]:
    """Everything that is done to a body."""
    yield from cuts(body)
    for number in numbers(spec, body):
        yield from extremes(body, number)
