"""How a client links the destination: R11 and R12.

Sources: spice-gtk spice-session.c, spice_session_new_from_session(); channel-main.c, migrate_channel_new_cb(), which begins
with the other channels when main is up.
"""

from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Linked, LinkFailed
from spiceproxy.protocol.migration.model import Evidence, Party
from spiceproxy.protocol.migration.rules.case import CROSSING_NS, Case, Check
from spiceproxy.protocol.migration.wording import duration


class Linking(Check):
    """Looks at the links that a client makes after BEGIN."""

    rules = ("R11", "R12")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._linked: dict[str, int] = {}  # channels at the destination, and since when
        self._others: dict[str, tuple[str, int]] = {}  # but main: connections, and when they were dialled
        self._main_failed = False

    def changed(self, step: Step) -> None:
        """Judge a link to the destination, well or not."""
        fact, connection, offer = step.fact, step.connection, self.m.offered
        if not step.arriving or connection.channel is None or not isinstance(fact, Linked | LinkFailed):
            return
        if not self.case.connects_ahead or self.case.muddled or offer is None or self.m.outcome is not None:
            return
        if self.m.ending.switch_host is not None:
            return  # a new session may begin, and links that were on their way may still come up
        if isinstance(fact, Linked):
            self._linked.setdefault(connection.channel, fact.time_ns)
        self._id(connection, offer.evidence)
        if not connection.is_main:
            began_ns = fact.time_ns if connection.opened_ns is None else connection.opened_ns
            self._others.setdefault(connection.channel, (connection.id, began_ns))
        elif connection.failed is not None:
            self._main_failed = True

    def _id(self, connection: ConnectionState, begin: Evidence) -> None:
        ours, theirs = self.m.session_id, connection.connection_id
        if ours is None or theirs is None or ours == theirs:
            return
        text = (
            f"{connection.channel} ({connection.id}) was linked at the destination with connection id {theirs:#x}; "
            f"MAIN_INIT of the source gave {ours:#x}"
        )
        self.case.report("R11", Party.CLIENT, text, begin, channel=connection.channel, needs=("main:0",))

    def _order(self, begin: Evidence) -> None:
        """See whether main was linked before the others were dialled."""
        if self._main_failed:
            return  # refused, or encrypted
        main_ns = self._linked.get("main:0")
        for name, (connection, begun_ns) in self._others.items():
            if main_ns is not None and main_ns <= begun_ns + CROSSING_NS:
                continue
            when = "" if main_ns is None else f"{duration(main_ns - begun_ns)} "
            text = f"{name} ({connection}) was linked at the destination {when}before main was"
            self.case.report("R11", Party.CLIENT, text, begin, channel=name, needs=("main:0",))

    def ended(self) -> None:
        """Judge the order of links, and hold the channels that were linked there against those that were open here."""
        offer, replied = self.m.offered, self.m.handshake.reply_evidence
        if offer is None or self.case.muddled or not self.case.connects_ahead:
            return
        self._order(offer.evidence)
        if replied is None or self.m.handshake.reply == "connect-error":
            return
        begun, now, switch = offer.evidence.time_ns, replied.time_ns, self.m.ending.switch_host
        if switch is not None and switch.time_ns < now:
            return  # it was ended before all were up
        here = [
            name
            for name, connection in self.case.source.items()
            if connection.linked is not None
            and connection.linked.time_ns <= begun
            and (connection.closing is None or connection.closing.time_ns > now)
        ]
        there = {name for name, since in self._linked.items() if since <= now + CROSSING_NS}
        for name in here:
            if name not in there:
                text = f"{name} is open at the source and was not linked at the destination"
                self.case.report("R12", Party.CLIENT, text, replied, channel=name, needs=("main:0",))
        for name in self._linked:
            if name not in self.case.source:
                text = f"{name} was linked at the destination, and is not open at the source"
                self.case.report("R12", Party.CLIENT, text, replied, channel=name, needs=("main:0",))
