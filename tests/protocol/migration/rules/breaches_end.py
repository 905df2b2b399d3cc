"""Breaches when the guest has moved, or where none goes on: R19 to R23, R39 to R42, R44, R48 to R50, and what is astray."""

import struct

from dissectors.message_ids import Main, MainC, Msg, MsgC
from spiceproxy.protocol.migration.facts import DirectionClosed
from spiceproxy.protocol.migration.model import Party
from tests.protocol.migration.playbook import (
    CHANNELS,
    CLIENT,
    MS,
    SECOND,
    SERVER,
    Play,
    Script,
    destination,
    main_init,
    seamless,
    semi_seamless,
)
from tests.protocol.migration.rules.breaches import S1, S2, Breach, C, plain, said, started

FLAGS = struct.pack("<I", 3)
SWITCH_BODY = destination(Main.MIGRATE_SWITCH_HOST)
SEAMLESS_REPLY = "MIGRATE_CONNECTED_SEAMLESS"
M = "MAIN_"


def both(first: int, second: int) -> Play:
    """A source that says two last words on main, after the reply that the first one needs."""
    seamless_reply = Main.MIGRATE_END not in {first, second}
    script = started()
    script.connect(0, seamless=seamless_reply)
    script.tick(2 * SECOND)
    for word in (first, second):
        script.say(SERVER, "main:0", 0, word, SWITCH_BODY if word == Main.MIGRATE_SWITCH_HOST else b"")
        script.tick(100 * MS)
    return script.play()


def crossing(reply: int, *, switch: bool) -> Play:
    """A reply, and then a word that it does not allow."""
    script = started()
    script.connect(0)
    script.tick(2 * SECOND)
    if switch:
        script.switch(0)
    else:
        script.finish_semi(0)
    return script.play().changed(SEAMLESS_REPLY, id=reply)


def stale() -> Play:
    """The reply comes too late and draws CANCEL; then the source goes on as if it had been in time."""
    script = started()
    script.connect(0)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    for channel in CHANNELS:
        script.close(channel, 1)
    script.tick(SECOND)
    for channel in CHANNELS:
        script.say(SERVER, channel, 0, Msg.MIGRATE, FLAGS)
    return script.play().delayed(11 * SECOND, SEAMLESS_REPLY)


def late_and_seamless() -> Play:
    """The reply comes too late, and the source sends MIGRATE all the same."""
    return seamless().delayed(11 * SECOND, SEAMLESS_REPLY)


def stuck(channel: str) -> Play:
    """A seamless migration in which one channel gets no MIGRATE; the source drops the client after 10 s."""
    play = seamless()
    play = Play(play.facts[: play.where("MIGRATE_DATA", "webdav:0", hop=1) + 1]).without(
        "MIGRATE", channel, hop=0
    )
    for name, hop in (("MIGRATE_FLUSH_MARK", 0), ("MIGRATE_DATA", 0), ("MIGRATE_DATA", 1)):
        play = play.without(name, channel, hop=hop)
    play = play.closes("main:0", 0, SERVER, after_ns=10 * SECOND)
    for other in CHANNELS[1:]:
        play = play.closes(other, 0, SERVER)
    return play


def stays(*, dropped: bool) -> Play:
    """A client that does not leave the source after MIGRATE_END."""
    script = started()
    script.connect(0, seamless=False)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_END)
    if dropped:
        script.tick(10 * SECOND)
        for channel in CHANNELS:
            script.close(channel, 0, SERVER)
    return script.play()


def leaves_late() -> Play:
    script = started()
    script.connect(0, seamless=False)
    script.tick(SECOND)
    script.finish_semi(0)
    play = script.play()
    name = play.connection("main:0", 0)
    ends = [fact for fact in play if isinstance(fact, DirectionClosed) and fact.connection == name]
    rest = play.kept(lambda fact: fact not in ends)
    return rest.then(*(fact._replace(time_ns=rest.end_ns + 11 * SECOND) for fact in ends))


