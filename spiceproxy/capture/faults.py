"""The faults that the comments of a recording tell of."""

from collections.abc import Iterator
from typing import Final

from dissectors.side import Side
from spiceproxy.capture.events import Commented
from spiceproxy.capture.messages import Connection
from spiceproxy.faults.comments import LEDGER, Firing, Place, firings
from spiceproxy.protocol.migration.facts import Touched
from spiceproxy.protocol.migration.model import Touch
from spiceproxy.report.faults import InjectedFault

BY_LEDGER: Final = Touch(LEDGER, made=True)
"""Of a message that makes up for what faults did."""

# A capture can say anything. So much is kept for a report, and of connections of which no session is known yet.
MAX_FAULTS: Final = 10_000
MAX_PENDING: Final = 1000


class RecordedFaults:
    """Faults, by connection.

    Attributes:
        fired: All that have fired, in order.
        left_out: How many more there were.
        touches: What a fault has to do with the next message, by number of connection and side.
    """

    def __init__(self) -> None:
        self.fired: list[InjectedFault] = []
        self.left_out = 0
        self.touches: dict[tuple[int, Side], Touch] = {}
        self._pending: list[tuple[int, int, Firing]] = []  # number of connection, time

    def comment(self, event: Commented, number: int) -> None:
        """A packet of the connection of this number has a comment; its bytes come next."""
        if LEDGER in event.text:
            self.touches[number, event.side] = BY_LEDGER
        for each in firings(event.text):
            if not each.before and each.touches:
                self.touches[number, event.side] = Touch(each.fault, each.made)
            if len(self._pending) < MAX_PENDING:
                self._pending.append((number, event.time_ns, each))
            else:
                self.left_out += 1

    def of(self, connection: Connection, session: str, hop: int, migration: int | None) -> Iterator[Touched]:
        """What has fired on a connection and was not told yet.

        Args:
            connection: Whose channel is known.
            session: Its session.
            hop: Which server of it.
            migration: The session's present or last one.
        """
        if not self._pending:
            return
        mine = [each for each in self._pending if each[0] == connection.number]
        self._pending = [each for each in self._pending if each[0] != connection.number]
        for _, time_ns, firing in mine:
            place = firing.elsewhere or Place(connection.id, connection.channel or "", hop)
            if firing.touches:
                yield Touched(time_ns, connection.id if firing.elsewhere is None else None, firing.fault)
            if any(line.firing == firing.number and line.fault == firing.fault for line in self.fired[-16:]):
                continue  # the packets of what one firing has made have all its comment
            if len(self.fired) >= MAX_FAULTS:
                self.left_out += 1
                continue
            self.fired.append(
                InjectedFault(
                    firing.fault, firing.actions, firing.name, session, *place, time_ns, firing.number, migration,
                )
            )  # fmt: skip

    def linked(self, number: int) -> None:
        """The link phase of a connection is over: what was said of its units is about no message."""
        for side in Side:
            self.touches.pop((number, side), None)

    def closed(self, number: int) -> None:
        """A connection is over."""
        self.linked(number)
        self._pending = [each for each in self._pending if each[0] != number]
