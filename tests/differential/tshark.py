"""What tshark says about the SPICE in a file."""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.recording.tshark import run

_BETWEEN: Final = "\x1f"
# Fields of tshark's that say that it could not go on.
COMPLAINTS: Final = ("_ws.malformed", "_ws.unreassembled", "_ws.short")
NO_BYTES: Final = "<MISSING>"  # what it writes for a field of no bytes

Row = dict[str, list[str]]


def version() -> str:
    """As "4.0.17"."""
    found = re.match(r"TShark \(Wireshark\) ([\d.]+)", run("tshark", "--version"))
    assert found
    return found[1].rstrip(".")


@functools.cache
def spice_fields() -> dict[str, str]:
    """The name of each field of the SPICE dissector, and its type: "FT_UINT32"."""
    found = {}
    for line in run("tshark", "-G", "fields").splitlines():
        kind, _, name, *more = line.split("\t")
        if kind == "F" and name.startswith("spice."):
            found[name] = more[0]
    return found


def rows(path: Path, fields: Sequence[str], ports: Sequence[int], *, together: bool = False) -> Iterator[Row]:
    """For each packet the fields that it has, in tshark's order.

    Args:
        path: The capture.
        fields: Names.
        ports: Where SPICE is.
        together: Put segments together to messages, as tshark does unless told otherwise.
    """
    arguments = ["-n", "-r", str(path), "-o", f"tcp.desegment_tcp_streams:{'TRUE' if together else 'FALSE'}"]
    for port in ports:
        arguments += ["-d", f"tcp.port=={port},spice"]
    arguments += ["-T", "fields", "-E", f"aggregator={_BETWEEN}", "-E", "separator=/t"]
    for name in fields:
        arguments += ["-e", name]
    for line in run("tshark", *arguments).splitlines():
        values = line.split("\t")
        assert len(values) == len(fields)
        yield {name: value.split(_BETWEEN) for name, value in zip(fields, values, strict=True) if value}
