"""From what was seen to how a scenario ended. Pure: takes observations, also recorded ones."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple, cast

import msgspec

from spiceproxy.faults.scenarios import Outcome, Scenario, scenarios
from spiceproxy.matrix.results import Cell, Ending, Observation, Verdict

# Lesser kinds later. What a session does not survive is no kind.
_RANKS: Final = {"seamless": 0, "semi-seamless": 1, "switch-host": 2}
_LINES: Final = 3
# Said whatever happens: they explain nothing.
# It was told to leave and did; what is still open was left behind.
_LEFT: Final = "session lost: the client left the source"
_COMPLAINT: Final = re.compile(r"CRITICAL|WARNING|ERROR|rror:|assert|abort|corrupt")
_NOISE: Final = ("host doesn't support requested feature", "terminating on signal", "Gtk-WARNING", "dconf-")


class Judged(NamedTuple):
    """How a scenario ended."""

    verdict: Verdict
    outcome: Outcome
    detail: str
    degraded: bool
    guest_lost: bool


def judge(scenario: Scenario, seen: Observation) -> Judged:
    """Say how it ended, and whether it was expected to end so.

    A scenario of which no rule fired has shown nothing, however its session ended.
    """
    outcome, detail = classify(seen)
    tried, got = _RANKS.get(scenario.needs.migration), _RANKS.get(outcome)
    verdict = Verdict.EXPECTED if outcome in scenario.expect else Verdict.UNEXPECTED
    if not seen.fired:
        verdict = Verdict.SILENT
    return Judged(
        verdict,
        outcome,
        detail,
        degraded=tried is not None and got is not None and got > tried,
        guest_lost=seen.guest_on is None,
    )


def again(cells: Iterable[Cell]) -> list[Cell]:
    """Judge cells once more by what was seen of them: the catalog may expect something else by now.

    Cells of which nothing was seen, and of scenarios that there are not any more, stay as they are.
    """
    return [
        each if each.seen is None or each.scenario not in scenarios() else _again(each, each.seen)
        for each in cells
    ]


def _again(cell: Cell, seen: Observation) -> Cell:
    known = scenarios()[cell.scenario]
    judged = judge(known, seen)
    return msgspec.structs.replace(
        cell,
        verdict=judged.verdict,
        outcome=judged.outcome,
        detail=judged.detail,
        degraded=judged.degraded,
        guest_lost=judged.guest_lost,
        expect=list(known.expect),
    )


def classify(seen: Observation) -> tuple[Outcome, str]:
    """Say how a session ended, and what shows it. Worst things first: a server's end explains the client's, not the other way."""
    for each in seen.endings:
        if each.party != "client" and each.crashed:
            return cast(Outcome, f"{each.party}-aborted"), _last_words(each)
    client = next((each for each in seen.endings if each.party == "client"), None)
    if client is not None and client.crashed:
        return "client-crashed", _last_words(client)
    if client is not None:
        return "session-lost", _lost(seen, f"the client ended with exit status {client.returncode}")
    if seen.client_on is None:
        return "session-lost", _lost(seen, "the client has no connection left")
    last = seen.attempts[-1] if seen.attempts else None
    if seen.qmp[-1:] == ["failed"] and seen.alive and seen.guest_on == seen.client_on:
        return "unchanged", "QEMU's migration failed, and the session goes on where the guest is"
    if last is not None and (last.outcome == "wedged" or (last.outcome is None and last.stalled)):
        return "wedged", _wedge(seen)
    if last is not None and last.outcome == "failed" and last.reason.startswith(_LEFT):
        return "session-lost", last.reason
    if not seen.alive:
        return "wedged", _still(seen)
    if seen.guest_on != seen.client_on and not _elsewhere(seen):
        where = seen.guest_on or "nowhere"
        return "wedged", f"the guest runs on {where}, the client is on {seen.client_on}"
    if last is None:
        moved = seen.roles.get(seen.client_on) == "other"
        return ("switch-host" if moved else "unchanged"), "the display goes on"
    if last.outcome is None:
        return "wedged", "; ".join(last.waiting) or "the migration has not ended"
    if seen.roles.get(seen.client_on) == "source":
        return "cancelled", last.reason or "the client has stayed"
    if last.performed is None:
        return "wedged", last.reason or "the migration has not ended"
    detail = last.agreed_reason
    if last.outcome == "failed":
        detail = f"{last.reason}; the session goes on"
    if seen.missing:
        detail = f"without {', '.join(seen.missing)}: {detail}"
    return cast(Outcome, last.performed), detail


def _elsewhere(seen: Observation) -> bool:
    """Whether the client was sent to a server that has nothing to do with the guest."""
    return seen.client_on is not None and seen.roles.get(seen.client_on) == "other"


def _last_words(ending: Ending) -> str:
    """The signal and what was written before it."""
    said = [line for line in ending.said if not any(noise in line for noise in _NOISE)]
    if ending.party == "client":  # it talks when all is well, too
        said = [line for line in said if _COMPLAINT.search(line)]
    words = " | ".join(said[-_LINES:])
    return f"{ending.signal}: {words}" if words else ending.signal


def _lost(seen: Observation, how: str) -> str:
    reason = seen.attempts[-1].reason if seen.attempts else ""
    return f"{how}; {reason}" if reason else how


def _still(seen: Observation) -> str:
    """The display does not go on, whatever has become of the migration."""
    last = seen.attempts[-1] if seen.attempts else None
    gone = f", which has lost {', '.join(seen.missing)}" if seen.missing else ""
    words = [f"the display stands still for the client on {seen.client_on}{gone}"]
    if last is not None:
        words += last.waiting or [f"{last.outcome or 'going on'}: {last.reason}"]
    return "; ".join(words)


def _wedge(seen: Observation) -> str:
    """Who waits for whom."""
    last = seen.attempts[-1]
    return "; ".join(dict.fromkeys(last.waiting)) or last.reason
