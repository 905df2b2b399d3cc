"""The life of one connection: link message, server, link phase, messages, end."""

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import trio

from dissectors.channels import ChannelType, channel_name
from dissectors.errors import DissectionError
from dissectors.link import LinkError, LinkFormatError, LinkMessage, build_link_error
from dissectors.registry import dissect, message_name
from dissectors.side import Side
from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.destinations import Listener
from spiceproxy.errors import ProtocolError, RecordingError
from spiceproxy.protocol import interest
from spiceproxy.protocol.framer import Framer, Message
from spiceproxy.protocol.link import LinkPhase, Phase, Unit
from spiceproxy.redirect import Announcement, NotRedirectedError, read_announcement, redirect
from spiceproxy.relay import LINK_READ_BYTES, ClosedEarlyError, End, relay_data, relay_link

if TYPE_CHECKING:
    from spiceproxy.eventlog import EventLog
    from spiceproxy.proxy import Proxy, ProxySession
    from spiceproxy.recording.conversation import Conversation

# A client whose link is refused gets this long to read why before the connection is closed.
REFUSAL_LINGER_S: Final = 2.0

# MIGRATE_DATA is opaque here, may be long, and may hold what the user typed into a guest: only its size and the
# four letters that say which channel's it is are logged.
_SIZES_ONLY: Final = {(Side.SERVER, interest.MSG_MIGRATE_DATA), (Side.CLIENT, interest.MSGC_MIGRATE_DATA)}

State = Literal["linking", "open", "closed"]


@dataclass(frozen=True, slots=True)
class ConnectionView:
    """A connection as it is now."""

    id: str
    channel: str
    hop: int
    server: Address
    client: Address
    upstream: (
        Address | None
    )  # the proxy's own address on the connection to the server, as the server sees its peer
    state: State
    messages: Mapping[str, int]  # from "client", from "server"


