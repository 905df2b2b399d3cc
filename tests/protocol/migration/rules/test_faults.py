"""What somebody in between can do to a migration, as either side of them has it on the wire, and which rules that breaks.

Names are those of the list of faults that the project began with; what peers do then is what real ones did, or would do.
"""

import struct
from collections.abc import Callable
from functools import partial
from typing import Final

import pytest

from dissectors.message_ids import Main, MainC, Msg, MsgC
from spiceproxy.protocol.migration.model import Severity
from tests.protocol.migration.playbook import (
    CHANNELS,
    CLIENT,
    MS,
    SECOND,
    SERVER,
    Play,
    cancelled,
    destination,
    refused,
    seamless,
    semi_seamless,
    switch_host,
)
from tests.protocol.migration.rules.breaches import judged, plain, said, started
from tests.protocol.migration.rules.breaches_ahead import ALL_LINKS, connecting, linked, replied_late
from tests.protocol.migration.rules.breaches_announced import announced, dst_info

SEAMLESS_REPLY, DO = "MIGRATE_CONNECTED_SEAMLESS", "MIGRATE_DST_DO_SEAMLESS"
ACK = "MIGRATE_DST_SEAMLESS_ACK"
FLAGS = struct.pack("<I", 3)


def ended_by(word: Main, reply: MainC = MainC.MIGRATE_CONNECTED_SEAMLESS) -> Play:
    """Seamless is agreed; then this reply, and this last word."""
    script = started()
    script.connect(0)
    script.tick(2 * SECOND)
    script.finish_semi(0) if word is Main.MIGRATE_END else script.switch(0)
    return script.play().changed(SEAMLESS_REPLY, id=int(reply))


def nack_rewritten() -> Play:
    """The destination believes that it is seamless, and begins to speak."""
    play = refused()
    for channel, id_ in (("cursor:0", Msg.SET_ACK), ("inputs:0", 101), ("webdav:0", 201)):
        play = play.inserted(
            "MIGRATE_CONNECTED", before=True, said=said(SERVER, id_, bytes(8), channel=channel)
        )
    return play


def ack_synthesised() -> Play:
    """The destination was never asked: to it, MIGRATE_DATA comes from nowhere."""
    play = seamless().without(DO).without(ACK).without("ACK_SYNC", "cursor:0", hop=1)
    play = play.without("PONG", hop=1).without("PONG", hop=1)
    for name, channel in (("SET_ACK", "cursor:0"), ("INIT", "inputs:0"), ("INIT", "webdav:0")):
        play = play.without(name, channel, hop=1)
    return play.without("PING", hop=1).without("PING", hop=1)


def begin_upgraded() -> Play:
    return seamless().changed(
        "MIGRATE_BEGIN_SEAMLESS", id=int(Main.MIGRATE_BEGIN), body=destination(Main.MIGRATE_BEGIN)
    )


def begin_downgraded() -> Play:
    kind = Main.MIGRATE_BEGIN_SEAMLESS
    return semi_seamless().changed("MIGRATE_BEGIN", id=int(kind), body=destination(kind))


def refused_at(channel: str) -> Play:
    """One link to the destination is refused."""
    script = started()
    kind = Main.MIGRATE_BEGIN_SEAMLESS
    script.say(SERVER, "main:0", 0, kind, destination(kind))
    if channel == "main:0":
        script.fail("main:0", 1)
    else:
        script.link("main:0", 1)
        script.say(CLIENT, "main:0", 1, MainC.MIGRATE_DST_DO_SEAMLESS, struct.pack("<I", 1))
        script.say(SERVER, "main:0", 1, Main.MIGRATE_DST_SEAMLESS_ACK)
        script.link("display:0", 1)
        script.fail(channel, 1)
        script.close("display:0", 1)
        script.close("main:0", 1)
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECT_ERROR)
    script.tick(SECOND)
    script.switch(0)
    return script.play()


def stalled() -> Play:
    """The destination takes the connection, and says nothing."""
    script = started()
    kind = Main.MIGRATE_BEGIN_SEAMLESS
    script.say(SERVER, "main:0", 0, kind, destination(kind))
    script.open("main:0", 1)
    script.tick(20 * SECOND)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_SWITCH_HOST, destination(Main.MIGRATE_SWITCH_HOST))
    script.tick(10 * SECOND)
    for channel in CHANNELS:
        script.close(channel, 0, SERVER)
    return script.play()


