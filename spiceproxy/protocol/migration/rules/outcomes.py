"""How a source may end a migration: R19 to R23.

Sources: spice-server main-channel-client.cpp, migrate_src_complete(), handle_migrate_connected(), migrate(); red-client.cpp,
RedClient::migrate().
"""

from typing import Final

from dissectors.message_ids import Main, Msg
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import TIMEOUT_NS, ConnectionState, Step
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import Evidence, Kind, Outcome, Party
from spiceproxy.protocol.migration.rules.case import CROSSING_NS, Case, Check
from spiceproxy.protocol.migration.tables import REPLIES
from spiceproxy.protocol.migration.wording import duration, plain_name

WORDS: Final[dict[int, str]] = {
    Main.MIGRATE_END: "MIGRATE_END",
    Main.MIGRATE_CANCEL: "MIGRATE_CANCEL",
    Main.MIGRATE_SWITCH_HOST: "MIGRATE_SWITCH_HOST",
}
_SUCCESSES: Final = frozenset({"connected", "connected-seamless"})
# A source whose timer runs out may take a reply for late that was captured a little sooner.
_NEARLY_LATE_NS: Final = TIMEOUT_NS - 500_000_000
# A reply that was on its way when the source said its last word was captured no longer than this before it.
_ON_ITS_WAY_NS: Final = 10**9
# Without a CANCEL that shows it, a reply may have crossed the last word on a slow network.
_ROUND_TRIP_NS: Final = 250_000_000
# MIGRATE goes to all channels at once; a display with a full socket may be slower.
_ALL_NS: Final = TIMEOUT_NS // 2


