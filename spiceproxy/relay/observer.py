"""Look on while one connection's bytes pass: events, the recording, and the messages that must be rewritten."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from dissectors.channels import ChannelType, channel_name
from dissectors.errors import DissectionError
from dissectors.message_ids import Main, Msg, MsgC
from dissectors.registry import dissect, message_name
from dissectors.side import Side
from spiceproxy import clock
from spiceproxy.address import Address
from spiceproxy.destinations import Way
from spiceproxy.errors import RecordingError
from spiceproxy.eventlog import EventLog
from spiceproxy.following.connections import FollowedConnection
from spiceproxy.following.watching import WatchedConnection
from spiceproxy.protocol.announcement import Announcement, NotRedirectedError, read_announcement
from spiceproxy.protocol.interest import DESTINATION_MESSAGES
from spiceproxy.protocol.items import Message, Note
from spiceproxy.protocol.migration.facts import is_migration_message
from spiceproxy.protocol.resolving import plain
from spiceproxy.protocol.session import Session
from spiceproxy.recording.conversation import Conversation
from spiceproxy.recording.conversations import Conversations
from spiceproxy.redirect import redirect, ways_to
from spiceproxy.relay.pump import End
from spiceproxy.shared import Shared
from spiceproxy.sparing import SparingLog

# MIGRATE_DATA is opaque here, may be long, and may hold what the user typed into a guest: only its size and the
# four letters that say which channel's it is are logged.
_SIZES_ONLY: Final = {(Side.SERVER, Msg.MIGRATE_DATA), (Side.CLIENT, MsgC.MIGRATE_DATA)}


class ChannelObserver:
    """The relay's observer of one connection.

    Args:
        shared: What all connections share.
        session: The session the connection belongs to.
        log: The connection's log.
        channel_type: As in the link message.
        hop: Which server of the session this is.
        reached_at: The host by which the client reached the proxy.
        conversation: Where the connection is recorded, if it is.
        recorder: What that belongs to.
        followed: Who follows migrations.
    """

    def __init__(
        self,
        shared: Shared,
        session: Session,
        log: EventLog,
        *,
        channel_type: int,
        hop: int,
        reached_at: str,
        conversation: Conversation | None,
        recorder: Conversations | None,
        followed: FollowedConnection,
    ) -> None:
        self._shared, self._session, self._log = shared, session, SparingLog(log)
        self._channel_type, self._hop = channel_type, hop
        self._advertised = shared.config.advertise or reached_at
        self._conversation, self._recorder, self._followed = conversation, recorder, followed
        self.watched: WatchedConnection | None = None
        """Where messages are told that somebody may wait for; None before there are any."""
        self.client_may_send_secrets = False
        """The link phase broke off: what the client still sends may be its ticket. Recorded as zeros."""

    @property
    def tracing(self) -> bool:
        """Whether a recorder wants to see what passes."""
        return self._conversation is not None

    async def passed(
        self, side: Side, data: bytes | memoryview, ends: Sequence[int], comment: str | None = None
    ) -> None:
        """Record bytes that pass; a slow disk makes this wait."""
        if self._conversation is None or self._recorder is None:
            return
        if self.client_may_send_secrets and side is Side.CLIENT:
            data = bytes(len(data))
        self._conversation.data(side, clock.now_ns(), data, ends=ends, comment=comment)
        try:
            await self._recorder.checkpoint()
        except RecordingError as error:
            assert self._shared.recordings is not None  # noqa: S101  it has the recorder
            self._shared.recordings.failed(self._session.id, error)

    def linked(self) -> None:
        """Messages follow."""
        if self._conversation is not None:
            self._conversation.linked()

    def direction_ended(self, side: Side, *, reset: bool = False, unreadable: str | None = None) -> None:
        """Nothing more comes from this side."""
        if self._conversation is not None and not reset:
            self._conversation.close(side, clock.now_ns())
        self._followed.direction_ended(side, reset=reset, unreadable=unreadable)

    def closed(self, end: End | None) -> None:
        """The connection is over."""
        self._log.tell()
        if self._conversation is not None:
            closer = {"client": Side.CLIENT, "server": Side.SERVER}.get(end.by if end else "proxy")
            self._conversation.close(closer, clock.now_ns(), reset=bool(end and end.reset))
            self._conversation.close(None, clock.now_ns())  # and the other side

    def noted(self, side: Side, notes: list[Note]) -> None:
        """Messages that pass while somebody counts them."""
        if self.watched is not None and self.watched.active:
            self.watched.noted(side, notes)
        self._followed.noted(side, notes)

    def seen(self, message: Message) -> None:
        """A message that is read and passes."""
        self.heard(message)
        self._followed.said(message)

    def heard(self, message: Message) -> None:
        """Log what a peer has said."""
        self._tell_watchers(message)
        if is_migration_message(self._channel_type, message.side, message.id):
            self._log_migration(message, self._fields(message))
            if message.id in DESTINATION_MESSAGES and message.side is Side.SERVER:
                # It was to be held. Only a body that is too long to be kept comes here.
                self._not_rewritten(message, NotRedirectedError(f"its body has {message.size} bytes"))
        elif (self._channel_type, message.side) == (ChannelType.MAIN, Side.SERVER):
            if message.id == Main.INIT:
                if self._conversation is not None:  # it says which session the other connections belong to
                    self._conversation.remember(Side.SERVER, message.header + message.body)
                self._initialised(self._fields(message))
            elif message.id == Main.CHANNELS_LIST:
                listed = self._fields(message).get("channels", [])
                self._log.info(
                    "channels_listed", channels=[f"{channel_name(c['type'])}:{c['id']}" for c in listed]
                )

    async def held(self, message: Message) -> bytes:
        """A message that names the next server: send the client to a listener of ours instead."""
        data, comment = self.rewritten(message, self._followed.said)
        await self.passed(message.side, data, (len(data),), comment)
        return data

    def rewritten(
        self, message: Message, said: Callable[[Message], None] | None = None
    ) -> tuple[bytes, str | None]:
        """What goes out in the place of a message that names the next server, and what the recording says of that.

        Args:
            message: As its sender sent it.
            said: Told of it before anything is done about it.
        """
        self._tell_watchers(message)
        problem: NotRedirectedError | None = None
        announcement: Announcement | None = None
        try:
            announcement = read_announcement(message)
        except NotRedirectedError as error:
            problem = error
        self._log_migration(message, self._fields(message) if announcement is None else announcement.fields)
        if said is not None:
            said(message)
        if announcement is not None and not self._shared.config.ways.mode.rewrites:
            self._expect(message, announcement)
            return message.header + message.body, None
        if announcement is not None:
            try:
                return self._redirect(message, announcement)
            except NotRedirectedError as error:
                problem = error
        assert problem is not None  # noqa: S101  one of the two has failed
        self._not_rewritten(message, problem)
        return message.header + message.body, None

    def _expect(self, message: Message, announcement: Announcement) -> None:
        """The client will go where it was told to, and come through here by itself."""
        for port, tls in ((announcement.port, False), (announcement.sport, True)):
            if port is None:
                continue
            destination = Address(plain(announcement.host), port)
            if tls:
                self._shared.subjects.announced(destination, announcement.subject)
            self._shared.sessions.announced(
                self._session,
                destination,
                hop=self._hop,
                from_scratch=message.id == Main.MIGRATE_SWITCH_HOST,
                now=trio.current_time(),
            )
            self._log.info("destination_announced", destination=str(destination), tls=tls)

    def _tell_watchers(self, message: Message) -> None:
        if self.watched is not None and self.watched.active:
            self.watched.heard(message)

    def note(self, comment: str) -> None:
        """Something happened of which no packet shows anything."""
        if self._conversation is not None:
            self._conversation.note(comment)

    def _redirect(self, message: Message, announcement: Announcement) -> tuple[bytes, str]:
        """What goes out, and what the recording says of it."""
        destinations = self._shared.destinations
        scratch = message.id == Main.MIGRATE_SWITCH_HOST
        if any(
            port is not None and destinations.leads_here(announcement.destination(port), self._advertised)
            for port in (announcement.port, announcement.sport)
        ):
            raise NotRedirectedError("it names the proxy itself")

        def listen(way: Way) -> int:
            listener, new = destinations.open(way, self._session.id)
            if new:
                address, tls = str(listener.address), way.tls or way.unread
                self._log.info("destination_opened", destination=str(way.server), listen=address, tls=tls)
            self._shared.sessions.announced(
                self._session, way.server, hop=self._hop, from_scratch=scratch, now=trio.current_time()
            )
            return listener.address.port

        tls = self._shared.tls
        ways = ways_to(announcement, self._shared.offered, unread=tls is None)
        subject = tls.subject if tls is not None and announcement.subject else None
        redirected = redirect(
            message, announcement, host=self._advertised, ways=ways, listen=listen, subject=subject
        )
        before = announcement.told
        self._log.info("message_rewritten", name=announcement.name, before=before, after=redirected.after)
        told = " ".join(f"{key} {value}" for key, value in before.items())
        return redirected.data, f"{announcement.name} rewritten by spiceproxy; the server sent {told}"

    def _not_rewritten(self, message: Message, error: NotRedirectedError) -> None:
        self._log.error("message_not_rewritten", name=self._name(message), reason=str(error))

    def _initialised(self, fields: dict[str, Any]) -> None:
        if connection_id := fields.get("session_id"):
            self._shared.sessions.initialised(self._session, connection_id)
            self._log.info("session_identified", connection_id=connection_id)

    def _fields(self, message: Message) -> dict[str, Any]:
        """The message's fields as far as they may be logged."""
        if (message.side, message.id) in _SIZES_ONLY:
            return {"data_size": message.size, "magic": message.body[:4].decode("ascii", "backslashreplace")}
        try:
            if not message.whole:
                raise DissectionError(f"{message.size} bytes are too many to be kept")
            return dissect(self._channel_type, message.side, message.id, message.body).fields
        except DissectionError as error:
            name = self._name(message)
            self._log.warning("message_undecoded", name=name, size=message.size, reason=str(error))
            return {}

    def _log_migration(self, message: Message, fields: dict[str, Any]) -> None:
        sender = {"from": message.side.value}
        name = self._name(message)
        self._log.info(
            "migration_message", **sender, name=name, id=message.id, size=message.size, fields=fields
        )

    def _name(self, message: Message) -> str:
        return message_name(self._channel_type, message.side, message.id)