def closes_early(play: Play, channel: str, behind: tuple[str, str, int]) -> Play:
    """The client closes one channel at the source when this message is said; later messages of it are lost."""
    name = play.connection(channel, 0)
    at = play.where(behind[0], behind[1], hop=behind[2])
    now = play.facts[at].time_ns
    gone = [
        fact._replace(time_ns=now)
        for fact in play.facts[at:]
        if isinstance(fact, DirectionClosed) and fact.connection == name
    ]
    later = [fact for fact in play.facts[at + 1 :] if getattr(fact, "connection", None) != name]
    return Play((*play.facts[: at + 1], *gone, *later))


def slow_main() -> Play:
    """Main is the last to switch, 50 ms after the others."""
    return seamless().delayed(50 * MS, "MIGRATE_DATA", "main:0", hop=0)


def left_one() -> Play:
    """The client closes one channel before the source has said MIGRATE_END."""
    script = started()
    script.connect(0, seamless=False)
    script.tick(SECOND)
    script.close("inputs:0", 0)
    script.tick(10 * MS)
    script.finish_semi(0)
    return script.play()


def bounced() -> Play:
    """CANCEL by mistake, and the client carries its state back to the source."""
    script = Script()
    script.session(0)
    script.connect(0)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    script.say(SERVER, "inputs:0", 0, Msg.MIGRATE, FLAGS)
    script.say(CLIENT, "inputs:0", 0, MsgC.MIGRATE_FLUSH_MARK)
    script.say(SERVER, "inputs:0", 0, Msg.MIGRATE_DATA, b"ICMD" + bytes(6))
    script.say(CLIENT, "inputs:0", 0, MsgC.MIGRATE_DATA, b"ICMD" + bytes(6))
    return script.play()


def astray(rule: str, side: object, id_: int, name: str, by: Party, channel: str = "main:0") -> Breach:
    """A message of migrations in a session in which none goes on."""
    body = FLAGS if id_ == Msg.MIGRATE and name == "MIGRATE" else b""
    return Breach(
        rule, f"{name} of the {side} while nothing migrates",
        lambda: plain().inserted("DRAW_COPY", "display:0", said=said(side, id_, body, channel=channel, hop=0)),
        by, channel, [name], alone=True,
    )  # fmt: skip


