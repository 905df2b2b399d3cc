"""The plays of `tests.protocol.migration.playbook`, told to a follower as live connections tell them: through framers."""

import struct
from collections.abc import Callable
from typing import Any

from dissectors.link import LinkMessage, LinkReplyMessage
from dissectors.side import Side
from spiceproxy.eventlog import EventLog
from spiceproxy.following.connections import FollowedConnection
from spiceproxy.following.follower import MigrationFollower
from spiceproxy.protocol.framer import Framer
from spiceproxy.protocol.items import Held, Noted, Seen
from spiceproxy.protocol.link import LinkPhase
from spiceproxy.protocol.migration.connections import Judge
from spiceproxy.protocol.migration.facts import DirectionClosed, Fact, Linked, LinkFailed, Opened, Said
from spiceproxy.protocol.migration.settings import Settings
from tests.protocol.migration.playbook import SECOND, Play
from tests.raw_peers import Events

MS = 10**6


class LivePlay:
    """Plays facts to a follower whose clock is theirs."""

    def __init__(self, *, judge: Callable[[], Judge] | None = None, settings: Settings | None = None) -> None:
        self.now_ns = 0
        self.events = Events()
        log = EventLog([self.events])
        self.follower = MigrationFollower(
            log, judge=judge, settings=settings, clock_ns=lambda: self.now_ns, zero_ns=0
        )
        self.connections: dict[str, FollowedConnection] = {}
        self.framers: dict[str, dict[Side, Framer]] = {}
        self.noted = 0  # messages that reached the follower by their headers only
        self._opened: dict[str, Opened] = {}
        self._ended: dict[str, set[Side | None]] = {}

    def play(self, play: Play) -> "LivePlay":
        """Tell all facts."""
        for fact in play:
            self.tell(fact)
        return self

    def wait(self, ns: int, *, step_ns: int = 100 * MS) -> "LivePlay":
        """Let time pass, with a tick now and then."""
        until = self.now_ns + ns
        while self.now_ns < until:
            self.now_ns = min(until, self.now_ns + step_ns)
            self.follower.tick()
        return self

    def end(self) -> "LivePlay":
        """A second of silence, then the session is over."""
        self.wait(SECOND)
        self.follower.over("s1")
        return self

    def tell(self, fact: Fact) -> None:
        """Tell one fact as a connection would."""
        self.now_ns = fact.time_ns
        if isinstance(fact, Opened):
            self._opened[fact.connection] = fact
        elif isinstance(fact, Linked):
            self._link(fact)
        elif isinstance(fact, LinkFailed):
            mess = LinkMessage(fact.connection_id or 0, fact.channel_type or 0, fact.channel_id or 0, (), ())
            self._connect(fact, mess).link_failed(fact.by, fact.reason, code=fact.code, opaque=fact.opaque)
        elif isinstance(fact, Said):
            self._say(fact)
        elif isinstance(fact, DirectionClosed):
            self._close(fact)

    def _connect(self, fact: Linked | LinkFailed, mess: LinkMessage) -> FollowedConnection:
        opened_ns = self._opened[fact.connection].time_ns
        server = self._opened[fact.connection].server
        made = self.follower.connect(
            "s1", fact.connection, mess, hop=fact.hop, server=server, opened_ns=opened_ns
        )
        self.connections[fact.connection] = made
        return made

    def _link(self, fact: Linked) -> None:
        link = LinkPhase()
        client, server = fact.client, fact.server
        link.mess = LinkMessage(
            fact.connection_id,
            fact.channel_type,
            fact.channel_id,
            tuple(client.common),
            tuple(client.channel),
        )
        link.reply = LinkReplyMessage(0, bytes(162), tuple(server.common), tuple(server.channel))
        followed = self._connect(fact, link.mess)
        framers = {side: Framer(side, mini_header=fact.mini_header, wanted={}) for side in Side}
        for framer in framers.values():
            followed.interest.attach(framer)
        self.framers[fact.connection] = framers
        followed.linked(link, framers)

    def _say(self, fact: Said) -> None:
        framer, followed = self.framers[fact.connection][fact.side], self.connections[fact.connection]
        body = fact.body or b""
        header = (
            struct.pack("<QHII", fact.serial, fact.id, len(body), 0)
            if framer._full
            else struct.pack("<HI", fact.id, len(body))
        )
        framer.time_ns = self.now_ns
        for item in framer.walk(memoryview(header + body)) or ():
            match item:
                case Noted(notes):
                    self.noted += len(notes)
                    followed.noted(fact.side, notes)
                case Seen(message) | Held(message):
                    followed.said(message)

    def _close(self, fact: DirectionClosed) -> None:
        followed, ended = (
            self.connections[fact.connection],
            self._ended.setdefault(fact.connection, set()),
        )
        followed.direction_ended(fact.side, reset=fact.reset)
        ended.add(fact.side)
        if len(ended) == len(Side) or fact.reset:
            followed.over(fact.side)


def scrubbed(value: Any) -> Any:
    """A report without the numbers of messages, which nobody counts live."""
    if isinstance(value, dict):
        return {key: scrubbed(item) for key, item in value.items() if key != "number"}
    return [scrubbed(item) for item in value] if isinstance(value, list) else value
