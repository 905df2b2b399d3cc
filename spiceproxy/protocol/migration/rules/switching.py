"""How a channel leaves the source: R24 to R30, and R38 on cursor.

Sources: spice-server red-channel-client.cpp, RedChannelClient::handle_migrate_flush_mark(), and the channels' constructors;
spice-gtk spice-channel.c, spice_channel_handle_migrate(); cursor-channel.cpp, cursor_channel_client_migrate().
"""

from typing import Final

from dissectors.capabilities import DisplayCap, has_capability
from dissectors.channels import ChannelType
from dissectors.message_ids import Cursor, Msg, MsgC, Playback, Record
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Said, is_migration_message
from spiceproxy.protocol.migration.model import ChannelMigration, Evidence, Party, Severity
from spiceproxy.protocol.migration.rules.case import Check
from spiceproxy.protocol.migration.tables import NEED_DATA, NEED_FLUSH, PLAIN_CHANNELS
from spiceproxy.protocol.migration.wording import duration, plain_name

WITH_STATE: Final = frozenset(
    {
        ChannelType.MAIN,
        ChannelType.DISPLAY,
        ChannelType.INPUTS,
        ChannelType.SMARTCARD,
        ChannelType.USBREDIR,
        ChannelType.PORT,
        ChannelType.WEBDAV,
    }
)
"""Channels whose MIGRATE has both flags."""

# Both sides answer at once. Who has not for so long, and while the other one waited, has not answered.
NO_ANSWER_NS: Final = 3 * 10**9

# A client that ends has closed all it had within this.
STAYS_NS: Final = 10**9

# What may have been waiting in the source when it sent MIGRATE (PlaybackChannelClient::send_item() orders LATENCY last).
_WAITING: Final[dict[int, frozenset[int]]] = {
    ChannelType.PLAYBACK: frozenset({Playback.VOLUME, Playback.MUTE, Playback.LATENCY}),
    ChannelType.RECORD: frozenset({Record.VOLUME, Record.MUTE}),
}


