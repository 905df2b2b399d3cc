"""Connections: who is who, which are SPICE, when they end."""

import io
import random
import tracemalloc
from collections.abc import Sequence

import pytest

from dissectors.side import Side
from spiceproxy.capture import tcp as tcp_module
from spiceproxy.capture.streams import Closed, Data, Gap, Opened, Summary, stream_events
from tests.capture.build import (
    ACK,
    FIN,
    LINK_MESSAGE,
    LINK_REPLY,
    RST,
    SYN,
    Captured,
    Heard,
    Talk,
    hear_packets,
    ipv4,
    pcap,
    tcp,
)

C, S = Side.CLIENT, Side.SERVER


def spice(talk: Talk | None = None) -> Talk:
    talk = (talk or Talk()).greet("main:0")
    talk.say(C, 0, LINK_MESSAGE)
    talk.say(S, 0, LINK_REPLY, ack=len(LINK_MESSAGE))
    return talk


def ends(heard: Heard) -> list[tuple[Side | None, bool]]:
    return [(event.side, event.reset) for event in heard.closed]


def test_a_connection_from_syn_to_fin() -> None:
    talk = spice()
    talk.say(C, 34, flags=FIN, ack=194)
    talk.say(S, 194, b"last", ack=35)
    talk.say(S, 198, flags=FIN, ack=35)
    talk.say(C, 35, ack=199)
    heard = hear_packets(talk.packets)
    assert [type(event).__name__ for event in heard.events] == [
        "Opened",
        "Data",
        "Data",
        "Closed",
        "Data",
        "Closed",
    ]
    assert heard.opened == [
        Opened(1, heard.opened[0].time_ns, ("192.0.2.1", 40000), ("192.0.2.2", 5900), True, "main:0")  # type: ignore[arg-type]
    ]
    assert heard.of(1, S) == LINK_REPLY + b"last"
    assert ends(heard) == [(C, False), (S, False)]
    summary = heard.summary
    assert (summary.packets, summary.tcp_connections, summary.spice_connections) == (9, 1, 1)


def test_the_end_of_the_capture_closes_what_is_open() -> None:
    assert ends(hear_packets(spice().packets)) == [(None, False)]
    talk = spice()
    talk.say(S, 194, flags=FIN, ack=34)
    assert ends(hear_packets(talk.packets)) == [(S, False), (None, False)]


@pytest.mark.parametrize("side", Side)
def test_a_reset_ends_both_directions_and_what_waited_is_given(side: Side) -> None:
    talk = spice()
    talk.say(S, 200, b"ahead", ack=34)
    at = 34 if side is C else 205
    talk.packets.append(talk.segment(side, at, ack=None, flags=RST))
    talk.say(S, 194, b"too late")
    heard = hear_packets(talk.packets)
    assert heard.parts(1, S) == [LINK_REPLY, 6, b"ahead"]
    assert heard.events[-1] == Closed(1, heard.closed[-1].time_ns, side, reset=True)


def test_a_reset_far_from_the_stream_is_not_heard() -> None:
    talk = spice()
    talk.packets.append(talk.segment(S, 2**31, ack=None, flags=RST))
    talk.say(S, 194, b"more", ack=34)
    assert hear_packets(talk.packets).of(1, S) == LINK_REPLY + b"more"


def test_every_packet_twice_is_the_same_as_once() -> None:
    talk = spice()
    talk.say(S, 194, b"x" * 500, ack=34)
    talk.say(C, 34, flags=FIN, ack=694)
    talk.say(S, 694, flags=FIN, ack=35)
    talk.say(C, 35, ack=695)
    twice = [packet for packet in talk.packets for _ in range(2)]
    once_heard, heard = hear_packets(talk.packets), hear_packets(twice)
    for side in Side:
        assert heard.parts(1, side) == once_heard.parts(1, side)
    assert ends(heard) == ends(once_heard)
    assert heard.summary.tcp_connections == 1


def test_ports_taken_again_are_a_new_connection() -> None:
    first = spice()
    second = spice(Talk(client_isn=99_000, server_isn=5))
    heard = hear_packets(first.packets + second.packets)
    assert [type(event).__name__ for event in heard.events] == ["Opened", "Data", "Data", "Closed"] * 2
    assert [opened.connection for opened in heard.opened] == [1, 2]
    assert heard.of(2, S) == LINK_REPLY
    assert heard.summary.tcp_connections == 2


