"""How a client begins at the destination after the switch: R39 to R41.

Sources: spice-gtk channel-main.c, main_handle_migrate_end() and main_handle_init(); spice-server red-client.cpp,
semi_seamless_migrate_complete(); main-channel-client.cpp, MainChannelClient::migrate_dst_complete().
"""

from dissectors.message_ids import Main, MainC, Msg
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import Evidence, Kind, Party
from spiceproxy.protocol.migration.rules.case import CROSSING_NS, Case, Check
from spiceproxy.protocol.migration.wording import plain_name


class Arriving(Check):
    """Looks at the first words on connections to the destination when the source has said how it ends."""

    rules = ("R39", "R40", "R41")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._early: dict[str, Evidence] = {}  # before MAIN_INIT, by channel
        self._spoken: set[Side] = set()  # who has begun on main, well or not

    def before(self, step: Step, said: Said) -> None:
        """Judge what is said on the destination's main, and note what the client says on others too early."""
        connection, kind = step.connection, self.m.performed
        if not step.arriving or not connection.connection_id or self.case.muddled:
            return
        if kind is Kind.SEAMLESS and connection.is_main:
            self._seamless(connection, said)
        elif kind is Kind.SEMI_SEAMLESS and self.m.offered is not None:
            if connection.is_main:
                self._semi(connection, said)
            elif said.side is Side.CLIENT and self.m.ending.init is None and self.m.outcome is None:
                self._early.setdefault(connection.channel or "", connection.evidence(said))

    def _seamless(self, connection: ConnectionState, said: Said) -> None:
        evidence = connection.evidence(said)
        if said.side is Side.SERVER and said.id == Main.INIT:
            text = "the destination sent MAIN_INIT in a seamless migration"
            self.case.report("R39", Party.DESTINATION, text, self.m.ending.migrate, evidence)
        elif said.side is Side.CLIENT and said.id == MainC.ATTACH_CHANNELS:
            text = "the client said ATTACH_CHANNELS in a seamless migration"
            self.case.report("R39", Party.CLIENT, text, self.m.ending.migrate, evidence)
        elif said.side is Side.CLIENT and said.id == MainC.MIGRATE_END:
            text = "the client said MIGRATE_END in a seamless migration"
            self.case.report("R40", Party.CLIENT, text, self.m.ending.migrate, evidence)

    def _semi(self, connection: ConnectionState, said: Said) -> None:
        ending, evidence = self.m.ending, connection.evidence(said)
        name = plain_name(evidence.name)
        if said.side is Side.CLIENT:
            if said.id == MainC.MIGRATE_END:
                if ending.client_end is not None:
                    text = "a second MIGRATE_END of the client"
                    self.case.report("R40", Party.CLIENT, text, ending.client_end, evidence)
            elif (
                ending.client_end is None
                and said.id != MainC.MIGRATE_DST_DO_SEAMLESS
                and Side.CLIENT not in self._spoken
            ):
                text = f"the client's first message to the destination after MIGRATE_END is {name}, not MIGRATE_END"
                self.case.report("R40", Party.CLIENT, text, ending.end, evidence)
            self._spoken.add(Side.CLIENT)
            return
        if ending.client_end is None or ending.init is not None or Side.SERVER in self._spoken:
            return
        asked = self.m.handshake.do_seamless is not None
        verdicts = {Main.MIGRATE_DST_SEAMLESS_ACK, Main.MIGRATE_DST_SEAMLESS_NACK, Msg.PING}
        if said.id == Main.INIT or (asked and said.id in verdicts):
            return
        self._spoken.add(Side.SERVER)
        text = f"the destination's first message after the client's MIGRATE_END is {name}, not MAIN_INIT"
        self.case.report("R40", Party.DESTINATION, text, ending.client_end, evidence)

    def after(self, step: Step, said: Said) -> None:
        """Judge the session id of MAIN_INIT."""
        connection, ending = step.connection, self.m.ending
        if self.m.performed is not Kind.SEMI_SEAMLESS or not step.arriving or not connection.is_main:
            return
        if said.side is not Side.SERVER or said.id != Main.INIT or self.case.muddled:
            return
        ours, theirs = self.m.session_id, connection.session_id
        if ours is not None and theirs is not None and ours != theirs and connection.connection_id:
            text = (
                f"MAIN_INIT of the destination has session id {theirs:#x}; that of the source had {ours:#x}"
            )
            self.case.report("R40", Party.DESTINATION, text, ending.client_end, connection.evidence(said))

    def ended(self) -> None:
        """Tell what was said before MAIN_INIT, however the capture orders them."""
        init = self.m.ending.init
        called = init.time_ns if init is not None else self.m.ended_ns or 0
        for name, evidence in self._early.items():
            if called > evidence.time_ns + CROSSING_NS:
                text = f"the client said {plain_name(evidence.name)} on {name} of the destination before its MAIN_INIT"
                end = self.m.ending.end
                self.case.report("R41", Party.CLIENT, text, evidence, end, channel=name, needs=("main:0",))
