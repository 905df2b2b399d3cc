"""What is seen of one scenario and what it amounts to, in the form in which it is kept: a line of JSON for each cell."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from spiceproxy.errors import UsageError
from spiceproxy.faults.scenarios import Outcome, Party

FILE: Final = "results.jsonl"


class Verdict(StrEnum):
    """What a cell says of its scenario."""

    EXPECTED = "as expected"
    UNEXPECTED = "not expected"
    SILENT = "did not fire"  # no rule of it did anything, so nothing was tried
    NOT_RUN = "not run"
    BROKEN = "lab failed"  # the lab itself could not play it


class Column(StrEnum):
    """Who the peers are."""

    SPICY = "spicy"
    REMOTE_VIEWER = "remote-viewer"
    SIMULATED = "simulated"  # client and servers


class Ending(Struct, frozen=True):
    """A program that ended by itself.

    Attributes:
        name: "s1", "s2" or "client".
        party: What it was then.
        returncode: Exit status; negative: the signal.
        signal: Its name, or empty.
        said: The last lines that it wrote.
    """

    name: str
    party: Party
    returncode: int
    signal: str
    said: list[str]

    @property
    def crashed(self) -> bool:
        """Whether a signal ended it."""
        return self.returncode < 0


class Attempt(Struct, frozen=True):
    """A migration as the report tells it.

    Attributes:
        offered, performed: Kinds.
        outcome: As in reports; None if it was still going on.
        reason: For the outcome, in words.
        agreed_reason: Why what was agreed was agreed.
        stalled: Nothing moved any more when it was last looked at.
        waiting: Who waits for whom, a sentence each.
        diagnoses: Their codes.
        missing: Channels that had not come along.
    """

    offered: str | None
    performed: str | None
    outcome: str | None
    reason: str
    agreed_reason: str
    stalled: bool
    waiting: list[str]
    diagnoses: list[str]
    missing: list[str] = field(default_factory=list)


class Observation(Struct, frozen=True, kw_only=True):
    """What was seen of one scenario, before anything was stopped.

    Attributes:
        fired: Rules that fired.
        never_fired: Those that did not.
        endings: Programs that ended by themselves, in order.
        attempts: Migrations, in order.
        cancelled: The lab cancelled the last one.
        qmp: What `query-migrate` said in the end, for each migration that was tried.
        guest_on: Which server runs the guest: "s1", "s2" ...; None: none does.
        client_on: Which server the client's main channel leads to; None: none.
        roles: What the servers are to the last migration: {"s1": "source", "s2": "destination"}.
        channels: What the client had before.
        missing: Those that it has nowhere now.
        alive: The display's messages come, and the client acknowledges them.
        left_source: SPICE_MIGRATE_COMPLETED came; None if there was nothing to wait for.
        watched_s: How long what became of it was watched.
        notes: What else was noticed.
    """

    fired: list[str] = field(default_factory=list)
    never_fired: list[str] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    cancelled: bool = False
    qmp: list[str] = field(default_factory=list)
    guest_on: str | None = None
    client_on: str | None = None
    roles: dict[str, str] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    alive: bool = False
    left_source: bool | None = None
    watched_s: float = 0.0
    notes: list[str] = field(default_factory=list)


class Cell(Struct, frozen=True, kw_only=True):
    """One run of a scenario.

    Attributes:
        scenario: Its name.
        column: With whom.
        run: From 1.
        verdict: Whether it went as expected.
        outcome: How it ended; None where it was not played.
        detail: What was printed or seen, in a sentence.
        expect: Outcomes that are expected.
        degraded: The session goes on, but by a lesser kind of migration than was tried.
        guest_lost: No server runs the guest.
        duration_s: How long the cell took.
        artefacts: Files, relative to the directory of the results: name to path.
        server, client: Versions.
        date: As "2026-11-25".
        seen: What the verdict is made of; None where the cell was not played.
    """

    scenario: str
    column: Column
    run: int
    verdict: Verdict
    outcome: Outcome | None = None
    detail: str = ""
    expect: list[str] = field(default_factory=list)
    degraded: bool = False
    guest_lost: bool = False
    duration_s: float = 0.0
    artefacts: dict[str, str] = field(default_factory=dict)
    server: str = ""
    client: str = ""
    date: str = ""
    seen: Observation | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is a result of."""
        return self.scenario, self.column.value, self.run


def read_cells(directory: Path) -> list[Cell]:
    """The results of a directory, the latest of each cell; a last line that was cut off is left out.

    Raises:
        UsageError: There are none, or they cannot be read.
    """
    path = directory / FILE
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    found: dict[tuple[str, str, int], Cell] = {}
    for each in _lines(text, path):
        found[each.key] = each
    return list(found.values())


def _lines(text: bytes, path: Path) -> Iterator[Cell]:
    *whole, _ = text.split(b"\n")
    for number, line in enumerate(whole, start=1):
        try:
            yield msgspec.json.decode(line, type=Cell)
        except msgspec.MsgspecError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None
