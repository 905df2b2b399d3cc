"""The ledger, step by step, where the properties do not reach: what is malformed, what is put in by hand, carried over."""

import struct

import pytest

from dissectors.channels import ChannelType
from dissectors.message_ids import Display, Inputs, Main, MainC, Msg, MsgC
from dissectors.side import Side
from spiceproxy.faults import Context
from spiceproxy.faults.counts import MAX_PUT_IN, MAX_SHIFTS, AckWindow, Serials
from spiceproxy.faults.ledger import MAX_PINGS, Carried, Ledger
from spiceproxy.protocol.framer import Message

MAIN, DISPLAY, INPUTS = ChannelType.MAIN, ChannelType.DISPLAY, ChannelType.INPUTS
S, C = Side.SERVER, Side.CLIENT


def at(
    channel_type: int, *, hop: int = 0, mini: bool = True, channel_id: int = 0, messages: int = 0
) -> Context:
    return Context(
        "s1", "c1", channel_type, channel_id, hop, mini_header=mini, messages=lambda _side: messages
    )


def said(
    side: Side, id_: int, body: bytes = b"", serial: int = 1, sub_list: int = 0, *, header: bytes = b"h"
) -> Message:
    return Message(side, id_, len(body), serial, sub_list, header, body)


def passes(ledger: Ledger, context: Context, message: Message) -> list[Message]:
    carried = ledger.carry(context, message.side, message, [message])
    assert not carried.extra
    return carried.messages


def drops(ledger: Ledger, context: Context, message: Message) -> list[Message]:
    carried = ledger.carry(context, message.side, message, [])
    assert not carried.messages
    return carried.extra


def puts_in(ledger: Ledger, context: Context, message: Message) -> Carried:
    return ledger.carry(context, message.side, None, [message])


SET_ACK = struct.pack("<II", 1, 2)
SYNC = struct.pack("<I", 1)


def test_acks_for_dropped_messages_are_sent_in_the_clients_place() -> None:
    ledger, display = Ledger(), at(DISPLAY)
    passes(ledger, display, said(S, Msg.SET_ACK, SET_ACK))
    assert drops(ledger, display, said(S, 304)) == []  # before the client has answered
    assert passes(ledger, display, said(C, MsgC.ACK)) != []  # of the window before: the server takes none
    assert [each.id for each in passes(ledger, display, said(C, MsgC.ACK_SYNC, SYNC))] == [MsgC.ACK_SYNC]
    (ack,) = drops(ledger, display, said(S, 304))
    assert (ack.side, ack.id, ack.body) == (C, MsgC.ACK, b"")


def test_acks_that_fell_due_before_the_client_answered_follow_its_answer() -> None:
    ledger, display = Ledger(), at(DISPLAY)
    passes(ledger, display, said(S, Msg.SET_ACK, SET_ACK))
    for _ in range(5):
        assert drops(ledger, display, said(S, 304)) == []
    assert [each.id for each in passes(ledger, display, said(C, MsgC.ACK_SYNC, SYNC))] == [1, 2, 2]


def test_acks_for_what_no_server_sent_are_swallowed() -> None:
    ledger, display = Ledger(), at(DISPLAY)
    passes(ledger, display, said(S, Msg.SET_ACK, SET_ACK))
    passes(ledger, display, said(C, MsgC.ACK_SYNC, SYNC))
    for _ in range(2):
        puts_in(ledger, display, said(S, 7))
    assert passes(ledger, display, said(C, MsgC.ACK)) == []
    assert [each.id for each in passes(ledger, display, said(C, MsgC.ACK))] == [MsgC.ACK]


def test_a_set_ack_that_a_fault_changed_is_translated() -> None:
    ledger, display = Ledger(), at(DISPLAY)
    original = said(S, Msg.SET_ACK, struct.pack("<II", 1, 4))
    ledger.carry(display, S, original, [said(S, Msg.SET_ACK, SET_ACK)])  # the client is told 2
    passes(ledger, display, said(C, MsgC.ACK_SYNC, SYNC))
    assert [len(passes(ledger, display, said(C, MsgC.ACK))) for _ in range(4)] == [0, 1, 0, 1]


def test_the_answer_to_a_set_ack_that_was_put_in_is_swallowed() -> None:
    ledger, display = Ledger(), at(DISPLAY)
    passes(ledger, display, said(S, Msg.SET_ACK, SET_ACK))
    puts_in(ledger, display, said(S, Msg.SET_ACK, struct.pack("<II", 9, 2)))
    assert len(passes(ledger, display, said(C, MsgC.ACK_SYNC, SYNC))) == 1
    assert passes(ledger, display, said(C, MsgC.ACK_SYNC, struct.pack("<I", 9))) == []
    assert (
        len(passes(ledger, display, said(C, MsgC.ACK_SYNC, struct.pack("<I", 8)))) == 1
    )  # of neither: not ours


