"""Diagnoses of what goes wrong while channels change over: blocked channels, state that is wrong, deaths."""

import struct
from typing import Final

import pytest

from dissectors.message_ids import Main, Msg, MsgC
from spiceproxy.protocol.migration.facts import Said
from tests.protocol.migration.expected import Near, Row, check, check_near
from tests.protocol.migration.playbook import (
    CHANNELS,
    CLIENT,
    MS,
    SECOND,
    SERVER,
    Play,
    Script,
    cancelled,
    display_state,
    refused,
    seamless,
    semi_seamless,
    state,
    switch_host,
    too_early,
)
from tests.protocol.migration.spoilt import (
    before_leaving,
    began_again,
    cancelled_at,
    dies,
    drops,
    given_up,
    in_the_switch,
    never_opened,
    no_flush_mark,
    returned_state,
    silent_from,
    swapped,
)

GAVE_UP: Final = "source-gave-up"
OTHERS: Final = tuple(name for name in CHANNELS if name != "inputs:0")


def no_data(*, hop: int) -> Play:
    play = before_leaving().without("MIGRATE_DATA", "inputs:0", hop=1)
    play = play.without("KEY_MODIFIERS", "inputs:0", hop=1)
    return play.without("MIGRATE_DATA", "inputs:0", hop=0) if hop == 0 else play


def no_migrate() -> Play:
    return before_leaving().without("MIGRATE", "cursor:0")


def state_changed(body: bytes, channel: str = "inputs:0") -> Play:
    return seamless().changed("MIGRATE_DATA", channel, hop=1, body=body)


def died_of(body: bytes, channel: str = "inputs:0") -> Play:
    return dies(in_the_switch(state_changed(body, channel)), 1)


def noise() -> Play:
    """A PING between MIGRATE and MIGRATE_DATA; the client takes it for the state."""
    play = no_data(hop=1)
    return play.inserted("MIGRATE_FLUSH_MARK", "inputs:0", said=(SERVER, "inputs:0", 0, Msg.PING, bytes(12)))


def migrate_twice() -> Play:
    return no_data(hop=1).twice("MIGRATE", "inputs:0")


def flush_mark_twice() -> Play:
    play = seamless().twice("MIGRATE_FLUSH_MARK", "inputs:0")
    return dies(play.until("MIGRATE_FLUSH_MARK", "inputs:0", nth=1), 0)


def unasked_flush_mark() -> Play:
    play = seamless().until("MIGRATE_CONNECTED_SEAMLESS")
    said = Said(
        play.end_ns + MS,
        play.connection("inputs:0", 0),
        CLIENT,
        int(MsgC.MIGRATE_FLUSH_MARK),
        0,
        9,
        b"",
        None,
    )
    return dies(play.then(said), 0)


def flags(value: int, channel: str) -> Play:
    return seamless().changed("MIGRATE", channel, body=struct.pack("<I", value))


def cursor_with_flags() -> Play:
    """MIGRATE with flags 3 on cursor: the client answers with FLUSH_MARK, the source aborts."""
    play = flags(3, "cursor:0")
    mark = (CLIENT, "cursor:0", 0, int(MsgC.MIGRATE_FLUSH_MARK), b"")
    play = play.inserted("MIGRATE_FLUSH_MARK", "main:0", said=mark)
    return dies(Play(play.facts[: play.where("MIGRATE_FLUSH_MARK", "cursor:0") + 1]), 0)


def inputs_without_state() -> Play:
    play = flags(0, "inputs:0").without("MIGRATE_FLUSH_MARK", "inputs:0")
    return play.without("MIGRATE_DATA", "inputs:0", hop=0).without("MIGRATE_DATA", "inputs:0", hop=1)


def data_twice() -> Play:
    return seamless().twice("MIGRATE_DATA", "inputs:0", hop=1)


def display_dropped() -> Play:
    play = seamless().without("MIGRATE_DATA", "display:0", hop=1)
    play = silent_from(silent_from(play, "display:0", 1, SERVER), "display:0", 1, CLIENT)
    return play.closes("display:0", 1, SERVER, after_ns=10 * SECOND)