def test_ports_taken_again_after_the_end_are_a_new_connection_with_the_same_numbers() -> None:
    first = spice()
    first.say(C, 34, flags=FIN, ack=194)
    first.say(S, 194, flags=FIN, ack=35)
    for following in (spice().packets, spice().packets[3:]):  # with its SYN, and without
        heard = hear_packets(first.packets + following)
        assert len(heard.opened) == 2
        assert heard.of(2, C) == LINK_MESSAGE


def test_the_former_server_may_open_the_next_connection_on_the_same_ports() -> None:
    back = Talk(client=("192.0.2.2", 5900), server=("192.0.2.1", 40000), client_isn=50, server_isn=60)
    heard = hear_packets(spice().packets + spice(back).packets)
    assert heard.opened[1].client == ("192.0.2.2", 5900)
    assert heard.of(2, C) == LINK_MESSAGE


def test_keep_alives_are_no_data() -> None:
    talk = spice()
    talk.say(C, 33, ack=194)
    talk.say(C, 33, b"\0", ack=194)
    talk.say(S, 194, ack=34)
    talk.say(C, 34, b"more", ack=194)
    assert hear_packets(talk.packets).parts(1, C) == [LINK_MESSAGE + b"more"]


@pytest.mark.parametrize("isn", [2**32 - 1, 2**32 - 2, 2**32 - 20, 2**32 - 35, 2**31 - 10, 0])
def test_sequence_numbers_wrap(isn: int) -> None:
    talk = spice(Talk(client_isn=isn, server_isn=isn))
    talk.say(C, 39, b"67890", ack=194)
    talk.say(C, 34, b"12345", ack=194)
    assert hear_packets(talk.packets).parts(1, C) == [LINK_MESSAGE + b"1234567890"]


def test_a_stream_of_more_bytes_than_there_are_numbers_goes_on() -> None:
    talk = spice()
    jump = 2**29
    for turn in range(1, 17):  # 8 GiB, nearly all of it missing and acknowledged
        talk.say(S, 194 + turn * jump, b"tick", ack=34)
        for _ in range(10):
            talk.say(C, 34, ack=194 + turn * jump + 4)
    heard = hear_packets(talk.packets)
    assert heard.parts(1, S) == [LINK_REPLY, jump, *[b"tick", jump - 4] * 15, b"tick"]


# -- which are SPICE, and who is client ------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3, 5])
@pytest.mark.parametrize("is_greeted", [True, False])
def test_the_magic_may_be_cut_over_segments(step: int, is_greeted: bool) -> None:
    talk = Talk().greet() if is_greeted else Talk()
    for at in range(0, len(LINK_MESSAGE), step):
        talk.say(C, at, LINK_MESSAGE[at : at + step])
    heard = hear_packets(talk.packets)
    assert heard.of(1, C) == LINK_MESSAGE
    assert heard.opened[0].from_start
    assert heard.opened[0].client.port == 40000


@pytest.mark.parametrize(
    ("client", "server"),
    [(b"GET / HTTP/1.1", b""), (b"", b"SSH-2.0-x"), (b"REDX", b""), (b"RED", b"220 hello"), (b"\0", b"")],
)
def test_what_is_not_spice_is_counted_and_passed_over(client: bytes, server: bytes) -> None:
    talk = Talk().greet()
    if client:
        talk.say(C, 0, client)
    if server:
        talk.say(S, 0, server, ack=len(client))
    talk.say(C, len(client), b"REDQ" + bytes(40), ack=len(server))
    heard = hear_packets(talk.packets)
    assert heard.events == []
    summary = heard.summary
    assert (summary.tcp_connections, summary.spice_connections, summary.other_connections) == (1, 0, 1)


def test_without_a_syn_the_one_who_says_redq_first_is_the_client() -> None:
    heard = hear_packets(spice().packets[3:])
    assert heard.opened[0].client.port == 40000
    assert heard.opened[0].from_start
    assert (heard.of(1, C), heard.of(1, S)) == (LINK_MESSAGE, LINK_REPLY)


def test_without_a_syn_the_server_is_not_known_only_by_its_bytes_but_by_the_answer_to_the_first() -> None:
    talk = spice()
    packets = talk.packets[3:4]
    packets.append(talk.segment(S, 100, LINK_REPLY[100:], ack=34))  # before its first part
    packets.append(talk.segment(S, 0, LINK_REPLY[:100], ack=34))
    assert hear_packets(packets).parts(1, S) == [LINK_REPLY]