@pytest.mark.parametrize("body", [b"", struct.pack("<II", 1, 0)])
def test_a_window_that_is_none_is_left_alone(body: bytes) -> None:
    ledger, display = Ledger(), at(DISPLAY)
    passes(ledger, display, said(S, Msg.SET_ACK, body))
    assert drops(ledger, display, said(S, 304)) == []
    assert len(passes(ledger, display, said(C, MsgC.ACK_SYNC, SYNC if body else bytes(4)))) == 1
    assert len(passes(ledger, display, said(C, MsgC.ACK))) == 1


def test_a_fault_about_acknowledgements_is_not_undone() -> None:
    ledger, display = Ledger(), at(DISPLAY)
    passes(ledger, display, said(S, Msg.SET_ACK, SET_ACK))
    passes(ledger, display, said(C, MsgC.ACK_SYNC, SYNC))
    ack = said(C, MsgC.ACK)
    assert drops(ledger, display, ack) == []
    twice = ledger.carry(display, C, ack, [ack, ack], counted=False)
    assert [each.id for each in twice.messages] == [MsgC.ACK, MsgC.ACK]
    dropped = ledger.carry(display, S, said(S, 304), [], counted=False)
    assert dropped == Carried([], [])


def test_set_acks_that_nobody_answers_do_not_pile_up() -> None:
    window = AckWindow()
    for generation in range(MAX_PUT_IN + 5):
        window.put_in(struct.pack("<II", generation, 1))
    assert window.ack_sync(struct.pack("<I", MAX_PUT_IN - 1)) == (False, 0)
    assert window.ack_sync(struct.pack("<I", MAX_PUT_IN)) == (True, 0)


def test_the_pong_to_a_ping_that_was_put_in_is_swallowed() -> None:
    ledger, main = Ledger(), at(MAIN)
    for number in range(MAX_PINGS + 1):
        puts_in(ledger, main, said(S, Msg.PING, struct.pack("<IQ", number, 7)))
    assert passes(ledger, main, said(C, MsgC.PONG, struct.pack("<IQ", 0, 7))) == []
    assert len(passes(ledger, main, said(C, MsgC.PONG, struct.pack("<IQ", 0, 7)))) == 1  # once
    assert (
        len(passes(ledger, main, said(C, MsgC.PONG, struct.pack("<IQ", MAX_PINGS, 7)))) == 1
    )  # not remembered


def test_tokens_come_back_for_what_was_dropped_and_not_for_what_was_put_in() -> None:
    ledger, main = Ledger(), at(MAIN)
    (token,) = drops(ledger, main, said(C, MainC.AGENT_DATA))
    assert (token.side, token.id, token.body) == (S, Main.AGENT_TOKEN, b"\1\0\0\0")
    for _ in range(3):
        assert puts_in(ledger, main, said(C, MainC.AGENT_DATA)).extra == []
    assert drops(ledger, main, said(C, MainC.AGENT_DATA)) == []  # one of the three makes up for it
    (some,) = passes(ledger, main, said(S, Main.AGENT_TOKEN, struct.pack("<I", 4)))
    assert some.body == struct.pack("<I", 2)
    (cut,) = passes(ledger, main, said(S, Main.AGENT_TOKEN, b"\4"))
    assert cut.body == b"\4"
    puts_in(ledger, main, said(C, MainC.AGENT_DATA))
    assert passes(ledger, main, said(S, Main.AGENT_TOKEN, struct.pack("<I", 1))) == []
    puts_in(ledger, main, said(C, MainC.AGENT_DATA))
    passes(ledger, main, said(S, Main.AGENT_CONNECTED_TOKENS, struct.pack("<I", 10)))
    (token,) = passes(ledger, main, said(S, Main.AGENT_TOKEN, struct.pack("<I", 1)))
    assert token.body == struct.pack("<I", 1)


def test_other_channels_and_messages_count_for_nothing() -> None:
    ledger = Ledger()
    port = at(ChannelType.PORT)
    assert drops(ledger, port, said(C, 101)) == []
    assert drops(ledger, port, said(S, 101)) == []
    assert drops(ledger, at(INPUTS), said(C, 101)) == []
    assert drops(ledger, at(MAIN), said(C, MsgC.PONG)) == []


# Serials ------------------------------------------------------------------------------------------


def serials_of(carried: list[Message]) -> list[int]:
    return [each.serial for each in carried]


