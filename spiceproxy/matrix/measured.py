"""The catalog's measured column, made of results: what most runs of a scenario came to with a real client."""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from spiceproxy.faults.scenarios import Measured
from spiceproxy.matrix.results import Cell, Column, Verdict
from spiceproxy.matrix.table import rows

_MAX_DETAIL: Final = 400
# What differs from run to run, and says nothing: process ids, times of day, addresses in memory, ports of the lab.
_FLEETING: Final = (
    (re.compile(r"\((\w[\w-]*):\d+\): "), r"\1: "),
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d+: "), ""),
    (re.compile(r"\b0x[0-9a-f]{6,16}\b"), "0x…"),
    (re.compile(r"\b127\.0\.0\.1:\d+"), "127.0.0.1"),
    (re.compile(r"\bqemu-system-x86_64: "), ""),
)
_SIGNAL: Final = re.compile(r"(?:SIG\w+|signal \d+): ")
_PLAYED: Final = frozenset({Verdict.EXPECTED, Verdict.UNEXPECTED})


def measured_of(cells: Iterable[Cell], column: Column = Column.SPICY) -> dict[str, Measured]:
    """What was measured, by the scenario's name: of cells of this column that were played and whose rules fired."""
    found = {}
    for row in rows(each for each in cells if each.column is column and each.verdict in _PLAYED):
        group = row.groups[column]
        outcome, runs = group.outcomes[0]
        typical = group.typical
        found[row.name] = Measured(
            outcome=typical.outcome or "unchanged",
            detail=tidy(typical.detail),
            server=typical.server,
            client=typical.client,
            date=max(each.date for each in group.cells),
            runs=runs,
            of=len(group.cells),
            others=[each for each, _ in group.outcomes[1:] if each != outcome],
            guest_lost=typical.guest_lost,
        )
    return found


def tidy(text: str) -> str:
    """Return a detail without what is different in each run."""
    for pattern, instead in _FLEETING:
        text = pattern.sub(instead, text)
    signal = _SIGNAL.match(text)
    head = signal[0] if signal is not None else ""
    parts = dict.fromkeys(text[len(head) :].split(" | "))  # programs repeat themselves
    text = head + " | ".join(parts)
    return text if len(text) <= _MAX_DETAIL else text[: _MAX_DETAIL - 1] + "…"


def encode(found: dict[str, Measured]) -> bytes:
    """The file: a scenario a line, so that a new measurement is a readable difference."""
    lines = [
        msgspec.json.encode(name) + b": " + msgspec.json.encode(each) for name, each in sorted(found.items())
    ]
    return b"{\n" + b",\n".join(lines) + b"\n}\n"
