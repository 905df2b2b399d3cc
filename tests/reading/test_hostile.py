"""Peers and files are hostile: whatever they say is shown or said to be wrong, and nothing is raised."""

import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.side import Side
from tests.capture.wire import CLIENT, SERVER, Wire
from tests.protocol.streams import unhurried
from tests.reading.show import objects, show

SIDES = st.sampled_from(Side)
BODIES = st.binary(max_size=120) | st.integers(0, 400).map(lambda size: b"\1\0\0\0" * (size // 4))
SAID = st.tuples(st.just("say"), SIDES, st.integers(0, 330), BODIES, st.integers(0, 60))
RAW = st.tuples(st.just("data"), SIDES, st.binary(max_size=60))
GAP = st.tuples(st.just("gap"), SIDES, st.integers(1, 2**31))
END = st.tuples(st.just("close"), SIDES | st.none(), st.booleans())
STEPS = st.lists(SAID | SAID | SAID | RAW | GAP | END, max_size=30)


def wire_of(channel: int, mini: bool, steps: list[tuple[Any, ...]]) -> Wire:
    wire = Wire()
    wire.open(1)
    wire.link(1, channel=channel, mini=mini)
    for step in steps:
        match step:
            case ("say", side, id_, body, sub_list):
                wire.say(1, side, id_, body, sub_list=sub_list)
            case ("data", side, data):
                wire.data(1, side, data)
            case ("gap", side, size):
                wire.gap(1, side, size)
            case ("close", side, reset):
                wire.close(1, side, reset=reset)
    return wire


@unhurried
@given(st.sampled_from([*ChannelType, 42]), st.booleans(), STEPS)
def test_whatever_is_said_can_be_shown(channel: int, mini: bool, steps: list[tuple[Any, ...]]) -> None:
    wire = wire_of(channel, mini, steps)
    found = objects(wire.events, events=True)
    assert [o for o in found if "event" not in o] == objects(wire.events)
    for detail in (0, 1, 2):
        text = show(wire.events, detail=detail)
        assert all(line.isprintable() for line in text.splitlines()), text
    show(wire.events, stats=True)


@unhurried
@given(st.lists(st.tuples(SIDES, st.binary(max_size=200)), max_size=12))
def test_whatever_comes_in_the_link_phase_can_be_shown(pieces: list[tuple[Side, bytes]]) -> None:
    wire = Wire()
    wire.open(1)
    for number, (side, data) in enumerate(pieces):
        wire.data(1, side, (b"REDQ" + struct.pack("<II", 2, 2) if number == 0 else b"") + data)
    wire.close(1, None)
    assert objects(wire.events, events=True)[-1]["event"] == "connection_closed"
    assert show(wire.events).count("\n") >= 1


def test_a_long_gap_takes_no_memory_and_no_time() -> None:
    wire = Wire()
    wire.open(1)
    wire.link(1)
    for _ in range(50):
        wire.data(1, SERVER, struct.pack("<HI", 4, 2**30))
        wire.gap(1, SERVER, 2**30)
    wire.say(1, CLIENT, 3, bytes(12))
    found = objects(wire.events)
    assert [o["size"] for o in found] == [2**30] * 50 + [12]
    assert found[0]["error"] == f"{2**30} bytes of the body are not in the capture"
