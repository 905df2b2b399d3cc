"""Breaches before the guest has moved: R6 to R18, R43."""

import struct

from dissectors.message_ids import Main, MainC, Msg, MsgC
from spiceproxy.protocol.migration.model import Severity
from tests.protocol.migration.playbook import (
    CHANNELS,
    CLIENT,
    MS,
    SECOND,
    SERVER,
    SESSION_ID,
    Play,
    cancelled,
    destination,
    main_init,
    refused,
    seamless,
    semi_seamless,
    switch_host,
)
from tests.protocol.migration.rules.breaches import S1, S2, Breach, C, plain, said, started

BEGIN, BEGIN_SEAMLESS = Main.MIGRATE_BEGIN, Main.MIGRATE_BEGIN_SEAMLESS
SWITCH_HOST = Main.MIGRATE_SWITCH_HOST
PING = bytes(12)


def connecting(verdict: int | None, *, wait_ns: int = 0) -> Play:
    """A client that asks for seamless, with this answer or none, and does not get further."""
    script = started()
    script.say(SERVER, "main:0", 0, BEGIN_SEAMLESS, destination(BEGIN_SEAMLESS))
    script.link("main:0", 1)
    script.say(CLIENT, "main:0", 1, MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
    script.tick(wait_ns)
    if verdict is not None:
        script.say(SERVER, "main:0", 1, verdict)
    return script.play()


def without_cap(*, asks: bool) -> Play:
    """The destination lacks SEAMLESS_MIGRATE; the client asks all the same, or says CONNECTED_SEAMLESS without asking."""
    script = started()
    script.say(SERVER, "main:0", 0, BEGIN_SEAMLESS, destination(BEGIN_SEAMLESS))
    script.link("main:0", 1, caps=0b0001)
    if asks:
        script.say(CLIENT, "main:0", 1, MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
        script.say(SERVER, "main:0", 1, Main.MIGRATE_DST_SEAMLESS_NACK)
    for channel in CHANNELS[1:]:
        script.link(channel, 1)
    reply = MainC.MIGRATE_CONNECTED if asks else MainC.MIGRATE_CONNECTED_SEAMLESS
    script.say(CLIENT, "main:0", 0, reply)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    return script.play()


def linked(*links: tuple[str, int]) -> Play:
    """After BEGIN these channels are linked at the destination, with these ids, and all is cancelled."""
    script = started()
    script.say(SERVER, "main:0", 0, BEGIN, destination(BEGIN))
    for channel, connection_id in links:
        script.tick(10 * MS)
        script.link(channel, 1, connection_id)
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECTED)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    return script.play()


ALL_LINKS = tuple((channel, SESSION_ID) for channel in CHANNELS)


def main_last() -> Play:
    return linked(*ALL_LINKS[2:], ALL_LINKS[1], ALL_LINKS[0])


def opened_before_main() -> Play:
    """All are linked in order, but the display was dialled before main's result was there."""
    play = linked(*ALL_LINKS)
    name = play.connection("display:0", 1)
    facts = [
        fact._replace(time_ns=fact.time_ns - 20 * MS)
        if getattr(fact, "connection", None) == name and type(fact).__name__ == "Opened"
        else fact
        for fact in play
    ]
    return Play(tuple(facts))


def replied_late(*, cancel: bool, ns: int = 11 * SECOND) -> Play:
    """A success 11 s after BEGIN; with CANCEL, and SWITCH_HOST at the end."""
    script = started()
    script.connect(0)
    if cancel:
        script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
        for channel in CHANNELS:
            script.close(channel, 1)
    script.tick(3 * SECOND)
    script.act(0)
    if cancel:
        script.switch(0)
    return script.play().delayed(ns, "MIGRATE_CONNECTED_SEAMLESS")


def never_replied() -> Play:
    script = started()
    script.say(SERVER, "main:0", 0, BEGIN_SEAMLESS, destination(BEGIN_SEAMLESS))
    script.tick(12 * SECOND)
    script.switch(0)
    return script.play()


def pong_while_connecting() -> Play:
    script = started()
    script.say(SERVER, "main:0", 0, BEGIN, destination(BEGIN))
    for channel in CHANNELS:
        script.link(channel, 1)
        if channel == "inputs:0":
            script.tick(10 * MS)
            script.say(CLIENT, "main:0", 0, MsgC.PONG, PING)
            script.tick(10 * MS)
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECTED)
    script.tick(SECOND)
    script.finish_semi(0)
    return script.play()


