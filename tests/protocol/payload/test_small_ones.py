"""WebDAV frames, smartcard messages, and channels with nothing inside."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.side import Side
from dissectors.smartcard_channel import VscMessageType
from spiceproxy.protocol.payload import Payloads
from tests.dissectors.bodies import unhurried
from tests.protocol.payload.wire import (
    CLIENT,
    DATA,
    PORT_EVENT,
    PORT_INIT,
    SERVER,
    chunks,
    errors,
    feed,
    frame,
    names,
)

FRAMES = frame(1, b"PROPFIND / HTTP/1.1\r\n") + frame(-3, b"") + frame(1, bytes(65535))
OPENED, CLOSED, BREAK = b"\0", b"\1", b"\2"


def opened() -> Payloads:
    payloads = Payloads(ChannelType.WEBDAV)
    assert payloads.message(SERVER, PORT_INIT, bytes(9)) == []
    return payloads


def vsc(type_: int, data: bytes, *, length: int | None = None) -> bytes:
    return struct.pack("<III", type_, 0, len(data) if length is None else length) + data


@unhurried
@given(st.lists(st.integers(0, 40000), max_size=10), st.sampled_from(list(Side)))
def test_the_same_frames_come_out_however_the_stream_is_cut(sizes: list[int], side: Side) -> None:
    inners = feed(opened(), side, DATA, chunks(FRAMES, sizes))
    assert inners == opened().message(side, DATA, FRAMES)
    assert [inner.fields["header"] for inner in inners] == [
        {"client": 1, "size": 21},
        {"client": -3, "size": 0},
        {"client": 1, "size": 65535},
    ]
    assert b"".join(inner.fields["data"] for inner in inners) == b"PROPFIND / HTTP/1.1\r\n" + bytes(65535)
    assert {(inner.protocol, inner.name, inner.error, inner.bulk) for inner in inners} == {
        ("webdav", "webdav_frame", None, frozenset({"data"}))
    }


def test_frames_that_nobody_saw_begin_are_not_guessed_at() -> None:
    payloads = Payloads(ChannelType.WEBDAV)
    for side in Side:
        (lost,) = feed(payloads, side, DATA, [FRAMES, FRAMES])
        assert lost.error == "the stream is joined in the middle: no PORT_INIT was seen"


def test_a_frame_begun_at_the_source_ends_at_the_destination_which_says_port_init_again() -> None:
    source = opened()
    assert source.message(CLIENT, DATA, FRAMES[:5]) == []
    destination = source.moved()
    assert destination.message(SERVER, PORT_INIT, bytes(9)) == []
    assert len(destination.message(CLIENT, DATA, FRAMES[5:])) == 3


def test_a_port_that_closes_cuts_off_what_the_guest_said_and_one_that_opens_starts_anew() -> None:
    payloads = opened()
    payloads.message(SERVER, DATA, FRAMES[:15])
    payloads.message(CLIENT, DATA, FRAMES[:15])
    (cut,) = payloads.message(SERVER, PORT_EVENT, CLOSED)
    assert (cut.name, cut.error) == ("webdav_frame", "cut off by PORT_EVENT after 5 of 21 bytes")
    assert names(payloads.message(CLIENT, DATA, FRAMES[15:31])) == ["webdav_frame"]
    payloads.message(CLIENT, DATA, FRAMES[:4])
    assert errors(payloads.message(SERVER, PORT_EVENT, OPENED)) == ["cut off by PORT_EVENT inside a header"]
    assert names(payloads.message(CLIENT, DATA, FRAMES[:31])) == ["webdav_frame"]


@pytest.mark.parametrize(
    ("side", "id_", "body"), [(SERVER, PORT_EVENT, BREAK), (SERVER, PORT_EVENT, b""), (CLIENT, 201, OPENED)]
)
def test_other_events_leave_the_streams_alone(side: Side, id_: int, body: bytes) -> None:
    payloads = opened()
    payloads.message(CLIENT, DATA, FRAMES[:15])
    assert payloads.message(side, id_, body) == []
    assert names(payloads.message(CLIENT, DATA, FRAMES[15:31])) == ["webdav_frame"]


def test_a_smartcard_message_comes_out_of_the_message_it_is_in() -> None:
    (inner,) = Payloads(ChannelType.SMARTCARD).message(CLIENT, 101, vsc(7, b"\0\xa4\4\0"))
    assert inner == (
        "vscard",
        "VSC_APDU",
        {"header": {"type": VscMessageType.APDU, "reader_id": 0, "length": 4}, "data": b"\0\xa4\4\0"},
        None,
        4,
        b"",
        frozenset({"data"}),
    )


@pytest.mark.parametrize(
    ("body", "name", "error"),
    [
        (vsc(2, bytes(4)), "VSC_Error", None),
        (vsc(2, bytes(3)), "VSC_Error", "VSC_Error: code: "),
        (vsc(12, b"abc"), "unknown_12", None),
        (vsc(9, b""), "VSC_FlushComplete", None),
    ],
)
def test_a_smartcard_message_that_does_not_fit_says_so(body: bytes, name: str, error: str | None) -> None:
    (inner,) = Payloads(ChannelType.SMARTCARD).message(SERVER, 101, body)
    assert inner.name == name
    assert inner.error is None if error is None else (inner.error or "").startswith(error)


def test_a_smartcard_message_that_is_not_there_is_none() -> None:
    payloads = Payloads(ChannelType.SMARTCARD)
    assert payloads.message(SERVER, 101, vsc(7, b"ab", length=3)) == []
    assert payloads.message(SERVER, 4, vsc(7, b"ab")) == []


@pytest.mark.parametrize("channel_type", [ChannelType.PORT, ChannelType.DISPLAY, ChannelType.INPUTS, 77])
def test_a_channel_with_nothing_inside_has_nothing(channel_type: int) -> None:
    payloads = Payloads(channel_type)
    for side in Side:
        for id_ in range(1, 210):
            assert payloads.message(side, id_, FRAMES[:40]) == []


@unhurried
@given(
    st.sampled_from([ChannelType.WEBDAV, ChannelType.SMARTCARD]),
    st.lists(
        st.tuples(st.sampled_from(list(Side)), st.sampled_from([101, 102, 201, 202]), st.binary(max_size=60)),
        max_size=20,
    ),
)
def test_any_messages_give_inner_messages_and_no_exception(
    channel_type: int, messages: list[tuple[Side, int, bytes]]
) -> None:
    payloads = Payloads(channel_type)
    for side, id_, body in messages:
        for inner in payloads.message(side, id_, body):
            assert inner.error is None or "\n" not in inner.error
            inner.plain()
