"""One attempt to move a client: takes facts, moves along the tables, and fills a `Migration`."""

from collections.abc import Callable
from typing import Final

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, Msg
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import TIMEOUT_NS, ConnectionState
from spiceproxy.protocol.migration.facts import Passed, Said, is_migration_message
from spiceproxy.protocol.migration.model import (
    ChannelMigration,
    ChannelStep,
    Evidence,
    Kind,
    Migration,
    Phase,
)
from spiceproxy.protocol.migration.readings import offer_of, payload_of
from spiceproxy.protocol.migration.settings import Settings
from spiceproxy.protocol.migration.tables import (
    CHANNEL,
    COMMON,
    MAIN,
    MIGRATE_WORDS,
    NEED_DATA,
    PHASES,
    PLAIN_CHANNELS,
    REPLIES,
    Event,
    Happened,
    Word,
    can_be_seen,
)

# How much one migration keeps, whatever peers send.
MAX_MESSAGES: Final = 4000
MAX_OTHER_MESSAGES: Final = 1000  # of these, messages that are no part of the migration
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
        self.torn = False  # some of what is missing may be of any channel
        self.reopened = False  # SWITCH_HOST came after a CANCEL
        self.main: ConnectionState | None = None  # of the source
        self._other_messages = 0
        self._handlers: dict[Happened, Callable[[ConnectionState, Said], None]] = {
            Happened.BEGIN: self._begin,
            Happened.CANCEL: self._cancel,
            Happened.END: self._end,
            Happened.SWITCH_HOST: self._switch_host,
            Happened.REPLY: self._reply,
            Happened.DO_SEAMLESS: self._do_seamless,
            Happened.VERDICT: self._verdict,
            Happened.CLIENT_END: self._client_end,
            Happened.INIT: self._init,
        }
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
            # What the new session has not opened after a while, it will not open; without a display it is none.
            quiet = now - self.progress_ns > settings.switch_stall_ns
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

    # Messages -----------------------------------------------------------------------------------------

    def said(self, connection: ConnectionState, said: Said, *, arriving: bool) -> None:
        """A message on one of its connections."""
        channel = self.m.channels.get(connection.channel or "")
        if channel is None:
            return
        main = connection.channel_type == ChannelType.MAIN
        side, id_, now = said.side, said.id, said.time_ns
        part = is_migration_message(connection.channel_type, side, id_) or (
            main and arriving and side is Side.SERVER and id_ == Main.INIT
        )
        if not self.active and not (
            side is Side.SERVER and id_ == Main.MIGRATE_SWITCH_HOST and self.reopened
        ):
            part = main = False  # it is over: only what the destination says first is still of interest
        if part or main:
            self._remember(connection.evidence(said), part=part)
        if part:
            word = COMMON.get((arriving, side, id_))
            if side is Side.SERVER and id_ == Msg.MIGRATE and not arriving:
                self._migrate(channel, connection, said)
            elif word is not None:
                self._word(channel, connection, said, word)
            elif main and (happened := MAIN.get((arriving, side, id_))) is not None:
                self._handlers[happened](connection, said)
        if arriving and side is Side.SERVER and self.destination.get(channel.channel) is connection:
            self._heard(channel, connection, said, now)

    def _remember(self, evidence: Evidence, *, part: bool) -> None:
        messages = self.m.messages
        full = len(messages) >= MAX_MESSAGES or (not part and self._other_messages >= MAX_OTHER_MESSAGES)
        if full:
            self.m.left_out += 1
            return
        self._other_messages += not part
        messages.append(evidence)

    def _heard(self, channel: ChannelMigration, connection: ConnectionState, said: Said, now: int) -> None:
        """The destination speaks."""
        # A destination that knows of no state to come is silent before MAIN_INIT, but on another connection its first words
        # may be seen a little sooner than that.
        ahead = channel.damaged or self.m.performed is Kind.SEMI_SEAMLESS
        if channel.step is not ChannelStep.MOVED and not (ahead and self.word_ns is not None):
            if channel.first_early_from_destination is None:
                channel.first_early_from_destination = connection.evidence(said)
            channel.early_from_destination += 1
        elif channel.first_from_destination is None:
            channel.first_from_destination = connection.evidence(said)
            self.progress(now)

    def passed(self, connection: ConnectionState, passed: Passed) -> None:
        """The destination has sent messages that nobody has read."""
        channel = self.m.channels.get(connection.channel or "")
        if channel is None:
            return
        evidence = Evidence(
            None,
            passed.time_ns,
            connection.id,
            channel.channel,
            connection.hop,
            Side.SERVER,
            "unread message",
        )
        if channel.step is not ChannelStep.MOVED:
            channel.first_early_from_destination = channel.first_early_from_destination or evidence
            channel.early_from_destination += passed.messages
            return
        if channel.first_from_destination is None:
            channel.first_from_destination = evidence
            self.progress(passed.time_ns)
        if can_be_seen(channel.channel_type):
            channel.first_seen_from_destination = channel.first_seen_from_destination or evidence
            self.visible(connection, passed.time_ns, None)

    def visible(self, connection: ConnectionState, now: int, said: Said | None) -> None:
        """The user could see something."""
        arriving = self.destination.get(connection.channel or "") is connection
        if arriving and self.word_ns is not None and "unseen" not in self.m.times_ms:
            known = [c.last_visible_ns for c in self.source.values() if c.last_visible_ns is not None]
            if known:
                self.m.times_ms["unseen"] = round((now - max(known)) / 1e6, 3)
        if arriving and said is not None:
            channel = self.m.channels[connection.channel or ""]
            if channel.first_seen_from_destination is None and channel.first_from_destination is not None:
                channel.first_seen_from_destination = connection.evidence(said)

    # What is said on every channel --------------------------------------------------------------------

    def _migrate(self, channel: ChannelMigration, connection: ConnectionState, said: Said) -> None:
        evidence = connection.evidence(said)
        self._last_word(Kind.SEAMLESS, said.time_ns)
        if self.m.ending.migrate is None:
            self.m.ending.migrate = evidence
        if channel.migrate is not None:
            return  # a second one: R23
        channel.migrate = evidence
        if said.body is None or len(said.body) < 4:
            # Its flags are not known; every server seen gives the same ones to this kind of channel.
            word = Word.MIGRATE_PLAIN if channel.channel_type in PLAIN_CHANNELS else Word.MIGRATE_FLUSH_DATA
        else:
            channel.flags = int.from_bytes(said.body[:4], "little")
            word = MIGRATE_WORDS[channel.flags & 3]
        self._step(channel, word, said.time_ns)

    def _word(self, channel: ChannelMigration, connection: ConnectionState, said: Said, word: Word) -> None:
        evidence = connection.evidence(said)
        if word is Word.FLUSH_MARK:
            channel.flush_mark = channel.flush_mark or evidence
        elif word is Word.DATA_OUT:
            channel.data_from_source = channel.data_from_source or payload_of(evidence, said)
        else:
            channel.data_to_destination = channel.data_to_destination or payload_of(evidence, said)
            if self.word_ns is None and self.m.offered is None:
                self._last_word(Kind.SEAMLESS, said.time_ns)
        self._step(channel, word, said.time_ns)

    def _step(self, channel: ChannelMigration, word: Word, now: int) -> None:
        following = CHANNEL.get((channel.step, word))
        if following is None:
            return
        if following is ChannelStep.UNLOADING and channel.flags is not None and not channel.flags & NEED_DATA:
            following = ChannelStep.MOVED
        channel.step, channel.step_ns = following, now
        self.progress(now)

    # What is said on main -----------------------------------------------------------------------------

    def _begin(self, connection: ConnectionState, said: Said) -> None:
        seamless = said.id == Main.MIGRATE_BEGIN_SEAMLESS
        kind = Kind.SEAMLESS if seamless else Kind.SEMI_SEAMLESS
        self.m.offered = offer_of(kind, connection.evidence(said), said)
        self._announced()

    def _announced(self) -> None:
        offer = self.m.offered
        if offer is not None and offer.host:
            ports = [port for port in (offer.port, offer.sport) if port not in {None, 0, 0xFFFF}]
            self.announced = f"{offer.host}:{ports[0]}" if ports else offer.host
            self.m.destination_address = self.m.destination_address or self.announced

    def _reply(self, connection: ConnectionState, said: Said) -> None:
        handshake, evidence = self.m.handshake, connection.evidence(said)
        if handshake.reply is not None:
            if len(handshake.extra_replies) < MAX_EXTRA:
                handshake.extra_replies.append(evidence)
            return
        handshake.reply, handshake.reply_evidence = REPLIES[said.id], evidence
        handshake.late = said.time_ns - self.m.started_ns > TIMEOUT_NS
        self.late_success = handshake.late and handshake.reply != "connect-error"
        if self.word_ns is None and not self.late_success:
            if handshake.reply == "connected-seamless":
                self.m.agreed = Kind.SEAMLESS
            elif handshake.reply == "connected":
                self.m.agreed = Kind.SEMI_SEAMLESS
        self._event(Event.REPLIED, said.time_ns)

    def _do_seamless(self, connection: ConnectionState, said: Said) -> None:
        handshake = self.m.handshake
        if handshake.do_seamless is None:
            handshake.do_seamless = connection.evidence(said)
            if said.body is not None and len(said.body) >= 4:
                handshake.version = int.from_bytes(said.body[:4], "little")
        self.progress(said.time_ns)

    def _verdict(self, connection: ConnectionState, said: Said) -> None:
        handshake = self.m.handshake
        if handshake.verdict is None:
            handshake.verdict = "ack" if said.id == Main.MIGRATE_DST_SEAMLESS_ACK else "nack"
            handshake.verdict_evidence = connection.evidence(said)
        self.progress(said.time_ns)

    def _cancel(self, connection: ConnectionState, said: Said) -> None:
        self.m.ending.cancel = self.m.ending.cancel or connection.evidence(said)
        self._event(Event.CANCELLED, said.time_ns)

    def _end(self, connection: ConnectionState, said: Said) -> None:
        self.m.ending.end = self.m.ending.end or connection.evidence(said)
        self._last_word(Kind.SEMI_SEAMLESS, said.time_ns)

    def _switch_host(self, connection: ConnectionState, said: Said) -> None:
        evidence = connection.evidence(said)
        if self.m.ending.switch_host is None:
            self.m.ending.switch_host = evidence
            self.word_ns = None  # it overrules what was said before
        if self.m.offered is None:
            self.m.offered = offer_of(Kind.SWITCH_HOST, evidence, said)
            self._announced()
        if self.word_ns is None:
            # The client begins from nothing: what is linked there so far is not used.
            self.tried = dict(self.destination)
            self.destination.clear()
            for channel in self.m.channels.values():
                channel.step, channel.step_ns = ChannelStep.STAYING, said.time_ns
        self._last_word(Kind.SWITCH_HOST, said.time_ns)

    def _client_end(self, connection: ConnectionState, said: Said) -> None:
        self.m.ending.client_end = self.m.ending.client_end or connection.evidence(said)
        if self.m.offered is None:
            self._last_word(Kind.SEMI_SEAMLESS, said.time_ns)
        self.progress(said.time_ns)

    def _init(self, connection: ConnectionState, said: Said) -> None:
        if self.destination.get(connection.channel or "") is not connection:
            return
        self.m.ending.init = self.m.ending.init or connection.evidence(said)
        if self.m.performed is not Kind.SEAMLESS:
            for name, destination in self.destination.items():
                if destination.linked is not None:
                    self.moved(self.m.channels[name], said.time_ns)
        self.progress(said.time_ns)

    def moved(self, channel: ChannelMigration, now: int) -> None:
        """A channel has changed over without a word of its own: semi-seamless and switch-host."""
        if channel.step is not ChannelStep.MOVED:
            channel.step, channel.step_ns = ChannelStep.MOVED, now
            self.progress(now)

    def _last_word(self, kind: Kind, now: int) -> None:
        if self.word_ns is not None:
            return
        self.word_ns, self.m.performed = now, kind
        self.expected = [
            name
            for name, connection in self.source.items()
            if connection.linked is not None
            and (connection.closing is None or connection.closing.time_ns >= now)
        ]
        self._event(Event.LAST_WORD, now)

    def _event(self, event: Event, now: int) -> None:
        self.progress(now)
        self.move(event, now)
