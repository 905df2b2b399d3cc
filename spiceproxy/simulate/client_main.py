"""The main channel of a simulated client: opens the session and takes the orders about migration."""

from typing import TYPE_CHECKING, Any, ClassVar

from dissectors import registry
from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.message_ids import Main, MainC, Msg
from dissectors.registry import message_name
from dissectors.side import Side
from spiceproxy.simulate import migrate_data as payloads
from spiceproxy.simulate.client_channel import ClientChannel
from spiceproxy.simulate.linking import Linked
from spiceproxy.simulate.wire import ChannelKey, Message

if TYPE_CHECKING:
    from spiceproxy.simulate.client_session import ClientSession

_AGENT_TOKENS = 10  # that we grant the server
_AGENT_CHUNK_BYTES = 2048  # VD_AGENT_MAX_DATA_SIZE
_ABOUT_MIGRATION = frozenset(
    {
        Main.MIGRATE_BEGIN,
        Main.MIGRATE_BEGIN_SEAMLESS,
        Main.MIGRATE_CANCEL,
        Main.MIGRATE_END,
        Main.MIGRATE_SWITCH_HOST,
    }
)


class MainClient(ClientChannel):
    """The channel that opens a session, and whose end is the session's.

    Attributes:
        session_id: From MAIN_INIT; 0 before.
        agent_tokens: Agent messages that may be sent.
    """

    NEEDS_DATA: ClassVar[bool] = True

    def __init__(self, session: "ClientSession", linked: Linked) -> None:
        """As ClientChannel."""
        super().__init__(session, linked)
        self.session_id = self.agent_tokens = 0
        self.awaits_init = True
        self._arrives = False  # MAIN_INIT is due from a semi-seamless destination
        self._seamless = False  # this server has never sent MAIN_INIT, nor should it
        self._agent_queue: list[bytes] = []

    def expect_arrival(self) -> None:
        """MIGRATE_END was sent: MAIN_INIT with the old id has to come first."""
        self.awaits_init = self._arrives = True
        self._seamless = False

    def switched(self) -> None:
        """The new server takes the session over as it is."""
        self._seamless = True

    async def receive(self, message: Message) -> None:
        """Take main's own messages."""
        kind, name = message.type, message_name(ChannelType.MAIN, Side.SERVER, message.type)
        fields = self._fields(message)
        if self.awaits_init and kind != Main.INIT:
            if self._arrives:
                raise self.broken("R40", f"{name} where MAIN_INIT is due")
            raise self.broken("R1" if kind in _ABOUT_MIGRATION else "main-init", f"{name} before MAIN_INIT")
        migration = self.session.migration
        match kind:
            case Main.INIT:
                self._take_init(fields)
            case Main.CHANNELS_LIST:
                self.session.link_channels(
                    [ChannelKey(entry["type"], entry["id"]) for entry in fields["channels"]]
                )
            case Main.AGENT_TOKEN | Main.AGENT_CONNECTED_TOKENS:
                self.agent_tokens += fields["num_tokens"]
                self._send_agent_queue()
            case Main.MIGRATE_BEGIN | Main.MIGRATE_BEGIN_SEAMLESS:
                await migration.begin(fields, seamless=kind == Main.MIGRATE_BEGIN_SEAMLESS)
            case Main.MIGRATE_CANCEL:
                migration.cancel()
            case Main.MIGRATE_END:
                migration.end()
            case Main.MIGRATE_SWITCH_HOST:
                migration.switch_host(fields)
            case Main.MIGRATE_DST_SEAMLESS_ACK | Main.MIGRATE_DST_SEAMLESS_NACK:
                raise self.broken("R14", f"{name} that nobody asked for")
            case _:
                pass

    async def _dispatch(self, message: Message) -> None:
        if (
            self.awaits_init
            and self._arrives
            and message.type == Msg.PING
            and not self.session.migration.tried_seamless
        ):
            raise self.broken("R40", "SPICE_MSG_PING where MAIN_INIT is due")
        await super()._dispatch(message)

    def _take_init(self, fields: dict[str, Any]) -> None:
        if self._seamless:
            raise self.broken("R39", "MAIN_INIT")
        if not self.awaits_init:
            raise self.broken("main-init", "MAIN_INIT a second time")
        self.awaits_init = False
        if self._arrives:
            self._arrives = False
            if fields["session_id"] != self.session_id:
                detail = f"MAIN_INIT has id {fields['session_id']:#x}, the session is {self.session_id:#x}"
                raise self.broken("R40", detail)
        else:
            self.session_id = fields["session_id"]
            self.put(MainC.ATTACH_CHANNELS)
        self.agent_tokens = fields["agent_tokens"] if fields["agent_connected"] else 0
        if fields["agent_connected"]:
            body = registry.build(
                ChannelType.MAIN, Side.CLIENT, MainC.AGENT_START, {"num_tokens": _AGENT_TOKENS}
            )
            self.put(MainC.AGENT_START, body)
        self.session.main_is_ready()

    def send_agent(self, data: bytes) -> None:
        """Send bytes to the guest's agent, as far as the tokens go; the rest follows when more come."""
        self._agent_queue += [
            data[i : i + _AGENT_CHUNK_BYTES] for i in range(0, len(data), _AGENT_CHUNK_BYTES)
        ]
        self._send_agent_queue()

    def _send_agent_queue(self) -> None:
        while self._agent_queue and self.agent_tokens:
            self.agent_tokens -= 1
            self.put(MainC.AGENT_DATA, self._agent_queue.pop(0))

    def check_payload(self, message: Message) -> None:
        """MNMD; the agent's tokens cannot be more than this client still holds."""
        payloads.parse_main(message.body)

    def _fields(self, message: Message) -> dict[str, Any]:
        try:
            return registry.dissect(ChannelType.MAIN, Side.SERVER, message.type, message.body).fields
        except DissectionError as error:
            raise self.broken("known-message", str(error)) from error
