"""What the proxy wants of which message: the steps of a migration, and nothing it has no use for."""

import struct

import pytest

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Main, Msg, MsgC
from dissectors.registry import message_name
from dissectors.side import Side
from spiceproxy.faults.wanted import Everything
from spiceproxy.protocol.framer import Framer
from spiceproxy.protocol.interest import (
    DESTINATION_MESSAGES,
    NOTHING,
    Interest,
    both,
    noted_messages,
    wanted_messages,
)
from spiceproxy.protocol.items import Held, Noted, Seen, Want
from spiceproxy.protocol.migration.facts import wants_body
from tests.raw_peers import message


def test_the_three_messages_that_name_the_next_server_are_held_and_no_others() -> None:
    held = {
        (channel, side, id_)
        for channel in ChannelType
        for side in Side
        for id_, want in wanted_messages(channel, side).items()
        if want is Want.HOLD
    }
    assert held == {(ChannelType.MAIN, Side.SERVER, id_) for id_ in DESTINATION_MESSAGES}
    names = {message_name(*key) for key in held}
    assert names == {
        "SPICE_MSG_MAIN_MIGRATE_BEGIN",
        "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS",
        "SPICE_MSG_MAIN_MIGRATE_SWITCH_HOST",
    }


@pytest.mark.parametrize("channel", [*ChannelType, 0, 200])
def test_the_steps_of_a_migration_are_seen_on_every_channel(channel: int) -> None:
    server, client = wanted_messages(channel, Side.SERVER), wanted_messages(channel, Side.CLIENT)
    assert server[Msg.MIGRATE] is server[Msg.MIGRATE_DATA] is Want.SEE
    assert client[MsgC.MIGRATE_FLUSH_MARK] is client[MsgC.MIGRATE_DATA] is Want.SEE
    if channel == ChannelType.DISPLAY:
        assert set(server) == {Msg.MIGRATE, Msg.MIGRATE_DATA, Display.SURFACE_CREATE, Display.SURFACE_DESTROY}
    elif channel != ChannelType.MAIN:
        assert (len(server), len(client)) == (2, 2)


def test_every_main_message_about_a_migration_is_wanted() -> None:
    for side, prefix in ((Side.SERVER, "SPICE_MSG_"), (Side.CLIENT, "SPICE_MSGC_")):
        named = {id_: message_name(ChannelType.MAIN, side, id_) for id_ in range(1, 200)}
        about = {id_ for id_, name in named.items() if name.startswith(prefix) and "MIGRATE" in name}
        assert about <= set(wanted_messages(ChannelType.MAIN, side))


@pytest.mark.parametrize("channel", [*ChannelType, 0, 200])
@pytest.mark.parametrize("side", Side)
def test_during_a_migration_the_body_of_every_message_that_the_tracker_reads_is_kept(
    channel: int, side: Side
) -> None:
    needed = {id_ for id_ in range(1000) if wants_body(channel, side, id_)}
    assert needed <= noted_messages(channel, side).keys()
    assert wanted_messages(channel, side).items() <= noted_messages(channel, side).items()
    assert Want.NOTE not in noted_messages(channel, side).values()


def framers(interest: Interest) -> dict[Side, Framer]:
    made = {side: Framer(side, mini_header=True, wanted={}) for side in Side}
    for framer in made.values():
        interest.attach(framer)
    return made


def told(framer: Framer, *ids: int) -> list[tuple[str, int]]:
    """What a framer says of messages with these ids."""
    found = []
    for item in framer.walk(memoryview(b"".join(message(id_, b"") for id_ in ids))) or ():
        match item:
            case Noted(notes):
                found += [("note", note[0]) for note in notes]
            case Seen(seen):
                found.append(("see", seen.id))
            case Held(held):
                found.append(("hold", held.id))
    return found


def test_what_is_noted_changes_for_all_framers_of_a_connection_at_once_and_no_more_is_lost() -> None:
    interest = Interest(ChannelType.MAIN)
    both = framers(interest)
    ids = (Msg.PING, Main.INIT, Main.MIGRATE_BEGIN)
    quiet = [("see", Main.INIT), ("hold", Main.MIGRATE_BEGIN)]
    assert told(both[Side.SERVER], *ids) == quiet
    interest.note(tuple(Side))
    assert told(both[Side.SERVER], *ids) == [("note", Msg.PING), *quiet]
    assert told(both[Side.CLIENT], MsgC.PONG) == [("note", MsgC.PONG)]
    interest.note((Side.SERVER,))
    assert told(both[Side.SERVER], *ids) == [("note", Msg.PING), *quiet]
    assert told(both[Side.CLIENT], MsgC.PONG) == []
    late = Framer(Side.SERVER, mini_header=True, wanted={})
    interest.attach(late)
    assert told(late, *ids) == [("note", Msg.PING), *quiet]
    interest.note(())
    assert told(both[Side.SERVER], *ids) == told(late, *ids) == quiet


