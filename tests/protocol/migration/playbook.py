"""Migrations as lists of facts, as spice-server 0.15.1 and spice-gtk 0.42 play them, for tests to spoil.

A `Play` is immutable; every edit returns another one. Messages are named without "SPICE_MSG_" and the channel's name
("MIGRATE_FLUSH_MARK", "MIGRATE_BEGIN"), with the channel where that is not main, and with the hop where both ends say it::

    play = seamless().without("MIGRATE_FLUSH_MARK", "inputs:0")
    migration = play.migration()
"""

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.registry import message_name
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import Judge
from spiceproxy.protocol.migration.facts import (
    Capabilities,
    DirectionClosed,
    Fact,
    InputEnded,
    Linked,
    LinkFailed,
    Missing,
    Opened,
    Passed,
    Said,
)
from spiceproxy.protocol.migration.model import Migration
from spiceproxy.protocol.migration.tracker import SessionTracker

CLIENT, SERVER = Side.CLIENT, Side.SERVER
MS: Final = 10**6
SECOND: Final = 10**9
START: Final = 1_700_000_000 * SECOND
SESSION_ID: Final = 0x5EED
CHANNELS: Final = (
    "main:0", "display:0", "inputs:0", "cursor:0", "playback:0", "record:0", "usbredir:0", "webdav:0",
)  # fmt: skip
PLAIN: Final = ("cursor", "playback", "record")  # flags 0
_PREFIX: Final = re.compile(r"^SPICE_MSGC?_((MAIN|DISPLAY|INPUTS|CURSOR|PLAYBACK|RECORD|SPICEVMC|PORT)_)?")
MAIN_CAPS: Final = 0b1111
SERVER_CAPS: Final = 0b1001

# Ids of single channels that have no enum: the display's, the cursor's and so on.
_DISPLAY_INIT, _SURFACE_CREATE, _DRAW_COPY, _INVAL_PIXMAPS, _INVAL_PALETTES = 101, 314, 304, 106, 108
_INPUTS_INIT, _KEY_MODIFIERS, _CURSOR_INVAL_ALL, _CURSOR_SET, _PORT_INIT = 101, 102, 108, 103, 201
_VOLUME = {"playback": 105, "record": 103}


def type_of(channel: str) -> ChannelType:
    """The type of "display:0"."""
    return ChannelType[channel.partition(":")[0].upper()]


def device(magic: bytes, *, connected: int = 1, tokens: int = 0xFFFFFFFF) -> bytes:
    """MIGRATE_DATA of a character device."""
    return magic + struct.pack("<IIBIIIII", 1, 1, connected, tokens, tokens, 0, 0, 0)


def display_state(serial: int, *, freezer: int = 1, surfaces: Iterable[int] = (0,)) -> bytes:
    """MIGRATE_DATA of a display."""
    ids = list(surfaces)
    return (
        b"DCMD"
        + struct.pack("<IQBBqB4Q", 1, serial, 0, 1, 20 << 20, freezer, 0, 0, 0, 0)
        + struct.pack("<BIIQI", 1, 6 << 20, 4, 110, 80)
        + struct.pack(f"<I{len(ids)}I", len(ids), *ids)
    )


def state(channel: str, serial: int) -> bytes:
    """MIGRATE_DATA of a channel; empty for those that have none."""
    kind = channel.partition(":")[0]
    if kind == "main":
        return device(b"MNMD", connected=0, tokens=0) + bytes(65 - 33)
    if kind == "display":
        return display_state(serial, freezer=1 if channel == "display:0" else 0)
    if kind == "inputs":
        return b"ICMD" + struct.pack("<IH", 1, 0)
    return b"" if kind in PLAIN else device(b"SVMD")


def destination(
    kind: int, host: str = "10.0.0.2", port: int = 5901, sport: int = 0, version: int = 1
) -> bytes:
    """The body of MIGRATE_BEGIN, MIGRATE_BEGIN_SEAMLESS or MIGRATE_SWITCH_HOST."""
    name = host.encode() + b"\0"
    at = 24 if kind == Main.MIGRATE_BEGIN_SEAMLESS else 20
    fixed = struct.pack("<HHIIII", port, sport, len(name), at, 0, 0)
    return (fixed + (struct.pack("<I", version) if at == 24 else b"")) + name


