"""What a client may answer to BEGIN, and when: R7 to R10, R43, R50.

Sources: spice-gtk channel-main.c, main_handle_migrate_begin() and what it calls; spice-server main-channel-client.cpp,
MainChannelClient::handle_migrate_connected(); reds.cpp, MIGRATE_TIMEOUT.
"""

from typing import Final

from dissectors.capabilities import MainCap
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import TIMEOUT_NS, ConnectionState, Step
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import Ending, Evidence, Kind, Party
from spiceproxy.protocol.migration.rules.case import CROSSING_NS, Case, Check
from spiceproxy.protocol.migration.tables import REPLIES
from spiceproxy.protocol.migration.wording import duration, plain_name

# Timers fire late, and a capture is made on one side of a network.
SLACK_NS: Final = 500_000_000
PROMPT_NS: Final = 10**9  # in which a server that does not sleep has answered


class Replying(Check):
    """Looks at the client's reply, and what it was given for."""

    rules = ("R7", "R8", "R9", "R10", "R43", "R50")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._source: ConnectionState | None = case.source.get("main:0")
        self._target: ConnectionState | None = None  # main at the destination when the client replied
        self._talk: Evidence | None = None  # what the client first said while it should be connecting

    def before(self, step: Step, said: Said) -> None:
        """Judge what the client says to the source on main."""
        connection = step.connection
        if step.arriving or not connection.is_main or said.side is not Side.CLIENT:
            return
        handshake = self.m.handshake
        if said.id not in REPLIES:
            self._talks(connection, said)
            return
        evidence = connection.evidence(said)
        earlier = handshake.reply_evidence
        before_capture = connection.midway and earlier is None  # there may have been a BEGIN
        if not self.case.past.unanswered.get(connection.id) and not before_capture:
            what = f"after {plain_name(earlier.name)}" if earlier else "though no BEGIN was sent"
            text = f"{plain_name(evidence.name)} {what}"
            self.case.report("R7", Party.CLIENT, text, earlier, evidence)
        if handshake.reply is None:
            self._target = self.case.destination.get("main:0")

    def _talks(self, connection: ConnectionState, said: Said) -> None:
        m, target = self.m, self.case.destination.get("main:0")
        if self._talk is not None or not self.case.connects_ahead or m.handshake.reply is not None:
            return
        # The client has read BEGIN once it connects; what it wrote before that may arrive a while later.
        if target is None or target.opened_ns is None or said.time_ns < target.opened_ns + CROSSING_NS:
            return
        if m.ending == Ending():
            self._talk = connection.evidence(said)

    def _talked(self, begin: Evidence, replied: Evidence | None) -> None:
        """What waited to be written comes together with the reply."""
        talk = self._talk
        if talk is not None and (replied is None or replied.time_ns - talk.time_ns > CROSSING_NS):
            text = (
                f"the client spoke on the source's main between BEGIN and its reply: {plain_name(talk.name)}"
            )
            self.case.report("R8", Party.CLIENT, text, begin, talk)

    def ended(self) -> None:
        """Judge the reply by what the destination said, and by its time."""
        offer = self.m.offered
        if offer is None or not self.case.connects_ahead or self.case.muddled:
            return
        replied = self.m.handshake.reply_evidence
        self._talked(offer.evidence, replied)
        if replied is None:
            self._no_reply(offer.evidence)
            return
        waited = replied.time_ns - offer.evidence.time_ns
        if waited > TIMEOUT_NS + SLACK_NS:
            text = f"{plain_name(replied.name)} came {duration(waited)} after BEGIN: the source waits 10 s"
            self.case.report("R43", Party.CLIENT, text, offer.evidence, replied)
            if self.m.handshake.reply != "connect-error":
                self._late_success(replied)
        if replied.name.endswith("MIGRATE_CONNECTED_SEAMLESS"):
            self._seamless(offer.evidence, replied)
        elif self.m.handshake.reply == "connected" and offer.kind is Kind.SEAMLESS:
            verdict = self.m.handshake.verdict_evidence
            if self.m.handshake.verdict == "ack" and verdict and verdict.time_ns < replied.time_ns:
                text = "MIGRATE_CONNECTED after the destination's ACK: it expects a seamless migration"
                self.case.report("R50", Party.CLIENT, text, verdict, replied)

    def _seamless(self, begin: Evidence, replied: Evidence) -> None:
        handshake, target = self.m.handshake, self._target
        if self.m.offered is not None and self.m.offered.kind is not Kind.SEAMLESS:
            text = "MIGRATE_CONNECTED_SEAMLESS though MIGRATE_BEGIN did not offer it"
            self.case.report("R9", Party.CLIENT, text, begin, replied)
            return
        verdict = handshake.verdict_evidence
        if verdict is not None and verdict.time_ns > replied.time_ns + CROSSING_NS:
            verdict = None
        if verdict is not None and handshake.verdict == "ack":
            return
        lacks = (
            target is not None and target.linked and not target.server_caps.has_main(MainCap.SEAMLESS_MIGRATE)
        )
        if verdict is not None:
            text = "MIGRATE_CONNECTED_SEAMLESS after the destination's NACK"
            self.case.report("R10", Party.CLIENT, text, verdict, replied)
        elif lacks:
            text = "MIGRATE_CONNECTED_SEAMLESS though the destination lacks SEAMLESS_MIGRATE"
            self.case.report("R10", Party.CLIENT, text, begin, replied)
        elif (self.m.ended_ns or 0) - replied.time_ns > CROSSING_NS:
            text = "MIGRATE_CONNECTED_SEAMLESS without an ACK of the destination"
            self.case.report("R9", Party.CLIENT, text, begin, replied)

    def _no_reply(self, begin: Evidence) -> None:
        until = [self.m.ended_ns or 0]
        ending, main = self.m.ending, self._source
        words = (ending.migrate, ending.end, ending.cancel, ending.switch_host)
        until += [each.time_ns for each in words if each is not None]
        if main is not None and main.closing is not None:
            until.append(main.closing.time_ns)
        waited = min(until) - begin.time_ns
        if waited > TIMEOUT_NS + SLACK_NS:
            text = f"no reply to BEGIN within {duration(waited)}: the source waits 10 s"
            self.case.report("R43", Party.CLIENT, text, begin)

    def _late_success(self, replied: Evidence) -> None:
        """The source answers such a reply with CANCEL."""
        cancel, main = self.m.ending.cancel, self._source
        if cancel is not None or main is None:
            return
        end = self.m.ended_ns or 0
        if main.closing is not None:
            end = min(end, main.closing.time_ns)
        if end - replied.time_ns > PROMPT_NS:
            text = (
                f"no MIGRATE_CANCEL within {duration(end - replied.time_ns)} of a success that came too late"
            )
            self.case.report("R43", Party.SOURCE, text, replied)
