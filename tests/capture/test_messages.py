"""From stream events to messages: link phase, framing, gaps and ends."""

import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.link import build_link_error
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.capture import messages
from spiceproxy.capture.messages import CapturedMessage, Happening, read_messages
from spiceproxy.protocol.framer import MAX_BODY_BYTES
from tests.capture.wire import CLIENT, SERVER, START_NS, Wire, cut
from tests.protocol.links import PLAYBOOKS, side_of
from tests.protocol.streams import unhurried

PING = struct.pack("<IQ", 1, 2)


def read(wire: Wire) -> list[CapturedMessage | Happening]:
    return list(read_messages(wire.events))


def told(wire: Wire) -> list[tuple[Any, ...]]:
    """Messages and what else happened, in short."""
    return [
        (item.connection.id, item.message.side, item.message.id, item.message.body, item.error)
        if isinstance(item, CapturedMessage)
        else (item.event, item.fields.get("from"))
        for item in read(wire)
    ]


def linked(*, mini: bool = True, channel: int = ChannelType.MAIN) -> Wire:
    wire = Wire()
    wire.open(1)
    wire.link(1, mini=mini, channel=channel)
    return wire


LINKED: list[tuple[Any, ...]] = [("connection_opened", None), ("channel_linked", None)]
CLOSED = ("connection_closed", None)


@pytest.mark.parametrize("mini", [True, False], ids=["mini", "full"])
def test_messages_are_told_with_where_they_passed(mini: bool) -> None:
    wire = linked(mini=mini)
    wire.init(1, 77)
    wire.open(2)
    wire.link(2, channel=ChannelType.DISPLAY, channel_id=3, connection_id=77, mini=mini)
    wire.say(2, SERVER, Msg.PING, PING)
    wire.say(2, CLIENT, MsgC.PONG, PING)
    found = [item for item in read(wire) if isinstance(item, CapturedMessage)]
    assert [(m.number, m.message.side, m.message.id, m.message.size, m.packet) for m in found] == [
        (1, SERVER, Main.INIT, 32, 5), (2, SERVER, Msg.PING, 12, 10), (3, CLIENT, MsgC.PONG, 12, 11),
    ]  # fmt: skip
    connection = found[2].connection
    assert (connection.id, connection.session, connection.channel) == ("c2", "s1", "display:3")
    assert (connection.leg, connection.hop) == ("source", 0)
    assert found[0].time_ns == START_NS + 6 * 10**6
    assert found[0].message.serial == 1


def records(events: list[Any]) -> list[Any]:
    """What must not depend on how the streams were cut."""
    return [
        (item.connection.id, item.time_ns, item.message, item.error)
        if isinstance(item, CapturedMessage)
        else (item.connection.id, item.time_ns, item.event, item.fields)
        for item in read_messages(events)
    ]


@unhurried
@given(
    st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 400), st.binary(max_size=60)), max_size=8),
    st.lists(st.integers(1, 400), max_size=20),
    st.booleans(),
)
def test_any_cutting_of_the_streams_gives_the_same(
    said: list[tuple[Side, int, bytes]], cuts: list[int], mini: bool
) -> None:
    wire = linked(mini=mini)
    for side, id_, body in said:
        wire.say(1, side, id_, body)
    wire.close(1, CLIENT)
    wire.close(1, SERVER)
    assert records(list(cut(wire.events, cuts))) == records(wire.events)


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_every_link_phase_ends_as_it_should(name: str) -> None:
    playbook, wire = PLAYBOOKS[name], Wire()
    wire.open(1)
    for phase, data in playbook.steps:
        wire.data(1, side_of(phase), data)
    events = [item.event for item in read(wire) if isinstance(item, Happening)]
    expected = {"data": "channel_linked", "opaque": "connection_opaque", "refused": "link_refused"}
    assert events == ["connection_opened", expected[playbook.ends.value]]


def test_messages_right_behind_the_link_result_are_read() -> None:
    wire = linked()
    *_, last = wire.events
    wire.events[-1] = last._replace(data=last.data + wire.raw(1, SERVER, Msg.PING, PING))  # type: ignore[union-attr, call-arg]
    assert told(wire) == [*LINKED, ("c1", SERVER, Msg.PING, PING, None)]


def test_a_refused_link_names_the_error() -> None:
    wire = Wire()
    wire.open(1)
    wire.link(1, result=7)
    wire.data(1, SERVER, b"more")
    refused = read(wire)[-1]
    assert isinstance(refused, Happening)
    assert (refused.event, refused.fields["error"], refused.fields["code"]) == (
        "link_refused", "SPICE_LINK_ERR_PERMISSION_DENIED", 7,
    )  # fmt: skip


