"""A fault, and a file of faults, as they are written."""

from typing import Any, Literal

from spiceproxy.faults.match import Match
from spiceproxy.faults.tables import Table

Scope = Literal["connection", "session", "proxy"]


class Fault(Table, frozen=True, kw_only=True):
    """One rule of a file.

    Attributes:
        match: When it fires.
        do: What it does.
        name: For logs and reports; without it, "fault 2".
        comment: For people.
        ledger: What counts messages is made to add up; false where the fault is about that.
        count: What `nth`, `every` and `first` count over.
    """

    match: Match = Match()
    do: Any  # one action or several: made by `load`, since msgspec knows no table with one key of many
    name: str | None = None
    comment: str = ""
    ledger: bool = True
    count: Scope = "session"


class FaultFile(Table, frozen=True, kw_only=True):
    """A file of rules.

    Attributes:
        fault: Its rules, in the order in which they are asked.
        seed: For all that is left to chance.
        comment: For people.
    """

    fault: list[Fault]
    seed: int = 0
    comment: str = ""