def closed_at_source() -> Play:
    """inputs is cut in the middle; the source gives up later."""
    play = before_leaving()
    play = no_data(hop=1).without("MIGRATE_DATA", "inputs:0", hop=0).closes("inputs:0", 0, SERVER)
    return drops(play, 0, SERVER, after_ns=10 * SECOND, names=OTHERS)


def closed_at_destination() -> Play:
    play = no_data(hop=1).closes("inputs:0", 1, SERVER)
    return drops(play, 0, CLIENT, after_ns=2 * SECOND)


def silent_destination() -> Play:
    return silent_from(seamless(), "display:0", 1, SERVER)


def never_left() -> Play:
    return drops(before_leaving(), 0, SERVER, after_ns=10 * SECOND)


def client_quits() -> Play:
    play = seamless().until("MIGRATE_CONNECTED_SEAMLESS")
    return drops(drops(play, 0, CLIENT), 1, CLIENT)


def unexplained() -> Play:
    """The source closes one channel after the other, and says nothing."""
    play = seamless(channels=("main:0", "display:0")).until("MIGRATE_CONNECTED_SEAMLESS")
    play = play.closes("display:0", 0, SERVER).closes("main:0", 0, SERVER, after_ns=2 * SECOND)
    return drops(play, 1, CLIENT, names=("main:0", "display:0"))


def new_session(lacking: str) -> Play:
    """A new session in which a channel never comes up."""
    play = switch_host(begin=True)
    name = play.connection(lacking, 1)
    return play.kept(lambda fact: getattr(fact, "connection", None) != name)


def swapped_devices() -> Play:
    play = seamless().changed("MIGRATE_DATA", "webdav:0", hop=0, body=state("webdav:0", 0) + b"left")
    return play.changed("MIGRATE_DATA", "usbredir:0", hop=1, body=state("webdav:0", 0) + b"left").changed(
        "MIGRATE_DATA", "webdav:0", hop=1, body=state("webdav:0", 0) + b"left"
    )


