"""DO_SEAMLESS and its answer: R13 to R15.

Sources: spice-gtk channel-main.c, spice_main_channel_send_migration_handshake(); spice-server main-channel-client.cpp,
handle_migrate_dst_do_seamless(); reds.cpp, reds_on_migrate_dst_set_seamless().
"""

from typing import Final

from dissectors.capabilities import MainCap
from dissectors.message_ids import Main, MainC
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import Evidence, Kind, Party
from spiceproxy.protocol.migration.rules.announcing import VERSION
from spiceproxy.protocol.migration.rules.case import Case, Check
from spiceproxy.protocol.migration.wording import duration, plain_name

# A server answers in milliseconds, unless the guest that comes in keeps it busy.
ANSWER_NS: Final = 5 * 10**9
_VERDICTS: Final = frozenset({Main.MIGRATE_DST_SEAMLESS_ACK, Main.MIGRATE_DST_SEAMLESS_NACK})


class Asking(Check):
    """Looks at what client and destination say of seamless."""

    rules = ("R13", "R14", "R15")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._asked: dict[str, Evidence] = {}  # by connection
        self._answered: dict[str, Evidence] = {}
        self._target: ConnectionState | None = None  # the latest that was asked

    def before(self, step: Step, said: Said) -> None:
        """Judge question and answer as they come."""
        if not step.arriving or not step.connection.is_main or self.case.muddled:
            return
        if said.side is Side.CLIENT and said.id == MainC.MIGRATE_DST_DO_SEAMLESS:
            self._ask(step.connection, said)
        elif said.side is Side.SERVER and said.id in _VERDICTS:
            self._answer(step.connection, said)

    def _ask(self, connection: ConnectionState, said: Said) -> None:
        offer, evidence = self.m.offered, connection.evidence(said)
        earlier = self._asked.get(connection.id)
        self._asked.setdefault(connection.id, evidence)
        self._target = connection
        name = "MIGRATE_DST_DO_SEAMLESS"
        if earlier is not None:
            self.case.report("R13", Party.CLIENT, f"a second {name} on one connection", earlier, evidence)
            return
        if connection.said[Side.CLIENT]:
            count = connection.said[Side.CLIENT]
            text = f"{name} is not the first message to the destination: {count} came before it"
            self.case.report("R13", Party.CLIENT, text, evidence)
        if offer is None:
            return
        if offer.kind is not Kind.SEAMLESS:
            text = f"{name} though {plain_name(offer.evidence.name)} did not offer seamless"
            self.case.report("R13", Party.CLIENT, text, offer.evidence, evidence)
        if not connection.server_caps.has_main(MainCap.SEAMLESS_MIGRATE):
            text = f"{name} to a destination without SEAMLESS_MIGRATE"
            self.case.report("R13", Party.CLIENT, text, evidence)
        version = _version(said)
        if version is not None and offer.version is not None and version != offer.version:
            text = f"{name} has version {version}; {plain_name(offer.evidence.name)} had {offer.version}"
            self.case.report("R13", Party.CLIENT, text, offer.evidence, evidence)

    def _answer(self, connection: ConnectionState, said: Said) -> None:
        evidence = connection.evidence(said)
        asked, earlier = self._asked.get(connection.id), self._answered.get(connection.id)
        self._answered.setdefault(connection.id, evidence)
        name, by = plain_name(evidence.name), Party.DESTINATION
        if asked is None:
            if self.m.outcome is None:
                self.case.report("R14", by, f"{name} though the client did not ask for seamless", evidence)
        elif earlier is not None:
            text = f"{name} after {plain_name(earlier.name)}: DO_SEAMLESS is answered once"
            self.case.report("R14", by, text, asked, earlier, evidence)
        version = self.m.handshake.version
        if said.id == Main.MIGRATE_DST_SEAMLESS_ACK and version is not None and version > VERSION:
            self.case.report("R15", by, f"{name} to version {version}", asked, evidence)

    def ended(self) -> None:
        """See whether an answer is missing."""
        target = self._target
        if target is None or target.id in self._answered or self.case.muddled:
            return
        asked, end = self._asked[target.id], self.m.ended_ns or 0
        if target.closing is not None:
            if target.closing.by == Side.SERVER.value:
                return  # the connection was lost
            end = min(end, target.closing.time_ns)
        if end - asked.time_ns > ANSWER_NS:
            text = f"MIGRATE_DST_DO_SEAMLESS was not answered within {duration(end - asked.time_ns)}"
            self.case.report("R14", Party.DESTINATION, text, asked)


def _version(said: Said) -> int | None:
    return None if said.body is None or len(said.body) < 4 else int.from_bytes(said.body[:4], "little")
