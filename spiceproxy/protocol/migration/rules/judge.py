"""The judge of a session: shows each step of a migration to the checks of all rules."""

from collections.abc import Sequence
from typing import Final

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Linked, LinkFailed, Opened, Said, is_migration_message
from spiceproxy.protocol.migration.model import Migration, Violation
from spiceproxy.protocol.migration.rules.announcing import Announcing
from spiceproxy.protocol.migration.rules.answering import Answering
from spiceproxy.protocol.migration.rules.arriving import Arriving
from spiceproxy.protocol.migration.rules.asking import Asking
from spiceproxy.protocol.migration.rules.astray import Astray
from spiceproxy.protocol.migration.rules.before_switch import BeforeSwitch
from spiceproxy.protocol.migration.rules.carrying import Carrying
from spiceproxy.protocol.migration.rules.case import Case, Check
from spiceproxy.protocol.migration.rules.catalog import RULES, Rule
from spiceproxy.protocol.migration.rules.counting import Counting
from spiceproxy.protocol.migration.rules.display import Displays
from spiceproxy.protocol.migration.rules.leaving import Leaving
from spiceproxy.protocol.migration.rules.linking import Linking
from spiceproxy.protocol.migration.rules.outcomes import Outcomes
from spiceproxy.protocol.migration.rules.past import Past, is_about_mouse
from spiceproxy.protocol.migration.rules.payloads import Payloads
from spiceproxy.protocol.migration.rules.replying import Replying
from spiceproxy.protocol.migration.rules.surfaces import is_about_surfaces
from spiceproxy.protocol.migration.rules.switching import Switching

CHECKS: Final[Sequence[type[Check]]] = (
    Announcing,
    Replying,
    Linking,
    Asking,
    BeforeSwitch,
    Outcomes,
    Switching,
    Payloads,
    Carrying,
    Counting,
    Displays,
    Arriving,
    Answering,
    Leaving,
)

_ASTRAY: Final = ("R48", "R49")  # beside others, by `Astray` alone
CHECKED: Final[dict[str, Rule]] = {
    rule.id: rule
    for rule in RULES.values()
    if rule.id in _ASTRAY or any(rule.id in check.rules for check in CHECKS)
}
"""The rules that somebody looks at, by id."""

# Behind the switch, rules are about the first messages of the destination. So many of a connection are shown.
MAX_AFTER_SWITCH: Final = 64


class RuleJudge:
    """Judges the migrations of one session, and what is said of migrations where none goes on."""

    def __init__(self) -> None:
        self._cases: dict[int, tuple[Case, list[Check]]] = {}  # by number: those that go on, and the last one
        self._past = Past()
        self._astray = Astray(self._past)

    @property
    def violations(self) -> list[Violation]:
        """Those that belong to no migration."""
        return self._astray.violations

    def watches(self, channel_type: int, side: Side, message_id: int) -> bool:
        """Surfaces are made and destroyed, and the mouse moves, while no migration goes on."""
        return is_about_surfaces(channel_type, side, message_id) or is_about_mouse(
            channel_type, side, message_id
        )

    def torn(self) -> None:
        """From here on, a migration may go on that nobody sees."""
        self._past.torn = True

    def touched(self, channel: str | None, fault: str) -> None:
        """A fault that was injected has fired."""
        self._past.touched(channel, fault)

    def started(self, migration: Migration, source: list[ConnectionState]) -> None:
        """A migration has begun."""
        leaving = {each.channel: each for each in source if each.channel is not None}
        case = Case(migration, leaving, self._past)
        self._past.last = case
        self._cases = {number: pair for number, pair in self._cases.items() if pair[0].m.outcome is None}
        self._cases[migration.number] = case, [check(case) for check in CHECKS]

    def before(self, step: Step) -> bool:
        """Show a message that the tracker has not taken into account; nearly none is."""
        fact = step.fact
        if type(fact) is not Said:
            return True
        if is_about_mouse(step.connection.channel_type, fact.side, fact.id):
            self._past.count(step.connection, fact)
        if _ordinary(step):
            return False
        case, checks = self._case_of(step)
        if case is not None:
            _note(case, step)
        for check in checks:
            check.before(step, fact)
        if is_migration_message(step.connection.channel_type, fact.side, fact.id):
            self._astray.look(step, fact, case)
        return True

    def after(self, step: Step) -> None:
        """Show a step that the tracker has taken into account."""
        fact = step.fact
        if type(fact) is Said:
            for check in self._case_of(step)[1]:
                check.after(step, fact)
        else:
            case, checks = self._case_of(step)
            if case is not None:
                _note(case, step)
            for check in checks:
                check.changed(step)
        self._past.note(step)

    def ended(self, migration: Migration) -> None:
        """Have the checks say what is missing."""
        found = self._cases.get(migration.number)
        for check in found[1] if found is not None else ():
            check.ended()

    def _case_of(self, step: Step) -> tuple[Case | None, Sequence[Check]]:
        """Return the case of a step, and the checks to which it is shown.

        What is said to a source when all is over, because nobody moved, is judged no more.
        """
        found = self._cases.get(step.migration.number) if step.migration is not None else None
        if found is None:
            return None, ()
        case, checks = found
        return case, checks if step.arriving or case.m.outcome is None else ()


def _note(case: Case, step: Step) -> None:
    """Let a case know its connections, the latest of each channel."""
    connection = step.connection
    channel = connection.channel or ""
    known = case.destination if step.arriving else case.source
    before = known.get(channel)
    linking = isinstance(step.fact, Opened | Linked | LinkFailed)
    if before is None or (linking and (connection.linked is not None or before.linked is None)):
        known[channel] = connection


def _ordinary(step: Step) -> bool:
    """Whether a message is one that no rule is about: nearly all of them, so that this has to be quick."""
    fact, connection, channel = step.fact, step.connection, step.channel
    assert type(fact) is Said  # noqa: S101  the caller asked
    if connection.channel_type == ChannelType.MAIN:
        return False
    if is_migration_message(connection.channel_type, fact.side, fact.id):
        return False
    if is_about_surfaces(connection.channel_type, fact.side, fact.id):
        return False
    if channel is None:
        return True
    if not step.arriving:
        return channel.migrate is None
    return connection.said[fact.side] > MAX_AFTER_SWITCH