ROWS: Final = [
    Row("no MIGRATE", no_migrate, ("migrate-missing",), ("cursor:0", "7 others", "for 4.0 s"), ("cursor:0",)),
    Row("no MIGRATE, to the end", lambda: given_up(no_migrate()), ("migrate-missing", GAVE_UP), ("for 10.0 s",)),
    Row("no FLUSH_MARK", no_flush_mark, ("flush-mark-missing",), ("inputs:0",), ("inputs:0",)),
    Row("no FLUSH_MARK, to the end", lambda: given_up(no_flush_mark()), ("flush-mark-missing", GAVE_UP)),
    Row("no MIGRATE_DATA", lambda: given_up(no_data(hop=0)), ("data-missing", GAVE_UP), ("inputs:0",), ("inputs:0",)),
    Row("lost MIGRATE_DATA", lambda: given_up(no_data(hop=1)), ("data-not-delivered", GAVE_UP), (), ("inputs:0",)),
    Row(
        "two kinds of waiting",
        lambda: silent_from(no_flush_mark(), "display:0", 1, CLIENT),
        ("flush-mark-missing", "data-not-delivered"),
        ("inputs:0",),
    ),
    Row("never open at the source", never_opened, ("never-open-at-source", GAVE_UP), ("webdav:0", "All other"), ("webdav:0",)),
    Row("MIGRATE twice", migrate_twice, ("migrate-twice",), ("twice on inputs:0",), ("inputs:0",)),
    Row("noise before the state", noise, ("message-before-data",), ("PING on inputs:0",), ("inputs:0",)),
    Row("FLUSH_MARK twice", flush_mark_twice, ("flush-mark-twice",), ("aborts", "connections ended"), ("inputs:0",)),
    Row("FLUSH_MARK unasked", unasked_flush_mark, ("unasked-flush-mark",), ("no MIGRATE", "ended"), ("inputs:0",)),
    Row("cursor with flags", cursor_with_flags, ("unusual-flags",), ("flags 3", "sends 0", "aborts"), ("cursor:0",)),
    Row("inputs without flags", inputs_without_state, ("unusual-flags",), ("flags 0 (none)", "without its state")),
    Row("inputs with flag 1", lambda: flags(1, "inputs:0"), ("unusual-flags",), ("NEED_FLUSH",)),
    Row("MIGRATE_DATA twice", data_twice, ("data-twice",), ("to the destination",), ("inputs:0",)),
    Row("state given back", returned_state, ("data-returned-to-source",), ("back to the source",)),
    Row(
        "states swapped",
        lambda: dies(in_the_switch(swapped("inputs:0", "webdav:0")), 1),
        ("data-of-another-channel", "destination-died"),
        ("inputs:0 got that of webdav:0", "aborts at a magic"),
        ("inputs:0", "webdav:0"),
    ),
    Row(
        "states swapped within a type",
        swapped_devices,
        ("data-of-another-channel",),
        ("usbredir:0 got that of webdav:0",),
    ),
    Row(
        "magic of another channel",
        lambda: died_of(b"SVMD" + bytes([1, 0, 0, 0, 0, 0])),
        ("data-of-another-channel", "destination-died"),
        ("inputs:0 got that of usbredir",),
    ),
    Row("bad magic", lambda: died_of(b"XXXX" + bytes(6)), ("bad-migrate-data", "destination-died"), ("'XXXX' where 'ICMD'", "changed on the way")),
    Row("bad version", lambda: died_of(b"ICMD" + struct.pack("<IH", 2, 0)), ("bad-migrate-data", "destination-died"), ("version 2",)),
    Row("cut state", lambda: died_of(b"ICMD" + struct.pack("<I", 1)), ("bad-migrate-data", "destination-died"), ("8 bytes where 10",)),
    Row("changed state", lambda: state_changed(b"ICMD" + struct.pack("<IH", 1, 9)), ("data-changed",), ("of the same length",)),
    Row("longer state", lambda: state_changed(b"ICMD" + bytes([1]) + bytes(9)), ("data-changed",), ("10 and 14 bytes",)),
    Row("destination dies", lambda: dies(in_the_switch(), 1), ("destination-died",), ("8 connections were reset", "MIGRATE_DATA on webdav:0")),
    Row("destination dies early", lambda: dies(seamless().until("MIGRATE_CONNECTED_SEAMLESS"), 1), ("destination-died",), ("after BEGIN_SEAMLESS",)),
    Row("source dies", lambda: dies(seamless().until("MIGRATE_CONNECTED_SEAMLESS"), 0), ("source-died",), ("8 connections at once",)),
    Row("source dies in the switch", lambda: dies(in_the_switch(), 0), ("source-died",), ("after MIGRATE",)),
    Row("closed at the source", closed_at_source, ("channel-closed-at-source", GAVE_UP), ("inputs:0",), ("inputs:0",)),
    Row("closed at the destination", closed_at_destination, ("channel-closed-at-destination",), ("inputs:0",), ("inputs:0",)),
    Row("display dropped", display_dropped, ("display-dropped",), ("10.0 s after MIGRATE",), ("display:0",)),
    Row("silent destination", silent_destination, ("silent-after-switch",), ("in 4.0 s",), ("display:0",)),
    Row("never left", never_left, ("client-never-left", GAVE_UP), ("All 8 channels", "10.0 s after MIGRATE")),
    Row("cancelled", lambda: cancelled_at(replied=True), ("cancelled",), ("102 ms after BEGIN_SEAMLESS", "100 ms after the client's")),
    Row("cancelled before the reply", lambda: cancelled_at(replied=False), ("cancelled",), ("before the client had replied",)),
    Row("began again", began_again, ("began-again",), ("1.0 s after BEGIN_SEAMLESS",), nth=0),
    Row("client quits", client_quits, ("client-left",), ("8 connections", "before the source had said")),
    Row("SWITCH_HOST unheard", lambda: switch_host(begin=True).until("MIGRATE_SWITCH_HOST"), ("destination-unreachable", "client-ignored-switch-host"), quiet_ns=5 * SECOND),
    Row("no display", lambda: new_session("display:0"), ("destination-unreachable", "reconnected-from-scratch", "new-session-incomplete")),
    Row("nobody knows", unexplained, ("unexplained",), ("Nothing else in the capture",)),
]  # fmt: skip


