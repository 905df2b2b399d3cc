"""Join the connections of a capture into sessions: what `protocol.session` knows, from what a capture shows.

A capture made without the proxy shows the client where the server sent it. The address is the one in the message,
unless the message has a host name: then its port, the connection id and the order of things have to do. A recording
made by the proxy shows the real servers, while the messages in it name the proxy; there the first packet of every
connection says "main:0 hop 1" (`spiceproxy.relay.connection`), and that decides.
"""

import re
from typing import Final, NamedTuple

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.link import LinkMessage
from dissectors.message_ids import Main
from dissectors.registry import dissect
from dissectors.side import Side
from spiceproxy.address import Address
from spiceproxy.protocol.announcement import NotRedirectedError, read_announcement
from spiceproxy.protocol.framer import Message
from spiceproxy.protocol.interest import DESTINATION_MESSAGES
from spiceproxy.protocol.resolving import plain, resolve, switch
from spiceproxy.protocol.session import SWITCH_GRACE_S, Session, Sessions

# Messages from the server on a main channel that say what belongs together.
TELLING: Final = frozenset({int(Main.INIT), *map(int, DESTINATION_MESSAGES)})
# Sessions without a connection that are kept in mind, for connections that a capture shows late.
MAX_LINGERING: Final = 256

REPEATED: Final = "This connection began before this file; its link phase is repeated by spiceproxy."
"""So says the first packet of a connection in a file that a recording went on in, or that has its last seconds only."""

_HOP: Final = re.compile(r"^[a-z_]+[0-9]*:[0-9]{1,3} hop ([0-9]{1,6})$", re.MULTILINE)


class Place(NamedTuple):
    """Where a connection belongs."""

    session: Session
    hop: int  # 0 is the session's first server
    certain: bool  # whether it is that; without the session's beginning it may be any later one
    new: bool  # the session begins with it
    orphan: bool  # it carries the id of a session whose main channel is not in the capture


class CapturedSessions:
    """All sessions of one capture. Times are nanoseconds since 1970, as in the capture."""

    def __init__(self) -> None:
        self._sessions = Sessions()
        self._lingering: dict[Session, float] = {}  # without a connection since, in seconds
        self._beginning_unknown: set[Session] = set()  # their main channel is not in the capture

    def join(
        self,
        mess: LinkMessage,
        *,
        client: tuple[str, int],
        server: tuple[str, int],
        comment: str | None,
        time_ns: int,
    ) -> Place:
        """Say where a connection with this link message belongs.

        Args:
            mess: The client's link message.
            client: Address and port of the client.
            server: Address and port of the server, as in the packets.
            comment: Of the connection's first packet.
            time_ns: When the link message was whole.
        """
        now, address = time_ns / 1e9, Address(*server[:2])
        self._forget(now)
        found = _HOP.search(comment or "")
        told = int(found[1]) if found else None
        if told is not None:
            self._trust(mess, address, client[0], told, now)
        else:
            known = resolve(
                self._sessions,
                connection_id=mess.connection_id,
                channel_type=mess.channel_type,
                server=address,
                client_host=client[0],
                now=now,
            )
            if mess.connection_id and not known:
                self._adopt(mess, address, client[0])
        joined = self._sessions.join(
            connection_id=mess.connection_id,
            channel_type=mess.channel_type,
            server=address,
            client_host=client[0],
            now=now,
        )
        self._lingering.pop(joined.session, None)
        hop = joined.hop if told is None else told
        joined.session.hops = max(joined.session.hops, hop)
        # Such a file begins with all connections that are open, main before the others: nothing of them is missing from there on.
        whole = mess.channel_type == ChannelType.MAIN and REPEATED in (comment or "")
        orphan = joined.orphan and not whole
        if orphan:
            self._beginning_unknown.add(joined.session)
        certain = told is not None or hop > 0 or joined.session not in self._beginning_unknown
        return Place(joined.session, hop, certain, joined.new, orphan)

    def heard(self, place: Place, message: Message, time_ns: int) -> None:
        """Learn from a message of the server on a main channel whose id is in `TELLING`."""
        if message.id == Main.INIT:
            try:
                fields = dissect(ChannelType.MAIN, Side.SERVER, message.id, message.body).fields
            except DissectionError:
                return
            if fields.get("session_id"):
                self._sessions.initialised(place.session, fields["session_id"])
            return
        try:
            announcement = read_announcement(message)
        except NotRedirectedError:
            return
        scratch = message.id == Main.MIGRATE_SWITCH_HOST
        for port in filter(None, (announcement.port, announcement.sport)):
            self._sessions.announced(
                place.session,
                Address(plain(announcement.host), port),
                hop=place.hop,
                from_scratch=scratch,
                now=time_ns / 1e9,
            )

    def left(self, place: Place, time_ns: int) -> None:
        """A connection of the session is over."""
        self._sessions.left(place.session)
        if place.session.open_connections == 0:
            self._lingering[place.session] = time_ns / 1e9

    def alive(self, session: Session) -> bool:
        """Whether more connections of this session may come."""
        return session in self._lingering or session.open_connections > 0

    def _forget(self, now: float) -> None:
        """Let go of sessions that ended a while ago: what is kept must not grow with the capture."""
        for session, since in list(self._lingering.items()):
            if len(self._lingering) <= MAX_LINGERING and now - since < SWITCH_GRACE_S:
                break  # in the order in which they ended
            del self._lingering[session]
            self._sessions.forget(session)
            self._beginning_unknown.discard(session)

    def _trust(self, mess: LinkMessage, server: Address, client_host: str, hop: int, now: float) -> None:
        """The proxy wrote which hop this is: make the session expect this server there."""
        if not hop:
            return
        for session in reversed(list(self._sessions)):
            if mess.connection_id:
                if mess.connection_id in session.connection_ids and session.client_host == client_host:
                    self._sessions.announced(session, server, hop=hop - 1, from_scratch=False, now=now)
                    return
            elif session.client_host == client_host and switch(self._sessions, session, server, now, hop=hop):
                return
        self._take_in(mess, server, client_host, hop, now)

    def _take_in(self, mess: LinkMessage, server: Address, client_host: str, hop: int, now: float) -> None:
        """A link with a wrong connection id, to a server where no session begins: of the one that was sent there last."""
        main = mess.channel_type == ChannelType.MAIN
        for session in reversed(list(self._sessions)):
            told = session.client_host == client_host and any(each.hop == hop for each in session.expected)
            if told and (mess.connection_id or main):
                if mess.connection_id:
                    self._sessions.initialised(session, mess.connection_id)
                scratch = not mess.connection_id
                self._sessions.announced(session, server, hop=hop - 1, from_scratch=scratch, now=now)
                return

    def _adopt(self, mess: LinkMessage, server: Address, client_host: str) -> None:
        """An id nobody has told: of the one session here whose MAIN_INIT is not in the capture, if there is one."""
        nameless = [
            session
            for session in self._sessions
            if not session.connection_ids
            and session.first == server
            and session.client_host == client_host
            and session.open_connections
        ]
        if len(nameless) == 1 and mess.channel_type != ChannelType.MAIN:
            self._sessions.initialised(nameless[0], mess.connection_id)
