"""What the client answers at the destination belongs to what the destination asked there, not to the source: R55 and R56.

Sources: spice-gtk spice-channel.c, spice_channel_handle_set_ack() and spice_channel_handle_ping(); spice-server
red-channel-client.cpp, handle_message(): an ACK counts only while the last ACK_SYNC has the generation of the last SET_ACK.
"""

from collections import Counter, defaultdict
from typing import Final

from dissectors.message_ids import Msg, MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import Party
from spiceproxy.protocol.migration.rules.case import Case, Check

# A server asks for a few generations in a session; one that asks without end is not judged by them.
MAX_GENERATIONS: Final = 1024


class Answering(Check):
    """Looks at questions and answers on connections to the destination."""

    rules = ("R55", "R56")

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._shown: Counter[str] = Counter()  # messages of the server, by connection
        self._pings: Counter[str] = Counter()  # of these, that were not answered
        self._generations: defaultdict[str, set[int]] = defaultdict(set)  # of SET_ACK

    def before(self, step: Step, said: Said) -> None:
        """Note what is asked, and hold answers against it."""
        connection = step.connection
        if not step.arriving:
            return
        if said.side is Side.SERVER:
            self._shown[connection.id] += 1
            if said.id == Msg.PING:
                self._pings[connection.id] += 1
            elif said.id == Msg.SET_ACK and (generation := _number(said)) is not None:
                known = self._generations[connection.id]
                known |= {generation} if len(known) < MAX_GENERATIONS else set()
        elif said.id in {MsgC.PONG, MsgC.ACK_SYNC} and self._sees_all(connection):
            self._pong(connection, said) if said.id == MsgC.PONG else self._sync(connection, said)

    def _sees_all(self, connection: ConnectionState) -> bool:
        """Whether all that the destination has said on a connection was shown."""
        return self._shown[connection.id] == connection.said[Side.SERVER]

    def _pong(self, connection: ConnectionState, said: Said) -> None:
        if self._pings[connection.id]:
            self._pings[connection.id] -= 1
            return
        text = "PONG at the destination, which had no PING to answer there"
        self.case.report("R56", Party.CLIENT, text, connection.evidence(said))

    def _sync(self, connection: ConnectionState, said: Said) -> None:
        generation, asked = _number(said), self._generations[connection.id]
        if generation is None or generation in asked or len(asked) >= MAX_GENERATIONS:
            return
        what = f"which asked for {max(asked)}" if asked else "which had sent no SET_ACK"
        text = f"ACK_SYNC with generation {generation} to the destination, {what}: its ACKs count for nothing"
        self.case.report("R55", Party.CLIENT, text, connection.evidence(said))


def _number(said: Said) -> int | None:
    """The u32 that the body begins with."""
    return None if said.body is None or len(said.body) < 4 else int.from_bytes(said.body[:4], "little")