def test_a_link_reply_alone_is_known_as_the_server_s() -> None:
    talk = spice()
    talk.say(C, 34, b"ticket", ack=194)
    heard = hear_packets(talk.packets[4:])
    assert heard.opened[0].client.port == 40000
    assert not heard.opened[0].from_start
    assert (heard.parts(1, C), heard.parts(1, S)) == ([b"ticket"], [LINK_REPLY])


def test_the_answer_to_a_syn_is_enough_to_know_who_is_who() -> None:
    talk = spice()
    heard = hear_packets(talk.packets[1:])
    assert heard.opened[0].client.port == 40000
    assert heard.of(1, C) == LINK_MESSAGE


def test_a_link_message_that_is_not_in_the_capture_is_a_gap_before_the_reply_that_tells() -> None:
    talk = spice()
    del talk.packets[3]
    talk.say(C, 34, b"ticket", ack=194)
    for at in range(20):
        talk.say(S, 194 + at, b"x", ack=40)
    heard = hear_packets(talk.packets)
    assert heard.parts(1, C) == [34, b"ticket"]
    assert heard.parts(1, S) == [LINK_REPLY + b"x" * 20]
    assert heard.opened[0].from_start


def test_data_in_the_syn_are_data() -> None:
    talk = Talk()
    talk.packets.append(talk.segment(C, -1, LINK_MESSAGE[:10], ack=None, flags=SYN))
    talk.packets[0] = Captured(
        ipv4("192.0.2.1", "192.0.2.2", tcp(40000, 5900, 1000, 0, SYN, LINK_MESSAGE[:10]))
    )
    talk.say(S, -1, ack=10, flags=SYN)
    talk.say(C, 10, LINK_MESSAGE[10:])
    assert hear_packets(talk.packets).parts(1, C) == [LINK_MESSAGE]


def test_a_port_that_was_asked_for_is_taken_from_the_middle() -> None:
    talk = Talk()
    talk.say(S, 5000, b"from the middle", ack=900)
    talk.say(C, 900, b"answer", ack=5015)
    assert hear_packets(talk.packets).events == []
    heard = hear_packets(talk.packets, ports=[5900])
    opened = heard.opened[0]
    assert (opened.client.port, opened.server.port, opened.from_start) == (40000, 5900, False)
    assert (heard.parts(1, S), heard.parts(1, C)) == ([b"from the middle"], [b"answer"])
    turned = hear_packets(talk.packets, ports=[40000]).opened[0]
    assert (turned.client.port, turned.server.port) == (5900, 40000)


def test_a_port_that_was_asked_for_is_taken_whatever_it_carries() -> None:
    talk = Talk().greet()
    talk.say(C, 0, b"\x16\x03\x01 TLS")
    heard = hear_packets(talk.packets, ports=[5900, 5901])
    assert heard.of(1, C) == b"\x16\x03\x01 TLS"
    assert heard.opened[0].from_start


def test_a_refused_connection_is_nothing() -> None:
    talk = Talk()
    talk.packets.append(talk.segment(C, -1, ack=None, flags=SYN))
    talk.packets.append(talk.segment(S, -8, ack=0, flags=RST))
    talk.packets.append(talk.segment(C, -1, ack=None, flags=SYN))
    heard = hear_packets(talk.packets)
    assert heard.events == []
    assert heard.summary.tcp_connections == 2


def test_a_connection_to_itself_is_left_alone() -> None:
    one = Captured(ipv4("192.0.2.1", "192.0.2.1", tcp(7, 7, 1, 1, ACK, LINK_MESSAGE)))
    syn = Captured(ipv4("192.0.2.1", "192.0.2.1", tcp(7, 7, 0, 0, SYN)))
    assert hear_packets([syn, one, one], ports=[7]).events == []


# -- what is missing -------------------------------------------------------------------------------------------


