"""Migrations spoilt before the source's last word: offers, links, answers."""

import struct
from typing import Final

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC
from spiceproxy.protocol.migration.facts import DirectionClosed, Linked, LinkFailed, Opened, Said
from tests.protocol.migration.playbook import (
    CHANNELS,
    CLIENT,
    MS,
    SECOND,
    SERVER,
    SESSION_ID,
    Play,
    Script,
    destination,
    refused,
    seamless,
    semi_seamless,
    too_early,
)
from tests.protocol.migration.spoilt import drops

BEGIN: Final = Main.MIGRATE_BEGIN_SEAMLESS
SWITCH: Final = Main.MIGRATE_SWITCH_HOST


def begun(*, offer: bytes | None = None, **options: object) -> Script:
    """A session whose source has said BEGIN_SEAMLESS."""
    script = Script(**options)  # type: ignore[arg-type]
    script.session(0)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 0, BEGIN, destination(BEGIN) if offer is None else offer)
    return script


def connect_error(script: Script) -> Script:
    """The client gives up on the destination, and the source ends with SWITCH_HOST after a second."""
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECT_ERROR)
    script.tick(SECOND)
    script.act(0)
    script.switch(0)
    return script


def link_error(code: int | None, channel: str = "main:0", reason: str = "SPICE_LINK_ERR") -> Play:
    """A link that the destination refuses, before the switch."""
    script = begun()
    if channel != "main:0":
        script.link("main:0", 1)
        script.say(CLIENT, "main:0", 1, MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
        script.say(SERVER, "main:0", 1, Main.MIGRATE_DST_SEAMLESS_ACK)
    script.fail(channel, 1, code=code, reason=reason)
    return connect_error(script).play()


def lost_at(port: int, sport: int) -> Play:
    """Offered ports, and a client that finds nobody there, before and after."""
    script = begun(offer=destination(BEGIN, port=port, sport=sport))
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECT_ERROR)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 0, SWITCH, destination(SWITCH, port=port, sport=sport))
    for channel in CHANNELS:
        script.close(channel, 0)
    return script.play()


def late_connected() -> Play:
    script = Script()
    script.session(0)
    script.connect(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    for channel in CHANNELS:
        script.close(channel, 1)
    script.tick(SECOND)
    script.act(0)
    script.switch(0)
    return script.play().delayed(11 * SECOND, "MIGRATE_CONNECTED_SEAMLESS")


def stalled_link() -> Play:
    """The destination accepts the first connection and says nothing; the source ends it after 12 s."""
    script = begun()
    script.open("main:0", 1)
    opened = script.facts[-1]
    assert isinstance(opened, Opened)
    script.facts[-1] = opened._replace(channel_type=1, channel_id=0, connection_id=SESSION_ID)
    script.tick(12 * SECOND)
    script.say(SERVER, "main:0", 0, SWITCH, destination(SWITCH))
    return script.play()


def no_verdict() -> Play:
    return seamless().until("MIGRATE_DST_DO_SEAMLESS", hop=1)


def no_reply() -> Play:
    """CONNECTED_SEAMLESS is lost, and the source ends with SWITCH_HOST after 12 s."""
    script = Script()
    script.session(0)
    script.tick(SECOND)
    script.connect(0)
    lost = script.facts.pop()
    assert isinstance(lost, Said)
    script.tick(12 * SECOND)
    script.act(0)
    for channel in script.channels:
        script.close(channel, 1)
    script.switch(0)
    return script.play()


def nack_rewritten(*, seen_as: int = Main.MIGRATE_DST_SEAMLESS_NACK) -> Play:
    """The destination says ACK, the client hears NACK; the destination aborts at MIGRATE_END."""
    script = begun()
    script.link("main:0", 1)
    script.say(CLIENT, "main:0", 1, MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
    script.say(SERVER, "main:0", 1, seen_as)
    for channel in script.channels[1:]:
        script.link(channel, 1)
        if channel in {"cursor:0", "inputs:0", "webdav:0"}:
            script.greet(channel, 1)
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECTED)
    script.tick(SECOND)
    script.act(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_END)
    for channel in script.channels:
        script.close(channel, 0)
    script.say(CLIENT, "main:0", 1, MainC.MIGRATE_END)
    return drops(script.play(), 1, SERVER, after_ns=3 * MS, reset=True)


def second_reply() -> Play:
    """A made-up CONNECTED draws a CANCEL; the client drops the destination and has nowhere to bring its state."""
    script = Script()
    script.session(0)
    script.tick(SECOND)
    script.connect(0)
    script.tick(100 * MS)
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECTED)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    return script.play()


