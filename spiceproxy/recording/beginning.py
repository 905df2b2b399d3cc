"""Files that begin in the middle of connections, and are read all the same. Sans-I/O."""

from collections.abc import Mapping
from dataclasses import dataclass

from dissectors.side import Side
from spiceproxy.capture.sessions import REPEATED
from spiceproxy.recording.conversation import Conversation, PacketSink


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a conversation began, to be written where a file begins in the middle of it.

    Its link phase is repeated, so that a reader knows whose connection it is and where its messages begin; sequence
    numbers are such that what follows fits on.
    """

    client: tuple[str, int]
    server: tuple[str, int]
    units: tuple[tuple[Side, bytes], ...]
    next_seq: Mapping[Side, int]  # of what follows
    closed: tuple[Side, ...] = ()  # sides that have closed already
    comment: str | None = None  # of its first packet: which hop of its session it is

    @classmethod
    def of(cls, conversation: Conversation, next_seq: Mapping[Side, int] | None = None) -> "Beginning":
        """For what follows from here on, or from these sequence numbers on."""
        follows = next_seq or conversation.next_seq
        return cls(
            *conversation.endpoints,
            conversation.beginning(follows),
            follows,
            conversation.closed_sides if next_seq is None else (),
            conversation.comment,
        )

    def repeat(self, sink: PacketSink, time_ns: int) -> None:
        """Write it."""
        isn = {
            side: self.next_seq[side] - 1 - sum(len(unit) for sender, unit in self.units if sender is side)
            for side in Side
        }
        made = Conversation(
            sink, self.client, self.server, client_isn=isn[Side.CLIENT], server_isn=isn[Side.SERVER]
        )
        made.linked()
        made.open(time_ns, REPEATED if self.comment is None else f"{self.comment}\n{REPEATED}")
        for side, unit in self.units:
            made.data(side, time_ns, unit, ends=(len(unit),))
        for side in self.closed:
            made.close(side, time_ns)
