"""Messages of a migration where none goes on, or on the wrong one of its two sides.

In the field such messages kill servers: an unasked FLUSH_MARK, a MIGRATE that a client answers, DO_SEAMLESS to a server that
nobody migrates to.

Sources: spice-server red-channel-client.cpp, handle_migrate_flush_mark(); main-channel-client.cpp,
handle_migrate_dst_do_seamless(), handle_migrate_connected(); what real servers did when it was tried.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import Outcome, Party, Violation
from spiceproxy.protocol.migration.rules.case import MAX_OF_A_RULE, MAX_VIOLATIONS, Case
from spiceproxy.protocol.migration.rules.catalog import RULES
from spiceproxy.protocol.migration.rules.past import Past
from spiceproxy.protocol.migration.tables import NEED_DATA, NEED_FLUSH


class _Row(NamedTuple):
    rule: str
    leaving: bool  # it belongs to a connection that is left in a migration; False: to one that arrives
    text: str  # what it is


_COMMON: Final[dict[tuple[Side, int], _Row]] = {
    (Side.SERVER, Msg.MIGRATE): _Row("R20", True, "MIGRATE"),
    (Side.SERVER, Msg.MIGRATE_DATA): _Row("R26", True, "MIGRATE_DATA of the server"),
    (Side.CLIENT, MsgC.MIGRATE_FLUSH_MARK): _Row("R28", True, "FLUSH_MARK"),
    (Side.CLIENT, MsgC.MIGRATE_DATA): _Row("R49", False, "MIGRATE_DATA of the client"),
}
_MAIN: Final[dict[tuple[Side, int], _Row]] = {
    **_COMMON,
    (Side.SERVER, Main.MIGRATE_CANCEL): _Row("R48", True, "MIGRATE_CANCEL"),
    (Side.SERVER, Main.MIGRATE_END): _Row("R21", True, "MIGRATE_END of the server"),
    (Side.CLIENT, MainC.MIGRATE_CONNECTED): _Row("R7", True, "MIGRATE_CONNECTED"),
    (Side.CLIENT, MainC.MIGRATE_CONNECTED_SEAMLESS): _Row("R7", True, "MIGRATE_CONNECTED_SEAMLESS"),
    (Side.CLIENT, MainC.MIGRATE_CONNECT_ERROR): _Row("R7", True, "MIGRATE_CONNECT_ERROR"),
    (Side.SERVER, Main.MIGRATE_DST_SEAMLESS_ACK): _Row("R14", False, "MIGRATE_DST_SEAMLESS_ACK"),
    (Side.SERVER, Main.MIGRATE_DST_SEAMLESS_NACK): _Row("R14", False, "MIGRATE_DST_SEAMLESS_NACK"),
    (Side.CLIENT, MainC.MIGRATE_DST_DO_SEAMLESS): _Row("R13", False, "MIGRATE_DST_DO_SEAMLESS"),
    (Side.CLIENT, MainC.MIGRATE_END): _Row("R40", False, "MIGRATE_END of the client"),
}
_WORDS: Final = frozenset(
    {Main.MIGRATE_END, Main.MIGRATE_CANCEL}
)  # of a source, on main, for the whole migration


class Astray:
    """Looks at messages of migrations in one session.

    Args:
        past: What is known of the session.
    """

    def __init__(self, past: Past) -> None:
        self.violations: list[Violation] = []  # that belong to no migration
        self._past = past

    def look(self, step: Step, said: Said, case: Case | None) -> None:
        """See whether a message, not yet taken into account, belongs where it is.

        Args:
            step: Any message that is part of migrations.
            said: It.
            case: That of the step's migration, if there is one.
        """
        connection = step.connection
        table = _MAIN if connection.channel_type == ChannelType.MAIN else _COMMON
        row = table.get((said.side, said.id))
        if row is None or (step.migration is not None and row.leaving != step.arriving):
            return
        if not self._past.sees(connection) or (case is not None and not case.seen_from_start):
            return
        if row.rule == "R7" and self._past.unanswered.get(connection.id):
            return  # late, but asked for
        if case is not None and case.m.outcome is None:
            server = Party.DESTINATION if step.arriving else Party.SOURCE
            by = Party.CLIENT if said.side is Side.CLIENT else server
            for rule, text in self._rules(row, connection, f"{row.text} on a connection to the {server}"):
                case.report(rule, by, text, connection.evidence(said))
            return
        self._alone(row, connection, said)

    def _alone(self, row: _Row, connection: ConnectionState, said: Said) -> None:
        """No migration goes on."""
        case = self._cancelled(connection)
        if said.side is Side.SERVER and said.id == Msg.MIGRATE:
            body = said.body
            flags = int.from_bytes(body[:4], "little") if body is not None and len(body) >= 4 else 3
            self._past.astray(connection, flags)
        elif self._asked(connection, said):
            return
        if case is not None and (said.id == Msg.MIGRATE or said.id in _WORDS) and said.side is Side.SERVER:
            if case.cancel_drawn:
                if case.m.handshake.late and row.rule in {"R20", "R21"}:
                    text = f"{row.text} after a reply that came too late"
                    replied = case.m.handshake.reply_evidence
                    case.report(row.rule, Party.SOURCE, text, replied, connection.evidence(said))
            else:
                cancel = case.m.ending.cancel
                text = f"{row.text} after MIGRATE_CANCEL, with no other BEGIN in between"
                case.report("R19", Party.SOURCE, text, cancel, connection.evidence(said))
            return
        for rule, text in self._rules(row, connection, f"{row.text} though no migration goes on"):
            self._tell(rule, _alone_by(said), text, connection, said)

    def _asked(self, connection: ConnectionState, said: Said) -> bool:
        """Whether a MIGRATE that should not have come called for this; once."""
        flags = self._past.moved_astray.get(connection.id)
        if flags is None:
            return False
        needed = NEED_FLUSH if said.id == MsgC.MIGRATE_FLUSH_MARK and said.side is Side.CLIENT else 0
        needed = needed or (NEED_DATA if said.id == Msg.MIGRATE_DATA and said.side is Side.SERVER else 0)
        if not flags & needed:
            return False
        self._past.astray(connection, flags & ~needed)
        return True

    def _rules(self, row: _Row, connection: ConnectionState, text: str) -> Iterator[tuple[str, str]]:
        yield row.rule, text
        if row.rule in {"R21", "R48"} and not self._past.settled(connection):
            yield "R1", f"{row.text} before MAIN_INIT"

    def _cancelled(self, connection: ConnectionState) -> Case | None:
        """The cancelled migration in which this connection was to be left, if it was the last one."""
        case = self._past.last
        if case is None or case.m.outcome is not Outcome.CANCELLED:
            return None
        return case if case.source.get(connection.channel or "") is connection else None

    def _tell(self, rule: str, by: Party, text: str, connection: ConnectionState, said: Said) -> None:
        told = sum(each.rule == rule for each in self.violations)
        if told < MAX_OF_A_RULE and len(self.violations) < MAX_VIOLATIONS:
            evidence = connection.evidence(said)
            cause = self._past.cause(connection.channel, [evidence])
            self.violations.append(
                Violation(rule, by, RULES[rule].severity, text, [evidence], connection.channel, cause=cause)
            )


def _alone_by(said: Said) -> Party:
    """Who said it. Where nothing migrates, a server counts as the source, but as the destination where only that speaks so."""
    if said.side is Side.CLIENT:
        return Party.CLIENT
    verdict = said.id in {Main.MIGRATE_DST_SEAMLESS_ACK, Main.MIGRATE_DST_SEAMLESS_NACK}
    return Party.DESTINATION if verdict else Party.SOURCE
