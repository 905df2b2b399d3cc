"""The main channel of a simulated server: the session's opening, the agent, and all the talk about migration."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from dissectors import registry
from dissectors.capabilities import MainCap, has_capability
from dissectors.channels import ChannelType
from dissectors.common import NotifySeverity, NotifyVisibility
from dissectors.errors import DissectionError
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.simulate import migrate_data as payloads
from spiceproxy.simulate.linking import Linked
from spiceproxy.simulate.server_channel import ServerChannel
from spiceproxy.simulate.steps import Arrival, MainStep, Reply
from spiceproxy.simulate.wire import Message

if TYPE_CHECKING:
    from spiceproxy.simulate.server_session import ServerSession

_NET_TEST_BYTES: Final = 256000
_TOKENS_PER_MESSAGE: Final = 5  # spice-server gives agent tokens back in fives
_MOUSE_MODE_SERVER: Final = 1
_STEPS: Final[dict[int, MainStep]] = {
    MainC.MIGRATE_DST_DO_SEAMLESS: MainStep.DO_SEAMLESS,
    MainC.MIGRATE_END: MainStep.MIGRATE_END,
    MainC.ATTACH_CHANNELS: MainStep.ATTACH_CHANNELS,
    MsgC.MIGRATE_DATA: MainStep.MIGRATE_DATA,
}
_REPLIES: Final = {
    MainC.MIGRATE_CONNECTED: Reply.CONNECTED,
    MainC.MIGRATE_CONNECTED_SEAMLESS: Reply.CONNECTED_SEAMLESS,
    MainC.MIGRATE_CONNECT_ERROR: Reply.CONNECT_ERROR,
}


class MainServer(ServerChannel):
    """The channel that opens a session, and whose end is the session's."""

    NEEDS_DATA: ClassVar[bool] = True
    PING_PERIOD_S: ClassVar[float] = 15.0

    def __init__(self, session: "ServerSession", linked: Linked) -> None:
        """As ServerChannel."""
        super().__init__(session, linked)
        self._agent_started = False
        self._client_tokens = payloads.AGENT_TOKENS
        self._tokens_to_return = 0
        self._unread, self._unread_tokens = b"", 0

    def start(self) -> None:
        """Open a session: the same after a semi-seamless migration, but for what only new sessions get."""
        super().start()
        options, new = self.server.options, not self.session.is_target
        self._say(
            Main.INIT,
            {
                "session_id": self.session.session_id,
                "display_channels_hint": 1,
                "supported_mouse_modes": _MOUSE_MODE_SERVER,
                "current_mouse_mode": _MOUSE_MODE_SERVER,
                "agent_connected": int(options.agent),
                "agent_tokens": payloads.AGENT_TOKENS,
                "multi_media_time": self.server.mm_time,
                "ram_hint": 0,
            },
        )
        if new and self.can(MainCap.NAME_AND_UUID):
            self._say(Main.NAME, {"name": options.guest_name})
            self._say(Main.UUID, {"uuid": options.guest_uuid.bytes})
        if new and options.net_test:
            for ping_id, padding in ((1, 0), (2, 0), (3, _NET_TEST_BYTES)):
                self.ping(ping_id, bytes(padding))

    def can(self, capability: MainCap) -> bool:
        """Whether the client announced a capability of main."""
        return has_capability(self.channel_caps, capability)

    def notify_client(self, text: str) -> None:
        """NOTIFY, with the NUL that spice-server adds behind its message."""
        body = registry.build_named(
            "SPICE_MSG_NOTIFY",
            time_stamp=time.monotonic_ns(),
            severity=NotifySeverity.WARN,
            visibilty=NotifyVisibility.HIGH,
            what=0,
            message=text,
            uncounted=b"\0",
        )
        self.put(Msg.NOTIFY, body)

    def handle(self, message: Message) -> None:
        """Judge the arrival's order first; it is main that carries it."""
        step = _STEPS.get(message.type, MainStep.OTHER)
        if step is MainStep.DO_SEAMLESS and not self._agrees(message):
            step = MainStep.DO_SEAMLESS_DECLINED
        arrival, moved = self.session.arrival, self.session.guest_came
        detail = f"{step.name} on the destination's main channel"
        if step in {MainStep.MIGRATE_END, MainStep.MIGRATE_DATA} and not moved:
            raise self.broken("R16", f"{step.name} before the guest moved")
        arrival.otherwise = "R16" if not moved else "R32" if arrival.state is Arrival.AGREED else "R40"
        arrival.step(step, detail)
        super().handle(message)

    def _agrees(self, message: Message) -> bool:
        """Whether this server can do the seamless migration that DO_SEAMLESS asks for."""
        if not has_capability(self.server.options.main_caps, MainCap.SEAMLESS_MIGRATE):
            raise self.broken("R13", "DO_SEAMLESS to a server without SEAMLESS_MIGRATE")
        version = self._fields(message.type, message.body)["src_version"]
        return bool(version <= self.server.options.migration_version)

    def receive(self, kind: int, body: bytes) -> None:
        """Take main's own messages."""
        self._fields(kind, body)  # it must fit
        match kind:
            case MainC.ATTACH_CHANNELS:
                channels = [{"type": key.type, "id": key.id} for key in self.server.channel_keys]
                self._say(Main.CHANNELS_LIST, {"num_of_channels": len(channels), "channels": channels})
            case MainC.MIGRATE_CONNECTED | MainC.MIGRATE_CONNECTED_SEAMLESS | MainC.MIGRATE_CONNECT_ERROR:
                self.server.source.reply(_REPLIES[MainC(kind)])
            case MainC.MIGRATE_DST_DO_SEAMLESS:
                agreed = self.session.arrival.state is Arrival.AGREED
                if agreed:
                    self.session.agree_seamless()
                self.put(Main.MIGRATE_DST_SEAMLESS_ACK if agreed else Main.MIGRATE_DST_SEAMLESS_NACK)
            case MainC.MIGRATE_END:
                self.start()
                self.session.arrive_semi_seamless()
            case MainC.MOUSE_MODE_REQUEST:
                modes = {"supported_modes": _MOUSE_MODE_SERVER, "current_mode": _MOUSE_MODE_SERVER}
                self._say(Main.MOUSE_MODE, modes)
            case MainC.AGENT_START:
                self._agent_started = True
            case MainC.AGENT_DATA:
                self._take_agent_data(body)
            case _:
                pass

    def _take_agent_data(self, body: bytes) -> None:
        if not self._client_tokens:
            raise self.broken("tokens", "AGENT_DATA without a token")
        self._client_tokens -= 1
        self._unread += payloads.agent_chunk(body)
        self._unread_tokens += 1
        self._feed_agent()

    def _feed_agent(self) -> None:
        """Let the guest's agent read; tokens go back in fives, and not once the channel leaves."""
        if self.server.devices_stalled:
            return
        self.server.guest.agent_bytes += len(self._unread)
        self._tokens_to_return += self._unread_tokens
        self._unread, self._unread_tokens = b"", 0
        if self._tokens_to_return >= _TOKENS_PER_MESSAGE and self.is_staying:
            self._say(Main.AGENT_TOKEN, {"num_tokens": self._tokens_to_return})
            self._client_tokens += self._tokens_to_return
            self._tokens_to_return = 0

    def migrate_data(self) -> bytes:
        """MNMD."""
        if not self.server.options.agent:
            return payloads.build_main(payloads.MainData())
        agent = payloads.DeviceData(True, self._client_tokens, self._unread, self._unread_tokens)
        return payloads.build_main(payloads.MainData(agent, self._agent_started))

    def restore(self, body: bytes) -> None:
        """Take over the agent and its tokens, then tell the time."""
        data = payloads.parse_main(body)
        if data.agent.connected != self.server.options.agent:
            raise payloads.PayloadError("R34", "the agent is on one host and not on the other")
        if data.agent.connected:
            self._agent_started, self._client_tokens = data.agent_started, data.agent.client_tokens
            self._unread, self._unread_tokens = data.agent.unread, data.agent.unread_tokens
            self._tokens_to_return = payloads.AGENT_TOKENS - self._client_tokens - self._unread_tokens
            self._feed_agent()
        self._say(Main.MULTI_MEDIA_TIME, {"time": self.server.mm_time})

    def begin(self, destination: Mapping[str, Any], *, seamless: bool) -> None:
        """Send BEGIN or BEGIN_SEAMLESS."""
        if seamless:
            version = {"src_mig_version": self.server.options.migration_version}
            self._say(Main.MIGRATE_BEGIN_SEAMLESS, {"dst_info": destination, **version})
        else:
            self._say(Main.MIGRATE_BEGIN, {"dst_info": destination})

    def switch_host(self, destination: Mapping[str, Any]) -> None:
        """Send SWITCH_HOST."""
        self._say(Main.MIGRATE_SWITCH_HOST, destination)

    def _say(self, kind: Main, fields: Mapping[str, Any]) -> None:
        self.put(kind, registry.build(ChannelType.MAIN, Side.SERVER, kind, fields))

    def _fields(self, kind: int, body: bytes) -> dict[str, Any]:
        try:
            return registry.dissect(ChannelType.MAIN, Side.CLIENT, kind, body).fields
        except DissectionError as error:
            raise self.broken("known-message", str(error)) from error
