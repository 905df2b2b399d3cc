"""Messages inside messages are found and named, or refused; never more than lie in the body."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.message_ids import Msg
from dissectors.side import Side
from spiceproxy.protocol.framer import Framer, Message, Seen, Want
from spiceproxy.protocol.sublist import named_sub_messages

WAIT = struct.pack("<BBBQ", 1, 2, 0, 77)  # one channel to wait for
INVAL = struct.pack("<HBQ", 1, 1, 5)  # one resource


def _list(base: int) -> bytes:
    """As spice-server lays it out: list, then the second message, then the first; sizes from C structs."""
    second_at = base + 2 + 8
    first_at = second_at + 6 + len(INVAL)
    head = struct.pack("<HII", 2, first_at, second_at)
    return head + struct.pack("<HI", 105, 8 + 16) + INVAL + struct.pack("<HI", 5, 8 + 16) + WAIT


def _read(raw: bytes, *, mini: bool, id_: int) -> Message:
    framer = Framer(Side.SERVER, mini_header=mini, wanted={id_: Want.SEE})
    items = framer.walk(memoryview(raw))
    assert items is not None
    (message,) = [item.message for item in items if isinstance(item, Seen)]
    return message


def test_the_list_of_a_full_header_is_named_in_the_order_of_handling() -> None:
    draw = b"D" * 40
    body = draw + _list(len(draw))
    message = _read(struct.pack("<QHII", 9, 304, len(body), len(draw)) + body, mini=False, id_=304)
    subs = named_sub_messages(message, ChannelType.DISPLAY)
    assert subs[0].name == "SPICE_MSG_WAIT_FOR_CHANNELS"
    assert [sub.sub_message.type for sub in subs] == [5, 105]
    assert bytes(subs[0].sub_message.body[: len(WAIT)]) == WAIT


def test_a_list_message_under_mini_headers_is_named_the_same_way() -> None:
    body = _list(0)
    message = _read(struct.pack("<HI", Msg.LIST, len(body)) + body, mini=True, id_=Msg.LIST)
    assert [sub.sub_message.type for sub in named_sub_messages(message, ChannelType.DISPLAY)] == [5, 105]


def test_other_messages_carry_nothing() -> None:
    message = _read(struct.pack("<HI", 304, 4) + b"draw", mini=True, id_=304)
    assert named_sub_messages(message, ChannelType.DISPLAY) == []
    assert named_sub_messages(message._replace(side=Side.CLIENT, sub_list=2), ChannelType.DISPLAY) == []


@given(body=st.binary(max_size=80), sub_list=st.integers(0, 0xFFFFFFFF))
def test_no_list_leads_out_of_the_body(body: bytes, sub_list: int) -> None:
    message = Message(Side.SERVER, 304, len(body), 1, sub_list, bytes(18), body)
    try:
        subs = named_sub_messages(message, ChannelType.DISPLAY)
    except DissectionError:
        return
    assert all(0 <= sub.sub_message.offset <= len(body) - 6 for sub in subs)


def test_a_list_of_65535_messages_is_refused() -> None:
    message = Message(Side.SERVER, Msg.LIST, 6, 1, 0, bytes(6), b"\xff\xff\0\0\0\0")
    with pytest.raises(DissectionError):
        named_sub_messages(message, ChannelType.DISPLAY)
