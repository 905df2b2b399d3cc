"""Good migrations spoilt, one for each thing that can go wrong, and what is to be said of each.

As in `playbook.py`, the servers and the client do what spice-server 0.15.1 and spice-gtk 0.42 would.
"""

import struct
from collections.abc import Callable, Iterable
from typing import Final

from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.facts import DirectionClosed, Fact, Linked, Said
from tests.protocol.migration.playbook import (
    CHANNELS,
    CLIENT,
    MS,
    SECOND,
    SERVER,
    Play,
    Script,
    seamless,
    state,
)

CARRYING: Final = ("main:0", "display:0", "inputs:0", "usbredir:0", "webdav:0")


def in_the_switch(play: Play | None = None) -> Play:
    """The last state has gone over, and nothing has been said at the destination."""
    play = play or seamless()
    return Play(play.facts[: play.where("MIGRATE_DATA", "webdav:0", hop=1) + 1])


def before_leaving() -> Play:
    """All has changed over and the destination speaks, but nobody has left the source yet."""
    return seamless().kept(lambda fact: not isinstance(fact, DirectionClosed))


def drops(
    play: Play,
    hop: int,
    by: Side,
    *,
    after_ns: int = MS,
    reset: bool = False,
    names: Iterable[str] = CHANNELS,
) -> Play:
    """All connections to one server are closed at once."""
    now = play.end_ns + after_ns
    facts: list[DirectionClosed] = []
    for index, name in enumerate(names):
        connection = play.connection(name, hop)
        at = now + index * MS // 10
        facts.append(DirectionClosed(at, connection, by, reset))
        if not reset:
            facts.append(DirectionClosed(at, connection, by.other))
    return play.then(*facts)


def given_up(play: Play) -> Play:
    """The source closes everything ten seconds later; then the client does."""
    return drops(drops(play, 0, SERVER, after_ns=10 * SECOND), 1, CLIENT)


def dies(play: Play, hop: int) -> Play:
    """A server is gone a few milliseconds later, and the client then closes what it has at the other one."""
    return drops(drops(play, hop, SERVER, after_ns=3 * MS, reset=True), 1 - hop, CLIENT, after_ns=20 * MS)


def silent_from(play: Play, channel: str, hop: int, side: Side, start: int = 0) -> Play:
    """One side says nothing more on a connection from a place in the list on."""
    name = play.connection(channel, hop)
    return Play(
        tuple(
            fact
            for index, fact in enumerate(play.facts)
            if index < start or not (isinstance(fact, Said) and fact.connection == name and fact.side is side)
        )
    )


def no_flush_mark() -> Play:
    return (
        before_leaving()
        .without("MIGRATE_FLUSH_MARK", "inputs:0")
        .without("MIGRATE_DATA", "inputs:0", hop=0)
        .without("MIGRATE_DATA", "inputs:0", hop=1)
    )


def never_opened() -> Play:
    """remote-viewer with a webdav channel that it has not opened at the source."""
    play = seamless().without_channel("webdav:0", hop=0)
    there = play.connection("webdav:0", 1)
    play = play.kept(
        lambda fact: (
            not isinstance(fact, DirectionClosed)
            and not (
                isinstance(fact, Said)
                and (fact.connection, fact.side, fact.id) == (there, CLIENT, MsgC.MIGRATE_DATA)
            )
        )
    )
    return drops(play, 0, SERVER, after_ns=10 * SECOND, names=CHANNELS[:-1])


def returned_state() -> Play:
    """The client has dropped the destination, of which the source knows nothing: it sends MIGRATE."""
    script = Script()
    script.session(0)
    script.tick(SECOND)
    script.connect(0)
    for channel in script.channels:
        script.close(channel, 1)
    script.tick(SECOND)
    script.act(0)
    for channel in CHANNELS:
        if channel not in CARRYING:
            script.say(SERVER, channel, 0, Msg.MIGRATE, bytes(4))
            continue
        script.say(SERVER, channel, 0, Msg.MIGRATE, struct.pack("<I", 3))
        script.say(CLIENT, channel, 0, MsgC.MIGRATE_FLUSH_MARK)
        body = state(channel, script.serials[script.where[channel, 0], SERVER] + 1)
        script.say(SERVER, channel, 0, Msg.MIGRATE_DATA, body)
        script.say(CLIENT, channel, 0, MsgC.MIGRATE_DATA, body)
    return drops(script.play(), 0, SERVER, after_ns=10 * MS)


def cancelled_at(replied: bool) -> Play:
    script = Script()
    script.session(0)
    script.tick(SECOND)
    script.connect(0)
    if not replied:
        script.facts.pop()
    script.tick(100 * MS)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    for channel in script.channels:
        script.close(channel, 1)
    return script.play()


def began_again() -> Play:
    script = Script()
    script.session(0)
    script.tick(SECOND)
    script.connect(0)
    script.tick(SECOND)
    script.connect(0)
    script.tick(SECOND)
    script.act(0)
    script.finish_seamless(0)
    return script.play()


