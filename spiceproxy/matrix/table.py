"""Results by scenario and column, as page, text and the catalog's column show them: runs that say the same are one."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from spiceproxy.faults.scenarios import Outcome, scenarios
from spiceproxy.matrix.results import Cell, Column, Verdict

# The worst first: what a row is filtered and coloured by, and what a table of several runs shows.
VERDICTS: Final = (Verdict.BROKEN, Verdict.UNEXPECTED, Verdict.SILENT, Verdict.NOT_RUN, Verdict.EXPECTED)
OUTCOMES: Final = (
    "source-aborted", "destination-aborted", "client-crashed", "session-lost", "wedged",
    "switch-host", "semi-seamless", "cancelled", "seamless", "unchanged",
)  # fmt: skip


class Group(NamedTuple):
    """The runs of a scenario with one column."""

    cells: Sequence[Cell]

    @property
    def verdict(self) -> Verdict:
        """The worst."""
        return min((each.verdict for each in self.cells), key=VERDICTS.index)

    @property
    def outcomes(self) -> list[tuple[Outcome, int]]:
        """How many runs ended how, the most frequent first."""
        return Counter(each.outcome for each in self.cells if each.outcome is not None).most_common()

    @property
    def typical(self) -> Cell:
        """A run that ended as most did."""
        if not self.outcomes:
            return self.cells[0]
        most = self.outcomes[0][0]
        return next(each for each in self.cells if each.outcome == most)


class Row(NamedTuple):
    """A scenario."""

    name: str
    groups: dict[Column, Group]


def rows(cells: Iterable[Cell]) -> list[Row]:
    """Group cells, in the catalog's order; scenarios that it does not know any more come last."""
    found: dict[str, dict[Column, list[Cell]]] = {}
    for each in sorted(cells, key=lambda each: each.run):
        found.setdefault(each.scenario, {}).setdefault(each.column, []).append(each)
    order = {name: number for number, name in enumerate(scenarios())}
    return [
        Row(name, {column: Group(columns[column]) for column in Column if column in columns})
        for name, columns in sorted(found.items(), key=lambda item: order.get(item[0], len(order)))
    ]