BREACHES = [
    Breach(
        "R19", "END and SWITCH_HOST", lambda: both(Main.MIGRATE_END, Main.MIGRATE_SWITCH_HOST), S1, "main:0",
        [f"{M}MIGRATE_END", f"{M}MIGRATE_SWITCH_HOST"],
    ),
    Breach(
        "R19", "END and CANCEL", lambda: both(Main.MIGRATE_END, Main.MIGRATE_CANCEL), S1, "main:0",
        [f"{M}MIGRATE_END", f"{M}MIGRATE_CANCEL"],
    ),
    Breach(
        "R19", "END twice", lambda: both(Main.MIGRATE_END, Main.MIGRATE_END), S1, "main:0",
        [f"{M}MIGRATE_END"] * 2,
    ),
    Breach(
        "R19", "CANCEL and END", lambda: both(Main.MIGRATE_CANCEL, Main.MIGRATE_END), S1, "main:0",
        [f"{M}MIGRATE_CANCEL", f"{M}MIGRATE_END"],
    ),
    Breach(
        "R19", "CANCEL and SWITCH_HOST", lambda: both(Main.MIGRATE_CANCEL, Main.MIGRATE_SWITCH_HOST), S1, "main:0",
        [f"{M}MIGRATE_CANCEL", f"{M}MIGRATE_SWITCH_HOST"],
    ),
    Breach(
        "R19", "CANCEL twice", lambda: both(Main.MIGRATE_CANCEL, Main.MIGRATE_CANCEL), S1, "main:0",
        [f"{M}MIGRATE_CANCEL"] * 2,
    ),
    Breach(
        "R19", "MIGRATE and END",
        lambda: seamless().inserted("MIGRATE", "webdav:0", hop=0, said=said(SERVER, Main.MIGRATE_END, hop=0)),
        S1, "main:0", ["MIGRATE", f"{M}MIGRATE_END"],
    ),
    Breach(
        "R19", "MIGRATE after CANCEL", bounced, S1, "main:0", [f"{M}MIGRATE_CANCEL", "MIGRATE"],
    ),
    Breach(
        "R20", "after CONNECTED", lambda: seamless().changed(SEAMLESS_REPLY, id=int(MainC.MIGRATE_CONNECTED)),
        S1, "main:0", [f"{M}MIGRATE_CONNECTED", "MIGRATE"],
    ),
    Breach(
        "R20", "after CONNECT_ERROR",
        lambda: seamless().changed(SEAMLESS_REPLY, id=int(MainC.MIGRATE_CONNECT_ERROR)),
        S1, "main:0", [f"{M}MIGRATE_CONNECT_ERROR", "MIGRATE"],
    ),
    Breach(
        "R20", "without a reply", lambda: seamless().without(SEAMLESS_REPLY), S1, "main:0",
        [f"{M}MIGRATE_BEGIN_SEAMLESS", "MIGRATE"],
    ),
    Breach(
        "R20", "before the reply",
        lambda: seamless().moved(SEAMLESS_REPLY, behind=("MIGRATE_DATA", "webdav:0", 1)).delayed(
            5 * MS, SEAMLESS_REPLY
        ),
        S1, "main:0", [f"{M}MIGRATE_BEGIN_SEAMLESS", "MIGRATE"],
    ),
    Breach("R20", "after a reply that came too late", late_and_seamless, S1, "main:0", [f"{M}{SEAMLESS_REPLY}", "MIGRATE"]),
    Breach("R20", "after a late reply and its CANCEL", stale, S1, "main:0", [f"{M}{SEAMLESS_REPLY}", "MIGRATE"]),
    astray("R20", SERVER, Msg.MIGRATE, "MIGRATE", S1, "inputs:0"),
    Breach(
        "R20", "of the destination",
        lambda: seamless().inserted(SEAMLESS_REPLY, said=said(SERVER, Msg.MIGRATE, FLAGS, channel="cursor:0")),
        S2, "cursor:0", ["MIGRATE"],
    ),
    Breach(
        "R21", "after CONNECTED_SEAMLESS", lambda: crossing(MainC.MIGRATE_CONNECTED_SEAMLESS, switch=False),
        S1, "main:0", [f"{M}{SEAMLESS_REPLY}", f"{M}MIGRATE_END"],
    ),
    Breach(
        "R21", "after CONNECT_ERROR", lambda: crossing(MainC.MIGRATE_CONNECT_ERROR, switch=False),
        S1, "main:0", [f"{M}MIGRATE_CONNECT_ERROR", f"{M}MIGRATE_END"],
    ),
    Breach(
        "R21", "without a reply", lambda: semi_seamless().without("MIGRATE_CONNECTED"), S1, "main:0",
        [f"{M}MIGRATE_BEGIN", f"{M}MIGRATE_END"],
    ),
    astray("R21", SERVER, Main.MIGRATE_END, f"{M}MIGRATE_END", S1),
    Breach(
        "R22", "after CONNECTED_SEAMLESS", lambda: crossing(MainC.MIGRATE_CONNECTED_SEAMLESS, switch=True),
        S1, "main:0", [f"{M}{SEAMLESS_REPLY}", f"{M}MIGRATE_SWITCH_HOST"],
    ),
    Breach(
        "R22", "after CONNECTED", lambda: crossing(MainC.MIGRATE_CONNECTED, switch=True),
        S1, "main:0", [f"{M}MIGRATE_CONNECTED", f"{M}MIGRATE_SWITCH_HOST"],
    ),
    Breach(
        "R23", "twice", lambda: seamless().twice("MIGRATE", "inputs:0", hop=0), S1, "inputs:0", ["MIGRATE"] * 2,
    ),
    Breach("R23", "not on every channel", lambda: stuck("inputs:0"), S1, "inputs:0", ["MIGRATE"]),
    astray("R26", SERVER, Msg.MIGRATE_DATA, "MIGRATE_DATA", S1, "inputs:0"),
    astray("R28", CLIENT, MsgC.MIGRATE_FLUSH_MARK, "MIGRATE_FLUSH_MARK", C, "inputs:0"),
    Breach(
        "R28", "to the destination",
        lambda: seamless().inserted(SEAMLESS_REPLY, said=said(CLIENT, MsgC.MIGRATE_FLUSH_MARK, channel="cursor:0")),
        C, "cursor:0", ["MIGRATE_FLUSH_MARK"],
    ),
    Breach(
        "R39", "MAIN_INIT",
        lambda: seamless().inserted("MIGRATE_DATA", hop=1, said=said(SERVER, Main.INIT, main_init())),
        S2, "main:0", ["MIGRATE", f"{M}INIT"],
    ),
    Breach(
        "R39", "ATTACH_CHANNELS",
        lambda: seamless().inserted("MIGRATE_DATA", hop=1, said=said(CLIENT, MainC.ATTACH_CHANNELS)),
        C, "main:0", ["MIGRATE", f"{M}ATTACH_CHANNELS"],
    ),
    Breach(
        "R40", "the client begins with something else",
        lambda: semi_seamless().inserted("MIGRATE_END", hop=1, before=True, said=said(CLIENT, MainC.ATTACH_CHANNELS)),
        C, "main:0", [f"{M}MIGRATE_END", f"{M}ATTACH_CHANNELS"],
    ),
    Breach(
        "R40", "two ENDs", lambda: semi_seamless().twice("MIGRATE_END", hop=1), C, "main:0", [f"{M}MIGRATE_END"] * 2,
    ),
    Breach(
        "R40", "END in a seamless migration",
        lambda: seamless().inserted("MIGRATE_DATA", hop=1, said=said(CLIENT, MainC.MIGRATE_END)),
        C, "main:0", ["MIGRATE", f"{M}MIGRATE_END"],
    ),
    Breach(
        "R40", "the destination begins with something else",
        lambda: semi_seamless().inserted("MIGRATE_END", hop=1, said=said(SERVER, Main.CHANNELS_LIST, bytes(4))),
        S2, "main:0", [f"{M}MIGRATE_END", f"{M}CHANNELS_LIST"],
    ),
    Breach(
        "R40", "another session id",
        lambda: semi_seamless().changed("INIT", hop=1, body=main_init(99)),
        S2, "main:0", [f"{M}MIGRATE_END", f"{M}INIT"],
    ),
    Breach(
        "R40", "END to the source",
        lambda: semi_seamless().inserted("MIGRATE_CONNECTED", said=said(CLIENT, MainC.MIGRATE_END, hop=0)),
        C, "main:0", [f"{M}MIGRATE_END"],
    ),
    astray("R40", CLIENT, MainC.MIGRATE_END, f"{M}MIGRATE_END", C),
    Breach(
        "R41", "DISPLAY_INIT before MAIN_INIT",
        lambda: semi_seamless().inserted("MIGRATE_END", hop=1, said=said(CLIENT, 101, bytes(14), channel="display:0")).delayed(
            10 * MS, "INIT", hop=1
        ),
        C, "display:0", ["DISPLAY_INIT", f"{M}MIGRATE_END"],
    ),
    Breach(
        "R42", "before the last channel has switched",
        lambda: closes_early(slow_main(), "cursor:0", ("MIGRATE", "webdav:0", 0)), C, "cursor:0", ["MIGRATE"],
    ),
    Breach(
        "R42", "before END", left_one, C, "inputs:0", [f"{M}MIGRATE_END"],
    ),
    Breach(
        "R44", "the source drops it", lambda: stays(dropped=True), C, "main:0", [f"{M}MIGRATE_END"],
    ),
    Breach("R44", "the client is late", leaves_late, C, "main:0", [f"{M}MIGRATE_END"]),
    Breach(
        "R44", "nobody does anything", lambda: stays(dropped=False), S1, "main:0", [f"{M}MIGRATE_END"],
        quiet_ns=20 * SECOND,
    ),
    astray("R48", SERVER, Main.MIGRATE_CANCEL, f"{M}MIGRATE_CANCEL", S1),
    Breach("R49", "back to the source", bounced, C, "inputs:0", ["MIGRATE_DATA"], also=["R19"], alone=True),
    astray("R49", CLIENT, MsgC.MIGRATE_DATA, "MIGRATE_DATA", C, "inputs:0"),
    Breach(
        "R50", "CONNECTED", lambda: crossing(MainC.MIGRATE_CONNECTED, switch=False), C, "main:0",
        [f"{M}MIGRATE_DST_SEAMLESS_ACK", f"{M}MIGRATE_CONNECTED"],
    ),
]  # fmt: skip
