"""Diagnoses of what got lost on the way, of what is not as it was at the destination, and of time."""

import struct
from typing import Final

import pytest

from dissectors.message_ids import Main, MainC, MsgC
from spiceproxy.protocol.migration.facts import Passed, Said
from tests.protocol.migration.expected import Near, Row, check, check_near
from tests.protocol.migration.playbook import (
    CLIENT,
    MS,
    SECOND,
    SERVER,
    Play,
    Script,
    refused,
    seamless,
    semi_seamless,
    switch_host,
)
from tests.protocol.migration.spoilt import (
    acknowledged,
    agent,
    full,
    gapless,
    semi_with,
    usb,
)
from tests.protocol.migration.spoilt_links import late_connected

OFF: Final = "seamless-option-off"
KEY: Final = 101


def lost(channel: str, hop: int, name: str, *, nth: int = 0) -> Play:
    """A message that the capture shows nothing of, though it had a serial."""
    return gapless(full()).without(name, channel, hop=hop, nth=nth)


def queued(*, comes: bool) -> Play:
    """The client had queued a key when MIGRATE came: its serial is lower than that of MIGRATE_DATA, and it follows it."""
    play = gapless(full())
    data = play.message("MIGRATE_DATA", "inputs:0", hop=1)
    play = play.changed("MIGRATE_DATA", "inputs:0", hop=1, serial=data.serial + 1)
    if not comes:
        return play
    key = data._replace(id=KEY, size=4, body=None, time_ns=data.time_ns, serial=data.serial)
    at = play.where("MIGRATE_DATA", "inputs:0", hop=1)
    return Play((*play.facts[: at + 1], key, *play.facts[at + 1 :]))


def out_of_order() -> Play:
    play = gapless(full())
    first = play.where("DRAW_COPY", "display:0", hop=0, nth=2)
    second = play.where("DRAW_COPY", "display:0", hop=0, nth=3)
    one, two = play.facts[first], play.facts[second]
    assert isinstance(one, Said)
    assert isinstance(two, Said)
    facts = list(play.facts)
    facts[first], facts[second] = one._replace(serial=two.serial), two._replace(serial=one.serial)
    return Play(tuple(facts))


def typed_after_flush() -> Play:
    return seamless().inserted("MIGRATE_DATA", "inputs:0", hop=0, said=(CLIENT, "inputs:0", 0, KEY, bytes(4)))


def typed_before_data() -> Play:
    return seamless().inserted(
        "MIGRATE_DATA", "inputs:0", hop=1, said=(CLIENT, "inputs:0", 1, KEY, bytes(4)), before=True
    )


def no_set_ack() -> Play:
    play = seamless()
    at = play.where("SET_ACK", "display:0", hop=1)
    sync = play.where("ACK_SYNC", "display:0", hop=1)
    facts = tuple(fact for index, fact in enumerate(play.facts) if index not in {at, sync})
    return Play(facts)


def unsynced(*, acks: int = 0) -> Play:
    play = seamless().without("ACK_SYNC", "display:0", hop=1)
    name, now = play.connection("display:0", 1), play.end_ns
    return play.then(*(Said(now + MS, name, CLIENT, int(MsgC.ACK), 0, 9, b"", None) for _ in range(acks)))


def drawn(messages: int, *, acks: int = 0) -> Play:
    """A busy display after the switch."""
    play = seamless()
    name, now = play.connection("display:0", 1), play.end_ns
    said = [Said(now + n * MS, name, SERVER, 304, 100, 90 + n, None, None) for n in range(messages)]
    given = [
        Said(now + (messages + n) * MS, name, CLIENT, int(MsgC.ACK), 0, 90 + n, b"", None)
        for n in range(acks)
    ]
    return play.then(*said, *given)


def slow_connect(ns: int) -> Play:
    """One link that takes long: record's."""
    play = seamless()
    at = next(
        index
        for index, fact in enumerate(play.facts)
        if getattr(fact, "connection", "") == play.connection("record:0", 1)
    )
    later = tuple(fact._replace(time_ns=fact.time_ns + ns) for fact in play.facts[at + 1 :])
    return Play(play.facts[: at + 1] + later)


def slow_start(ns: int) -> Play:
    """The destination's guest starts late: nothing new on the display."""
    return seamless().delayed(ns, "DRAW_COPY", "display:0", hop=1)


