"""What stands before a message, and messages inside messages."""

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.fields import read, write
from dissectors.headers import DataHeader, MiniDataHeader, SubMessage, sub_messages
from dissectors.registry import build, dissect
from dissectors.side import Side
from tests.dissectors.bodies import unhurried

LIST, WAIT_FOR_CHANNELS, INVAL_LIST = 8, 5, 105


def sub(type_: int, size: int, payload: bytes) -> bytes:
    return struct.pack("<HI", type_, size) + payload


def a_list(*offsets: int) -> bytes:
    return struct.pack(f"<H{len(offsets)}I", len(offsets), *offsets)


# What spice-server 0.15.1 sends (dcc-send.cpp, marshal_sub_msg_inval_list_wait): one wait entry, two resources. Its sizes
# are those of C structs, 8 + 16 a piece, where the wire has 1 + 10 and 2 + 9 a piece.
WAIT = sub(WAIT_FOR_CHANNELS, 24, bytes.fromhex("01 02 01 2b00000000000000"))
INVAL = sub(INVAL_LIST, 40, bytes.fromhex("0200 01 0100000000000000 01 0200000000000000"))
# In the array the wait comes first, in the bytes it comes last.
REAL = a_list(10 + len(INVAL), 10) + INVAL + WAIT


def test_headers_have_the_fields_of_the_protocol() -> None:
    full = bytes.fromhex("2b00000000000000 0400 0c000000 99000000")
    assert DataHeader.sizeof() == len(full) == 18
    found = read(DataHeader, full)[0]
    assert found == {"serial": 43, "type": 4, "size": 12, "sub_list": 0x99}
    assert write(DataHeader, found) == full
    mini = bytes.fromhex("0400 0c000000")
    assert MiniDataHeader.sizeof() == len(mini) == 6
    assert read(MiniDataHeader, mini)[0] == {"type": 4, "size": 12}
    assert write(MiniDataHeader, {"type": 4, "size": 12}) == mini


def test_sub_messages_come_in_the_order_of_the_list_with_the_sizes_of_the_wire() -> None:
    wait, inval = sub_messages(REAL, 0)
    assert (wait.type, wait.size, wait.offset) == (WAIT_FOR_CHANNELS, 24, 10 + len(INVAL))
    assert wait.body == WAIT[6:]  # `size` says 24, but the carrier ends before
    assert (inval.type, inval.size, inval.offset) == (INVAL_LIST, 40, 10)
    assert inval.body == (INVAL + WAIT)[6:46]  # `size` says too much: what is left over is not its own


def test_a_sub_message_is_dissected_by_its_content() -> None:
    found = dissect(ChannelType.DISPLAY, Side.SERVER, WAIT_FOR_CHANNELS, sub_messages(REAL, 0)[0].body)
    assert found.fields == {
        "wait_count": 1,
        "wait_list": [{"channel_type": ChannelType.DISPLAY, "channel_id": 1, "message_serial": 43}],
    }
    assert found.trailing == b""


def test_a_list_may_stand_anywhere_in_a_body() -> None:
    body = b"draw!" + sub(5, 1, b"\0") + a_list(5)
    assert sub_messages(body, 12) == [SubMessage(5, 1, 5, memoryview(b"\0"))]


def test_a_list_message_keeps_every_byte() -> None:
    found = dissect(ChannelType.DISPLAY, Side.SERVER, LIST, REAL)
    assert found.name == "SPICE_MSG_LIST"
    assert found.fields == {"size": 2, "sub_messages": [10 + len(INVAL), 10], "data": INVAL + WAIT}
    assert build(ChannelType.DISPLAY, Side.SERVER, LIST, found.fields) == REAL


@pytest.mark.parametrize("cut", range(len(REAL)))
def test_a_list_message_cut_anywhere_is_an_error_or_keeps_every_byte(cut: int) -> None:
    try:
        found = dissect(ChannelType.DISPLAY, Side.SERVER, LIST, REAL[:cut])
    except DissectionError:
        assert cut < 10 + len(INVAL) + 6  # up to the last header a pointer leads nowhere
    else:
        assert build(ChannelType.DISPLAY, Side.SERVER, LIST, found.fields) == REAL[:cut]


@pytest.mark.parametrize(
    ("body", "offset", "message"),
    [
        (b"", 0, "list at 0 of a body of 0"),
        (b"abc", 3, "list at 3 of a body of 3"),
        (b"abc", -1, "list at -1 of a body of 3"),
        (b"abc", 0xFFFFFFFF, "list at 4294967295 of a body of 3"),
        (b"abc", 2, "stream read less"),
        (a_list(0)[:-1], 0, "size is 1, at 4 bytes each, but only 3 bytes are left"),
        (b"\xff\xff", 0, "size is 65535, at 4 bytes each, but only 0 bytes are left"),
        (a_list(1), 0, "sub-message at 1 of a body of 6"),
        (a_list(0xFFFFFFFF) + bytes(60), 0, "sub-message at 4294967295 of a body of 66"),
        (a_list(*[0] * 65), 0, "size is 65; more than 64 are not decoded"),
    ],
)
def test_a_list_that_leads_nowhere_is_an_error(body: bytes, offset: int, message: str) -> None:
    with pytest.raises(DissectionError, match=message):
        sub_messages(body, offset)


def test_no_sub_message_is_a_list_too() -> None:
    assert sub_messages(a_list(), 0) == []


def test_many_names_for_the_same_bytes_do_not_multiply_them() -> None:
    body = a_list(*[258] * 64) + sub(1, 0xFFFFFFFF, bytes(2**20))
    tracemalloc.start()
    try:
        assert len(sub_messages(body, 0)) == 64
        assert tracemalloc.get_traced_memory()[1] < 2**17
    finally:
        tracemalloc.stop()


@unhurried
@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_bytes_are_sub_messages_inside_the_body_or_an_error(body: bytes, offset: int) -> None:
    try:
        found = sub_messages(body, offset)
    except DissectionError:
        return
    for each in found:
        start = each.offset + 6
        assert each.body == body[start : start + each.size]
        assert struct.unpack_from("<HI", body, each.offset) == (each.type, each.size)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_sub_message_does_not_hold_on_to_the_callers_buffer(kind: type) -> None:
    buffer = bytearray(REAL)
    found = sub_messages(kind(buffer), 0)
    del buffer[:]  # BufferError, if a view of it were out
    assert found[0].body == WAIT[6:]