def swapped(one: str, other: str) -> Play:
    """The bodies of two channels' MIGRATE_DATA change places; the destination aborts."""
    play = seamless()
    bodies = {name: play.message("MIGRATE_DATA", name, hop=0).body for name in (one, other)}
    play = play.changed("MIGRATE_DATA", one, hop=1, body=bodies[other])
    return play.changed("MIGRATE_DATA", other, hop=1, body=bodies[one])


def full(**options: object) -> Play:
    return seamless(mini=False, **options)  # type: ignore[arg-type]


def gapless(play: Play) -> Play:
    """With full headers, a client whose serials go on at the destination where they stopped at the source."""
    channels = {fact.connection: fact for fact in play.facts if isinstance(fact, Linked)}
    last: dict[tuple[int, int], int] = {}
    facts: list[Fact] = []
    for fact in play.facts:
        if isinstance(fact, Said) and fact.side is CLIENT and fact.id != MainC.MIGRATE_DST_DO_SEAMLESS:
            linked = channels[fact.connection]
            key = (linked.channel_type, linked.channel_id)
            last[key] = last.get(key, 0) + 1
            facts.append(fact._replace(serial=last[key]))
        else:
            facts.append(fact)
    return Play(tuple(facts))


def acknowledged(play: Play, *, sync: bool = True) -> Play:
    """The client answers the destination's SET_ACK on the display; the destination goes on for some seconds."""
    name = play.connection("display:0", 1)
    at = play.where("SET_ACK", "display:0", hop=1)
    now = play.facts[at].time_ns
    more = [Said(now, name, CLIENT, MsgC.ACK_SYNC, 4, 2, bytes(4), None)] if sync else []
    facts = (*play.facts[: at + 1], *more, *play.facts[at + 1 :])
    return Play(facts).then(Said(facts[-1].time_ns + 3 * SECOND, name, SERVER, 304, 100, 90, None, None))


def agent(
    *, spent: int = 2, said: int | None = None, granted: int = 1, answered: bool = True, busy: int = 0
) -> Play:
    """An agent with which the client has exchanged messages, before and after.

    Args:
        spent: Messages of the client at the source.
        said: What MIGRATE_DATA says that the client holds; None: what it does.
        granted: Tokens in each AGENT_TOKEN of the destination.
        answered: Whether the destination gives tokens back.
        busy: Messages of the client at the destination.
    """
    script = Script()
    script.session(0)
    message = struct.pack("<IIQI", 1, 4, 0, 4) + bytes(4)
    for _ in range(spent):
        script.say(CLIENT, "main:0", 0, MainC.AGENT_DATA, message)
    script.tick(SECOND)
    script.connect(0)
    script.tick(SECOND)
    script.act(0)
    script.finish_seamless(0)
    for _ in range(busy):
        script.say(CLIENT, "main:0", 1, MainC.AGENT_DATA, message)
        if answered:
            script.say(SERVER, "main:0", 1, Main.AGENT_TOKEN, struct.pack("<I", granted))
    play = script.play()
    held = 10 - spent if said is None else said
    body = b"MNMD" + struct.pack("<IIBIIIII", 1, 1, 1, held, 0xFFFFFFFF, 0, 0, 0) + bytes(65 - 33)
    return play.changed("MIGRATE_DATA", hop=0, body=body).changed("MIGRATE_DATA", hop=1, body=body)


def with_usb(play_of: Callable[[Script], None], *, used: int = 12) -> Play:
    """A session in which a USB device is redirected."""
    script = Script()
    script.session(0)
    for _ in range(used):
        script.say(CLIENT, "usbredir:0", 0, 101, bytes(20))
    script.tick(SECOND)
    play_of(script)
    return script.play()


def _semi(script: Script) -> None:
    script.connect(0, seamless=False)
    script.tick(SECOND)
    script.act(0)
    script.finish_semi(0)


def _seamless(script: Script) -> None:
    script.connect(0)
    script.tick(SECOND)
    script.act(0)
    script.finish_seamless(0)


def usb(kind: str, *, used: int = 12, lz4: bool = True) -> Play:
    """The same, migrated; at the source the client announced LZ4, at the destination it forgot."""
    play = with_usb(_semi if kind == "semi-seamless" else _seamless, used=used)
    name = play.connection("usbredir:0", 0)
    facts = [
        fact._replace(client=fact.client._replace(channel=(int(lz4),)))
        if isinstance(fact, Linked) and fact.connection == name
        else fact
        for fact in play.facts
    ]
    return Play(tuple(facts))


def semi_with(*late: tuple[str, int], cut: bool = False) -> Play:
    """A semi-seamless migration in which the client says more to the source after its MIGRATE_END."""
    script = Script()
    script.session(0)
    if cut:
        script.say(CLIENT, "main:0", 0, MainC.AGENT_DATA, struct.pack("<IIQI", 1, 4, 0, 5000) + bytes(2000))
    script.tick(SECOND)
    script.connect(0, seamless=False)
    script.tick(SECOND)
    script.act(0)
    begin = len(script.facts)
    script.finish_semi(0)
    rest = script.facts[begin + 1 :]
    del script.facts[begin + 1 :]
    for channel, id_ in late:
        script.say(CLIENT, channel, 0, id_, bytes(4))
    script.facts += [fact._replace(time_ns=fact.time_ns + MS) for fact in rest]
    return script.play()
