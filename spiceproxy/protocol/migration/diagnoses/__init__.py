"""What went wrong with a migration, in words, and what to look at next.

A diagnosis is a pure function of an attempt: a finder of one of the modules, grouped as migrations go. `table.py` has them
all, with their codes, in the order in which they are told, causes before what follows from them, and which say the same as
later ones in other words. Where parts of the capture are missing, no finder says that something never came.
"""

from spiceproxy.protocol.migration.attempt import Attempt
from spiceproxy.protocol.migration.diagnoses.case import Case
from spiceproxy.protocol.migration.diagnoses.table import CODES
from spiceproxy.protocol.migration.model import Diagnosis

__all__ = ["diagnose"]

MAX_EVIDENCE = 16


def diagnose(attempt: Attempt, now_ns: int) -> list[Diagnosis]:
    """Say what went wrong, causes first.

    Args:
        attempt: A migration that is over, or stands still.
        now_ns: The time up to which is known what happened.
    """
    if attempt.m.offered is None:
        return []  # what the source said is not in the capture
    case = Case(attempt, now_ns)
    found: list[Diagnosis] = []
    hidden: dict[str, list[set[str]]] = {}
    for code in CODES:
        for finding in code.find(case):
            channels = list(dict.fromkeys(finding.channels))
            if any(_covers(by, set(channels)) for by in hidden.get(code.name, ())):
                continue
            evidence = sorted(
                {each for each in finding.evidence if each is not None}, key=lambda each: each.time_ns
            )
            found.append(Diagnosis(code.name, finding.text, channels, evidence[:MAX_EVIDENCE], finding.next))
            case.found.setdefault(code.name, set()).update(channels)
            for name in code.hides:
                hidden.setdefault(name, []).append(set(channels))
    return found


def _covers(by: set[str], channels: set[str]) -> bool:
    """Whether an earlier finding is about all that a later one is about. One about main is about the whole."""
    return "main:0" in by or channels <= by or not channels