class Outcomes(Check):
    """Looks at the source's last words, and whether the client's reply allows them."""

    rules = ("R19", "R20", "R21", "R22", "R23")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._words: dict[str, Evidence] = {}  # MIGRATE, MIGRATE_END ..., the first of each, in order
        # Successes that the source was not waiting for: each draws a CANCEL that ends nothing.
        self._drawing = 0
        self._migrated: dict[str, Evidence] = {}  # by connection

    def before(self, step: Step, said: Said) -> None:
        """Judge a word of the source by what came before it."""
        connection = step.connection
        if step.arriving:
            return
        if said.side is Side.SERVER:
            if said.id == Msg.MIGRATE:
                self._migrate(connection, said)
            elif connection.is_main and said.id in WORDS:
                self._word(WORDS[said.id], connection.evidence(said))
        elif connection.is_main and said.id in REPLIES and REPLIES[said.id] in _SUCCESSES:
            waiting = self.case.past.unanswered.get(connection.id) and not self._words
            late = said.time_ns - self.m.started_ns > _NEARLY_LATE_NS
            self._drawing += late or not waiting

    def _word(self, name: str, evidence: Evidence) -> None:
        earlier = next(iter(self._words.values()), None)
        if name == "MIGRATE_CANCEL" and self._drawn(earlier):
            return
        if name == "MIGRATE_SWITCH_HOST":
            earlier = earlier or self._cancelled_before(evidence)
        self._words.setdefault(name, evidence)
        if earlier is not None:
            text = f"{name} after {plain_name(earlier.name)}: an attempt ends in one way"
            self.case.report("R19", Party.SOURCE, text, earlier, evidence)
        elif name == "MIGRATE_END":
            self._end(evidence)

    def _drawn(self, earlier: Evidence | None) -> bool:
        """Whether a CANCEL is the answer to a reply that the source was not waiting for."""
        if self._drawing:
            self._drawing -= 1
            self.case.cancel_drawn = True
            return True
        replied = self.m.handshake.reply_evidence
        crossed = (
            earlier is not None
            and replied is not None
            and self.m.handshake.reply in _SUCCESSES
            and earlier.time_ns - replied.time_ns < _ON_ITS_WAY_NS
        )
        self.case.cancel_drawn = self.case.cancel_drawn or crossed
        return crossed

    def _cancelled_before(self, switch: Evidence) -> Evidence | None:
        """CANCEL of the attempt before this one, if SWITCH_HOST came after it with no BEGIN in between."""
        before = self.case.previous
        if self.case.connects_ahead or before is None or before.m.outcome is not Outcome.CANCELLED:
            return None
        cancel = before.m.ending.cancel
        if cancel is None or cancel.connection != switch.connection or before.cancel_drawn:
            return None
        # After 10 s the reply may have reached the source too late, though it was captured in time.
        return None if cancel.time_ns - before.m.started_ns > _NEARLY_LATE_NS else cancel

    def _end(self, evidence: Evidence) -> None:
        reply, replied = self.m.handshake.reply, self.m.handshake.reply_evidence
        if self.m.offered is None or self.case.muddled or reply == "connected":
            return
        what = f"after {plain_name(replied.name)}" if replied is not None else "without a reply of the client"
        text = f"MIGRATE_END {what}: it needs MIGRATE_CONNECTED"
        self.case.report("R21", Party.SOURCE, text, replied or self.m.offered.evidence, evidence)

    def _migrate(self, connection: ConnectionState, said: Said) -> None:
        evidence = connection.evidence(said)
        first = self._migrated.get(connection.id)
        if first is not None:
            text = f"a second MIGRATE on {connection.channel}, {duration(said.time_ns - first.time_ns)} after the first"
            self.case.report("R23", Party.SOURCE, text, first, evidence)
            return
        self._migrated[connection.id] = evidence
        if "MIGRATE" not in self._words:
            self._word("MIGRATE", evidence)

    def ended(self) -> None:
        """Judge what could still have been called for by a message on another connection, and what is missing."""
        words, offer = list(self._words.items()), self.m.offered
        if offer is None or self.case.muddled:
            return
        name, word = words[0] if words else ("", None)
        if word is not None and name == "MIGRATE":
            self._migrate_allowed(word, offer.evidence)
        elif word is not None and name == "MIGRATE_SWITCH_HOST":
            self._switch_allowed(word)
        if self.m.performed is Kind.SEAMLESS and "MIGRATE" in self._words:
            self._all_migrated(self._words["MIGRATE"])

    def _migrate_allowed(self, word: Evidence, begin: Evidence) -> None:
        handshake = self.m.handshake
        replied, reply = handshake.reply_evidence, handshake.reply
        if replied is not None and replied.time_ns > word.time_ns + CROSSING_NS:
            replied, reply = None, None
        if reply == "connected-seamless" and not handshake.late:
            return
        if replied is None:
            what = "without a reply of the client"
        else:
            what = f"after {plain_name(replied.name)}" + (", which came too late" if handshake.late else "")
        text = f"MIGRATE {what}: it needs MIGRATE_CONNECTED_SEAMLESS in time"
        self.case.report(
            "R20", Party.SOURCE, text, replied or begin, word, channel=word.channel, needs=("main:0",)
        )

    def _switch_allowed(self, word: Evidence) -> None:
        replied = self.m.handshake.reply_evidence
        if replied is None or self.m.handshake.reply not in _SUCCESSES or self.case.cancel_drawn:
            return
        if (
            replied.time_ns > word.time_ns - _ROUND_TRIP_NS
            or replied.time_ns - self.m.started_ns > _NEARLY_LATE_NS
        ):
            return
        text = (
            f"MIGRATE_SWITCH_HOST though the client had said {plain_name(replied.name)} "
            f"{duration(word.time_ns - replied.time_ns)} before"
        )
        self.case.report("R22", Party.SOURCE, text, replied, word)

    def _all_migrated(self, word: Evidence) -> None:
        for name, connection in self.case.source.items():
            linked, closing = connection.linked, connection.closing
            if linked is None or linked.time_ns > word.time_ns or connection.id in self._migrated:
                continue
            until = closing.time_ns if closing is not None else self.m.ended_ns or 0
            if until - word.time_ns > _ALL_NS:
                text = f"no MIGRATE on {name} within {duration(until - word.time_ns)} of the first one, on {word.channel}"
                self.case.report("R23", Party.SOURCE, text, word, channel=name, needs=("main:0",))