def version_2() -> Play:
    """Offered and asked for, and the destination takes it."""
    play = seamless().changed("MIGRATE_BEGIN_SEAMLESS", body=destination(BEGIN_SEAMLESS, version=2))
    return play.changed("MIGRATE_DST_DO_SEAMLESS", body=struct.pack("<I", 2))


ACK, DO = "MIGRATE_DST_SEAMLESS_ACK", "MIGRATE_DST_DO_SEAMLESS"
M = "MAIN_"
WARNING, ERROR = Severity.WARNING, Severity.ERROR

BREACHES = [
    Breach("R6", "version 2", version_2, S1, "main:0", [f"{M}MIGRATE_BEGIN_SEAMLESS"]),
    Breach(
        "R7", "two replies", lambda: cancelled().twice("MIGRATE_CONNECTED_SEAMLESS"), C, "main:0",
        [f"{M}MIGRATE_CONNECTED_SEAMLESS"] * 2,
    ),
    Breach(
        "R7", "two replies, and then a good migration",
        lambda: seamless().inserted(
            "MIGRATE_CONNECTED_SEAMLESS", said=said(CLIENT, MainC.MIGRATE_CONNECTED, hop=0)
        ),
        C, "main:0", [f"{M}MIGRATE_CONNECTED_SEAMLESS", f"{M}MIGRATE_CONNECTED"],
    ),
    Breach(
        "R7", "a reply without BEGIN",
        lambda: switch_host().inserted(
            "MIGRATE_SWITCH_HOST", said=said(CLIENT, MainC.MIGRATE_CONNECT_ERROR, hop=0)
        ),
        C, "main:0", [f"{M}MIGRATE_CONNECT_ERROR"],
    ),
    Breach(
        "R7", "a reply while nothing migrates",
        lambda: plain().inserted("INIT", said=said(CLIENT, MainC.MIGRATE_CONNECTED, hop=0)),
        C, "main:0", [f"{M}MIGRATE_CONNECTED"], alone=True,
    ),
    Breach(
        "R7", "a reply to the destination",
        lambda: cancelled().inserted(ACK, said=said(CLIENT, MainC.MIGRATE_CONNECTED)),
        C, "main:0", [f"{M}MIGRATE_CONNECTED"],
    ),
    Breach("R8", "PONG", pong_while_connecting, C, "main:0", [f"{M}MIGRATE_BEGIN", "PONG"]),
    Breach(
        "R9", "without an ACK", lambda: seamless().without(ACK), C, "main:0",
        [f"{M}MIGRATE_BEGIN_SEAMLESS", f"{M}MIGRATE_CONNECTED_SEAMLESS"],
    ),
    Breach(
        "R9", "before the ACK",
        lambda: seamless().moved(ACK, behind=("MIGRATE", "main:0", 0)), C, "main:0",
        [f"{M}MIGRATE_BEGIN_SEAMLESS", f"{M}MIGRATE_CONNECTED_SEAMLESS"],
    ),
    Breach(
        "R9", "without BEGIN_SEAMLESS",
        lambda: semi_seamless().changed("MIGRATE_CONNECTED", id=int(MainC.MIGRATE_CONNECTED_SEAMLESS)),
        C, "main:0", [f"{M}MIGRATE_BEGIN", f"{M}MIGRATE_CONNECTED_SEAMLESS"], also=["R21"],
    ),
    Breach(
        "R10", "after a NACK",
        lambda: refused().changed("MIGRATE_CONNECTED", id=int(MainC.MIGRATE_CONNECTED_SEAMLESS)),
        C, "main:0", [f"{M}MIGRATE_DST_SEAMLESS_NACK", f"{M}MIGRATE_CONNECTED_SEAMLESS"], also=["R21"],
    ),
    Breach(
        "R10", "to a destination that cannot", lambda: without_cap(asks=False), C, "main:0",
        [f"{M}MIGRATE_BEGIN_SEAMLESS", f"{M}MIGRATE_CONNECTED_SEAMLESS"],
    ),
    Breach(
        "R11", "id 0", lambda: linked(("main:0", 0), *ALL_LINKS[1:]), C, "main:0", [f"{M}MIGRATE_BEGIN"],
    ),
    Breach(
        "R11", "another id", lambda: linked(*ALL_LINKS[:3], ("cursor:0", 7), *ALL_LINKS[4:]), C, "cursor:0",
        [f"{M}MIGRATE_BEGIN"],
    ),
    Breach("R11", "main last", main_last, C, "display:0", [f"{M}MIGRATE_BEGIN"]),
    Breach("R11", "dialled before main was there", opened_before_main, C, "display:0", [f"{M}MIGRATE_BEGIN"]),
    Breach("R12", "a channel is missing", lambda: linked(*ALL_LINKS[:-1]), C, "webdav:0", [f"{M}MIGRATE_CONNECTED"]),
    Breach(
        "R12", "a channel too many", lambda: linked(*ALL_LINKS, ("display:1", SESSION_ID)), C, "display:1",
        [f"{M}MIGRATE_CONNECTED"],
    ),
    Breach(
        "R13", "without BEGIN_SEAMLESS",
        lambda: semi_seamless().inserted(
            "MIGRATE_BEGIN", said=said(CLIENT, MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
        ).moved(DO, behind=("MIGRATE_CONNECTED", "main:0", 0)),
        C, "main:0", [f"{M}MIGRATE_BEGIN", f"{M}{DO}"],
    ),
    Breach("R13", "to a destination that cannot", lambda: without_cap(asks=True), C, "main:0", [f"{M}{DO}"]),
    Breach(
        "R13", "not as first message",
        lambda: seamless().inserted(DO, before=True, said=said(CLIENT, MsgC.PONG, PING)),
        C, "main:0", [f"{M}{DO}"], also=["R16"],
    ),
    Breach("R13", "twice", lambda: seamless().twice(DO), C, "main:0", [f"{M}{DO}"] * 2),
    Breach(
        "R13", "with another version", lambda: seamless().changed(DO, body=struct.pack("<I", 2)),
        C, "main:0", [f"{M}MIGRATE_BEGIN_SEAMLESS", f"{M}{DO}"],
    ),
    Breach(
        "R13", "to the source",
        lambda: seamless().inserted(
            ACK, said=said(CLIENT, MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1), hop=0)
        ),
        C, "main:0", [f"{M}{DO}"],
    ),
    Breach(
        "R13", "while nothing migrates",
        lambda: plain().inserted("INIT", said=said(CLIENT, MainC.MIGRATE_DST_DO_SEAMLESS, hop=0)),
        C, "main:0", [f"{M}{DO}"], alone=True,
    ),
    Breach("R14", "two ACKs", lambda: seamless().twice(ACK), S2, "main:0", [f"{M}{DO}", f"{M}{ACK}", f"{M}{ACK}"]),
    Breach(
        "R14", "ACK and NACK",
        lambda: seamless().inserted(ACK, said=said(SERVER, Main.MIGRATE_DST_SEAMLESS_NACK)),
        S2, "main:0", [f"{M}{DO}", f"{M}{ACK}", f"{M}MIGRATE_DST_SEAMLESS_NACK"],
    ),
    Breach("R14", "unasked", lambda: seamless().without(DO), S2, "main:0", [f"{M}{ACK}"]),
    Breach(
        "R14", "of the source",
        lambda: seamless().inserted(ACK, said=said(SERVER, Main.MIGRATE_DST_SEAMLESS_ACK, hop=0)),
        S1, "main:0", [f"{M}{ACK}"],
    ),
    Breach(
        "R14", "while nothing migrates",
        lambda: plain().inserted("INIT", said=said(SERVER, Main.MIGRATE_DST_SEAMLESS_NACK, hop=0)),
        S2, "main:0", [f"{M}MIGRATE_DST_SEAMLESS_NACK"], alone=True,
    ),
    Breach("R14", "no answer", lambda: connecting(None), S2, "main:0", [f"{M}{DO}"], quiet_ns=8 * SECOND),
    Breach("R15", "version 2", version_2, S2, "main:0", [f"{M}{DO}", f"{M}{ACK}"]),
    Breach(
        "R16", "PONG on main", lambda: seamless().inserted(ACK, said=said(CLIENT, MsgC.PONG, PING)),
        C, "main:0", ["PONG"],
    ),
    Breach(
        "R16", "DISPLAY_INIT",
        lambda: semi_seamless().inserted("MIGRATE_CONNECTED", said=said(CLIENT, 101, bytes(14), channel="display:0")),
        C, "display:0", ["DISPLAY_INIT"],
    ),
    Breach(
        "R16", "MIGRATE_END before the source's",
        lambda: semi_seamless().moved("MIGRATE_END", hop=1, behind=("MIGRATE_CONNECTED", "main:0", 0)),
        C, "main:0", [f"{M}MIGRATE_END"],
    ),
    Breach(
        "R17", "MAIN_INIT", lambda: seamless().inserted(ACK, said=said(SERVER, Main.INIT, main_init())),
        S2, "main:0", [f"{M}INIT"],
    ),
    Breach(
        "R17", "CHANNELS_LIST", lambda: seamless().inserted(ACK, said=said(SERVER, Main.CHANNELS_LIST, bytes(4))),
        S2, "main:0", [f"{M}CHANNELS_LIST"],
    ),
    Breach(
        "R17", "on display",
        lambda: seamless().inserted(
            "MIGRATE_CONNECTED_SEAMLESS", said=said(SERVER, Msg.SET_ACK, bytes(8), channel="display:0")
        ),
        S2, "display:0", ["SET_ACK"],
    ),
    Breach(
        "R17", "on display, before its state came",
        lambda: seamless().inserted(
            "MIGRATE_DATA", "display:0", hop=0, said=said(SERVER, Msg.SET_ACK, bytes(8), channel="display:0")
        ),
        S2, "display:0", ["SET_ACK"],
    ),
    Breach(
        "R18", "INPUTS_INIT",
        lambda: semi_seamless().inserted("MIGRATE_CONNECTED", said=said(SERVER, 101, bytes(2), channel="inputs:0")),
        S2, "inputs:0", ["INPUTS_INIT"],
    ),
    Breach(
        "R18", "after a NACK",
        lambda: refused().inserted("MIGRATE_CONNECTED", said=said(SERVER, Msg.SET_ACK, bytes(8), channel="cursor:0")),
        S2, "cursor:0", ["SET_ACK"],
    ),
    Breach(
        "R18", "PING without a NACK",
        lambda: semi_seamless().inserted("MIGRATE_CONNECTED", said=said(SERVER, Msg.PING, PING)),
        S2, "main:0", ["PING"],
    ),
    Breach(
        "R43", "a late success", lambda: replied_late(cancel=True), C, "main:0",
        [f"{M}MIGRATE_BEGIN_SEAMLESS", f"{M}MIGRATE_CONNECTED_SEAMLESS"],
    ),
    Breach(
        "R43", "a late success without CANCEL", lambda: replied_late(cancel=False), S1, "main:0",
        [f"{M}MIGRATE_CONNECTED_SEAMLESS"],
    ),
    Breach("R43", "no reply", never_replied, C, "main:0", [f"{M}MIGRATE_BEGIN_SEAMLESS"]),
]  # fmt: skip
