"""What the messages of a migration mean for it: each is looked up in the tables and fills the attempt's `Migration`."""

from collections.abc import Callable
from typing import Final

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, Msg
from dissectors.side import Side
from spiceproxy.protocol.migration.attempt import MAX_EXTRA, Attempt
from spiceproxy.protocol.migration.connections import TIMEOUT_NS, ConnectionState
from spiceproxy.protocol.migration.crossing import note_crossing
from spiceproxy.protocol.migration.facts import Passed, Said, is_migration_message
from spiceproxy.protocol.migration.model import ChannelMigration, ChannelStep, Evidence, Kind
from spiceproxy.protocol.migration.readings import offer_of, payload_of
from spiceproxy.protocol.migration.tables import (
    CHANNEL,
    COMMON,
    MAIN,
    MIGRATE_WORDS,
    NEED_DATA,
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


def hear(attempt: Attempt, connection: ConnectionState, said: Said, *, arriving: bool) -> None:
    """A message on one of the connections that take part."""
    channel = attempt.m.channels.get(connection.channel or "")
    if channel is None:
        return
    main = connection.channel_type == ChannelType.MAIN
    side, id_, now = said.side, said.id, said.time_ns
    part = is_migration_message(connection.channel_type, side, id_) or (
        main and arriving and side is Side.SERVER and id_ == Main.INIT
    )
    if not attempt.active and not (
        side is Side.SERVER and id_ == Main.MIGRATE_SWITCH_HOST and attempt.reopened
    ):
        part = main = False  # it is over: only what the destination says first is still of interest
    if part or main:
        _remember(attempt, connection.evidence(said), part=part)
    if attempt.active:
        note_crossing(attempt, channel, connection, said, arriving=arriving)
    if part:
        word = COMMON.get((arriving, side, id_))
        if side is Side.SERVER and id_ == Msg.MIGRATE and not arriving:
            _migrate(attempt, channel, connection, said)
        elif word is not None:
            _word(attempt, channel, connection, said, word)
        elif main and (happened := MAIN.get((arriving, side, id_))) is not None:
            HANDLERS[happened](attempt, connection, said)
    if arriving and side is Side.SERVER and attempt.destination.get(channel.channel) is connection:
        _heard(attempt, channel, connection, said, now)


def hear_unread(attempt: Attempt, connection: ConnectionState, passed: Passed) -> None:
    """The destination has sent messages that nobody has read."""
    channel = attempt.m.channels.get(connection.channel or "")
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
        attempt.progress(passed.time_ns)
    if can_be_seen(channel.channel_type):
        channel.first_seen_from_destination = channel.first_seen_from_destination or evidence
        see(attempt, connection, passed.time_ns, None)


def see(attempt: Attempt, connection: ConnectionState, now: int, said: Said | None) -> None:
    """The user could see something."""
    arriving = attempt.destination.get(connection.channel or "") is connection
    if arriving and attempt.word_ns is not None and "unseen" not in attempt.m.times_ms:
        known = [c.last_visible_ns for c in attempt.source.values() if c.last_visible_ns is not None]
        if known:
            attempt.m.times_ms["unseen"] = round((now - max(known)) / 1e6, 3)
    if arriving and said is not None:
        channel = attempt.m.channels[connection.channel or ""]
        if channel.first_seen_from_destination is None and channel.first_from_destination is not None:
            channel.first_seen_from_destination = connection.evidence(said)


def _remember(attempt: Attempt, evidence: Evidence, *, part: bool) -> None:
    messages = attempt.m.messages
    full = len(messages) >= MAX_MESSAGES or (not part and attempt.other_messages >= MAX_OTHER_MESSAGES)
    if full:
        attempt.m.left_out += 1
        return
    attempt.other_messages += not part
    messages.append(evidence)


def _heard(
    attempt: Attempt, channel: ChannelMigration, connection: ConnectionState, said: Said, now: int
) -> None:
    """The destination speaks."""
    # A destination that knows of no state to come is silent before MAIN_INIT, but on another connection its first words
    # may be seen a little sooner than that.
    ahead = channel.damaged or attempt.m.performed is Kind.SEMI_SEAMLESS
    if channel.step is not ChannelStep.MOVED and not (ahead and attempt.word_ns is not None):
        if channel.first_early_from_destination is None:
            channel.first_early_from_destination = connection.evidence(said)
        channel.early_from_destination += 1
    elif channel.first_from_destination is None:
        channel.first_from_destination = connection.evidence(said)
        attempt.progress(now)


# What is said on every channel


def _migrate(attempt: Attempt, channel: ChannelMigration, connection: ConnectionState, said: Said) -> None:
    evidence = connection.evidence(said)
    attempt.last_word(Kind.SEAMLESS, said.time_ns)
    if attempt.m.ending.migrate is None:
        attempt.m.ending.migrate = evidence
    if channel.migrate is not None:
        return  # a second one: R23
    channel.migrate = evidence
    if said.body is None or len(said.body) < 4:
        # Its flags are not known; every server seen gives the same ones to this kind of channel.
        word = Word.MIGRATE_PLAIN if channel.channel_type in PLAIN_CHANNELS else Word.MIGRATE_FLUSH_DATA
    else:
        channel.flags = int.from_bytes(said.body[:4], "little")
        word = MIGRATE_WORDS[channel.flags & 3]
    _step(attempt, channel, word, said.time_ns)


def _word(
    attempt: Attempt, channel: ChannelMigration, connection: ConnectionState, said: Said, word: Word
) -> None:
    evidence = connection.evidence(said)
    if word is Word.FLUSH_MARK:
        channel.flush_mark = channel.flush_mark or evidence
    elif word is Word.DATA_OUT:
        channel.data_from_source = channel.data_from_source or payload_of(evidence, said)
    else:
        if channel.data_to_destination is None:
            channel.data_to_destination = payload_of(evidence, said)
            if connection.is_main and (source := attempt.source.get(channel.channel)) is not None:
                connection.books.carry_on(source.books)
        if attempt.word_ns is None and attempt.m.offered is None:
            attempt.last_word(Kind.SEAMLESS, said.time_ns)
    _step(attempt, channel, word, said.time_ns)


def _step(attempt: Attempt, channel: ChannelMigration, word: Word, now: int) -> None:
    following = CHANNEL.get((channel.step, word))
    if following is None:
        return
    if following is ChannelStep.UNLOADING and channel.flags is not None and not channel.flags & NEED_DATA:
        following = ChannelStep.MOVED
    channel.step, channel.step_ns = following, now
    attempt.progress(now)


# What is said on main


def _begin(attempt: Attempt, connection: ConnectionState, said: Said) -> None:
    seamless = said.id == Main.MIGRATE_BEGIN_SEAMLESS
    kind = Kind.SEAMLESS if seamless else Kind.SEMI_SEAMLESS
    attempt.m.offered = offer_of(kind, connection.evidence(said), said)
    _announced(attempt)


def _announced(attempt: Attempt) -> None:
    offer = attempt.m.offered
    if offer is not None and offer.host:
        ports = [port for port in (offer.port, offer.sport) if port not in {None, 0, 0xFFFF}]
        attempt.announced = f"{offer.host}:{ports[0]}" if ports else offer.host
        attempt.m.destination_address = attempt.m.destination_address or attempt.announced


def _reply(attempt: Attempt, connection: ConnectionState, said: Said) -> None:
    handshake, evidence = attempt.m.handshake, connection.evidence(said)
    if handshake.reply is not None:
        if len(handshake.extra_replies) < MAX_EXTRA:
            handshake.extra_replies.append(evidence)
        return
    handshake.reply, handshake.reply_evidence = REPLIES[said.id], evidence
    handshake.late = said.time_ns - attempt.m.started_ns > TIMEOUT_NS
    attempt.late_success = handshake.late and handshake.reply != "connect-error"
    if attempt.word_ns is None and not attempt.late_success:
        if handshake.reply == "connected-seamless":
            attempt.m.agreed = Kind.SEAMLESS
        elif handshake.reply == "connected":
            attempt.m.agreed = Kind.SEMI_SEAMLESS
    attempt.event(Event.REPLIED, said.time_ns)


def _do_seamless(attempt: Attempt, connection: ConnectionState, said: Said) -> None:
    handshake = attempt.m.handshake
    if handshake.do_seamless is None:
        handshake.do_seamless = connection.evidence(said)
        if said.body is not None and len(said.body) >= 4:
            handshake.version = int.from_bytes(said.body[:4], "little")
    attempt.progress(said.time_ns)


def _verdict(attempt: Attempt, connection: ConnectionState, said: Said) -> None:
    handshake = attempt.m.handshake
    if handshake.verdict is None:
        handshake.verdict = "ack" if said.id == Main.MIGRATE_DST_SEAMLESS_ACK else "nack"
        handshake.verdict_evidence = connection.evidence(said)
    attempt.progress(said.time_ns)


def _cancel(attempt: Attempt, connection: ConnectionState, said: Said) -> None:
    attempt.m.ending.cancel = attempt.m.ending.cancel or connection.evidence(said)
    attempt.event(Event.CANCELLED, said.time_ns)


def _end(attempt: Attempt, connection: ConnectionState, said: Said) -> None:
    attempt.m.ending.end = attempt.m.ending.end or connection.evidence(said)
    attempt.last_word(Kind.SEMI_SEAMLESS, said.time_ns)


def _switch_host(attempt: Attempt, connection: ConnectionState, said: Said) -> None:
    evidence = connection.evidence(said)
    if attempt.m.ending.switch_host is None:
        attempt.m.ending.switch_host = evidence
        attempt.m.ending.switch_to = offer_of(Kind.SWITCH_HOST, evidence, said)
        attempt.word_ns = None  # it overrules what was said before
    if attempt.m.offered is None:
        attempt.m.offered = offer_of(Kind.SWITCH_HOST, evidence, said)
        _announced(attempt)
    if attempt.word_ns is None:
        # The client begins from nothing: what is linked there so far is not used.
        attempt.tried = dict(attempt.destination)
        attempt.destination.clear()
        for channel in attempt.m.channels.values():
            channel.step, channel.step_ns = ChannelStep.STAYING, said.time_ns
    attempt.last_word(Kind.SWITCH_HOST, said.time_ns)


def _client_end(attempt: Attempt, connection: ConnectionState, said: Said) -> None:
    attempt.m.ending.client_end = attempt.m.ending.client_end or connection.evidence(said)
    if attempt.m.offered is None:
        attempt.last_word(Kind.SEMI_SEAMLESS, said.time_ns)
    attempt.progress(said.time_ns)


def _init(attempt: Attempt, connection: ConnectionState, said: Said) -> None:
    if attempt.destination.get(connection.channel or "") is not connection:
        return
    attempt.m.ending.init = attempt.m.ending.init or connection.evidence(said)
    if attempt.m.performed is not Kind.SEAMLESS:
        for name, destination in attempt.destination.items():
            if destination.linked is not None:
                attempt.moved(attempt.m.channels[name], said.time_ns)
    attempt.progress(said.time_ns)


HANDLERS: Final[dict[Happened, Callable[[Attempt, ConnectionState, Said], None]]] = {
    Happened.BEGIN: _begin,
    Happened.CANCEL: _cancel,
    Happened.END: _end,
    Happened.SWITCH_HOST: _switch_host,
    Happened.REPLY: _reply,
    Happened.DO_SEAMLESS: _do_seamless,
    Happened.VERDICT: _verdict,
    Happened.CLIENT_END: _client_end,
    Happened.INIT: _init,
}
"""What a message on main does."""