def test_an_error_reply_is_a_refusal() -> None:
    wire = Wire()
    wire.open(1)
    wire.link(1)
    wire.events[2:] = [wire.events[2]._replace(data=build_link_error(5))]  # type: ignore[call-arg]
    assert told(wire)[1:] == [("link_refused", None)]


def test_what_is_no_spice_is_a_failed_link() -> None:
    wire = Wire()
    wire.open(1)
    wire.data(1, CLIENT, b"GET / HTTP/1.0\r\n\r\n")
    wire.data(1, CLIENT, b"more")
    failed = read(wire)[-1]
    assert isinstance(failed, Happening)
    assert (failed.event, failed.fields["by"]) == ("link_failed", "client")
    assert "not SPICE" in failed.fields["reason"]


def test_a_security_layer_is_said_once() -> None:
    wire = Wire()
    wire.open(1)
    for phase, data in PLAYBOOKS["SASL, then a security layer"].steps:
        wire.data(1, side_of(phase), data)
    wire.data(1, SERVER, b"opaque")
    wire.data(1, CLIENT, b"opaque")
    wire.close(1, None)
    assert told(wire) == [("connection_opened", None), ("connection_opaque", None), CLOSED]


def test_the_middle_of_a_connection_is_not_guessed_at() -> None:
    wire = Wire()
    wire.open(1, from_start=False)
    wire.data(1, SERVER, struct.pack("<HI", Msg.PING, 12) + PING)
    wire.gap(1, SERVER, 100)
    wire.close(1, None)
    found = read(wire)
    assert told(wire) == [("connection_opened", None), ("link_missing", None), CLOSED]
    assert "cannot be known" in found[1].fields["reason"]  # type: ignore[union-attr]
    assert found[2].fields["bytes_from_server"] == 118  # type: ignore[union-attr]


# Gaps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mini", [True, False], ids=["mini", "full"])
def test_a_gap_inside_a_body_costs_that_message_only(mini: bool) -> None:
    wire = linked(mini=mini)
    raw = wire.raw(1, SERVER, Msg.PING, PING + bytes(100))
    wire.data(1, SERVER, raw[:-90])
    wire.gap(1, SERVER, 50)
    wire.data(1, SERVER, raw[-40:])
    wire.say(1, SERVER, Msg.PING, PING)
    assert told(wire) == [
        *LINKED,
        ("gap", "server"),
        ("c1", SERVER, Msg.PING, PING + bytes(10), "50 bytes of the body are not in the capture"),
        ("c1", SERVER, Msg.PING, PING, None),
    ]


def test_a_gap_up_to_the_end_of_a_body_ends_the_message() -> None:
    wire = linked()
    wire.data(1, SERVER, wire.raw(1, SERVER, Msg.PING, PING)[:-1])
    wire.gap(1, SERVER, 1)
    wire.say(1, SERVER, Msg.PING, PING)
    assert told(wire) == [
        *LINKED,
        ("gap", "server"),
        ("c1", SERVER, Msg.PING, PING[:-1], "1 byte of the body are not in the capture"),
        ("c1", SERVER, Msg.PING, PING, None),
    ]


@pytest.mark.parametrize("mini", [True, False], ids=["mini", "full"])
@pytest.mark.parametrize("garbage", [0, 1, 7, 1000])
def test_behind_a_lost_header_a_chain_of_four_messages_is_found(mini: bool, garbage: int) -> None:
    wire = linked(mini=mini)
    wire.gap(1, SERVER, 30)
    wire.data(1, SERVER, bytes(garbage))
    for _ in range(4):
        wire.say(1, SERVER, Msg.PING, PING)
    wire.say(1, SERVER, Msg.SET_ACK, bytes(8))
    wire.say(1, CLIENT, MsgC.PONG, PING)
    assert told(wire) == [
        *LINKED,
        ("gap", "server"),
        ("framing_lost", "server"),
        ("framing_found", "server"),
        *[("c1", SERVER, Msg.PING, PING, None)] * 4,
        ("c1", SERVER, Msg.SET_ACK, bytes(8), None),
        ("c1", CLIENT, MsgC.PONG, PING, None),
    ]
    found = [item for item in read(wire) if isinstance(item, Happening) and item.event == "framing_found"]
    assert found[0].fields["lost"] == garbage


def test_three_messages_are_not_enough_to_go_on() -> None:
    wire = linked()
    wire.gap(1, SERVER, 30)
    for _ in range(3):
        wire.say(1, SERVER, Msg.PING, PING)
    wire.data(1, SERVER, b"\xff" * 100)
    wire.close(1, None)
    assert told(wire) == [
        *LINKED, ("gap", "server"), ("framing_lost", "server"), ("stream_unread", "server"), CLOSED,
    ]  # fmt: skip


def test_headers_whose_bodies_do_not_decode_are_no_chain() -> None:
    wire = linked()
    wire.gap(1, SERVER, 30)
    for _ in range(8):
        wire.say(1, SERVER, Msg.PING, b"no ping")
    assert told(wire)[-1] == ("framing_lost", "server")


