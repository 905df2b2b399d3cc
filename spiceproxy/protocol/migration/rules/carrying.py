"""How the client carries state to the destination: R30 to R32, and R45.

Sources: spice-gtk spice-channel.c, spice_channel_handle_migrate(); spice-server red-channel-client.cpp,
RedChannelClient::handle_migrate_data(), and display-channel.cpp, display_channel_wait_for_migrate_data().
"""

from typing import Final

from dissectors.channels import ChannelType
from dissectors.message_ids import MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import TIMEOUT_NS, Step
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import ChannelMigration, Evidence, Kind, Party
from spiceproxy.protocol.migration.rules.case import Case, Check
from spiceproxy.protocol.migration.rules.switching import NO_ANSWER_NS, closing_ns
from spiceproxy.protocol.migration.tables import NEED_DATA
from spiceproxy.protocol.migration.wording import duration, plain_name

# The destination waits from the start of its guest on, which is a little later than the source's MIGRATE.
_DISPLAY_NS: Final = TIMEOUT_NS + 10**9
# A destination whose patience is at its end closes the display; then the client was too late, whatever was seen of the rest.
_NEARLY_ALL_NS: Final = TIMEOUT_NS * 9 // 10


class Carrying(Check):
    """Looks at what the client says to the destination after the switch."""

    rules = ("R31", "R32", "R45")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._ahead: dict[str, Evidence] = {}  # by channel: what was said in front of MIGRATE_DATA

    def before(self, step: Step, said: Said) -> None:
        """Judge what the client says by what has been carried so far."""
        channel, connection = step.channel, step.connection
        if not step.arriving or said.side is not Side.CLIENT or channel is None:
            return
        if channel.migrate is None or self.m.performed is not Kind.SEAMLESS or channel.flags is None:
            return
        if self.case.destination.get(channel.channel) is not connection:
            return
        evidence, carried = connection.evidence(said), channel.data_to_destination
        if said.id != MsgC.MIGRATE_DATA:
            if channel.flags & NEED_DATA and carried is None:
                self._ahead.setdefault(channel.channel, evidence)
        elif carried is not None:
            text = "a second MIGRATE_DATA of the client: the destination shuts the channel"
            self.case.report("R32", Party.CLIENT, text, carried.evidence, evidence)
        elif not channel.flags & NEED_DATA:
            text = f"MIGRATE_DATA on a channel whose MIGRATE had {'flags 1' if channel.flags else 'no flags'}"
            self.case.report("R30", Party.CLIENT, text, channel.migrate, evidence)

    def after(self, step: Step, said: Said) -> None:
        """See what has been carried, once both ends of it are known."""
        channel = step.channel
        carries = said.id == MsgC.MIGRATE_DATA and said.side is Side.CLIENT
        if not (step.arriving and carries) or channel is None or self.m.offered is None:
            return
        self._late(channel)
        if channel.channel in self._ahead:
            self._first(channel)

    def _first(self, channel: ChannelMigration) -> None:
        ahead, carried = self._ahead.pop(channel.channel), channel.data_to_destination
        text = f"{plain_name(ahead.name)} was the client's first message after the switch, not MIGRATE_DATA"
        self.case.report("R32", Party.CLIENT, text, carried and carried.evidence, ahead)

    def _late(self, channel: ChannelMigration) -> None:
        migrate, carried = channel.migrate, channel.data_to_destination
        if channel.channel_type != ChannelType.DISPLAY or migrate is None or carried is None:
            return
        took = carried.evidence.time_ns - migrate.time_ns
        if took > _DISPLAY_NS:
            text = f"MIGRATE_DATA reached the destination {duration(took)} after MIGRATE: it waits for 10 s"
            self.case.report("R45", Party.CLIENT, text, migrate, carried.evidence)

    def ended(self) -> None:
        """Tell what was changed on the way, or never came."""
        if self.m.offered is None or self.m.performed is not Kind.SEAMLESS:
            return
        for channel in self.m.channels.values():
            sent, carried = channel.data_from_source, channel.data_to_destination
            if channel.data_equal is False and sent is not None and carried is not None:
                text = _difference(channel)
                self.case.report("R31", Party.CLIENT, text, sent.evidence, carried.evidence)
            elif sent is not None and carried is None:
                self._missing(channel, sent.evidence)
            elif carried is not None and sent is None and channel.migrate is not None:
                text = "the client carried MIGRATE_DATA that the source had not sent"
                self.case.report("R31", Party.CLIENT, text, channel.migrate, carried.evidence)

    def _missing(self, channel: ChannelMigration, sent: Evidence) -> None:
        if not channel.destination_linked or _misled(channel):
            return
        if channel.channel in self._ahead:
            self._first(channel)
            return
        closed = channel.destination_closed
        if closed is not None and closed.by == Side.CLIENT.value:
            return  # it gave up, and had no reason to go on
        until = closing_ns(self.m.ended_ns, closed.time_ns if closed is not None else None)
        waited = until - sent.time_ns
        if channel.channel_type == ChannelType.DISPLAY and waited >= _NEARLY_ALL_NS:
            text = f"the client did not hand MIGRATE_DATA on within {duration(waited)}; the destination waits for 10 s"
            self.case.report("R45", Party.CLIENT, text, sent)
        elif waited >= NO_ANSWER_NS:
            text = f"the client did not hand MIGRATE_DATA on within {duration(waited)}"
            self.case.report("R32", Party.CLIENT, text, sent)


def _misled(channel: ChannelMigration) -> bool:
    """Whether the source sent something else where MIGRATE_DATA was due: the client takes that for it, and does not switch."""
    crossing = channel.crossing
    again = any(each.name == "SPICE_MSG_MIGRATE" for each in crossing.repeated)
    return again or bool(crossing.after_migrate)


def _difference(channel: ChannelMigration) -> str:
    """What is not the same, as far as the beginning of both bodies shows it."""
    sent, carried = channel.data_from_source, channel.data_to_destination
    assert sent is not None and carried is not None  # noqa: S101, PT018  the caller looked
    if sent.size != carried.size:
        return (
            f"the client carried {carried.size} bytes of MIGRATE_DATA where the source had sent {sent.size}"
        )
    pairs = enumerate(zip(sent.head, carried.head, strict=False))
    at = next((at for at, (one, other) in pairs if one != other), None)
    where = f"from offset {at} on" if at is not None else f"behind offset {len(sent.head)}"
    return f"the client carried other bytes of MIGRATE_DATA than the source had sent, {where}"