def test_serials_of_full_headers_rise_by_one_whatever_is_dropped_and_put_in() -> None:
    ledger, main = Ledger(), at(MAIN, mini=False)
    first = said(S, 7, serial=1)
    assert passes(ledger, main, first) == [first]  # with its header as it came
    assert drops(ledger, main, said(S, 7, serial=2)) == []
    (third,) = passes(ledger, main, said(S, 7, serial=3))
    assert (third.serial, third.header) == (2, b"")
    assert serials_of(puts_in(ledger, main, said(S, 7, serial=0)).messages) == [3]
    fourth = said(S, 7, serial=4)
    assert passes(ledger, main, fourth) == [fourth]
    fifth = said(S, 7, serial=5)
    assert serials_of(ledger.carry(main, S, fifth, [fifth, fifth]).messages) == [5, 6]
    sixth = said(S, 7, serial=6)
    before = ledger.carry(main, S, None, [said(S, 4, serial=0)], before=sixth)
    assert serials_of(before.messages) == [7]
    assert serials_of(passes(ledger, main, sixth)) == [8]


def test_what_is_not_to_add_up_has_the_serial_of_the_message_before_it() -> None:
    ledger, main = Ledger(), at(MAIN, mini=False)
    passes(ledger, main, said(S, 7, serial=1))
    uncounted = ledger.carry(main, S, None, [said(S, 7, serial=0)], counted=False)
    assert serials_of(uncounted.messages) == [1]
    second = said(S, 7, serial=2)
    assert passes(ledger, main, second) == [second]


def test_a_serial_that_a_fault_has_chosen_stays() -> None:
    ledger, main = Ledger(), at(MAIN, mini=False)
    drops(ledger, main, said(S, 7, serial=1))
    chosen = said(S, 7, serial=77, header=b"")
    assert ledger.carry(main, S, said(S, 7, serial=2), [chosen]).messages == [chosen]


def waits(*entries: tuple[int, int, int]) -> bytes:
    return bytes([len(entries)]) + b"".join(struct.pack("<BBQ", *entry) for entry in entries)


def display_with_two_dropped() -> Ledger:
    ledger, display = Ledger(), at(DISPLAY)
    for serial in (3, 6):
        drops(ledger, display, said(S, 304, serial=serial))
    return ledger


def test_waits_are_translated_wherever_they_stand() -> None:
    ledger, other = display_with_two_dropped(), at(DISPLAY, channel_id=1)
    entries = [(DISPLAY, 0, number) for number in range(8)]
    translated = [(DISPLAY, 0, number) for number in (0, 1, 2, 2, 3, 4, 4, 5)]
    for id_ in (Msg.WAIT_FOR_CHANNELS, Display.INVAL_ALL_PIXMAPS):
        (message,) = passes(ledger, other, said(S, id_, waits(*entries)))
        assert message.body == waits(*translated)
        assert message.header == b"h"  # the header is as it was
    wait = waits((DISPLAY, 0, 7), (9, 0, 7))
    listed = struct.pack("<HII", 2, 10, 16 + len(wait))
    listed += struct.pack("<HI", 5, 999) + wait + struct.pack("<HI", 105, 0)
    (message,) = passes(ledger, other, said(S, Msg.LIST, listed))
    assert message.body == listed.replace(wait, waits((DISPLAY, 0, 5), (9, 0, 7)))
    carrying = b"draw" + struct.pack("<HI", 1, 10) + struct.pack("<HI", 106, 99) + waits((DISPLAY, 0, 7))
    (message,) = passes(ledger, other, said(S, 304, carrying, sub_list=4))
    assert message.body.endswith(waits((DISPLAY, 0, 5)))


@pytest.mark.parametrize(
    ("id_", "body"),
    [
        (Msg.WAIT_FOR_CHANNELS, b""),
        (Msg.WAIT_FOR_CHANNELS, b"\xff" + bytes(3)),
        (Msg.LIST, b"\1"),
        (Msg.LIST, struct.pack("<HI", 1, 6) + struct.pack("<HI", 5, 1)),
        (Msg.LIST, struct.pack("<HI", 1, 60)),
    ],
)
def test_waits_that_cannot_be_read_are_left_alone(id_: int, body: bytes) -> None:
    (message,) = passes(display_with_two_dropped(), at(DISPLAY, channel_id=1), said(S, id_, body))
    assert message.body == body


def test_a_message_of_another_channel_with_the_number_of_a_wait_list_is_none() -> None:
    body = waits((DISPLAY, 0, 7))
    (message,) = passes(display_with_two_dropped(), at(MAIN), said(S, Display.INVAL_ALL_PIXMAPS, body))
    assert message.body == body


def test_what_is_put_in_stands_behind_all_that_has_passed_unseen() -> None:
    ledger, other = Ledger(), at(DISPLAY, channel_id=1)
    puts_in(ledger, at(DISPLAY, messages=10), said(S, 7))
    entries = waits(*((DISPLAY, 0, number) for number in (9, 10, 11)))
    (message,) = passes(ledger, other, said(S, Msg.WAIT_FOR_CHANNELS, entries))
    assert message.body == waits(*((DISPLAY, 0, number) for number in (9, 10, 12)))


