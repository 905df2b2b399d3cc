"""What the judge of a session keeps in mind beyond one migration."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from dissectors.channels import ChannelType
from dissectors.message_ids import Inputs, InputsC, Main, MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Linked, Said
from spiceproxy.protocol.migration.model import Cause, Evidence, Share
from spiceproxy.protocol.migration.rules.surfaces import Surfaces, is_about_surfaces
from spiceproxy.protocol.migration.tables import REPLIES

if TYPE_CHECKING:
    from spiceproxy.protocol.migration.rules.case import Case

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

MAX_CONNECTIONS: Final = 256  # that something is kept of; a client can open any number

_MOUSE: Final = {
    Side.CLIENT: frozenset({InputsC.MOUSE_MOTION, InputsC.MOUSE_POSITION}),
    Side.SERVER: frozenset({Inputs.MOUSE_MOTION_ACK}),
}
_BEGINS: Final = frozenset({Main.MIGRATE_BEGIN, Main.MIGRATE_BEGIN_SEAMLESS})


def is_about_mouse(channel_type: int | None, side: Side, message_id: int) -> bool:
    """Whether a message moves the mouse, or acknowledges that it moved."""
    return channel_type == ChannelType.INPUTS and message_id in _MOUSE[side]


@dataclass(slots=True)
class Past:
    """One session's. Connections by name."""

    unanswered: dict[str, int] = field(default_factory=dict)  # BEGINs on a main channel that had no reply
    arrived: set[str] = field(default_factory=set)  # main channels that got their state from another server
    moved_astray: dict[str, int] = field(
        default_factory=dict
    )  # connections with a MIGRATE out of any migration; flags
    mains: dict[str, ConnectionState] = field(default_factory=dict)
    surfaces: Surfaces = field(default_factory=Surfaces)
    taken_over: dict[str, int] = field(
        default_factory=dict
    )  # displays with state: serial of their first message
    motions: dict[str, int] = field(default_factory=dict)  # inputs: mouse messages not acknowledged
    faults: dict[str, str] = field(default_factory=dict)  # by channel: the last one that was injected there
    last_fault: str | None = None  # on any channel
    last: "Case | None" = None  # the latest migration
    torn: bool = False  # something is missing in the capture, and nobody knows of which connection

    def touched(self, channel: str | None, fault: str) -> None:
        """A fault that was injected has fired."""
        self.last_fault = fault
        if channel is not None:
            _keep(self.faults, channel, fault)

    def cause(self, channel: str | None, evidence: Sequence[Evidence]) -> Cause | None:
        """The fault that may be behind a breach.

        Args:
            channel: On which it is.
            evidence: The message that is wrong last.
        """
        touches = [each.touch for each in evidence if each.touch is not None]
        if touches:
            made = touches[-1].made and evidence[-1].touch is touches[-1]
            return Cause(touches[-1].fault, Share.MADE if made else Share.CHANGED)
        if (fault := self.faults.get(channel or "")) is not None:
            return Cause(fault, Share.CHANNEL)
        return Cause(self.last_fault, Share.SESSION) if self.last_fault is not None else None

    def note(self, step: Step) -> None:
        """Learn from a step, when checks have seen it."""
        fact, connection = step.fact, step.connection
        if connection.channel_type == ChannelType.DISPLAY:
            self._note_display(step)
        elif connection.channel_type == ChannelType.INPUTS:
            self._note_inputs(step)
        if connection.channel_type != ChannelType.MAIN:
            return
        name = connection.id
        if type(fact) is Linked:
            _keep(self.mains, name, connection)
        elif type(fact) is Said:
            if fact.side is Side.SERVER:
                if fact.id in _BEGINS:
                    _keep(self.unanswered, name, self.unanswered.get(name, 0) + 1)
            elif fact.id in REPLIES:
                self.unanswered[name] = max(0, self.unanswered.get(name, 0) - 1)
            elif fact.id == MsgC.MIGRATE_DATA and step.arriving and len(self.arrived) < MAX_CONNECTIONS:
                self.arrived.add(name)

    def _note_display(self, step: Step) -> None:
        fact, connection = step.fact, step.connection
        if type(fact) is Linked:
            self.surfaces.linked(connection)
        elif type(fact) is not Said:
            return
        elif is_about_surfaces(connection.channel_type, fact.side, fact.id):
            self.surfaces.said(connection, fact)
        elif (
            fact.side is Side.CLIENT
            and fact.id == MsgC.MIGRATE_DATA
            and step.arriving
            and self.last is not None
        ):
            self.surfaces.inherited(self.last.source.get(connection.channel or ""), connection)
            if fact.body is not None and len(fact.body) >= 16:
                _keep(self.taken_over, connection.id, int.from_bytes(fact.body[8:16], "little"))

    def _note_inputs(self, step: Step) -> None:
        fact, name = step.fact, step.connection.id
        if type(fact) is Linked:
            if not fact.midway:
                _keep(self.motions, name, 0)
        elif (
            type(fact) is Said and fact.side is Side.CLIENT and fact.id == MsgC.MIGRATE_DATA and step.arriving
        ):
            if fact.body is not None and len(fact.body) >= 10:
                _keep(self.motions, name, int.from_bytes(fact.body[8:10], "little"))
            else:
                self.motions.pop(name, None)

    def count(self, connection: ConnectionState, said: Said) -> None:
        """A message about the mouse."""
        known = self.motions.get(connection.id)
        if known is not None:
            self.motions[connection.id] = known + (1 if said.side is Side.CLIENT else -4)

    def settled(self, main: ConnectionState) -> bool:
        """Whether a main channel is one of a session, or of a client that has arrived."""
        return main.init is not None or main.id in self.arrived or main.midway

    def astray(self, connection: ConnectionState, flags: int) -> None:
        """MIGRATE has come without a migration."""
        _keep(self.moved_astray, connection.id, flags)

    def sees(self, connection: ConnectionState) -> bool:
        """Whether a migration that goes on at the server of this connection would have been seen."""
        mains = [each for each in self.mains.values() if each.hop == connection.hop]
        whole = bool(mains) and not any(each.damaged or each.midway for each in (*mains, connection))
        return whole and not self.torn


def _keep(table: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    if key not in table and len(table) >= MAX_CONNECTIONS:
        del table[next(iter(table))]
    table[key] = value
