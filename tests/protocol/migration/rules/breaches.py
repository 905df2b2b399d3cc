"""What the judge says of a play, and plays that are spoilt so that a rule is broken.

Each module `breaches_*.py` of this folder has a list `BREACHES`; `test_breaches.py` plays all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from spiceproxy.protocol.migration.model import Party, Severity, Violation
from spiceproxy.protocol.migration.rules import RULES, RuleJudge
from tests.protocol.migration.playbook import SECOND, Play, Script

C, S1, S2 = Party.CLIENT, Party.SOURCE, Party.DESTINATION


class Breach(NamedTuple):
    """A rule, and a wire that breaks it."""

    rule: str
    clause: str  # what of it
    play: Callable[[], Play]
    by: Party
    channel: str | None
    evidence: Sequence[
        str
    ]  # names of messages, without SPICE_MSG_ and SPICE_MSGC_, the one that is wrong last
    also: Sequence[str] = ()  # rules that cannot but be broken by the same wire
    severity: Severity | None = None  # if it is not the rule's own
    quiet_ns: int = SECOND  # for how long nothing is said before the capture ends
    captured: bool = False  # it takes bodies that are at hand in captures only
    alone: bool = False  # it belongs to no migration


def judged(play: Play, *, quiet_ns: int = SECOND) -> list[Violation]:
    """All violations, those of migrations first."""
    tracker = play.tracked(quiet_ns=quiet_ns, judge=RuleJudge())
    return [*(each for migration in tracker.migrations for each in migration.violations), *tracker.violations]


def names(violation: Violation) -> list[str]:
    """Of the messages that show it."""
    return [each.name.removeprefix("SPICE_MSGC_").removeprefix("SPICE_MSG_") for each in violation.evidence]


def severity_of(breach: Breach) -> Severity:
    """How bad it is."""
    return breach.severity or RULES[breach.rule].severity


def started(**options: Any) -> Script:
    """A session, a second later."""
    script = Script(**options)
    script.session(0)
    script.tick(SECOND)
    return script


def plain() -> Play:
    """A session in which nothing migrates, and goes on."""
    script = started()
    script.act(0)
    return script.play()


def said(side: Any, id_: int, body: bytes = b"", *, channel: str = "main:0", hop: int = 1) -> Any:
    return (side, channel, hop, int(id_), body)
