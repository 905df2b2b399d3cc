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
    hidden: set[str] = set()
    for code in CODES:
        if code.name in hidden:
            continue
        for finding in code.find(case):
            channels = list(dict.fromkeys(finding.channels))
            evidence = sorted(
                {each for each in finding.evidence if each is not None}, key=lambda each: each.time_ns
            )
            found.append(Diagnosis(code.name, finding.text, channels, evidence[:MAX_EVIDENCE], finding.next))
            case.found.setdefault(code.name, set()).update(channels)
            hidden.update(code.hides)
    return found