def test_framing_is_found_wherever_the_pieces_are_cut() -> None:
    wire = linked(channel=ChannelType.INPUTS)
    wire.gap(1, CLIENT, 30)
    stream = b"\x00\x65\x00" + b"".join(wire.raw(1, CLIENT, 101, struct.pack("<I", n)) for n in range(1, 7))
    for at in range(len(stream)):
        wire.data(1, CLIENT, stream[at : at + 1])
    bodies = [entry[3] for entry in told(wire) if entry[0] == "c1"]
    assert bodies == [struct.pack("<I", n) for n in range(1, 7)]


def test_a_gap_in_the_link_phase_leaves_the_connection_unread() -> None:
    wire = Wire()
    wire.open(1)
    wire.link(1)
    del wire.events[2:]
    wire.gap(1, SERVER, 194)
    wire.data(1, SERVER, bytes(4))
    wire.say(1, SERVER, Msg.PING, PING)
    assert told(wire) == [("connection_opened", None), ("gap", "server"), ("link_failed", None)]


def test_a_size_that_nobody_sends_loses_the_framing_and_says_so() -> None:
    wire = linked()
    wire.data(1, SERVER, struct.pack("<HI", Msg.PING, MAX_BODY_BYTES + 1))
    for _ in range(5):
        wire.say(1, SERVER, Msg.PING, PING)
    assert told(wire)[2:5] == [
        ("framing_lost", "server"), ("framing_found", "server"), ("c1", SERVER, Msg.PING, PING, None),
    ]  # fmt: skip


def test_a_body_that_is_too_long_to_be_kept_has_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MAX_BODY_BYTES", 8)
    wire = linked()
    wire.say(1, SERVER, Msg.PING, PING)
    assert told(wire)[-1] == ("c1", SERVER, Msg.PING, PING[:8], "only the first 8 bytes of the body are read")


# Ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "reason"),
    [((SERVER, False), "closed"), ((SERVER, True), "reset"), ((None, False), "the capture ends")],
)
def test_a_message_that_is_cut_off_is_shown_with_what_is_missing(
    end: tuple[Side | None, bool], reason: str
) -> None:
    wire = linked()
    wire.data(1, SERVER, wire.raw(1, SERVER, Msg.PING, PING)[:-5])
    wire.close(1, end[0], reset=end[1])
    assert told(wire)[2] == (
        "c1",
        SERVER,
        Msg.PING,
        PING[:-5],
        f"{reason} before the last 5 bytes of the body",
    )


def test_half_a_header_at_the_end_is_said() -> None:
    wire = linked()
    wire.data(1, CLIENT, b"\3")
    wire.close(1, None)
    assert told(wire) == [*LINKED, ("stream_cut", "client"), CLOSED]


def test_a_closed_connection_says_who_began_and_what_passed() -> None:
    wire = linked()
    wire.say(1, SERVER, Msg.PING, PING)
    wire.close(1, CLIENT)
    wire.say(1, SERVER, Msg.PING, PING)  # half-closed: it may still speak
    wire.close(1, SERVER)
    last = read(wire)[-1]
    assert isinstance(last, Happening)
    assert last.event == "connection_closed"
    assert {key: last.fields[key] for key in ("by", "reason", "messages_from_client", "messages_from_server")} == {
        "by": "client", "reason": "closed", "messages_from_client": 0, "messages_from_server": 2,
    }  # fmt: skip


@pytest.mark.parametrize("side", [CLIENT, SERVER, None])
def test_a_connection_that_closes_in_its_link_phase_has_failed(side: Side | None) -> None:
    wire = Wire()
    wire.open(1)
    wire.link(1)
    del wire.events[2:]
    wire.close(1, side)
    if side is not None:
        wire.close(1, side.other)
    assert [entry for entry in told(wire) if entry[0] != "connection_opened"] == [
        ("link_failed", None),
        CLOSED,
    ]


def test_events_of_connections_that_are_not_known_mean_nothing() -> None:
    wire = linked()
    wire.data(9, SERVER, b"x")
    wire.gap(9, SERVER, 1)
    wire.close(9, None)
    wire.close(1, None)
    wire.close(1, None)
    assert told(wire) == [*LINKED, CLOSED]


def test_memory_does_not_grow_with_the_capture() -> None:
    def endless(count: int) -> Any:
        wire = Wire()
        for number in range(1, count):
            wire.events.clear()
            wire.open(1)
            wire.link(1)
            wire.init(1, number)
            wire.say(1, CLIENT, MainC.ATTACH_CHANNELS)
            wire.close(1, None)
            yield from wire.events

    def peak(count: int) -> int:
        tracemalloc.start()
        for _ in read_messages(endless(count)):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(700) < peak(350) + 100_000