def owed() -> Play:
    script = Script()
    script.session(0)
    script.connect(0)
    script.finish_seamless(0)
    script.tick(20 * SECOND)
    script.act(1)
    script.switch(1)
    return script.play().without("MIGRATE_DATA", "webdav:0", hop=1)


def no_init() -> Play:
    play = semi_seamless()
    return Play(play.facts[: play.where("MIGRATE_END", hop=1) + 1])


def no_client_end() -> Play:
    return drops(semi_seamless().until("MIGRATE_END", hop=0), 0, SERVER, after_ns=10 * SECOND)


def bad_init(play: Play) -> Play:
    """The client linked main as for a new session."""
    return Play(
        tuple(
            fact._replace(connection_id=0)
            if isinstance(fact, Linked) and (fact.hop, fact.channel_type) == (1, ChannelType.MAIN)
            else fact
            for fact in play.facts
        )
    )


def version(asked: int, *, offered: int = 1) -> Play:
    play = refused().changed("MIGRATE_DST_DO_SEAMLESS", hop=1, body=struct.pack("<I", asked))
    return play.changed("MIGRATE_BEGIN_SEAMLESS", body=destination(BEGIN, version=offered))


def no_host() -> Play:
    """SWITCH_HOST without a host; the client crashes."""
    script = connect_error(begun())
    play = Play(tuple(script.facts)).changed(
        "MIGRATE_SWITCH_HOST", body=struct.pack("<HHIIII", 5901, 0, 0, 0, 0, 0)
    )
    at = play.where("MIGRATE_SWITCH_HOST")
    return Play(tuple(fact for fact in play.facts[: at + 1 + 2 * len(CHANNELS)]))


def without_semi_at_source() -> Play:
    return no_client_end_with(server_caps=0b1000)


def no_client_end_with(**options: int) -> Play:
    return semi_seamless(**options).until("MIGRATE_END", hop=0)


def lacking_destination() -> Play:
    script = begun()
    for channel in CHANNELS:
        script.link(channel, 1, caps=0b0001)
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECTED)
    script.tick(SECOND)
    script.act(0)
    script.finish_semi(0)
    return script.play()


def unasked() -> Play:
    """DO_SEAMLESS never got to the destination."""
    return refused().without("MIGRATE_DST_DO_SEAMLESS", hop=1).without("MIGRATE_DST_SEAMLESS_NACK", hop=1)