NEAR: Final = [
    *(Near(code, "all is well", seamless) for code in (
        "migrate-missing", "flush-mark-missing", "data-missing", "data-not-delivered", "never-open-at-source", "migrate-twice",
        "message-before-data", "flush-mark-twice", "unasked-flush-mark", "unusual-flags", "data-twice", "data-returned-to-source",
        "data-of-another-channel", "bad-migrate-data", "data-changed", "destination-died", "source-died",
        "channel-closed-at-source", "channel-closed-at-destination", "display-dropped", "silent-after-switch", "client-never-left",
        "source-gave-up", "cancelled", "began-again", "client-left", "new-session-incomplete", "client-ignored-switch-host", "unexplained",
    )),
    Near("client-ignored-switch-host", "it has had no time", lambda: switch_host(begin=True).until("MIGRATE_SWITCH_HOST"), SECOND),
    Near("client-ignored-switch-host", "it went", lambda: switch_host(begin=True)),
    Near("new-session-incomplete", "it is complete", lambda: switch_host(begin=True)),
    Near("migrate-missing", "the capture ends a second later", no_migrate, SECOND),
    Near("flush-mark-missing", "it comes a second later", lambda: seamless().delayed(SECOND, "MIGRATE_FLUSH_MARK", "inputs:0")),
    Near("flush-mark-missing", "MIGRATE_DATA is what is missing", lambda: no_data(hop=0)),
    Near("data-missing", "FLUSH_MARK is what is missing", no_flush_mark),
    Near("data-not-delivered", "the source has not sent it", lambda: no_data(hop=0)),
    Near("never-open-at-source", "it is only not open at the destination", lambda: seamless().without_channel("webdav:0", hop=1)),
    Near("migrate-twice", "FLUSH_MARK twice", flush_mark_twice),
    Near("message-before-data", "it came behind MIGRATE_DATA", lambda: seamless().inserted(
        "MIGRATE_DATA", "inputs:0", hop=0, said=(SERVER, "inputs:0", 0, Msg.PING, bytes(12)))),
    Near("flush-mark-twice", "one on each channel", no_migrate),
    Near("unasked-flush-mark", "flags that are not known may want one", lambda: seamless().changed("MIGRATE", "inputs:0", body=None)),
    Near("unusual-flags", "a display of a streaming device has none", lambda: flags(0, "display:0")),
    Near("data-of-another-channel", "two that are the same", lambda: seamless(channels=(*CHANNELS, "usbredir:1"))),
    Near("data-of-another-channel", "a magic that is nobody's", lambda: died_of(b"XXXX" + bytes(6))),
    Near("bad-migrate-data", "an older version passes", lambda: state_changed(b"ICMD" + struct.pack("<IH", 0, 0))),
    Near("data-changed", "the body is not known", lambda: seamless().changed("MIGRATE_DATA", "inputs:0", hop=1, body=None)),
    Near("destination-died", "the client closed", client_quits),
    Near("destination-died", "only one channel went", closed_at_destination),
    Near("destination-died", "cancelled: the client left", cancelled),
    Near("source-died", "it waited ten seconds", lambda: given_up(no_flush_mark())),
    Near("source-died", "the client left", client_quits),
    Near("channel-closed-at-source", "all ended together", lambda: given_up(no_flush_mark())),
    Near("channel-closed-at-destination", "the client left it when the migration was cancelled", cancelled),
    Near("display-dropped", "it died with all the others", lambda: dies(in_the_switch(), 1)),
    Near("silent-after-switch", "it has had no time", silent_destination, SECOND),
    Near("client-never-left", "it waits for a channel", never_opened),
    Near("source-gave-up", "it died at once", lambda: dies(in_the_switch(), 0)),
    Near("cancelled", "the CANCEL of a reply that crossed SWITCH_HOST", too_early),
    Near("began-again", "a cancelled one, and another", began_again, nth=1),
    Near("client-left", "the source died first", lambda: dies(in_the_switch(), 0)),
    Near("unexplained", "it is explained", no_flush_mark),
    Near("unexplained", "semi-seamless is no failure", semi_seamless),
    Near("unexplained", "NACK is no failure", refused),
]  # fmt: skip


