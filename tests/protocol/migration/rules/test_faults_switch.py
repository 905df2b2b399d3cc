"""What somebody in between can do to channels while they change over: the same as `test_faults`, F25 to F51.

Real peers did, or would do, what is played here behind the fault. "client": as the client's side of it has the wire; "servers":
as the servers' side has.
"""

import struct
from collections.abc import Callable
from functools import partial
from typing import Final

import pytest

from dissectors.message_ids import InputsC, Msg, MsgC
from spiceproxy.protocol.migration.facts import DirectionClosed
from spiceproxy.protocol.migration.model import Severity
from tests.protocol.migration.playbook import (
    CHANNELS,
    CLIENT,
    MS,
    SECOND,
    SERVER,
    Play,
    display_state,
    seamless,
)
from tests.protocol.migration.rules.breaches import judged, said
from tests.protocol.migration.rules.breaches_switch import (
    DATA,
    MARK,
    agent,
    display_with,
    dropped,
    flags,
    payload,
    serial_of,
    vmc,
    without_reaction,
)


def carried(channel: str, body: bytes) -> Play:
    """The destination gets another state than the source sent."""
    return seamless().changed(DATA, channel, hop=1, body=body)


def sent(channel: str) -> bytes:
    """What the source sends."""
    return seamless().message(DATA, channel, hop=0).body or b""


def crossed() -> Play:
    """Two channels get each other's state."""
    usb, web = sent("usbredir:0"), sent("inputs:0")
    return carried("usbredir:0", web).changed(DATA, "inputs:0", hop=1, body=usb)


def misled(play: Play, channel: str) -> Play:
    """The client takes something else for its state, and stays; the source drops it after 10 s."""
    play = play.without(DATA, channel, hop=1)
    play = Play(play.facts[: play.where(DATA, "webdav:0", hop=1) + 1])
    for other in CHANNELS:
        play = play.closes(other, 0, SERVER, after_ns=10 * SECOND if other == CHANNELS[0] else MS)
    return play


def noise(channel: str) -> Play:
    return misled(
        seamless().inserted(
            "MIGRATE", channel, hop=0, said=said(SERVER, Msg.NOTIFY, bytes(25), channel=channel, hop=0)
        ),
        channel,
    )


def source_dies(play: Play, name: str, channel: str, *, nth: int = 0) -> Play:
    """The source aborts at a message."""
    play = Play(play.facts[: play.where(name, channel, hop=0, nth=nth) + 1])
    for other in CHANNELS:
        play = play.closes(other, 0, SERVER)
    for other in CHANNELS:
        play = play.closes(other, 1, CLIENT)
    return play


def cut(channel: str) -> Play:
    """The connection is closed in the middle of MIGRATE_DATA; the source drops the client after 10 s."""
    play = seamless()
    at = play.where(DATA, channel, hop=0)
    name, now = play.connection(channel, 0), play.facts[at].time_ns
    ends = [DirectionClosed(now, name, side) for side in (SERVER, CLIENT)]
    play = Play((*play.facts[:at], *ends, *play.facts[at + 1 :])).without(DATA, channel, hop=1)
    play = Play(play.facts[: play.where(DATA, "webdav:0", hop=1) + 1])
    for other in CHANNELS:
        if other != channel:
            play = play.closes(other, 0, SERVER, after_ns=10 * SECOND if other == CHANNELS[0] else MS)
    return play


def half_closed() -> Play:
    """The client's direction of one channel ends at the destination, before its state has passed."""
    play = seamless()
    at = play.where(DATA, "inputs:0", hop=1)
    end = DirectionClosed(play.facts[at].time_ns, play.connection("inputs:0", 1), CLIENT)
    return Play((*play.facts[:at], end, *play.facts[at + 1 :]))


KEY = said(CLIENT, InputsC.KEY_DOWN, bytes(4), channel="inputs:0", hop=0)
STAYS: Final = {"R44"}  # the client is dropped 10 s later