class Connection:
    """One channel of a client, from accept() to close().

    Args:
        proxy: What all connections share.
        accepted: The client's socket; this object closes it.
        listener: Where it came in.
        number: Connections are numbered from 1.
    """

    def __init__(self, proxy: "Proxy", accepted: socket.socket, listener: Listener, number: int) -> None:
        self._proxy, self._client_socket, self._listener = proxy, accepted, listener
        self._upstream_socket: socket.socket | None = None
        self._number = number
        self.client = sockets.peer_address(accepted)
        self.id = f"c{number}"
        self.log: EventLog = proxy.log.bind(connection=self.id)
        self._link = LinkPhase()
        self._units: list[Unit] = []
        self._session: ProxySession | None = None
        self.hop = 0
        self._state: State = "linking"
        self._framers: dict[Side, Framer] | None = None
        self._conversation: Conversation | None = None
        self._upstream_address: Address | None = None

    @property
    def channel(self) -> str:
        """As `display:0`."""
        mess = self._link.mess
        return f"{channel_name(mess.channel_type)}:{mess.channel_id}" if mess else "unknown"

    def view(self) -> ConnectionView:
        """A copy of what is known."""
        counts = {side.value: self._framers[side].messages if self._framers else 0 for side in Side}
        return ConnectionView(
            self.id, self.channel, self.hop, self._listener.server, self.client, self._upstream_address,
            self._state, counts,
        )  # fmt: skip

    def close(self) -> None:
        """Close both sockets; may be called twice."""
        self._state = "closed"
        sockets.close(self._client_socket)
        if self._upstream_socket is not None:
            sockets.close(self._upstream_socket)

    # Before the session is known ------------------------------------------------------------------

    async def read_link_message(self) -> LinkMessage | None:
        """The client's link message, or None if it sent something else; then it has been told and logged."""
        received = 0
        try:
            while not self._units:
                data = await sockets.receive(self._client_socket, LINK_READ_BYTES)
                if not data:
                    level = self.log.warning if received else self.log.info
                    level(
                        "link_failed",
                        by="client",
                        reason=f"closed after {received} bytes of its link message",
                    )
                    return None
                received += len(data)
                self._units = self._link.receive(Side.CLIENT, data)
        except ProtocolError as error:
            self.log.warning("link_failed", by="client", reason=error.reason, offset=error.offset)
            code = (
                error.__cause__.code
                if isinstance(error.__cause__, LinkFormatError)
                else LinkError.INVALID_DATA
            )
            await self._refuse(code)
            return None
        except OSError as error:
            self.log.warning("link_failed", by="client", reason=error.strerror)
            return None
        return self._link.mess

    async def _refuse(self, code: LinkError) -> None:
        """Answer as spice-server does: an error reply, then close (reds.cpp, reds_send_link_error())."""
        with trio.move_on_after(REFUSAL_LINGER_S):
            try:
                await sockets.send_all(self._client_socket, build_link_error(code))
                self._client_socket.shutdown(socket.SHUT_WR)
                while await sockets.receive(self._client_socket, LINK_READ_BYTES):
                    pass  # closing with unread bytes would reset the connection, and the reply be lost
            except OSError:
                pass

    # In its session -------------------------------------------------------------------------------

    async def serve(self, session: "ProxySession", hop: int) -> None:
        """Connect to the server and relay until the end. Closes everything on every way out."""
        self._session, self.hop = session, hop
        self.log = session.log.bind(
            connection=self.id, channel=self.channel, hop=hop, server=str(self._listener.server)
        )
        started = trio.current_time()
        end: End | None = End("proxy", "the proxy stops")  # unless something else comes first
        try:
            if not await self._connect():
                end = None
            elif (refused := await self._relay_link()) is not None:
                end = refused
            else:
                end = await self._relay_data()
        finally:
            self.close()
            self._log_end(end, trio.current_time() - started)

    async def _connect(self) -> bool:
        server = self._listener.server
        try:
            self._upstream_socket = await sockets.connect(server, self._proxy.config.connect_timeout_s)
            self._upstream_address = sockets.local_address(self._upstream_socket)
        except OSError as error:
            reason = f"cannot connect to {server}: {error.strerror or error}"
            self.log.warning("link_failed", by="server", reason=reason)
            await self._refuse(LinkError.ERROR)
            return False
        if self._proxy.recorder is not None:
            self._conversation = self._proxy.recorder.conversation(
                self.client,
                sockets.peer_address(self._upstream_socket),
                comment=f"{self.channel} hop {self.hop}",
            )
        return True

    async def _relay_link(self) -> End | None:
        """Relay the link phase; None if messages follow."""
        assert self._upstream_socket is not None  # noqa: S101  _connect() came first
        sides = {Side.CLIENT: self._client_socket, Side.SERVER: self._upstream_socket}
        link = self._link
        try:
            with trio.fail_after(self._proxy.config.link_timeout_s):
                for unit in self._units:
                    await self._on_unit(unit)
                    await sockets.send_all(sides[unit.side.other], unit.data)
                await relay_link(link, sides, self._on_unit)
        except trio.TooSlowError:
            seconds = self._proxy.config.link_timeout_s
            return self._link_failed(link.turn.value, f"no {link.phase.value} within {seconds:g} s")
        except ClosedEarlyError as error:
            return self._link_failed(error.side.value, str(error))
        except ProtocolError as error:
            return self._link_failed(error.side.value, error.reason, offset=error.offset)
        except OSError as error:
            return self._link_failed("unknown", error.strerror or str(error))
        if link.phase is Phase.REFUSED:
            code = "unknown" if link.result is None else _error_name(link.result)
            self.log.warning("link_refused", error=code, code=link.result)
        elif link.phase is Phase.OPAQUE:
            self.log.warning("connection_opaque", reason="a SASL security layer encrypts what follows")
        return None

    def _link_failed(self, by: str, reason: str, **fields: Any) -> End:
        self.log.warning("link_failed", by=by, reason=reason, **fields)
        return End(by, reason)

    async def _on_unit(self, unit: Unit) -> None:
        if self._conversation is not None:
            self._conversation.data(unit.side, time.time_ns(), unit.safe, ends=(len(unit.safe),))
            await self._checkpoint()

    async def _relay_data(self) -> End:
        assert self._upstream_socket is not None  # noqa: S101  _connect() came first
        assert self._link.mess is not None  # noqa: S101  read_link_message() came first
        link, channel_type = self._link, self._link.mess.channel_type
        if link.phase is Phase.DATA:
            self._state = "open"
            self._framers = {
                side: Framer(
                    side,
                    mini_header=link.mini_header,
                    wanted=interest.wanted_messages(channel_type, side),
                    trace=self.tracing,
                    offset=link.offset(side),
                )
                for side in Side
            }
            self.log.info(
                "channel_linked", client=str(self.client), header="mini" if link.mini_header else "full"
            )
        return await relay_data(
            {Side.CLIENT: self._client_socket, Side.SERVER: self._upstream_socket},
            self._framers,
            {side: link.leftover(side) for side in Side},
            self._proxy.pool,
            self,
        )

    def _log_end(self, end: End | None, duration_s: float) -> None:
        if self._conversation is not None:
            closer = {"client": Side.CLIENT, "server": Side.SERVER}.get(end.by if end else "proxy")
            self._conversation.close(closer, time.time_ns(), reset=bool(end and end.reset))
        if self._framers is None or end is None:
            return
        self.log.info(
            "channel_closed",
            by=end.by,
            reason=end.reason,
            duration_s=round(duration_s, 3),
            **{f"messages_from_{side.value}": framer.messages for side, framer in self._framers.items()},
            **{f"bytes_from_{side.value}": framer.offset for side, framer in self._framers.items()},
        )

    # Observer of the relay ------------------------------------------------------------------------

    @property
    def tracing(self) -> bool:
        """Whether a recorder wants to see what passes."""
        return self._conversation is not None

    async def passed(self, side: Side, data: memoryview, ends: list[int]) -> None:
        """Record bytes that pass."""
        if self._conversation is not None:
            self._conversation.data(side, time.time_ns(), data, ends=ends)
            await self._checkpoint()

    def seen(self, message: Message) -> None:
        """Log a message that is read and passes."""
        channel_type = self._channel_type
        fields = self._fields(message)
        if (channel_type, message.side) == (ChannelType.MAIN, Side.SERVER):
            if message.id == interest.MSG_MAIN_INIT:
                self._initialised(fields)
                return
            if message.id == interest.MSG_MAIN_CHANNELS_LIST:
                listed = fields.get("channels", [])
                self.log.info(
                    "channels_listed", channels=[f"{channel_name(c['type'])}:{c['id']}" for c in listed]
                )
                return
        self._log_migration(message, fields)
        if message.id in interest.DESTINATION_MESSAGES and message.side is Side.SERVER:
            # It was to be held. Only a body that is too long to be kept comes here.
            self._not_rewritten(message, NotRedirectedError(f"its body has {message.size} bytes"))

    async def held(self, message: Message) -> bytes:
        """A message that names the next server: send the client to a listener of ours instead."""
        data, comment = message.header + message.body, None
        try:
            announcement = read_announcement(message)
        except NotRedirectedError as error:
            self._log_migration(message, self._fields(message))
            self._not_rewritten(message, error)
        else:
            self._log_migration(message, announcement.fields)
            try:
                data, comment = self._redirect(message, announcement)
            except NotRedirectedError as error:
                self._not_rewritten(message, error)
        if self._conversation is not None:
            self._conversation.data(message.side, time.time_ns(), data, ends=(len(data),), comment=comment)
            await self._checkpoint()
        return data

    def _not_rewritten(self, message: Message, error: NotRedirectedError) -> None:
        name = message_name(self._channel_type, message.side, message.id)
        self.log.error("message_not_rewritten", name=name, reason=str(error))

    def _redirect(self, message: Message, announcement: Announcement) -> tuple[bytes, str]:
        """What goes out, and what the recording says of it."""
        advertised = self._proxy.config.advertise or sockets.local_address(self._client_socket).host
        scratch = message.id == interest.MSG_MAIN_MIGRATE_SWITCH_HOST
        if announcement.port and self._proxy.leads_here(
            announcement.destination(announcement.port), advertised
        ):
            raise NotRedirectedError("it names the proxy itself")

        def listen(destination: Address, tls: bool) -> int:
            self._session_announced(destination, from_scratch=scratch)
            return self._proxy.open_destination(destination, tls=tls, log=self.log)

        redirected = redirect(message, announcement, host=advertised, listen=listen)
        before = announcement.told
        self.log.info("message_rewritten", name=announcement.name, before=before, after=redirected.after)
        told = " ".join(f"{key} {value}" for key, value in before.items())
        return redirected.data, f"{announcement.name} rewritten by spiceproxy; the server sent {told}"

    def _session_announced(self, destination: Address, *, from_scratch: bool) -> None:
        if self._session is not None:
            self._proxy.sessions_core.announced(
                self._session.core,
                destination,
                hop=self.hop,
                from_scratch=from_scratch,
                now=trio.current_time(),
            )

    @property
    def _channel_type(self) -> int:
        return self._link.mess.channel_type if self._link.mess else 0

    def _fields(self, message: Message) -> dict[str, Any]:
        """The message's fields as far as they may be logged."""
        if (message.side, message.id) in _SIZES_ONLY:
            return {"data_size": message.size, "magic": message.body[:4].decode("ascii", "backslashreplace")}
        try:
            if not message.whole:
                raise DissectionError(f"{message.size} bytes are too many to be kept")
            return dissect(self._channel_type, message.side, message.id, message.body).fields
        except DissectionError as error:
            name = message_name(self._channel_type, message.side, message.id)
            self.log.warning("message_undecoded", name=name, size=message.size, reason=str(error))
            return {}

    def _initialised(self, fields: dict[str, Any]) -> None:
        if self._session is not None and (connection_id := fields.get("session_id")):
            self._session.core.connection_ids.add(connection_id)
            self.log.info("session_identified", connection_id=connection_id)

    def _log_migration(self, message: Message, fields: dict[str, Any]) -> None:
        name = message_name(self._channel_type, message.side, message.id)
        sender = {"from": message.side.value}
        self.log.info(
            "migration_message", **sender, name=name, id=message.id, size=message.size, fields=fields
        )

    async def _checkpoint(self) -> None:
        if self._proxy.recorder is None:
            return
        try:
            await self._proxy.recorder.checkpoint()
        except RecordingError as error:
            self.log.error("recording_failed", reason=str(error))


def _error_name(code: int) -> str:
    try:
        return f"SPICE_LINK_ERR_{LinkError(code).name}"
    except ValueError:
        return f"link_error_{code}"