def test_a_destination_that_dies_just_behind_the_switch_takes_the_session_with_it() -> None:
    play = seamless()
    (found,) = drops(play, 1, SERVER, after_ns=10 * MS).migration().diagnoses
    assert found.code == "destination-died"
    assert "when all channels had moved; the session is lost" in found.text
    assert drops(play, 1, SERVER, after_ns=3 * SECOND).migration().diagnoses == []
    assert drops(play, 1, CLIENT, after_ns=10 * MS).migration().diagnoses == []


def test_a_reply_that_crosses_a_cancel_is_none() -> None:
    play = seamless().until("MIGRATE_CONNECTED_SEAMLESS")
    reply = play.facts[-1]
    assert isinstance(reply, Said)
    cancel = reply._replace(side=SERVER, id=int(Main.MIGRATE_CANCEL), time_ns=reply.time_ns - MS // 20)
    (found,) = Play((*play.facts[:-1], cancel, reply)).migration().diagnoses
    assert found.code == "cancelled"
    assert "before the client had replied" in found.text


def test_a_source_that_dies_takes_its_destination_with_it() -> None:
    play = drops(seamless().until("MIGRATE_CONNECTED_SEAMLESS"), 1, SERVER)
    (found,) = drops(play, 0, SERVER).migration().diagnoses
    assert found.code == "source-died"
    assert "So did the destination, within 1.7 ms" in found.text


def test_a_source_that_begins_anew_cancels_what_it_had_begun() -> None:
    script = Script()
    script.session(0)
    script.tick(SECOND)
    script.connect(0)
    script.tick(100 * MS)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    script.connect(0)
    script.tick(SECOND)
    script.act(0)
    script.finish_seamless(0)
    first, second = script.play().migrations()
    (found,) = first.diagnoses
    assert found.code == "cancelled"
    assert "began another one 0.1 ms later" in found.text
    assert second.diagnoses == []


def test_a_destination_that_ended_before_the_cancel_is_told_of() -> None:
    play = seamless().until("MIGRATE_CONNECTED_SEAMLESS")
    play = drops(play, 1, SERVER, after_ns=30 * MS)
    cancel = Said(
        play.end_ns + 40 * MS, play.connection("main:0", 0), SERVER, int(Main.MIGRATE_CANCEL), 0, 9, b"", None
    )
    (found,) = play.then(cancel).migration().diagnoses
    assert found.code == "cancelled"
    assert "had ended all its connections 41 ms before" in found.text
    (other,) = cancelled_at(replied=True).migration().diagnoses
    assert "had ended" not in other.text


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_what_is_wrong_in_the_switch_is_named(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("near", NEAR, ids=[f"{near.code}: {near.why}" for near in NEAR])
def test_what_is_nearly_wrong_in_the_switch_is_not_named(near: Near) -> None:
    check_near(near)


@pytest.mark.parametrize(
    "name", [name for name in CHANNELS if name not in {"cursor:0", "playback:0", "record:0"}]
)
def test_every_channel_that_blocks_the_migration_is_named(name: str) -> None:
    play = before_leaving().without("MIGRATE_FLUSH_MARK", name)
    play = play.without("MIGRATE_DATA", name, hop=0).without("MIGRATE_DATA", name, hop=1)
    play = silent_from(play, name, 1, CLIENT, start=play.where("MIGRATE", name))
    found = play.migration(quiet_ns=4 * SECOND)
    assert found.blocking == [name]
    assert [each.channels for each in found.diagnoses] == [[name]]


def test_a_state_that_was_bad_when_it_left_the_source_was_not_changed_on_the_way() -> None:
    body = display_state(7)[:40]
    play = seamless().changed("MIGRATE_DATA", "display:0", hop=0, body=body)
    play = play.changed("MIGRATE_DATA", "display:0", hop=1, body=body)
    found = dies(in_the_switch(play), 1).migration().diagnoses[0]
    assert found.code == "bad-migrate-data"
    assert "from the source on display:0 has 40 bytes where 84" in found.text
    assert "on the way" not in found.text