def test_missing_bytes_are_a_gap_once_they_were_acknowledged_for_some_packets() -> None:
    talk = spice()
    talk.say(S, 200, b"after", ack=34)
    for _ in range(tcp_module.PATIENCE_PACKETS + 1):
        talk.say(C, 34, ack=205)
    talk.say(S, 205, b"!", ack=34)
    heard = hear_packets(talk.packets)
    assert heard.parts(1, S) == [LINK_REPLY, 6, b"after!"]
    gap = next(event for event in heard.events if isinstance(event, Gap))
    at = [event.packet for event in heard.events if isinstance(event, Data)]
    assert at == [4, 5, 15, 16]  # the ninth packet after the one that told
    assert gap.time_ns == heard.events[heard.events.index(gap) + 1].time_ns


def test_an_acknowledgement_that_was_captured_before_what_it_acknowledges_is_no_gap() -> None:
    talk = spice()
    talk.say(C, 34, ack=300)
    talk.say(S, 200, b"x" * 100, ack=34)
    talk.say(C, 34, ack=300)
    talk.say(S, 194, b"y" * 6, ack=34)
    talk.say(S, 300, b"z", ack=34)
    assert hear_packets(talk.packets).parts(1, S) == [LINK_REPLY + b"y" * 6 + b"x" * 100 + b"z"]


def test_missing_bytes_are_not_given_up_while_nobody_acknowledges_them() -> None:
    talk = spice()
    for at in range(200, 1200):
        talk.say(S, at, b"x", ack=34)
    talk.say(S, 194, b"late!!", ack=34)
    assert hear_packets(talk.packets).parts(1, S) == [LINK_REPLY + b"late!!" + b"x" * 1000]


def test_missing_bytes_at_the_end_are_a_gap() -> None:
    talk = spice()
    talk.say(C, 34, ack=500)
    talk.say(S, 600, b"tail", ack=34)
    talk.say(S, 700, ack=34, flags=FIN)
    heard = hear_packets(talk.packets)
    assert heard.parts(1, S) == [LINK_REPLY, 406, b"tail", 96]
    assert ends(heard) == [(S, False), (None, False)]


def test_a_fin_that_is_not_in_the_capture_is_no_missing_byte() -> None:
    talk = spice()
    for _ in range(20):
        talk.say(C, 34, ack=195)
    assert hear_packets(talk.packets).parts(1, S) == [LINK_REPLY]


def test_packets_cut_by_the_snap_length_are_gaps_at_once() -> None:
    talk = spice()
    talk.say(S, 194, b"a" * 100, ack=34)
    whole = talk.packets[-1]
    talk.packets[-1] = Captured(whole.data[:60], original=len(whole.data))
    talk.say(S, 294, b"b" * 10, ack=34)
    heard = hear_packets(talk.packets)
    assert heard.parts(1, S) == [LINK_REPLY + b"a" * 20, 80, b"b" * 10]


def test_a_sequence_number_out_of_nowhere_is_a_problem() -> None:
    talk = spice()
    talk.say(S, 194 + 2**30 + 2, b"???", ack=34)
    talk.say(S, 194, b"fine", ack=34)
    heard = hear_packets(talk.packets)
    assert heard.parts(1, S) == [LINK_REPLY + b"fine"]
    assert heard.summary.problems == ["packet 6: its sequence number is far from all others"]


# -- bounds ----------------------------------------------------------------------------------------------------


def peak_bytes(packets: Sequence[Captured]) -> tuple[int, Heard]:
    file = pcap(packets)

    summary = Summary()
    tracemalloc.start()
    try:
        for _ in stream_events(io.BytesIO(file), summary=summary):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return peak, Heard([], summary)


def address(number: int) -> tuple[str, int]:
    return f"10.{number >> 12 & 255}.{number >> 4 & 255}.7", 1000 + (number & 15)


def test_ten_thousand_other_connections_cost_next_to_nothing() -> None:
    packets = []
    for number in range(10_000):
        talk = Talk(client=address(number)).greet()
        talk.say(C, 0, b"GET / HTTP/1.1\r\n\r\n")
        talk.say(S, 0, b"HTTP/1.1 200 OK\r\n\r\n" + bytes(200), ack=18)
        packets += talk.packets
    peak, heard = peak_bytes(packets)
    assert (heard.summary.tcp_connections, heard.summary.other_connections) == (10_000, 10_000)
    assert peak < 6 * 2**20


