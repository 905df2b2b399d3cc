"""Agent messages inside the main channel's AGENT_DATA, both directions, and inside its MIGRATE_DATA."""

from typing import Final

from dissectors.errors import DissectionError
from dissectors.fields import read
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.migrate_data import MainState
from dissectors.side import Side
from spiceproxy.protocol.payload.agent import AgentCapabilities, AgentStream
from spiceproxy.protocol.payload.guest_port import guest_port_messages
from spiceproxy.protocol.payload.inner import Found, Inner

_RESTARTS: Final = {
    Main.INIT: "MAIN_INIT",
    Main.AGENT_CONNECTED: "AGENT_CONNECTED",
    Main.AGENT_CONNECTED_TOKENS: "AGENT_CONNECTED_TOKENS",
    Main.AGENT_DISCONNECTED: "AGENT_DISCONNECTED",
}


class MainPayload:
    """Agent messages of a main channel, and those that its migration data has."""

    def __init__(self) -> None:
        self._capabilities = AgentCapabilities()
        self._streams = {side: AgentStream(self._capabilities, side) for side in Side}

    def message(self, side: Side, message_id: int, body: bytes) -> list[Inner]:
        """Return the agent messages that become whole with this message."""
        found = Found(AgentStream.protocol)
        if message_id == (Main.AGENT_DATA if side is Side.SERVER else MainC.AGENT_DATA):
            self._streams[side].feed(body, found)
        elif side is Side.SERVER and message_id in _RESTARTS:
            self._capabilities.forget()
            self._streams[Side.SERVER].restart(_RESTARTS[Main(message_id)], found)
            if message_id == Main.INIT:
                self._streams[Side.CLIENT].restart("MAIN_INIT", found)
        elif side is Side.CLIENT and message_id == MainC.AGENT_START:
            # Until then the client may still send the rest of what it had begun to say to the agent before.
            self._streams[Side.CLIENT].restart("AGENT_START", found)
        elif message_id == (Msg.MIGRATE_DATA if side is Side.SERVER else MsgC.MIGRATE_DATA):
            return self._not_taken(body)
        return found.all()

    def _not_taken(self, body: bytes) -> list[Inner]:
        """What the guest had not read yet goes along to the destination."""
        try:
            state, _ = read(MainState, body)
        except DissectionError:
            return []  # what is wrong with the outer message is said there
        write_data: bytes | None = state["char_device"]["write_data_ptr"]
        return guest_port_messages(write_data or b"", both_capabilities=self._capabilities.both())