def test_messages_that_somebody_watches_are_noted_always_unless_more_is_wanted_of_them() -> None:
    watched = {(ChannelType.DISPLAY, Side.CLIENT, MsgC.ACK), (ChannelType.DISPLAY, Side.SERVER, Msg.MIGRATE)}
    interest = Interest(ChannelType.DISPLAY, lambda *key: key in watched)
    both = framers(interest)
    assert told(both[Side.CLIENT], MsgC.ACK, MsgC.PONG) == [("note", MsgC.ACK)]
    assert told(both[Side.SERVER], Msg.MIGRATE, Msg.PING) == [("see", Msg.MIGRATE)]
    assert told(framers(Interest(ChannelType.INPUTS))[Side.CLIENT], MsgC.ACK) == []


def test_what_somebody_decides_about_is_held_whatever_else_is_wanted_and_what_else_is_wanted_is_known() -> (
    None
):
    interest = Interest(ChannelType.MAIN)
    framer = Framer(Side.SERVER, mini_header=True, wanted={})
    interest.attach(framer)
    interest.hold(Side.SERVER, {Main.INIT: Want.HOLD, 9999: Want.HOLD}, keep=7)
    assert interest.of(Side.SERVER, Main.INIT) is Want.SEE
    assert interest.of(Side.SERVER, 9999) is None
    for id_, size, kind in (
        (Main.INIT, 7, Held),
        (9999, 7, Held),
        (9999, 8, Seen),
        (Main.CHANNELS_LIST, 0, Seen),
    ):
        items = framer.walk(memoryview(struct.pack("<HI", id_, size) + bytes(size)))
        assert items is not None
        assert isinstance(next(iter(items)), kind)
        list(items)
    interest.note({Side.SERVER})
    assert interest.of(Side.SERVER, 9999) is Want.NOTE
    interest.hold(Side.SERVER, Everything())
    items = framer.walk(memoryview(struct.pack("<HI", 4711, 0)))
    assert items is not None
    assert isinstance(next(iter(items)), Held)
    list(items)
    interest.hold(Side.SERVER, {})
    interest.note(())
    assert framer.walk(memoryview(struct.pack("<HI", 4711, 0))) is None


def test_of_what_two_want_each_message_gets_the_more() -> None:
    one = ({1: Want.NOTE, 2: Want.HOLD, 3: Want.SEE}, None)
    other = ({1: Want.SEE, 2: Want.NOTE}, Want.NOTE)
    assert both(one, other) == ({1: Want.SEE, 2: Want.HOLD, 3: Want.SEE}, Want.NOTE)
    assert both(other, one) == both(one, other)
    assert both(one, NOTHING) == one
    assert both(NOTHING, NOTHING) == NOTHING


def watched_framer(interest: Interest) -> Framer:
    framer = Framer(Side.SERVER, mini_header=True, wanted={})
    interest.attach(framer)
    return framer


def said(framer: Framer, *ids: int) -> list[tuple[str, int]]:
    """What a framer tells of messages: how, and which."""
    data = b"".join(message(id_, b"x") for id_ in ids)
    found = []
    for item in framer.walk(memoryview(data)) or ():
        match item:
            case Noted(notes):
                found += [("note", note[0]) for note in notes]
            case Seen(told):
                found.append(("see", told.id))
            case Held(told):
                found.append(("hold", told.id))
    return found


def test_what_is_watched_is_told_besides_what_is_wanted_anyway_and_as_long_as_it_is_watched() -> None:
    interest = Interest(ChannelType.DISPLAY)
    framer = watched_framer(interest)
    assert said(framer, Msg.PING, Msg.MIGRATE, 999) == [("see", Msg.MIGRATE)]
    interest.watch(Side.SERVER, ({Msg.PING: Want.NOTE, Msg.MIGRATE: Want.NOTE}, None))
    assert said(framer, Msg.PING, Msg.MIGRATE, 999) == [("note", Msg.PING), ("see", Msg.MIGRATE)]
    assert interest.of(Side.SERVER, Msg.PING) is Want.NOTE
    assert interest.of(Side.CLIENT, 999) is None
    interest.watch(Side.SERVER, ({Msg.PING: Want.SEE}, Want.NOTE))
    assert said(framer, Msg.PING, 999) == [("see", Msg.PING), ("note", 999)]
    interest.watch(Side.SERVER, NOTHING)
    assert said(framer, Msg.PING, 999) == []


def test_what_is_watched_stays_watched_while_a_migration_is_noted_and_while_faults_hold() -> None:
    interest = Interest(ChannelType.MAIN)
    framer = watched_framer(interest)
    interest.watch(Side.SERVER, ({Msg.PING: Want.SEE, Main.MIGRATE_BEGIN: Want.NOTE}, None))
    interest.note((Side.SERVER,))
    assert said(framer, Msg.PING, 999) == [("see", Msg.PING), ("note", 999)]
    interest.hold(Side.SERVER, {Msg.PING: Want.HOLD})
    assert said(framer, Msg.PING, Main.MIGRATE_BEGIN) == [("hold", Msg.PING), ("hold", Main.MIGRATE_BEGIN)]
    assert interest.of(Side.SERVER, Msg.PING) is Want.SEE
    interest.note(())
    interest.hold(Side.SERVER, {})
    assert said(framer, Msg.PING, 999) == [("see", Msg.PING)]