def half_linked() -> Play:
    script = begun()
    script.link("main:0", 1)
    script.say(CLIENT, "main:0", 1, MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
    script.say(SERVER, "main:0", 1, Main.MIGRATE_DST_SEAMLESS_ACK)
    script.link("display:0", 1)
    return connect_error(script).play()


def all_linked_and_refused() -> Play:
    script = begun()
    script.link("main:0", 1)
    script.say(CLIENT, "main:0", 1, MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
    script.say(SERVER, "main:0", 1, Main.MIGRATE_DST_SEAMLESS_ACK)
    for channel in CHANNELS[1:]:
        script.link(channel, 1)
    return connect_error(script).play()


def nothing_happens() -> Play:
    script = begun()
    script.tick(12 * SECOND)
    script.say(SERVER, "main:0", 0, SWITCH, destination(SWITCH))
    return script.play()


def with_ack_for_nothing() -> Play:
    """CONNECTED_SEAMLESS after NACK; the destination then drops main."""
    play = refused().until("MIGRATE_CONNECTED")
    return play.changed("MIGRATE_CONNECTED", id=int(MainC.MIGRATE_CONNECTED_SEAMLESS))


def unreached_by_proxy(reason: str = "Connection refused") -> Play:
    script = begun()
    script.fail("main:0", 1, reason=f"cannot connect to 10.0.0.2:5901: {reason}")
    return connect_error(script).play()


def given_up_by_client() -> Play:
    """A destination that accepts and is silent, and a client that gives up after ten seconds."""
    script = begun()
    script.fail("main:0", 1, reason="closed where the link reply was due")
    return connect_error(script).play()


def silent_until_closed() -> Play:
    play = given_up_by_client()
    facts = list(play.facts)
    at = next(index for index, fact in enumerate(facts) if isinstance(fact, LinkFailed))
    for index in range(at, len(facts)):
        facts[index] = facts[index]._replace(time_ns=facts[index].time_ns + 9 * SECOND)
    failed = facts[at]
    assert isinstance(failed, LinkFailed)
    facts[at] = failed._replace(by=CLIENT)
    return Play(tuple(facts))


def stalled_at_begin() -> Play:
    play = stalled_link()
    return Play(play.facts[:-1])


def sentinel_that_works() -> Play:
    return seamless().changed("MIGRATE_BEGIN_SEAMLESS", body=destination(BEGIN, port=0xFFFF, sport=5901))


def turned_away() -> Play:
    """spice-server closes the link of a channel that it does not have."""
    script = begun()
    script.link("main:0", 1)
    script.fail("webdav:0", 1, reason="closed where the link reply was due")
    return connect_error(script).play()


def overtaken() -> Play:
    """SWITCH_HOST overtook a migration; the client keeps what it had linked, and turns the next BEGIN down."""
    script = Script()
    script.session(0)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 0, BEGIN, destination(BEGIN))
    for channel in script.channels:
        script.link(channel, 1)
    script.say(SERVER, "main:0", 0, SWITCH, destination(SWITCH))
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECTED_SEAMLESS)
    for channel in script.channels:
        script.close(channel, 0)
    script.session(1, session_id=SESSION_ID + 1)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 1, BEGIN, destination(BEGIN, "10.0.0.3", 5902))
    script.say(CLIENT, "main:0", 1, MainC.MIGRATE_CONNECT_ERROR)
    script.tick(SECOND)
    script.act(1)
    script.switch(1)
    return script.play()


def still_waiting() -> Play:
    """The client waits for a MIGRATE that cannot come, and turns the next BEGIN down."""
    script = Script()
    script.session(0)
    script.tick(SECOND)
    script.connect(0)
    script.tick(SECOND)
    script.act(0)
    script.finish_seamless(0)
    play = script.play()
    never = play.connection("webdav:0", 0)
    script.facts = [
        fact
        for fact in play
        if not isinstance(fact, DirectionClosed)
        and getattr(fact, "connection", "") != never
        and not (
            isinstance(fact, Said)
            and fact.connection == play.connection("webdav:0", 1)
            and fact.side is CLIENT
        )
    ]
    script.tick(10 * SECOND)
    for channel in CHANNELS[:-1]:
        script.close(channel, 0, SERVER)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 1, BEGIN, destination(BEGIN, "10.0.0.3", 5902))
    script.say(CLIENT, "main:0", 1, MainC.MIGRATE_CONNECT_ERROR)
    script.tick(SECOND)
    script.act(1)
    script.switch(1)
    return script.play()


def late_new_session() -> Play:
    """The destination has said ACK, and waits for a display's state before it lets anybody in."""
    play = too_early()
    at = next(
        index
        for index, fact in enumerate(play.facts)
        if isinstance(fact, Linked) and fact.hop == 1 and not fact.connection_id
    )
    later = tuple(fact._replace(time_ns=fact.time_ns + 10 * SECOND) for fact in play.facts[at:])
    return Play(play.facts[:at] + later)


def second_attempt() -> Play:
    script = Script()
    script.session(0)
    script.connect(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    for channel in CHANNELS:
        script.close(channel, 1)
    script.tick(SECOND)
    script.connect(0)
    script.tick(SECOND)
    script.act(0)
    script.finish_seamless(0)
    return script.play()
