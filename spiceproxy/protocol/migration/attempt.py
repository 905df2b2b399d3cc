"""One attempt to move a client: where it stands, along the tables, and the connections that take part."""

from typing import Final

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState
from spiceproxy.protocol.migration.model import (
    ChannelMigration,
    ChannelStep,
    Kind,
    Migration,
    Phase,
)
from spiceproxy.protocol.migration.settings import Settings
from spiceproxy.protocol.migration.tables import (
    PHASES,
    Event,
    can_be_seen,
)

# How much one migration keeps, whatever peers send.
MAX_CHANNELS: Final = 300  # a link message can name 65,536 channels; a session has a dozen
MAX_EXTRA: Final = 16


class Attempt:
    """Everything that happens from BEGIN, or SWITCH_HOST, to the end of it."""

    def __init__(self, migration: Migration, source: dict[str, ConnectionState], now: int) -> None:
        self.m = migration
        self.source: dict[str, ConnectionState] = {}
        self.destination: dict[str, ConnectionState] = {}
        self.tried: dict[
            str, ConnectionState
        ] = {}  # at the destination, before SWITCH_HOST made them useless
        self.expected: list[str] = []  # channels that were open at the source when it said its last word
        self.word_ns: int | None = None
        self.progress_ns = now  # when something last moved
        self.events: list[tuple[Phase, int]] = []  # phases entered that nobody has been told of
        self.dirty = True  # something has happened that may change the verdict
        self.announced = ""  # the address of the destination, as the source named it
        self.late_success = False
        self.owed: list[
            str
        ] = []  # channels of which the source still waits for the state, from the migration before
        self.unfinished: int | None = (
            None  # the number of an earlier migration that the client has not finished
        )
        self.torn = False  # some of what is missing may be of any channel
        self.reopened = False  # SWITCH_HOST came after a CANCEL
        self.followed_ns: int | None = None  # when the source began another one
        self.main: ConnectionState | None = None  # of the source
        self.other_messages = 0  # in `migration.messages`, that are no part of the migration
        for connection in source.values():
            self.depart(connection)
        migration.phases.append((migration.phase, now))

    @property
    def active(self) -> bool:
        """Whether it goes on."""
        return self.m.phase is not Phase.OVER

    def move(self, event: Event, now: int) -> bool:
        """Take a row of the table of phases; whether there was one."""
        following = PHASES.get((self.m.phase, event))
        if following is None or following is self.m.phase:
            return False
        self.m.phase = following
        self.m.phases.append((following, now))
        self.events.append((following, now))
        if event is not Event.CONCLUDED:
            self.progress(now)
        return True

    def progress(self, now: int) -> None:
        """Something has moved."""
        self.progress_ns = max(self.progress_ns, now)
        self.m.stalled_ns = None
        self.dirty = True

    # Connections --------------------------------------------------------------------------------------

    def depart(self, connection: ConnectionState) -> None:
        """A connection to the source takes part."""
        channel = self._channel(connection)
        if channel is None:
            return
        if connection.linked is not None or channel.source is None:
            self.source[channel.channel] = connection
            channel.source = connection.link()
        self.note_closing(connection)

    def arrive(self, connection: ConnectionState) -> None:
        """A connection to the destination takes part."""
        self.dirty = True
        self.m.destination_address = connection.address or self.m.destination_address
        channel = self._channel(connection)
        if channel is None:
            return
        if self._is_left_over(connection):
            self.tried[channel.channel] = connection
            return
        self.destination[channel.channel] = connection
        channel.destination, channel.destination_closed = connection.link(), connection.closing
        if connection.linked is not None:
            self.progress(connection.linked.time_ns)
            if self.m.ending.init is not None and self.m.performed is not Kind.SEAMLESS:
                self.moved(channel, connection.linked.time_ns)

    def _is_left_over(self, connection: ConnectionState) -> bool:
        """Whether a link was begun before SWITCH_HOST, which made it useless: a new session begins with main and id 0."""
        if self.m.performed is not Kind.SWITCH_HOST or "main:0" in self.destination:
            return False
        return not connection.is_main or bool(connection.connection_id)

    def left_behind(self, connection: ConnectionState) -> bool:
        """Whether the client linked this ahead of a switch that never came for it, and still holds it.

        SWITCH_HOST leaves all links behind that were made before it, and MIGRATE those of channels that the source has not.
        """
        name = connection.channel or ""
        if Side.CLIENT in connection.closed or connection.linked is None or connection.said[Side.CLIENT]:
            return False
        if self.m.performed is Kind.SWITCH_HOST:
            return self.destination.get(name) is not connection
        # Where the capture begins in the switch, connections to the source may be over before it does.
        return self.m.performed is Kind.SEAMLESS and name not in self.source and not connection.midway

    def awaits(self, connection: ConnectionState) -> bool:
        """Whether what the destination says first on this connection is still to be noted."""
        channel = self.m.channels.get(connection.channel or "")
        if channel is None or self.destination.get(channel.channel) is not connection:
            return False
        return channel.first_from_destination is None or (
            channel.first_seen_from_destination is None and can_be_seen(channel.channel_type)
        )

    def all_moved(self, now: int, settings: Settings) -> bool:
        """Whether the last channel has changed over."""
        m = self.m
        if m.offered is None or not self.expected:
            return False
        left = [name for name in self.expected if not self.has_moved(name)]
        if m.performed is Kind.SWITCH_HOST and m.ending.init is not None:
            # What the new session has not opened after a while, or by its end, it will not open; without a display it is
            # none.
            main = self.destination.get("main:0")
            quiet = now - self.progress_ns > settings.switch_stall_ns or (main is not None and not main.open)
            return not left or (
                quiet and not any(m.channels[each].channel_type == ChannelType.DISPLAY for each in left)
            )
        return not left if m.performed is Kind.SEAMLESS else (not left and m.ending.init is not None)

    def note_closing(self, connection: ConnectionState) -> None:
        """A connection has been closed by one side."""
        self.dirty = True
        channel = self.m.channels.get(connection.channel or "")
        if channel is None or connection.closing is None:
            return
        if self.source.get(channel.channel) is connection:
            channel.source_closed = connection.closing
        elif self.destination.get(channel.channel) is connection:
            channel.destination_closed = connection.closing

    def note_damage(self, connection: ConnectionState, what: str) -> None:
        """Bytes of a connection are missing."""
        self.dirty = True
        channel = self.m.channels.get(connection.channel or "")
        if channel is not None:
            channel.damaged = True
        self.damage(what)

    def tear(self, what: str) -> None:
        """Something is missing in the capture, and nobody knows of which channel."""
        self.torn = self.m.torn = True
        self.damage(what)

    def damage(self, what: str) -> None:
        """Something is missing in the capture."""
        if what not in self.m.damaged and len(self.m.damaged) < MAX_EXTRA:
            self.m.damaged.append(what)

    def _channel(self, connection: ConnectionState) -> ChannelMigration | None:
        name = connection.channel
        if name is None or connection.channel_type is None:
            return None
        channel = self.m.channels.get(name)
        if channel is None:
            if len(self.m.channels) >= MAX_CHANNELS:
                return None
            id_ = int(name.rpartition(":")[2])
            channel = self.m.channels[name] = ChannelMigration(name, connection.channel_type, id_)
            channel.step_ns = self.m.started_ns
        channel.damaged = channel.damaged or connection.damaged
        return channel

    def has_moved(self, name: str) -> bool:
        """Whether a channel has changed over, as far as anybody can tell.

        Of a channel with parts missing in the capture: it has if the destination speaks on it, or the client has left
        the source, which it does when all of them have.
        """
        channel = self.m.channels[name]
        if channel.step is ChannelStep.MOVED:
            return True
        return channel.damaged and (
            channel.first_from_destination is not None
            or (self.source_left_ns() is not None and self.client_left_first())
        )

    def source_left_ns(self) -> int | None:
        """When the last connection to the source was closed; None if one is open."""
        closings = [connection.closing for connection in self.source.values() if connection.linked]
        times = [closing.time_ns for closing in closings if closing is not None and closing.by != "capture"]
        return max(times) if times and len(times) == len(closings) else None

    def client_left_first(self) -> bool:
        """Whether it was the client that began to close what it had at the source."""
        closings = [c.closing for c in self.source.values() if c.closing and c.closing.by != "capture"]
        return bool(closings) and min(closings).by == Side.CLIENT.value

    # Phases -------------------------------------------------------------------------------------------

    def moved(self, channel: ChannelMigration, now: int) -> None:
        """A channel has changed over without a word of its own: semi-seamless and switch-host."""
        if channel.step is not ChannelStep.MOVED:
            channel.step, channel.step_ns = ChannelStep.MOVED, now
            self.progress(now)

    def last_word(self, kind: Kind, now: int) -> None:
        """The source has said how it ends."""
        if self.word_ns is not None:
            return
        self.word_ns, self.m.performed = now, kind
        self.expected = [
            name
            for name, connection in self.source.items()
            if connection.linked is not None
            and (connection.closing is None or connection.closing.time_ns >= now)
        ]
        self.event(Event.LAST_WORD, now)

    def event(self, event: Event, now: int) -> None:
        """Something has happened that may lead to another phase."""
        self.progress(now)
        self.move(event, now)