ROWS: Final = [
    Row("typed after FLUSH_MARK", typed_after_flush, ("traffic-after-flush-mark",), ("KEY_DOWN", "1 message", "1 of them"), ("inputs:0",)),
    Row("typed before the state", typed_before_data, ("not-data-first",), ("KEY_DOWN", "before MIGRATE_DATA"), ("inputs:0",)),
    Row("lost on the display", lambda: lost("display:0", 0, "DRAW_COPY", nth=2), ("messages-lost",), ("1 message of the source", "at the source"), ("display:0",)),
    Row("lost after the switch", lambda: lost("display:0", 1, "DRAW_COPY"), ("messages-lost",), ("of the destination",), ("display:0",)),
    Row("lost of the client", lambda: lost("main:0", 1, "PONG"), ("messages-lost",), ("of the client on main:0",), ("main:0",)),
    Row("lost over the switch", lambda: queued(comes=False), ("messages-lost",), ("over the switch", "never came"), ("inputs:0",)),
    Row("out of order", out_of_order, ("messages-reordered",), ("of the source on display:0",), ("display:0",)),
    Row(
        "keys after END",
        lambda: semi_with(("inputs:0", KEY), ("usbredir:0", KEY)),
        (OFF, "in-flight-lost"),
    ),
    Row("a clipboard cut off", lambda: semi_with(cut=True), (OFF, "in-flight-lost")),
    Row("no SET_ACK", no_set_ack, ("window-not-restored",), ("without SET_ACK",), ("display:0",)),
    Row("no ACK_SYNC", unsynced, ("window-shut",), ("in 4.0 s", "after 40 messages"), ("display:0",)),
    Row("ACKs of the old window", lambda: unsynced(acks=3), ("window-shut",), ("ACKs of the old window (3)",)),
    Row("no ACKs", lambda: drawn(40), ("window-used-up",), ("44 messages", "window 20"), ("display:0",)),
    Row("other tokens", lambda: agent(said=7), ("agent-tokens-wrong",), ("7 agent tokens", "it holds 8"), ("main:0",)),
    Row("too many tokens", lambda: agent(said=11), ("agent-tokens-wrong",), ("11 agent tokens",)),
    Row("a huge grant", lambda: agent(granted=500, busy=2), ("agent-tokens-excessive",), ("granted 1000", "now holds 1006")),
    Row("no tokens back", lambda: agent(spent=9, answered=False, busy=1), ("agent-starved",), ("in 8.0 s",), None, 8 * SECOND),
    Row("USB without state", lambda: usb("semi-seamless"), (OFF, "usb-devices-detached")),
    Row("USB without LZ4", lambda: usb("seamless"), ("usb-compression-lost",), ("LZ4",), ("usbredir:0",)),
    Row("slow links", lambda: slow_connect(5 * SECOND), ("slow-handshake",), ("record:0", "5.0 s"), ("record:0",)),
    Row("slow FLUSH_MARK", lambda: seamless().delayed(3 * SECOND, "MIGRATE_FLUSH_MARK", "inputs:0"), ("flush-mark-late",), ("3.0 s after MIGRATE",)),
    Row("slow data", lambda: seamless().delayed(3 * SECOND, "MIGRATE_DATA", "inputs:0", hop=1), ("data-late",), ("3.0 s",)),
    Row("slow data of a display", lambda: seamless().delayed(3 * SECOND, "MIGRATE_DATA", "display:0", hop=1), ("data-late",), ("guest waits",)),
    Row("long pause", lambda: slow_start(3 * SECOND), ("long-pause",), ("nothing new on inputs:0 for 3.0 s",), ("inputs:0",)),
    Row("reconnected", switch_host, ("client-lacks-capability", "reconnected-from-scratch")),
]  # fmt: skip

