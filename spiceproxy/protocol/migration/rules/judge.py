"""The judge of a session: shows each step of a migration to the checks of all rules."""

from collections.abc import Sequence
from typing import Final

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Said, is_migration_message
from spiceproxy.protocol.migration.model import Migration
from spiceproxy.protocol.migration.rules.case import Case, Check

CHECKS: Final[Sequence[type[Check]]] = ()

# Behind the switch, rules are about the first messages of the destination. So many of a connection are shown.
MAX_AFTER_SWITCH: Final = 64


class RuleJudge:
    """Judges the migrations of one session."""

    def __init__(self) -> None:
        self._cases: dict[int, tuple[Case, list[Check]]] = {}  # by number: those that go on, and the last one

    def watches(self, channel_type: int, side: Side, message_id: int) -> bool:
        """None: no rule is about what is said while no migration goes on."""
        return False

    def started(self, migration: Migration, source: list[ConnectionState]) -> None:
        """A migration has begun."""
        case = Case(migration, {each.channel: each for each in source if each.channel is not None})
        self._cases = {number: pair for number, pair in self._cases.items() if pair[0].m.outcome is None}
        self._cases[migration.number] = case, [check(case) for check in CHECKS]

    def before(self, step: Step) -> None:
        """Show a message that the tracker has not taken into account."""
        if type(step.fact) is Said and (found := self._case_of(step)) is not None and not _ordinary(step):
            for check in found[1]:
                check.before(step, step.fact)

    def after(self, step: Step) -> None:
        """Show a step that the tracker has taken into account."""
        fact = step.fact
        if type(fact) is Said:
            if (found := self._case_of(step)) is not None and not _ordinary(step):
                for check in found[1]:
                    check.after(step, fact)
        elif (found := self._case_of(step)) is not None:
            case, checks = found
            if step.arriving and step.connection.channel is not None:
                case.destination[step.connection.channel] = step.connection
            for check in checks:
                check.changed(step)

    def ended(self, migration: Migration) -> None:
        """Have the checks say what is missing."""
        if (found := self._cases.get(migration.number)) is not None:
            for check in found[1]:
                check.ended()

    def _case_of(self, step: Step) -> tuple[Case, list[Check]] | None:
        return None if step.migration is None else self._cases.get(step.migration.number)


def _ordinary(step: Step) -> bool:
    """Whether a message is one that no rule is about: nearly all of them, so that this has to be quick."""
    fact, connection, channel = step.fact, step.connection, step.channel
    assert type(fact) is Said  # noqa: S101  the caller asked
    if connection.channel_type == ChannelType.MAIN or channel is None:
        return False
    if is_migration_message(connection.channel_type, fact.side, fact.id):
        return False
    if not step.arriving:
        return channel.migrate is None
    return connection.said[fact.side] > MAX_AFTER_SWITCH
