"""Before the switch: the client says nothing to the destination, and that keeps to itself as well: R16 to R18.

Sources: spice-gtk channel-main.c and spice-channel.c, where channels of a migration are not read or written before the switch;
spice-server main-channel.cpp, main_channel_link(); reds.cpp, reds_mig_target_client_add_pending_link(); dcc.cpp, dcc_start().

Order across connections is not reliable: what was captured a little before the message that calls for it is left alone. So
breaches are told when the migration is over.
"""

from typing import Final

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import Step
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import ChannelMigration, Evidence, Kind, Party
from spiceproxy.protocol.migration.rules.case import CROSSING_NS, Case, Check
from spiceproxy.protocol.migration.tables import NEED_DATA, REPLIES
from spiceproxy.protocol.migration.wording import plain_name

# These belong on a connection to the source; other rules are about them.
_ASTRAY: Final = frozenset({int(MsgC.MIGRATE_FLUSH_MARK)})
_ASTRAY_ON_MAIN: Final = _ASTRAY | {*map(int, REPLIES), int(MainC.MIGRATE_DST_DO_SEAMLESS)}
_OF_A_SESSION: Final = frozenset({int(Main.INIT), int(Main.CHANNELS_LIST)})
_VERDICTS: Final = frozenset({int(Main.MIGRATE_DST_SEAMLESS_ACK), int(Main.MIGRATE_DST_SEAMLESS_NACK)})
_OF_A_SOURCE: Final = frozenset({int(Msg.MIGRATE), int(Msg.MIGRATE_DATA)})


class BeforeSwitch(Check):
    """Looks at connections to the destination until the source has said how it ends."""

    rules = ("R16", "R17", "R18")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._early: dict[tuple[str, str], Evidence] = {}  # the first breach of a rule on each channel

    def before(self, step: Step, said: Said) -> None:
        """Note what is said too early."""
        connection, channel = step.connection, step.channel
        if not step.arriving or channel is None or not self.case.connects_ahead or self.case.muddled:
            return
        if (
            self.m.outcome is not None
            or self.m.ending.switch_host is not None
            or not connection.connection_id
        ):
            return
        if said.side is Side.CLIENT:
            astray = _ASTRAY_ON_MAIN if connection.is_main else _ASTRAY
            rule = "R16" if said.id not in astray and self._stays(channel) else None
        else:
            rule = self._of_server(channel, said, main=connection.is_main)
        if rule is not None:
            self._early.setdefault((rule, channel.channel), connection.evidence(said))

    def _stays(self, channel: ChannelMigration) -> bool:
        """Whether the client has no reason to use the destination yet."""
        return self.m.performed is None or (self.m.performed is Kind.SEAMLESS and channel.migrate is None)

    def _of_server(self, channel: ChannelMigration, said: Said, *, main: bool) -> str | None:
        m = self.m
        if said.id in _OF_A_SOURCE:
            return None
        if main and said.id in _OF_A_SESSION and m.performed is None:
            return "R17"
        if channel.channel_type == ChannelType.DISPLAY and self._no_state_yet(channel):
            return "R17"
        handshake = m.handshake
        seamless = handshake.verdict == "ack" or (handshake.do_seamless and handshake.verdict is None)
        if seamless or m.performed is Kind.SEAMLESS or m.ending.client_end is not None:
            return None
        if main and (said.id in _VERDICTS or (said.id == Msg.PING and handshake.verdict == "nack")):
            return None
        return "R18"

    def _no_state_yet(self, channel: ChannelMigration) -> bool:
        if self.m.performed is None:
            return True
        if self.m.performed is not Kind.SEAMLESS or channel.data_to_destination is not None:
            return False
        return channel.migrate is None or channel.flags is None or bool(channel.flags & NEED_DATA)

    def ended(self) -> None:
        """Tell what no message calls for, however the capture orders them."""
        ending, handshake = self.m.ending, self.m.handshake
        asked = handshake.do_seamless if handshake.verdict != "nack" else None
        for (rule, name), evidence in self._early.items():
            channel = self.m.channels[name]
            callers = [ending.end, ending.switch_host, ending.client_end]
            if rule == "R16":
                callers = [channel.migrate, ending.end, ending.switch_host]
            elif rule == "R18":
                callers.append(asked)
            called = min((each.time_ns for each in callers if each is not None), default=self.m.ended_ns or 0)
            if called <= evidence.time_ns + CROSSING_NS:
                continue
            said = plain_name(evidence.name)
            if rule == "R16":
                text, by = f"the client said {said} to the destination before the switch", Party.CLIENT
            elif rule == "R17":
                text, by = f"the destination sent {said} before the switch", Party.DESTINATION
            else:
                text = f"the destination sent {said} before the client's MIGRATE_END, though it does not take part in seamless"
                by = Party.DESTINATION
            self.case.report(rule, by, text, evidence, needs=("main:0",))
