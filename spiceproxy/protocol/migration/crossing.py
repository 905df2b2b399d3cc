"""What is said on a channel while it changes over, apart from the words that move it: what should not be, and what is lost."""

from typing import Final

from dissectors.message_ids import MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.attempt import MAX_EXTRA, Attempt
from spiceproxy.protocol.migration.connections import ConnectionState
from spiceproxy.protocol.migration.facts import Said, is_migration_message
from spiceproxy.protocol.migration.model import ChannelMigration, ChannelStep, Evidence, Kind
from spiceproxy.protocol.migration.tables import NEED_DATA, NEED_FLUSH

_COMMON_IDS: Final = (
    100  # up to here a message means the same on every channel, and carries nothing of the user's
)


def note_crossing(
    attempt: Attempt, channel: ChannelMigration, connection: ConnectionState, said: Said, *, arriving: bool
) -> None:
    """Look at a message, before it moves its channel on.

    Args:
        attempt: The migration.
        channel: What the channel has done so far.
        connection: It was said on.
        said: The message.
        arriving: The connection is one to the destination.
    """
    if arriving:
        if said.side is Side.CLIENT and attempt.destination.get(channel.channel) is connection:
            _to_destination(attempt, channel, connection, said)
    elif attempt.source.get(channel.channel) is connection:
        if said.side is Side.SERVER:
            _from_source(channel, connection, said)
        else:
            _to_source(attempt, channel, connection, said)


def _from_source(channel: ChannelMigration, connection: ConnectionState, said: Said) -> None:
    crossing = channel.crossing
    if said.id == Msg.MIGRATE:
        if channel.migrate is not None:
            _add(crossing.repeated, connection, said)
    elif said.id == Msg.MIGRATE_DATA:
        if channel.data_from_source is not None:
            _add(crossing.repeated, connection, said)
        elif channel.migrate is None or not _wants(channel, NEED_DATA):
            _add(crossing.unasked, connection, said)
    elif channel.step in {ChannelStep.FLUSHING, ChannelStep.UNLOADING}:
        _add(crossing.after_migrate, connection, said)


def _to_source(attempt: Attempt, channel: ChannelMigration, connection: ConnectionState, said: Said) -> None:
    crossing = channel.crossing
    if said.id == MsgC.MIGRATE_FLUSH_MARK:
        if channel.flush_mark is not None:
            _add(crossing.repeated, connection, said)
        elif channel.migrate is None or not _wants(channel, NEED_FLUSH):
            _add(crossing.unasked, connection, said)
    elif said.id == MsgC.MIGRATE_DATA:
        crossing.returned = crossing.returned or connection.evidence(said)
    elif channel.flush_mark is not None:
        _add(crossing.after_flush, connection, said)
    elif attempt.word_ns is not None and attempt.m.performed is not Kind.SEAMLESS:
        # What acknowledges and what answers is no loss.
        part = is_migration_message(connection.channel_type, said.side, said.id)
        if said.id > _COMMON_IDS and not part:
            _add(crossing.after_end, connection, said)


def _to_destination(
    attempt: Attempt, channel: ChannelMigration, connection: ConnectionState, said: Said
) -> None:
    crossing = channel.crossing
    if said.id == MsgC.MIGRATE_DATA:
        if channel.data_to_destination is not None:
            _add(crossing.repeated, connection, said)
        return
    if channel.data_to_destination is not None or attempt.m.performed not in {None, Kind.SEAMLESS}:
        return
    if connection.is_main and said.id in {MainC.MIGRATE_DST_DO_SEAMLESS, MainC.MIGRATE_END}:
        return
    if channel.step is not ChannelStep.MOVED:
        _add(crossing.before_data, connection, said)


def _wants(channel: ChannelMigration, flag: int) -> bool:
    """Whether its MIGRATE has a flag; flags that are not known may be any."""
    return channel.flags is None or bool(channel.flags & flag)


def _add(where: list[Evidence], connection: ConnectionState, said: Said) -> None:
    if len(where) < MAX_EXTRA:
        where.append(connection.evidence(said))