def fake_connected() -> Play:
    """A second success draws CANCEL. The client gives up; the source does not, and gets back what it sends."""
    script = started()
    script.connect(0)
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECTED)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    for channel in CHANNELS:
        script.close(channel, 1)
    script.tick(SECOND)
    script.say(SERVER, "inputs:0", 0, Msg.MIGRATE, FLAGS)
    script.say(CLIENT, "inputs:0", 0, MsgC.MIGRATE_FLUSH_MARK)
    script.say(SERVER, "inputs:0", 0, Msg.MIGRATE_DATA, b"ICMD" + bytes(6))
    script.say(CLIENT, "inputs:0", 0, MsgC.MIGRATE_DATA, b"ICMD" + bytes(6))
    return script.play()


def cancel_injected(word: Main | Msg, *, after_ns: int = SECOND) -> Play:
    """The client gives up; the source knows nothing of it."""
    script = started()
    script.connect(0, seamless=word == Msg.MIGRATE)
    script.tick(after_ns)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_CANCEL)
    for channel in CHANNELS:
        script.close(channel, 1)
    script.tick(SECOND)
    for channel in CHANNELS if word == Msg.MIGRATE else ("main:0",):
        script.say(SERVER, channel, 0, word, FLAGS if word == Msg.MIGRATE else b"")
    return script.play()


def cancel_swallowed() -> Play:
    """The client keeps its connections to the destination; the next BEGIN draws CONNECT_ERROR."""
    script = started()
    script.connect(0)
    script.tick(SECOND)
    kind = Main.MIGRATE_BEGIN_SEAMLESS
    script.say(SERVER, "main:0", 0, kind, destination(kind))
    script.say(CLIENT, "main:0", 0, MainC.MIGRATE_CONNECT_ERROR)
    script.tick(SECOND)
    script.switch(0)
    return script.play()


def end_swallowed() -> Play:
    """The source has said MIGRATE_END, and drops the client that knows nothing of it."""
    script = started()
    script.connect(0, seamless=False)
    script.tick(SECOND)
    script.say(SERVER, "main:0", 0, Main.MIGRATE_END)
    script.tick(10 * SECOND + 5 * MS)
    for channel in CHANNELS:
        script.close(channel, 0, SERVER)
    return script.play()


def astray(side: object, id_: int, channel: str = "main:0", body: bytes = b"") -> Play:
    return plain().inserted("DRAW_COPY", "display:0", said=said(side, id_, body, channel=channel, hop=0))


def version_99(*, here: bool) -> Play:
    """The version in BEGIN_SEAMLESS is changed on its way to the client; `here`: as the client has it."""
    play = refused().changed(DO, body=struct.pack("<I", 99))
    kind = Main.MIGRATE_BEGIN_SEAMLESS
    return play.changed("MIGRATE_BEGIN_SEAMLESS", body=destination(kind, version=99)) if here else play


