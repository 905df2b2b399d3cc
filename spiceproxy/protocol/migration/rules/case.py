"""One migration before the judge, and the checks that look at it."""

from typing import ClassVar, Final

from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import Evidence, Kind, Migration, Party, Severity, Violation
from spiceproxy.protocol.migration.rules.catalog import RULES
from spiceproxy.protocol.migration.rules.past import Past

# Messages on two connections can be captured in another order than that in which they were sent, by as much as
# the capture's own threads and clocks are apart.
CROSSING_NS: Final = 2_000_000
# What peers can do wrong without end is told so often.
MAX_VIOLATIONS: Final = 200
MAX_OF_A_RULE: Final = 20


class Case:
    """What checks know of a migration, and how they report.

    Args:
        migration: Violations are put here.
        source: Connections that were open at its source when it began, by channel.
        past: What is known of the session from before it.
    """

    def __init__(
        self, migration: Migration, source: dict[str, ConnectionState], past: Past | None = None
    ) -> None:
        self.m = migration
        self.source = source  # and those that were opened later, the latest of each channel
        self.destination: dict[str, ConnectionState] = {}  # the latest of each channel
        self.past = past or Past()
        # Two offers lie before the client, and nobody can tell which one its reply is for.
        self.muddled = any(self.past.unanswered.get(each.id) for each in source.values())
        self.previous = self.past.last  # the session's migration before this one, if it is remembered
        if self.previous is not None:
            self.previous.previous = None
        self.cancel_drawn = (
            False  # its CANCEL answers a reply that the source was not waiting for, and ends nothing
        )
        self._told: dict[str, int] = {}

    def report(
        self,
        rule: str,
        by: Party,
        message: str,
        *evidence: Evidence | None,
        channel: str | None = None,
        severity: Severity | None = None,
        needs: tuple[str, ...] = (),
    ) -> None:
        """Put a breach down, once, unless parts of the capture are missing that might show that it is none.

        Args:
            rule: Its id, "R28".
            by: Who broke it; one of those whom it binds.
            message: What was wrong, in a sentence without a full stop.
            evidence: The messages that show it, the one that is wrong last; None stands for one that is not there.
            channel: On which; taken from the evidence if not given.
            severity: If it is another than the rule's own.
            needs: Further channels on which the capture must be whole. That of the breach always must.
        """
        row = RULES[rule]
        assert by in row.bound, f"{rule} does not bind the {by}"  # noqa: S101  a slip of ours
        shown = [each for each in evidence if each is not None]
        channel = channel or (shown[0].channel if shown else None)
        if self._half_seen or not self.whole(*(needs if channel is None else (channel, *needs))):
            return
        violations = self.m.violations
        if any((each.rule, each.channel, each.message) == (rule, channel, message) for each in violations):
            return
        told = self._told[rule] = self._told.get(rule, 0) + 1
        if told > MAX_OF_A_RULE or len(violations) >= MAX_VIOLATIONS:
            return
        cause = self.past.cause(channel, shown)
        violations.append(Violation(rule, by, severity or row.severity, message, shown, channel, cause=cause))

    def whole(self, *channels: str) -> bool:
        """Whether the capture has all of these channels, as far as anybody knows."""
        if self.m.torn:
            return False
        known = self.m.channels
        return not any(name in known and known[name].damaged for name in channels)

    @property
    def _half_seen(self) -> bool:
        """Whether the capture begins in the middle of it: nobody knows what had been asked and said by then."""
        taking_part = (*self.source.values(), *self.destination.values())
        return not self.seen_from_start and any(each.midway for each in taking_part)

    @property
    def seen_from_start(self) -> bool:
        """Whether BEGIN, or a SWITCH_HOST without one, is in the capture."""
        return self.m.offered is not None

    @property
    def connects_ahead(self) -> bool:
        """Whether it began with a BEGIN that is in the capture: the client connects before the guest has moved."""
        return self.m.offered is not None and self.m.offered.kind is not Kind.SWITCH_HOST


class Check:
    """Looks at one migration with a few rules in mind. `said` and the others may be overridden; they do nothing here.

    Steps come in order. `step.arriving` tells connections to the destination from those to the source. `step.channel` is what
    the channel did so far: in `before`, without the fact of this step; in `after`, with it.
    """

    rules: ClassVar[tuple[str, ...]] = ()

    def __init__(self, case: Case) -> None:
        self.case, self.m = case, case.m

    def before(self, step: Step, said: Said) -> None:
        """A message has come; the migration does not know of it yet."""

    def after(self, step: Step, said: Said) -> None:
        """A message has come, and the migration knows."""

    def changed(self, step: Step) -> None:
        """A connection was opened, linked, refused or closed, and the migration knows."""

    def ended(self) -> None:
        """The migration is over. Messages of its connections to the destination may still come, and it may end once more."""