NEAR: Final = [
    *(Near(code, "all is well", lambda: agent(busy=3)) for code in (
        "not-data-first", "traffic-after-flush-mark", "messages-lost", "messages-reordered", "in-flight-lost",
        "window-not-restored", "window-shut", "window-used-up", "agent-tokens-wrong", "agent-tokens-excessive", "agent-starved",
        "usb-devices-detached", "usb-compression-lost", "slow-handshake", "flush-mark-late", "data-late", "long-pause",
        "reconnected-from-scratch",
    )),
    Near("not-data-first", "channels without state have none", lambda: seamless().inserted(
        "ACK_SYNC", "cursor:0", hop=1, said=(CLIENT, "cursor:0", 1, MsgC.PONG, bytes(12)))),
    Near("traffic-after-flush-mark", "an ACK is no loss", lambda: seamless().inserted(
        "MIGRATE_DATA", "display:0", hop=0, said=(CLIENT, "display:0", 0, MsgC.ACK, b""))),
    Near("messages-lost", "without full headers nobody counts", lambda: seamless().without("DRAW_COPY", "display:0", hop=0, nth=2)),
    Near("messages-lost", "a client whose serials go on", lambda: gapless(full())),
    Near("messages-lost", "what was queued comes behind MIGRATE_DATA", lambda: queued(comes=True)),
    Near("messages-lost", "it was lost before BEGIN", lambda: gapless(full()).without("DRAW_COPY", "display:0", hop=0)),
    Near("messages-reordered", "a client's queue may be overtaken", lambda: queued(comes=True)),
    Near("in-flight-lost", "nothing was on its way", semi_seamless),
    Near("in-flight-lost", "an answer is no loss", lambda: semi_with(("inputs:0", int(MsgC.PONG)))),
    Near("in-flight-lost", "state is carried", typed_after_flush),
    Near("window-not-restored", "it has had no time", no_set_ack, SECOND),
    Near("window-shut", "it has had no time", unsynced, SECOND),
    Near("window-shut", "it answers", lambda: acknowledged(seamless())),
    Near("window-used-up", "there are ACKs", lambda: drawn(40, acks=2)),
    Near("window-used-up", "the window is not used up", lambda: drawn(10)),
    Near("agent-tokens-wrong", "there is no agent", seamless),
    Near("agent-tokens-wrong", "not all was read", lambda: unread(agent(said=7))),
    Near("agent-tokens-excessive", "ten are all there are", lambda: agent(granted=1, busy=8)),
    Near("agent-starved", "there is one left", lambda: agent(spent=8, answered=False, busy=1), 8 * SECOND),
    Near("agent-starved", "it has not been long", lambda: agent(spent=9, answered=False, busy=1), 3 * SECOND),
    Near("usb-devices-detached", "no device was there", lambda: usb("semi-seamless", used=1)),
    Near("usb-devices-detached", "state was carried", lambda: usb("seamless")),
    Near("usb-compression-lost", "no device was there", lambda: usb("seamless", used=1)),
    Near("usb-compression-lost", "there was no compression", lambda: usb("seamless", lz4=False)),
    Near("slow-handshake", "two seconds", lambda: slow_connect(2 * SECOND)),
    Near("slow-handshake", "it was too late altogether", late_connected),
    Near("flush-mark-late", "half a second", lambda: seamless().delayed(500 * MS, "MIGRATE_FLUSH_MARK", "inputs:0")),
    Near("data-late", "half a second", lambda: seamless().delayed(500 * MS, "MIGRATE_DATA", "inputs:0", hop=1)),
    Near("long-pause", "half a second", lambda: slow_start(500 * MS)),
    Near("long-pause", "FLUSH_MARK is why", lambda: seamless().delayed(3 * SECOND, "MIGRATE_FLUSH_MARK", "display:0")),
    Near("reconnected-from-scratch", "semi-seamless is a reset, no new session", refused),
]  # fmt: skip


def unread(play: Play) -> Play:
    """Some messages on main passed unread."""
    first = play.where("INIT", hop=0)
    said = play.facts[first]
    return Play(
        (
            *play.facts[: first + 1],
            Passed(said.time_ns, play.connection("main:0", 0), CLIENT, 3),
            *play.facts[first + 1 :],
        )
    )


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_what_is_wrong_after_the_switch_is_named(row: Row) -> None:
    check(row)


@pytest.mark.parametrize("near", NEAR, ids=[f"{near.code}: {near.why}" for near in NEAR])
def test_what_is_nearly_wrong_after_the_switch_is_not_named(near: Near) -> None:
    check_near(near)


def test_tokens_are_carried_over_more_than_one_switch() -> None:
    script = Script()
    script.session(0)
    message = struct.pack("<IIQI", 1, 4, 0, 4) + bytes(4)
    plays = []
    for hop in range(2):
        for _ in range(2):
            script.say(CLIENT, "main:0", hop, MainC.AGENT_DATA, message)
        script.say(SERVER, "main:0", hop, Main.AGENT_TOKEN, struct.pack("<I", 1))
        script.tick(SECOND)
        script.connect(hop)
        script.act(hop)
        script.finish_seamless(hop)
        plays.append(9 - hop)  # two spent, one granted
    play = script.play()
    for hop, held in enumerate(plays):
        body = b"MNMD" + struct.pack("<IIBIIIII", 1, 1, 1, held, 0xFFFFFFFF, 0, 0, 0) + bytes(65 - 33)
        play = play.changed("MIGRATE_DATA", hop=hop, body=body, nth=1 if hop else 0)
        play = play.changed("MIGRATE_DATA", hop=hop + 1, body=body)
    assert [each.diagnoses for each in play.migrations()] == [[], []]


def test_what_is_said_of_keys_and_clipboard_names_sizes_and_no_content() -> None:
    (_, found) = semi_with(("inputs:0", KEY), cut=True).migration().diagnoses
    assert (
        "1 message of the client on inputs:0 (KEY_DOWN) sent to the source after its MIGRATE_END"
        in found.text
    )
    assert "cut off 3000 bytes before its end (5000 in all)" in found.text
    assert found.channels == ["inputs:0", "main:0"]