# Fault, as the client or a server has it on the wire: rules of severity error, and lesser ones.
FAULTS: Final[dict[str, tuple[Callable[[], Play], set[str], set[str]]]] = {
    "F1 nack-rewrite, client": (nack_rewritten, {"R18"}, set()),
    "F1 nack-rewrite, servers": (partial(ended_by, Main.MIGRATE_END, MainC.MIGRATE_CONNECTED), set(), {"R50"}),
    "F2 nack-synth, client": (refused, set(), set()),
    "F2 nack-synth, servers": (begin_downgraded, set(), set()),
    "F3 ack-synth, servers": (ack_synthesised, {"R9"}, set()),
    "F4 version-begin, client": (partial(version_99, here=True), set(), {"R6"}),
    "F4 version-begin, servers": (partial(version_99, here=False), {"R13"}, set()),
    "F5 version-do, servers": (lambda: refused().changed(DO, body=struct.pack("<I", 2)), {"R13"}, set()),
    "F6 begin-downgrade, client": (semi_seamless, set(), set()),
    "F6 begin-downgrade, servers": (begin_downgraded, set(), set()),
    "F7 begin-upgrade, servers": (begin_upgraded, {"R9", "R13"}, set()),
    "F8 strip-seamless-client": (partial(semi_seamless, client_caps=0b0111), set(), set()),
    "F9 strip-tokens-client": (partial(semi_seamless, client_caps=0b1011), set(), set()),
    "F10 strip-semi-client": (switch_host, set(), set()),
    "F11 strip-seamless-dst": (begin_downgraded, set(), set()),
    "F12 refuse-dst": (partial(refused_at, "main:0"), set(), set()),
    "F13 refuse-one-dst-channel": (partial(refused_at, "inputs:0"), set(), set()),
    "F14 stall-dst": (stalled, set(), {"R43"}),
    "F15 stall-verdict, client": (partial(connecting, None), {"R14"}, {"R43"}),
    "F15 stall-verdict, servers": (
        partial(connecting, Main.MIGRATE_DST_SEAMLESS_ACK), set(), {"R43"},
    ),
    "F16 drop-connected, client": (partial(ended_by, Main.MIGRATE_SWITCH_HOST), {"R22"}, set()),
    "F16 drop-connected, servers": (
        lambda: ended_by(Main.MIGRATE_SWITCH_HOST).without(SEAMLESS_REPLY), set(), set(),
    ),
    "F17 late-connected, servers": (partial(replied_late, cancel=True), set(), {"R43"}),
    "F17 late-connected, client": (
        lambda: replied_late(cancel=True, ns=0).delayed(11 * SECOND, "MIGRATE_CANCEL"), set(), set(),
    ),
    "F18 fake-connected": (fake_connected, {"R7"}, {"R49"}),
    "F19 connect-error-rewrite, client": (partial(ended_by, Main.MIGRATE_SWITCH_HOST), {"R22"}, set()),
    "F19 connect-error-rewrite, servers": (
        partial(ended_by, Main.MIGRATE_SWITCH_HOST, MainC.MIGRATE_CONNECT_ERROR), set(), set(),
    ),
    "F20 seamless-to-connected, client": (partial(ended_by, Main.MIGRATE_END), {"R21"}, set()),
    "F20 seamless-to-connected, servers": (
        partial(ended_by, Main.MIGRATE_END, MainC.MIGRATE_CONNECTED), set(), {"R50"},
    ),
    "F21 inject-cancel, semi": (partial(cancel_injected, Main.MIGRATE_END), {"R19"}, set()),
    "F21 inject-cancel, seamless": (partial(cancel_injected, Msg.MIGRATE), {"R19"}, set()),
    "F21 inject-cancel, long after": (
        partial(cancel_injected, Msg.MIGRATE, after_ns=60 * SECOND), {"R19"}, set(),
    ),
    "F22 swallow-cancel": (cancel_swallowed, set(), set()),
    "F23 drop-end, servers": (end_swallowed, set(), {"R44"}),
    "F24 fake-end": (partial(astray, SERVER, Main.MIGRATE_END), {"R21"}, set()),
    "F26 dup-migrate": (lambda: seamless().twice("MIGRATE", "display:0", hop=0), {"R23"}, set()),
    "F37 inject-migrate, client": (partial(astray, SERVER, Msg.MIGRATE, "inputs:0", FLAGS), {"R20"}, set()),
    "F37 inject-migrate, servers": (partial(astray, CLIENT, MsgC.MIGRATE_FLUSH_MARK, "inputs:0"), {"R28"}, set()),
    "F53 do-seamless-to-plain": (partial(astray, CLIENT, MainC.MIGRATE_DST_DO_SEAMLESS), {"R13"}, set()),
    "F54 flush-to-plain": (partial(astray, CLIENT, MsgC.MIGRATE_FLUSH_MARK, "cursor:0"), {"R28"}, set()),
    "F55 end-to-plain": (partial(astray, CLIENT, MainC.MIGRATE_END), {"R40"}, set()),
    "F56 switch-null": (
        partial(announced, Main.MIGRATE_SWITCH_HOST, dst_info(Main.MIGRATE_SWITCH_HOST, (3, 0), rest=b"ab\0")),
        {"R4"}, set(),
    ),
    "F57 switch-inject": (partial(switch_host, client_caps=0b1111), set(), set()),
    "F61 wrong-connection-id": (
        partial(linked, *ALL_LINKS[:3], ("cursor:0", 7), *ALL_LINKS[4:]), {"R11"}, set(),
    ),
    "F62 zero-connection-id": (
        lambda: connecting(None, wait_ns=SECOND).inserted(
            DO, before=True, said=said(SERVER, Main.INIT, bytes(32))
        ).zero_id("main:0", 1),
        {"R11"}, set(),
    ),
    "F66 tls-only-sentinel": (
        partial(
            announced, Main.MIGRATE_BEGIN, destination(Main.MIGRATE_BEGIN, port=0xFFFF, sport=5902)
        ),
        set(), {"R5"},
    ),
    "a cancelled one": (cancelled, set(), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_breaks_the_rules_that_it_breaks_and_no_others(name: str) -> None:
    make, errors, lesser = FAULTS[name]
    quiet_ns = 12 * SECOND if "stall" in name else SECOND
    found = judged(make(), quiet_ns=quiet_ns)
    assert {each.rule for each in found if each.severity is Severity.ERROR} == errors, [
        e.message for e in found
    ]
    assert {each.rule for each in found if each.severity is not Severity.ERROR} == lesser