FAULTS: Final[dict[str, tuple[Callable[[], Play], set[str], set[str]]]] = {
    "F25 drop-migrate, client": (
        lambda: dropped("inputs:0", [("MIGRATE", 0), (MARK, 0), (DATA, 0), (DATA, 1)]), {"R23"}, STAYS,
    ),
    "F25 drop-migrate, servers": (
        lambda: dropped("inputs:0", [(MARK, 0), (DATA, 0), (DATA, 1)]), {"R28"}, STAYS,
    ),
    "F26 dup-migrate": (
        lambda: misled(seamless().twice("MIGRATE", "display:0", hop=0), "display:0"), {"R23"}, STAYS,
    ),
    "F27 flags-zero, client": (partial(without_reaction, 0, "inputs:0"), set(), {"R24"}),
    "F27 flags-zero, servers": (partial(without_reaction, 3, "inputs:0"), {"R28"}, {"R42"}),
    "F28 flags-three-cursor, client": (
        lambda: source_dies(
            flags(3, "cursor:0").inserted(
                "MIGRATE", "record:0", hop=0, said=said(CLIENT, MsgC.MIGRATE_FLUSH_MARK, channel="cursor:0", hop=0)
            ), MARK, "cursor:0",
        ),
        set(), {"R24"},
    ),
    "F28 flags-three-cursor, servers": (
        lambda: source_dies(
            seamless().inserted(
                "MIGRATE", "record:0", hop=0, said=said(CLIENT, MsgC.MIGRATE_FLUSH_MARK, channel="cursor:0", hop=0)
            ), MARK, "cursor:0",
        ),
        {"R28", "R30"}, set(),
    ),
    "F29 noise-before-data": (partial(noise, "inputs:0"), {"R25"}, STAYS),
    "F29 noise-before-data, display": (partial(noise, "display:0"), {"R25"}, STAYS),
    "F30 drop-flush, client": (lambda: dropped("usbredir:0", [(DATA, 0), (DATA, 1)]), {"R26"}, STAYS),
    "F30 drop-flush, servers": (
        lambda: dropped("usbredir:0", [(MARK, 0), (DATA, 0), (DATA, 1)]), {"R28"}, STAYS,
    ),
    "F31 delay-flush": (lambda: seamless().delayed(5 * SECOND, MARK, "display:0", hop=0), set(), set()),
    "F31 delay-data": (lambda: seamless().delayed(5 * SECOND, DATA, "display:0", hop=1), set(), set()),
    "F32 dup-flush, client": (lambda: source_dies(seamless(), MARK, "inputs:0"), set(), set()),
    "F32 dup-flush, servers": (
        lambda: source_dies(seamless().twice(MARK, "inputs:0", hop=0), MARK, "inputs:0", nth=1), {"R28"}, set(),
    ),
    "F33 traffic-after-flush": (lambda: seamless().inserted(MARK, "inputs:0", hop=0, said=KEY), {"R29"}, set()),
    "F34 drop-data-inputs": (lambda: seamless().without(DATA, "inputs:0", hop=1), {"R32"}, set()),
    "F35 drop-data-display": (
        lambda: dropped("display:0", [(DATA, 1)], after_ns=SECOND).closes("display:0", 1, SERVER, after_ns=9 * SECOND),
        {"R45"}, set(),
    ),
    "F36 drop-data-vmc": (lambda: dropped("usbredir:0", [(DATA, 1)]), {"R32"}, STAYS),
    "F38 bad-magic": (lambda: carried("display:0", b"XXXX" + sent("display:0")[4:]), {"R31"}, set()),
    "F38 bad-magic, at the source": (lambda: payload("inputs:0", b"XXXX" + sent("inputs:0")[4:]), {"R33"}, set()),
    "F39 bad-version": (lambda: carried("inputs:0", b"ICMD" + struct.pack("<IH", 2, 0)), {"R31"}, set()),
    "F40 truncate-data": (lambda: carried("inputs:0", sent("inputs:0")[:9]), {"R31"}, set()),
    "F41 pad-data": (lambda: carried("inputs:0", sent("inputs:0") + bytes(4)), {"R31"}, set()),
    "F42 dup-data": (lambda: seamless().twice(DATA, "inputs:0", hop=1), {"R32"}, set()),
    "F43 cross-data": (crossed, {"R31"}, set()),
    "F44 wild-pointer": (
        lambda: carried("usbredir:0", sent("usbredir:0")[:21] + struct.pack("<III", 5, 1, 70000)), {"R31"}, set(),
    ),
    "F45 corrupt-tokens": (lambda: payload("main:0", agent(4000)), {"R47"}, set()),
    "F46 connected-zero": (lambda: payload("webdav:0", vmc(connected=0)), {"R34"}, set()),
    "F47 unknown-surface, twice": (lambda: display_with(surfaces=(0, 0)), {"R46"}, set()),
    "F47 unknown-surface, too high": (lambda: display_with(surfaces=(0, 1024)), {"R46"}, set()),
    "F48 serial-skew": (
        lambda: carried("display:0", display_state(serial_of(seamless()) + 5)), {"R31"}, set(),
    ),
    "F48 serial-skew, at the source": (partial(display_with, serial=5), {"R35"}, set()),
    "F48 serial-skew, full header": (
        lambda: seamless(mini=False).changed(
            DATA, "display:0", hop=1, body=display_state(serial_of(seamless(mini=False)) + 5)
        ),
        {"R31"}, {"R36"},
    ),
    "F49 cut-midframe": (partial(cut, "inputs:0"), set(), STAYS),
    "F50 half-close": (half_closed, set(), set()),
    "F51 stall-one-channel, client": (
        lambda: dropped("display:0", [(DATA, 0), (DATA, 1)]), {"R26"}, STAYS,
    ),
    "F51 stall-one-channel, servers": (
        lambda: dropped("display:0", [(MARK, 0), (DATA, 0), (DATA, 1)]), {"R28"}, STAYS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_breaks_the_rules_that_it_breaks_and_no_others(name: str) -> None:
    make, errors, lesser = FAULTS[name]
    found = judged(make(), quiet_ns=4 * SECOND)
    told = [(each.rule, each.by, each.channel, each.message) for each in found]
    assert {each.rule for each in found if each.severity is Severity.ERROR} == errors, told
    assert {each.rule for each in found if each.severity is not Severity.ERROR} == lesser, told