def test_connections_that_say_nothing_and_ones_that_hold_back_are_bounded() -> None:
    silent, holding = [], []
    for number in range(20_000):
        silent += Talk(client=address(number)).greet().packets[:1]
    for number in range(3_000):
        talk = Talk(client=address(number)).greet()
        talk.say(S, 0, b"REDQ" + bytes(8000))  # the client has said nothing
        talk.say(C, 50, bytes(8000))
        holding += talk.packets
    peak, heard = peak_bytes(silent)
    assert heard.summary.tcp_connections == 20_000
    assert peak < 10 * 2**20
    peak, heard = peak_bytes(holding)
    assert heard.summary.tcp_connections == 3_000
    assert peak < tcp_module.MAX_KEPT_BYTES + 8 * 2**20


def test_a_spice_connection_lives_on_among_many_others() -> None:
    talk = spice()
    packets = talk.packets.copy()
    for number in range(20_000):
        packets += Talk(client=address(number)).greet().packets[:1]
    talk.say(S, 194, b"still here", ack=34)
    assert hear_packets([*packets, talk.packets[-1]]).of(1, S) == LINK_REPLY + b"still here"


def test_what_waits_for_one_hole_is_bounded() -> None:
    talk = spice()
    chunk = bytes(50_000)
    for number in range(200):  # 10 MB after a hole that nobody fills
        talk.say(S, 200 + number * 50_000, chunk, ack=34)
    peak, _ = peak_bytes(talk.packets)
    assert peak < tcp_module.MAX_KEPT_BYTES_OF_ONE + 2 * 2**20
    parts = hear_packets(talk.packets).parts(1, S)
    assert parts == [LINK_REPLY, 6, bytes(10_000_000)]


def test_what_waits_in_all_connections_is_bounded_and_nothing_is_lost() -> None:
    talks = [spice(Talk(client=address(number))) for number in range(8)]
    packets = [packet for talk in talks for packet in talk.packets]
    for turn in range(40):
        packets += [talk.segment(S, 200 + turn * 50_000, bytes(50_000), ack=34) for talk in talks]
    peak, _ = peak_bytes(packets)
    assert peak < tcp_module.MAX_KEPT_BYTES + 4 * 2**20
    heard = hear_packets(packets)
    for connection in range(1, 9):
        assert heard.parts(connection, S) == [LINK_REPLY, 6, bytes(2_000_000)]


def test_of_too_many_spice_connections_the_silent_ones_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_module, "MAX_SPICE_CONNECTIONS", 8)
    talks = [spice(Talk(client=address(number))) for number in range(9)]
    packets = [packet for talk in talks[:8] for packet in talk.packets]
    packets.append(talks[0].segment(S, 194, b"I speak", ack=34))
    packets += talks[8].packets
    heard = hear_packets(packets)
    assert len(heard.opened) == 9
    assert [event.connection for event in heard.closed[:2]] == [2, 3]
    assert sorted(event.connection for event in heard.closed) == list(range(1, 10))
    assert "given up" in heard.summary.problems[0]


def test_packets_at_random_neither_crash_nor_grow() -> None:
    dice = random.Random(4)
    packets = []
    for _ in range(20_000):
        flags = dice.choice([ACK, ACK, ACK, SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, 0, 0x3F])
        sport, dport = dice.choice([(1, 2), (2, 1), (1, 3), (3, 1)])
        data = dice.choice([b"", b"REDQ", b"R", bytes(100), LINK_REPLY])
        seq, ack = (
            dice.choice([0, 1, 2, 5, 100, 200, 2**31, 2**32 - 1, dice.randrange(2**32)]) for _ in range(2)
        )
        packets.append(Captured(ipv4("192.0.2.1", "192.0.2.1", tcp(sport, dport, seq, ack, flags, data))))
    for ports in ((), (2,)):
        heard = hear_packets(packets, ports=ports)
        open_now: set[int] = set()
        half: dict[int, set[Side]] = {}
        for event in heard.events:
            if isinstance(event, Opened):
                open_now.add(event.connection)
                half[event.connection] = set()
                continue
            assert event.connection in open_now
            if isinstance(event, Closed):
                if event.side is None or event.reset:
                    open_now.remove(event.connection)
                    continue
                assert event.side not in half[event.connection]
                half[event.connection].add(event.side)
                if len(half[event.connection]) == 2:
                    open_now.remove(event.connection)
            else:
                assert event.side not in half[event.connection]
                assert event.size > 0 if isinstance(event, Gap) else isinstance(event, Data) and event.data
        assert not open_now
        assert len(heard.opened) == heard.summary.spice_connections > 100