class Switching(Check):
    """Looks at connections to the source from MIGRATE on."""

    rules = ("R24", "R25", "R26", "R27", "R28", "R29", "R30", "R38")

    def before(self, step: Step, said: Said) -> None:
        """Judge a message by what the channel did so far."""
        channel, connection = step.channel, step.connection
        if step.arriving or channel is None or self.m.offered is None:
            return
        if said.side is Side.SERVER:
            if said.id == Msg.MIGRATE:
                self._migrate(channel, connection, said)
            elif channel.migrate is not None and channel.migrate.connection == connection.id:
                if said.id == Msg.MIGRATE_DATA:
                    self._data(channel, connection.evidence(said))
                else:
                    self._more(channel, connection, said)
        elif said.id == MsgC.MIGRATE_FLUSH_MARK:
            self._flush(channel, connection.evidence(said))
        elif (
            said.id != MsgC.ACK  # one that is due with MIGRATE or MIGRATE_DATA goes out behind the mark
            and not is_migration_message(connection.channel_type, said.side, said.id)
            and channel.flush_mark is not None
            and channel.flush_mark.connection == connection.id
        ):
            evidence = connection.evidence(said)
            text = f"the client said {plain_name(evidence.name)} to the source after FLUSH_MARK"
            self.case.report("R29", Party.CLIENT, text, channel.flush_mark, evidence)

    def _migrate(self, channel: ChannelMigration, connection: ConnectionState, said: Said) -> None:
        if channel.migrate is not None:
            return
        evidence = connection.evidence(said)
        if said.body is not None and len(said.body) >= 4:
            self._flags(channel, connection, int.from_bytes(said.body[:4], "little"), evidence)
        last = connection.last[Side.SERVER]
        if channel.channel_type == ChannelType.CURSOR and last is not None and last.id != Cursor.INVAL_ALL:
            before = connection.evidence(last)
            text = f"{plain_name(before.name)} came before MIGRATE, not INVAL_ALL"
            self.case.report("R38", Party.SOURCE, text, before, evidence)

    def _flags(
        self, channel: ChannelMigration, connection: ConnectionState, flags: int, evidence: Evidence
    ) -> None:
        both = NEED_FLUSH | NEED_DATA
        if channel.channel_type in PLAIN_CHANNELS:
            right = [0]
        elif channel.channel_type in WITH_STATE:
            right = [both, 0] if _may_stream(connection) else [both]
        else:
            return
        if flags not in right:
            text = f"MIGRATE has flags {flags:#x}; this kind of channel has {right[0]}"
            self.case.report("R24", Party.SOURCE, text, evidence)

    def _data(self, channel: ChannelMigration, evidence: Evidence) -> None:
        earlier = channel.data_from_source
        if earlier is not None:
            self.case.report(
                "R26", Party.SOURCE, "a second MIGRATE_DATA of the source", earlier.evidence, evidence
            )
            return
        flags = channel.flags
        if flags is None:
            return
        if not flags & NEED_DATA:
            text = f"MIGRATE_DATA after a MIGRATE with flags {flags:#x}: it was not announced"
            self.case.report("R26", Party.SOURCE, text, channel.migrate, evidence)
        elif flags & NEED_FLUSH and channel.flush_mark is None:
            text = "MIGRATE_DATA before the client's FLUSH_MARK"
            self.case.report("R27", Party.SOURCE, text, channel.migrate, evidence)

    def _more(self, channel: ChannelMigration, connection: ConnectionState, said: Said) -> None:
        if said.id in _WAITING.get(channel.channel_type, ()):
            return
        if is_migration_message(connection.channel_type, said.side, said.id):
            return  # a word that does not end this attempt: R19
        evidence = connection.evidence(said)
        # The client has left the channel by then, and reads no more of it. spice-server does so where a client does not leave the
        # source: KEY_MODIFIERS when the guest's lights go out.
        behind = channel.data_from_source is not None
        text = f"the source sent {plain_name(evidence.name)} after {'MIGRATE_DATA' if behind else 'MIGRATE'}"
        severity = Severity.WARNING if behind else None
        self.case.report("R25", Party.SOURCE, text, channel.migrate, evidence, severity=severity)

    def _flush(self, channel: ChannelMigration, evidence: Evidence) -> None:
        if channel.migrate is None:
            return  # asked for by nothing at all: `astray` tells that
        if channel.flush_mark is not None:
            text = "a second FLUSH_MARK: spice-server aborts at it"
            self.case.report("R28", Party.CLIENT, text, channel.flush_mark, evidence)
        elif channel.flags is not None and not channel.flags & NEED_FLUSH:
            text = f"FLUSH_MARK after a MIGRATE with flags {channel.flags:#x}: spice-server aborts at it"
            self.case.report("R28", Party.CLIENT, text, channel.migrate, evidence)
            if not channel.flags:
                text = "FLUSH_MARK on a channel whose MIGRATE had no flags"
                self.case.report("R30", Party.CLIENT, text, channel.migrate, evidence)

    def ended(self) -> None:
        """Tell what never came."""
        if self.m.offered is None:
            return
        for channel in self.m.channels.values():
            if channel.migrate is not None and channel.flags is not None:
                self._missing(channel, channel.migrate, channel.flags)

    def _missing(self, channel: ChannelMigration, migrate: Evidence, flags: int) -> None:
        closed = channel.source_closed
        until = closing_ns(self.m.ended_ns, closed.time_ns if closed is not None else None)
        sent, mark = channel.data_from_source, channel.flush_mark
        if sent is not None:
            return
        if flags & NEED_FLUSH and mark is None:
            if self._went_on(channel):
                text = "the client left for the destination without FLUSH_MARK"
                self.case.report("R28", Party.CLIENT, text, migrate)
            elif until - migrate.time_ns >= NO_ANSWER_NS:
                text = f"no FLUSH_MARK within {duration(until - migrate.time_ns)} of MIGRATE"
                self.case.report("R28", Party.CLIENT, text, migrate)
        elif flags & NEED_DATA:
            since = mark or migrate
            if until - since.time_ns >= NO_ANSWER_NS:
                text = f"no MIGRATE_DATA within {duration(until - since.time_ns)} of {plain_name(since.name)}"
                self.case.report("R26", Party.SOURCE, text, migrate, mark)

    def _went_on(self, channel: ChannelMigration) -> bool:
        """Whether the client has left a channel of the source, and after a while is still on that of the destination."""
        closed, there = channel.source_closed, self.case.destination.get(channel.channel)
        if closed is None or closed.by != Side.CLIENT.value or there is None or not there.open:
            return False
        return (self.m.ended_ns or 0) - closed.time_ns >= STAYS_NS


def _may_stream(connection: ConnectionState) -> bool:
    """Whether it may be the display of a streaming device, which has no state: spice-server can compress on all others."""
    compresses = has_capability(connection.server_caps.channel, DisplayCap.PREF_COMPRESSION)
    return connection.channel_type == ChannelType.DISPLAY and not compresses


def closing_ns(ended_ns: int | None, closed_ns: int | None) -> int:
    """Until when somebody could have spoken on a connection."""
    return min((each for each in (ended_ns, closed_ns) if each is not None), default=0)