def main_init(session_id: int = SESSION_ID) -> bytes:
    """The body of MAIN_INIT."""
    return struct.pack("<8I", session_id, 1, 3, 2, 0, 10, 1000, 64 << 20)


@dataclass
class Script:
    """Writes facts down, a tenth of a millisecond apart."""

    channels: tuple[str, ...] = CHANNELS
    mini: bool = True
    client_caps: int = MAIN_CAPS
    server_caps: int = SERVER_CAPS
    facts: list[Fact] = field(default_factory=list)
    now: int = START
    where: dict[tuple[str, int], str] = field(default_factory=dict)  # (channel, hop) to connection
    serials: dict[tuple[str, Side], int] = field(default_factory=dict)
    # Under mini headers, what a display's server counts besides the messages of its connection.
    taken_over: dict[str, int] = field(default_factory=dict)
    numbers: int = 0
    connections: int = 0

    def tick(self, ns: int = MS // 10) -> int:
        """Let time pass."""
        self.now += ns
        return self.now

    def open(self, channel: str, hop: int) -> str:
        """A TCP connection."""
        self.connections += 1
        name = self.where[channel, hop] = f"c{self.connections}"
        self.facts.append(Opened(self.tick(), name, hop, f"10.0.0.{hop + 1}:{5900 + hop}"))
        return name

    def link(
        self, channel: str, hop: int, connection_id: int = SESSION_ID, *, caps: int | None = None
    ) -> None:
        """A connection that gets through the link phase."""
        name, type_ = self.open(channel, hop), type_of(channel)
        common = 0b1011 if self.mini else 0b0011
        main = type_ is ChannelType.MAIN
        server = self.server_caps if caps is None else caps
        client = Capabilities((common,), (self.client_caps if main else 0,))
        self.facts.append(
            Linked(
                self.tick(), name, hop, int(type_), int(channel.partition(":")[2]), connection_id, client,
                Capabilities((common,), (server if main else 0,)), self.mini, f"10.0.0.{hop + 1}:{5900 + hop}",
            )
        )  # fmt: skip

    def fail(
        self,
        channel: str,
        hop: int,
        *,
        code: int | None = None,
        reason: str = "closed",
        connection_id: int = SESSION_ID,
    ) -> None:
        """A connection that does not."""
        name = self.open(channel, hop)
        type_, id_ = int(type_of(channel)), int(channel.partition(":")[2])
        fact = LinkFailed(self.tick(), name, hop, type_, id_, connection_id, SERVER, code, reason)
        self.facts += [
            fact,
            DirectionClosed(self.tick(), name, SERVER),
            DirectionClosed(self.tick(), name, CLIENT),
        ]

    def say(self, side: Side, channel: str, hop: int, id_: int, body: bytes = b"") -> Said:
        """A message."""
        name = self.where[channel, hop]
        serial = self.serials[name, side] = self.serials.get((name, side), 0) + 1
        self.numbers += 1
        said = Said(self.tick(), name, side, int(id_), len(body), serial, body, self.numbers)
        self.facts.append(said)
        return said

    def close(self, channel: str, hop: int, by: Side = CLIENT) -> None:
        """Both directions of a connection are closed, `by` first."""
        name = self.where[channel, hop]
        self.facts += [DirectionClosed(self.tick(), name, by), DirectionClosed(self.tick(), name, by.other)]

    def session(self, hop: int, *, connection_id: int = 0, session_id: int = SESSION_ID) -> None:
        """A new session, with something to see on every channel."""
        self.link("main:0", hop, connection_id)
        self.say(SERVER, "main:0", hop, Main.INIT, main_init(session_id))
        self.say(CLIENT, "main:0", hop, MainC.ATTACH_CHANNELS)
        for channel in self.channels:
            if channel != "main:0":
                self.link(channel, hop, session_id)
                self.greet(channel, hop)
        self.act(hop)

    def greet(self, channel: str, hop: int) -> None:
        """What a channel of a new session begins with, and one after a semi-seamless migration."""
        kind = channel.partition(":")[0]
        if kind == "display":
            self.say(CLIENT, channel, hop, _DISPLAY_INIT, bytes(14))
            self.say(SERVER, channel, hop, Msg.SET_ACK, struct.pack("<II", 1, 20))
            self.say(SERVER, channel, hop, _INVAL_PALETTES)
            self.say(SERVER, channel, hop, _SURFACE_CREATE, struct.pack("<5I", 0, 640, 480, 32, 1))
        elif kind == "cursor":
            self.say(SERVER, channel, hop, Msg.SET_ACK, struct.pack("<II", 1, 20))
        elif kind == "inputs":
            self.say(SERVER, channel, hop, _INPUTS_INIT, bytes(2))
        elif kind in {"port", "webdav"}:
            self.say(SERVER, channel, hop, _PORT_INIT, bytes(34))

    def act(self, hop: int) -> None:
        """The guest does something that shows."""
        for channel in self.channels:
            kind = channel.partition(":")[0]
            if kind == "display":
                self.say(SERVER, channel, hop, _DRAW_COPY, bytes(100))
                self.say(SERVER, channel, hop, _DRAW_COPY, bytes(100))
            elif kind == "cursor":
                self.say(SERVER, channel, hop, _CURSOR_SET, bytes(20))
            elif kind == "inputs":
                self.say(SERVER, channel, hop, _KEY_MODIFIERS, bytes(2))

    # The steps of a migration -------------------------------------------------------------------------

    def connect(self, source: int, *, seamless: bool = True, verdict: int | None = None) -> None:
        """From BEGIN to the client's reply."""
        there = source + 1
        kind = Main.MIGRATE_BEGIN_SEAMLESS if seamless else Main.MIGRATE_BEGIN
        host, port = f"10.0.0.{there + 1}", 5900 + there
        self.say(SERVER, "main:0", source, kind, destination(kind, host, port))
        self.link("main:0", there)
        if seamless:
            self.say(CLIENT, "main:0", there, MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
            self.say(SERVER, "main:0", there, verdict or Main.MIGRATE_DST_SEAMLESS_ACK)
        agreed = seamless and verdict in {None, Main.MIGRATE_DST_SEAMLESS_ACK}
        for channel in self.channels:
            if channel == "main:0":
                continue
            self.link(channel, there)
            kind_of = channel.partition(":")[0]
            if agreed and kind_of in {"cursor", "inputs", "port", "webdav"}:
                self.greet(channel, there)
        if agreed:
            for _ in range(2):
                self.say(SERVER, "main:0", there, Msg.PING, bytes(12))
        reply = MainC.MIGRATE_CONNECTED_SEAMLESS if agreed else MainC.MIGRATE_CONNECTED
        self.say(CLIENT, "main:0", source, reply)

    def finish_seamless(self, source: int) -> None:
        """MIGRATE on every channel, and all that follows."""
        there, sent = source + 1, {}
        for channel in self.channels:
            plain = channel.partition(":")[0] in PLAIN
            if channel.startswith("cursor"):
                self.say(SERVER, channel, source, _CURSOR_INVAL_ALL)
            self.say(SERVER, channel, source, Msg.MIGRATE, struct.pack("<I", 0 if plain else 3))
        carrying = [channel for channel in self.channels if channel.partition(":")[0] not in PLAIN]
        for channel in carrying:
            self.say(CLIENT, channel, source, MsgC.MIGRATE_FLUSH_MARK)
        for channel in carrying:
            name = self.where[channel, source]
            sent[channel] = state(channel, self.taken_over.get(name, 0) + self.serials[name, SERVER] + 1)
            self.say(SERVER, channel, source, Msg.MIGRATE_DATA, sent[channel])
        for channel in carrying:
            self.say(CLIENT, channel, there, MsgC.MIGRATE_DATA, sent[channel])
            if channel == "main:0":
                for _ in range(2):
                    self.say(CLIENT, channel, there, MsgC.PONG, bytes(12))
        for channel in self.channels:
            self.close(channel, source)
        for channel in self.channels:
            if channel.startswith("cursor"):  # its SET_ACK has been there since the link
                self.say(CLIENT, channel, there, MsgC.ACK_SYNC, struct.pack("<I", 1))
        for channel in carrying:
            if channel.startswith("display"):
                name = self.where[channel, there]
                # The destination goes on counting where the source stopped.
                if self.mini:
                    self.taken_over[name] = int.from_bytes(sent[channel][8:16], "little") - 1
                else:
                    self.serials[name, SERVER] = self.serials[self.where[channel, source], SERVER] - 1
                self.say(SERVER, channel, there, Msg.SET_ACK, struct.pack("<II", 1, 20))
                if sent[channel][26]:
                    self.say(SERVER, channel, there, _INVAL_PIXMAPS, bytes(1))
                self.say(SERVER, channel, there, _INVAL_PALETTES)
                self.say(CLIENT, channel, there, MsgC.ACK_SYNC, struct.pack("<I", 1))
        self.say(SERVER, "main:0", there, Main.MULTI_MEDIA_TIME, bytes(4))
        for channel in self.channels:
            if (volume := _VOLUME.get(channel.partition(":")[0])) is not None:
                self.say(SERVER, channel, there, volume, bytes(5))
        self.act(there)

    def finish_semi(self, source: int) -> None:
        """MIGRATE_END, and all that follows."""
        there = source + 1
        self.say(SERVER, "main:0", source, Main.MIGRATE_END)
        for channel in self.channels:
            self.close(channel, source)
        self.say(CLIENT, "main:0", there, MainC.MIGRATE_END)
        self.say(SERVER, "main:0", there, Main.INIT, main_init())
        for channel in self.channels:
            self.greet(channel, there)
        self.act(there)

    def switch(self, source: int) -> None:
        """SWITCH_HOST, and a client that comes back from scratch."""
        there = source + 1
        body = destination(Main.MIGRATE_SWITCH_HOST, f"10.0.0.{there + 1}", 5900 + there)
        self.say(SERVER, "main:0", source, Main.MIGRATE_SWITCH_HOST, body)
        for channel in self.channels:
            self.close(channel, source)
        self.session(there, session_id=SESSION_ID + there)

    def play(self) -> "Play":
        """What has been written down."""
        return Play(tuple(self.facts))


@dataclass(frozen=True)
class Play:
    """A list of facts."""

    facts: tuple[Fact, ...]

    def __iter__(self) -> Iterator[Fact]:
        return iter(self.facts)

    def _channels(self) -> dict[str, tuple[str, int]]:
        return {
            fact.connection: (f"{ChannelType(fact.channel_type).name.lower()}:{fact.channel_id}", fact.hop)
            for fact in self.facts
            if isinstance(fact, Linked)
        }

    def where(self, name: str, channel: str = "main:0", *, hop: int | None = None, nth: int = 0) -> int:
        """The place of a message in the list: the n-th one of that name."""
        channels = self._channels()
        found = [
            index
            for index, fact in enumerate(self.facts)
            if isinstance(fact, Said)
            and channels[fact.connection][0] == channel
            and hop in {None, channels[fact.connection][1]}
            and _PREFIX.sub("", message_name(type_of(channel), fact.side, fact.id)) == name
        ]
        assert found, f"no {name} on {channel}"
        return found[nth]

    def message(self, name: str, channel: str = "main:0", *, hop: int | None = None, nth: int = 0) -> Said:
        """The message itself."""
        fact = self.facts[self.where(name, channel, hop=hop, nth=nth)]
        assert isinstance(fact, Said)
        return fact

    def without(self, name: str, channel: str = "main:0", *, hop: int | None = None, nth: int = 0) -> "Play":
        """The same without a message."""
        at = self.where(name, channel, hop=hop, nth=nth)
        return Play(self.facts[:at] + self.facts[at + 1 :])

    def twice(self, name: str, channel: str = "main:0", *, hop: int | None = None, nth: int = 0) -> "Play":
        """The same with a message said twice."""
        at = self.where(name, channel, hop=hop, nth=nth)
        return Play(self.facts[: at + 1] + self.facts[at:])

    def changed(
        self, name: str, channel: str = "main:0", *, hop: int | None = None, nth: int = 0, **fields: Any
    ) -> "Play":
        """The same with other fields of a message's fact; with another body, its size follows."""
        at = self.where(name, channel, hop=hop, nth=nth)
        if isinstance(fields.get("body"), bytes):
            fields.setdefault("size", len(fields["body"]))
        said = self.message(name, channel, hop=hop, nth=nth)._replace(**fields)
        return Play((*self.facts[:at], said, *self.facts[at + 1 :]))

    def inserted(
        self,
        name: str,
        channel: str = "main:0",
        *,
        hop: int | None = None,
        nth: int = 0,
        said: tuple[Side, str, int, int, bytes],
        before: bool = False,
    ) -> "Play":
        """The same with another message behind (or before) one: side, channel, hop, id, body."""
        at = self.where(name, channel, hop=hop, nth=nth)
        side, on, on_hop, id_, body = said
        connection = next(key for key, value in reversed(self._channels().items()) if value == (on, on_hop))
        fact = Said(self.facts[at].time_ns, connection, side, id_, len(body), 0, body, None)
        at += 0 if before else 1
        return Play((*self.facts[:at], fact, *self.facts[at:]))

    def moved(
        self,
        name: str,
        channel: str = "main:0",
        *,
        hop: int | None = None,
        nth: int = 0,
        behind: tuple[str, str, int],
    ) -> "Play":
        """The same with a message said later: behind another one, given by name, channel and hop."""
        said = self.message(name, channel, hop=hop, nth=nth)
        rest = self.without(name, channel, hop=hop, nth=nth)
        at = rest.where(behind[0], behind[1], hop=behind[2])
        later = said._replace(time_ns=rest.facts[at].time_ns)
        return Play((*rest.facts[: at + 1], later, *rest.facts[at + 1 :]))

    def until(self, name: str, channel: str = "main:0", *, hop: int | None = None, nth: int = 0) -> "Play":
        """Only what comes up to a message, that one included."""
        return Play(self.facts[: self.where(name, channel, hop=hop, nth=nth) + 1])

    def delayed(
        self, ns: int, name: str, channel: str = "main:0", *, hop: int | None = None, nth: int = 0
    ) -> "Play":
        """The same with a message, and all that follows it, so much later."""
        at = self.where(name, channel, hop=hop, nth=nth)
        later = tuple(fact._replace(time_ns=fact.time_ns + ns) for fact in self.facts[at:])
        return Play(self.facts[:at] + later)

    def kept(self, wanted: Callable[[Fact], bool]) -> "Play":
        """Only the facts that are wanted."""
        return Play(tuple(fact for fact in self.facts if wanted(fact)))

    def then(self, *facts: Fact) -> "Play":
        """The same with more facts."""
        return Play((*self.facts, *facts))

    def connection(self, channel: str, hop: int) -> str:
        """The name of a channel's last connection to a server."""
        return next(key for key, value in reversed(self._channels().items()) if value == (channel, hop))

    def without_channel(self, channel: str, *, hop: int) -> "Play":
        """The same as if a channel had never been opened on one server."""
        name = self.connection(channel, hop)
        return self.kept(lambda fact: getattr(fact, "connection", None) != name)

    def zero_id(self, channel: str, hop: int) -> "Play":
        """The same with connection id 0 in a channel's link."""
        name = self.connection(channel, hop)
        return Play(
            tuple(
                fact._replace(connection_id=0)
                if isinstance(fact, Linked) and fact.connection == name
                else fact
                for fact in self.facts
            )
        )

    def closes(self, channel: str, hop: int, by: Side, *, after_ns: int = MS) -> "Play":
        """The same with the end of a connection behind it."""
        time_ns, name = self.end_ns + after_ns, self.connection(channel, hop)
        return self.then(DirectionClosed(time_ns, name, by), DirectionClosed(time_ns, name, by.other))

    @property
    def end_ns(self) -> int:
        """When the last fact was."""
        return self.facts[-1].time_ns

    def migrations(self, *, quiet_ns: int = SECOND, judge: Judge | None = None) -> list[Migration]:
        """What the tracker makes of it, if the capture goes on for a while in which nothing is said."""
        return self.tracked(quiet_ns=quiet_ns, judge=judge).migrations

    def tracked(self, *, quiet_ns: int = SECOND, judge: Judge | None = None) -> SessionTracker:
        """The tracker that has seen it, and then nothing for a while."""
        tracker = SessionTracker("s1", judge=judge)
        for fact in self.facts:
            tracker.feed(fact)
        for at in range(0, quiet_ns, 500 * MS):
            tracker.tick(self.end_ns + at)
        tracker.feed(InputEnded(self.end_ns + quiet_ns))
        return tracker

    def migration(self, *, quiet_ns: int = SECOND, judge: Judge | None = None) -> Migration:
        """The only migration."""
        (found,) = self.migrations(quiet_ns=quiet_ns, judge=judge)
        return found


def seamless(hops: int = 1, **options: Any) -> Play:
    """Good migrations in a row, with the state of every channel."""
    script = Script(**options)
    script.session(0)
    for hop in range(hops):
        script.tick(SECOND)
        script.connect(hop)
        script.tick(SECOND)
        script.act(hop)
        script.finish_seamless(hop)
    return script.play()


def semi_seamless(hops: int = 1, **options: Any) -> Play:
    """Good migrations in a row, without state."""
    script = Script(**options)
    script.session(0)
    for hop in range(hops):
        script.tick(SECOND)
        script.connect(hop, seamless=False)
        script.tick(SECOND)
        script.act(hop)
        script.finish_semi(hop)
    return script.play()


def refused(**options: Any) -> Play:
    """The destination says NACK, and the client comes all the same."""
    script = Script(**options)
    script.session(0)
    script.tick(SECOND)
    script.connect(0, verdict=Main.MIGRATE_DST_SEAMLESS_NACK)
    script.tick(SECOND)
    script.finish_semi(0)
    return script.play()


def switch_host(*, begin: bool = False, **options: Any) -> Play:
    """A client that cannot connect beforehand; with `begin`, it tries and says CONNECT_ERROR."""
    script = Script(**(options if begin else {"client_caps": 0, **options}))
    script.session(0)
    script.tick(SECOND)
    if begin:
        kind = Main.MIGRATE_BEGIN_SEAMLESS
        script.say(SERVER, "main:0", 0, kind, destination(kind))
        script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECT_ERROR)
    script.tick(SECOND)
    script.act(0)
    script.switch(0)
    return script.play()


def cancelled(**options: Any) -> Play:
    """The guest does not get there, and the source says so."""
    script = Script(**options)
    script.session(0)
    script.tick(SECOND)
    script.connect(0)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    for channel in script.channels:
        script.close(channel, 1)
    script.act(0)
    return script.play()


def too_early(**options: Any) -> Play:
    """The source ends the migration 12 ms after it began, before the client has replied: recorded so with QEMU 7.2.

    The reply crosses SWITCH_HOST, and draws a CANCEL; links that were on their way come up all the same.
    """
    script = Script(**options)
    script.session(0)
    script.tick(SECOND)
    kind = Main.MIGRATE_BEGIN_SEAMLESS
    script.say(SERVER, "main:0", 0, kind, destination(kind))
    script.link("main:0", 1)
    script.say(CLIENT, "main:0", 1, MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
    script.tick(12 * MS)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_SWITCH_HOST, destination(Main.MIGRATE_SWITCH_HOST))
    script.say(SERVER, "main:0", 1, Main.MIGRATE_DST_SEAMLESS_ACK)
    for channel in script.channels[1:]:
        script.link(channel, 1)
    script.say(SERVER, "main:0", 1, Msg.PING, bytes(12))
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECTED_SEAMLESS)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    for hop in (1, 0):
        for channel in script.channels:
            script.close(channel, hop)
    script.session(1, session_id=SESSION_ID + 1)
    return script.play()


__all__ = [
    "CHANNELS", "CLIENT", "MS", "SECOND", "SERVER", "SESSION_ID", "START", "Missing", "Passed", "Play", "Script",
    "cancelled", "destination", "display_state", "main_init", "refused", "seamless", "semi_seamless", "state",
    "switch_host", "too_early", "type_of",
]  # fmt: skip
