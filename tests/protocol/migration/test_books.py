"""What a connection keeps count of."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.message_ids import Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.protocol.migration.books import AgentStream, Books, Serials, is_kept
from spiceproxy.protocol.migration.facts import Said

CLIENT, SERVER = Side.CLIENT, Side.SERVER
MAIN, DISPLAY = ChannelType.MAIN, ChannelType.DISPLAY


def said(side: Side, id_: int, body: bytes | None = b"", serial: int = 1) -> Said:
    return Said(serial, "c1", side, int(id_), len(body or b""), serial, body)


def agent_message(size: int) -> bytes:
    return struct.pack("<IIQI", 1, 4, 0, size) + bytes(size)


@given(st.permutations(range(1, 12)))
def test_serials_that_come_in_any_order_leave_no_hole(order: list[int]) -> None:
    serials = Serials(last=0)
    for serial in order:
        serials.take(said(SERVER, 101, serial=serial))
    assert serials.holes == []
    assert serials.last == 11


@given(st.sets(st.integers(1, 30), min_size=1))
def test_holes_are_what_did_not_come(came: set[int]) -> None:
    serials = Serials(last=0)
    for serial in sorted(came):
        serials.take(said(SERVER, 101, serial=serial))
    missing = {serial for hole in serials.holes for serial in range(hole.first, hole.last + 1)}
    assert missing == set(range(1, max(came))) - came


def test_a_peer_that_skips_without_end_is_remembered_up_to_a_bound() -> None:
    serials = Serials()
    for serial in (*range(0, 2000, 2), *range(1999, 0, -4)):
        serials.take(said(SERVER, 101, serial=serial))
    assert len(serials.holes) <= 64
    assert len(serials.back) <= 64


def test_a_serial_that_comes_again_fills_nothing() -> None:
    serials = Serials()
    for serial in (1, 2, 5, 2):
        serials.take(said(SERVER, 101, serial=serial))
    assert [(hole.first, hole.last) for hole in serials.holes] == [(3, 4)]
    assert len(serials.back) == 1


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.data())
def test_an_agent_message_is_whole_however_it_is_cut(sizes: list[int], data: st.DataObject) -> None:
    stream, wire = AgentStream(), b"".join(agent_message(size) for size in sizes)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)))) | {0, len(wire)})
    for start, end in itertools.pairwise(cuts):
        stream.take(wire[start:end])
    assert not stream.cut
    stream.take(agent_message(10)[:25])
    assert (stream.cut, stream.remaining) == (True, 5)


def test_of_an_agent_message_that_was_not_read_nothing_is_known() -> None:
    stream = AgentStream()
    stream.take(None)
    stream.take(agent_message(10)[:25])
    assert not stream.cut


@pytest.mark.parametrize(
    ("type_", "side", "id_", "kept"),
    [
        (DISPLAY, SERVER, Msg.SET_ACK, True),
        (DISPLAY, CLIENT, MsgC.ACK, True),
        (DISPLAY, SERVER, Main.AGENT_DATA, False),
        (MAIN, SERVER, Main.AGENT_DATA, True),
        (MAIN, CLIENT, MainC.AGENT_DATA, True),
        (MAIN, SERVER, Msg.PING, False),
    ],
)
def test_only_what_counts_is_kept(type_: int, side: Side, id_: int, *, kept: bool) -> None:
    assert is_kept(type_, side, id_) is kept


def test_an_agent_that_comes_begins_with_its_tokens_and_one_that_goes_takes_what_was_cut() -> None:
    books = Books()
    books.take(MAIN, said(SERVER, Main.INIT, struct.pack("<8I", 1, 1, 3, 2, 0, 10, 0, 0)), 0)
    books.take(MAIN, said(CLIENT, MainC.AGENT_DATA, agent_message(10)[:22]), 0)
    books.take(MAIN, said(SERVER, Main.AGENT_DATA, agent_message(4)), 0)
    books.take(MAIN, said(SERVER, Main.AGENT_TOKEN, struct.pack("<I", 3)), 0)
    assert books.balance == 12
    assert books.agent[CLIENT].cut
    books.take(MAIN, said(SERVER, Main.AGENT_DISCONNECTED), 0)
    assert not books.agent[CLIENT].cut
    books.take(MAIN, said(SERVER, Main.AGENT_CONNECTED_TOKENS, struct.pack("<I", 7)), 0)
    assert books.balance == 7


def test_what_passed_unread_makes_the_balance_unknown() -> None:
    books = Books(tokens=10)
    books.passed(CLIENT)
    assert books.balance is None
    books.take(MAIN, said(SERVER, Main.AGENT_CONNECTED), 0)
    books.take(MAIN, said(CLIENT, MainC.AGENT_DATA, agent_message(10)[:22]), 0)
    assert not books.agent[CLIENT].cut


def test_acks_count_once_the_new_window_is_answered() -> None:
    books = Books()
    books.take(DISPLAY, said(CLIENT, MsgC.ACK_SYNC), 0)
    books.take(DISPLAY, said(CLIENT, MsgC.ACK), 0)
    books.take(DISPLAY, said(SERVER, Msg.SET_ACK, struct.pack("<II", 1, 20)), 5)
    books.take(DISPLAY, said(CLIENT, MsgC.ACK), 0)
    assert books.window is not None
    assert (books.window.size, books.window.sent, books.window.acks, books.early_acks) == (20, 5, 0, 2)
    books.take(DISPLAY, said(CLIENT, MsgC.ACK_SYNC), 0)
    books.take(DISPLAY, said(CLIENT, MsgC.ACK), 0)
    assert (books.window.acks, books.early_acks) == (1, 2)


@pytest.mark.parametrize("body", [None, b"", bytes(7)])
def test_bodies_that_are_cut_or_not_known_break_nothing(body: bytes | None) -> None:
    books = Books()
    for id_ in (Msg.SET_ACK, Main.INIT, Main.AGENT_TOKEN, Main.AGENT_CONNECTED_TOKENS, Main.AGENT_DATA):
        books.take(MAIN, said(SERVER, id_, body), 0)
    assert books.window is not None
    assert books.window.size is None