def test_who_waits_for_a_message_that_came_twice_waits_for_the_first() -> None:
    ledger, other = Ledger(), at(DISPLAY, channel_id=1)
    draw = said(S, 304, serial=5)
    ledger.carry(at(DISPLAY), S, draw, [draw, draw])
    entries = waits(*((DISPLAY, 0, number) for number in (4, 5, 6)))
    (message,) = passes(ledger, other, said(S, Msg.WAIT_FOR_CHANNELS, entries))
    assert message.body == waits(*((DISPLAY, 0, number) for number in (4, 5, 7)))


def test_no_more_places_are_remembered_than_there_is_room_for() -> None:
    serials = Serials()
    for number in range(MAX_SHIFTS + 10):
        serials.move(2 * number, -1)
    assert serials.present == -(MAX_SHIFTS + 10)
    assert serials.shift(2 * (MAX_SHIFTS + 9)) == serials.present
    assert serials.shift(2 * (MAX_SHIFTS // 2)) == -(MAX_SHIFTS // 2) - 1
    assert serials.shift(0) == -(MAX_SHIFTS // 2)  # forgotten: as the oldest that is known
    serials.move(0, -1)  # something late: none before the last place
    assert serials.shift(0) == -(MAX_SHIFTS // 2)
    assert serials.present == -(MAX_SHIFTS + 11)


# Migrations ---------------------------------------------------------------------------------------


def test_what_has_no_source_here_begins_anew() -> None:
    message = said(C, MsgC.MIGRATE_DATA, b"ICMD")
    assert passes(Ledger(), at(INPUTS, hop=1), message) == [message]
    assert passes(Ledger(), at(INPUTS), message) == [message]


def test_a_display_state_that_is_cut_is_handed_over_as_it_is() -> None:
    ledger = Ledger()
    source, target = at(DISPLAY, mini=False), at(DISPLAY, hop=1, mini=False)
    drops(ledger, source, said(S, 304, serial=1))
    for body in (b"DCMD", b"DCMD\1\0\0\0" + struct.pack("<Q", 2) + bytes(12)):
        (out,) = passes(ledger, source, said(S, Msg.MIGRATE_DATA, body, serial=2))
        (handed,) = passes(ledger, target, said(C, MsgC.MIGRATE_DATA, out.body))
        assert handed.body == body
    (changed,) = passes(
        ledger, target, said(C, MsgC.MIGRATE_DATA, bytes(30))
    )  # a fault, or the client, was there
    assert changed.body == bytes(30)


def test_a_connection_that_is_opened_again_counts_anew_and_servers_further_back_are_forgotten() -> None:
    ledger = Ledger()
    for hop in range(4):
        ledger.opened(at(INPUTS, hop=hop))
    passes(ledger, at(INPUTS, hop=3), said(C, MsgC.MIGRATE_DATA, b"ICMD"))
    assert {key[0] for key in ledger._books} == {2, 3}


def test_under_mini_headers_a_display_goes_on_counting_where_its_state_says() -> None:
    ledger = Ledger()
    source, target = at(DISPLAY), at(DISPLAY, hop=1)
    drops(ledger, source, said(S, 304, serial=90))
    state = b"DCMD\1\0\0\0" + struct.pack("<Q", 100) + bytes(72)
    passes(ledger, target, said(C, MsgC.MIGRATE_DATA, state))
    drops(ledger, target, said(S, 304, serial=2))  # its second message is number 101
    drops(ledger, target, said(S, 304, serial=4))
    entries = [(DISPLAY, 0, number) for number in (89, 90, 100, 101, 102, 103, 104)]
    (message,) = passes(
        ledger, at(DISPLAY, hop=1, channel_id=1), said(S, Msg.WAIT_FOR_CHANNELS, waits(*entries))
    )
    expected = (89, 89, 99, 99, 100, 100, 101)
    assert message.body == waits(*((DISPLAY, 0, number) for number in expected))


def test_motion_that_was_not_acknowledged_goes_along_to_the_destination() -> None:
    ledger = Ledger()
    source, target = at(INPUTS), at(INPUTS, hop=1)
    for _ in range(3):
        assert drops(ledger, source, said(C, 111)) == []
    passes(ledger, target, said(C, MsgC.MIGRATE_DATA, b"ICMD"))
    (ack,) = drops(ledger, target, said(C, 112))
    assert (ack.side, ack.id) == (S, Inputs.MOUSE_MOTION_ACK)
    assert [len(passes(ledger, target, said(S, Inputs.MOUSE_MOTION_ACK))) for _ in range(2)] == [1, 1]
