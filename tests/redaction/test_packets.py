"""Packets written anew: payload from the streams alone, headers as they were, checksums that say nothing."""

import io
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dissectors.side import Side
from spiceproxy.capture.events import Summary
from spiceproxy.capture.packets import packets_of
from spiceproxy.capture.pcapng import comment
from spiceproxy.recording import pcapng as recording
from spiceproxy.recording.conversation import Conversation
from spiceproxy.recording.flow import word_sum
from tests.capture import build
from tests.capture.build import ACK, SYN, Captured, Talk, ethernet, ipv4, ipv6, pcap, pcapng, stamped, tcp
from tests.redaction.world import KEYS, inputs, redacted

SECRET = b"the secret of the packet"
CLIENT, SERVER = Side.CLIENT, Side.SERVER


def packets(file: bytes) -> list[tuple[int, bytes, str | None, int, int]]:
    """Time, bytes, comment, bytes that were not captured, and link type of each packet."""
    return [
        (
            time_ns,
            buffer[at:end],
            comment(buffer[end + (at - end & 3) : stop], order) if stop > end else None,
            missing,
            link,
        )
        for time_ns, link, buffer, at, end, missing, stop, order in packets_of(
            io.BytesIO(file), None, Summary()
        )
    ]


def talk(**ends: Any) -> Talk:
    """A connection with keys."""
    made = Talk(**ends).greet("inputs:0 hop 0")
    at = {CLIENT: 0, SERVER: 0}
    for side, data in inputs():
        made.say(side, at[side], data, ack=at[SERVER if side is CLIENT else CLIENT])
        at[side] += len(data)
    return made


def key_bytes(file: bytes) -> bytes:
    return b"".join(data for _, data, *_ in packets(file))


@pytest.mark.parametrize("kind", ["pcap", "pcapng", "big-endian"])
def test_captures_of_other_programs_are_read(kind: str) -> None:
    made = stamped(talk().packets)
    file = {
        "pcap": lambda: pcap(made), "pcapng": lambda: pcapng(made), "big-endian": lambda: pcapng(made, order=">"),
    }[kind]()  # fmt: skip
    copy, _ = redacted(file)
    assert [len(data) for _, data, *_ in packets(copy)] == [len(each.data) for each in made]
    assert bytes(KEYS) not in key_bytes(copy)
    assert bytes(KEYS) in key_bytes(file)


@pytest.mark.parametrize("tags", [(), (0x8100,), (0x88A8, 0x8100)])
def test_ethernet_and_its_tags_stay_and_what_is_behind_the_packet_does_not(tags: tuple[int, ...]) -> None:
    made = [replace(each, data=ethernet(each.data, tags) + SECRET) for each in stamped(talk().packets)]
    copy, outcome = redacted(pcapng(made, link=1))
    for (_, data, _, _, link), before in zip(packets(copy), made, strict=True):
        assert link == 1
        assert len(data) == len(before.data)
        assert SECRET not in data
        assert data[: 14 + 4 * len(tags)] == before.data[: 14 + 4 * len(tags)]
    assert "unread" in outcome.account.kinds


def test_ipv6_is_read_and_its_options_hold_nothing_afterwards() -> None:
    made = []
    for each in talk(client=("2001:db8::9", 40000), server=("2001:db8::1", 5900)).packets:
        options = b"\x06\x02" + b"\x1e\x12" + SECRET[:18]
        made.append(Captured(each.data[:6] + b"\x3c" + each.data[7:40] + options + b"\0\0" + each.data[40:]))
        size = int.from_bytes(made[-1].data[4:6]) + 24
        made[-1] = Captured(made[-1].data[:4] + struct.pack(">H", size) + made[-1].data[6:])
    copy, outcome = redacted(pcapng(stamped(made)))
    assert outcome.summary.spice_connections == 1
    assert SECRET[:18] not in copy
    assert bytes(KEYS) not in copy


def test_options_of_ipv4_are_emptied_and_the_checksum_of_its_header_fits() -> None:
    made = talk()
    segment = made.packets[3].data[20:]
    made.packets[3] = Captured(ipv4("192.0.2.1", "192.0.2.2", segment, options=b"\x44\x14" + SECRET[:18]))
    copy, outcome = redacted(pcapng(stamped(made.packets)))
    data = packets(copy)[3][1]
    assert outcome.summary.spice_connections == 1
    assert data[20:40] == b"\x44\x14" + bytes(18)
    assert SECRET[:18] not in copy


def test_tcp_options_that_describe_no_connection_are_emptied() -> None:
    md5, stamps = b"\x13\x12" + SECRET[:16], b"\x08\x0a" + bytes(range(8))
    made = talk()
    first = made.packets[3].data
    segment = tcp(40000, 5900, 1001, 7_000_001, ACK, first[40:], options=md5 + stamps)
    made.packets[3] = Captured(ipv4("192.0.2.1", "192.0.2.2", segment))
    copy, outcome = redacted(pcapng(stamped(made.packets)))
    data = packets(copy)[3][1]
    assert outcome.summary.spice_connections == 1
    assert data[40:58] == b"\x13\x12" + bytes(16)
    assert data[58:68] == stamps


def test_other_protocols_and_connections_are_left_out_unless_asked_for() -> None:
    http = Talk(client=("192.0.2.7", 50000), server=("192.0.2.2", 80)).greet()
    http.say(CLIENT, 0, b"GET /" + SECRET)
    udp = Captured(ipv4("192.0.2.7", "192.0.2.2", SECRET, protocol=17))
    file = pcapng(stamped([*http.packets, udp, *talk().packets]))
    copy, outcome = redacted(file)
    assert SECRET not in copy
    assert outcome.account.dropped == len(http.packets) + 1
    kept, outcome = redacted(file, keep_others=True)
    assert kept.count(SECRET) == 2
    assert outcome.account.dropped == 0


def test_a_connection_without_its_beginning_is_all_zero() -> None:
    middle = Talk(client=("192.0.2.7", 50000), server=("192.0.2.2", 5900))
    middle.say(CLIENT, 500, SECRET)
    file = pcapng(stamped([*middle.packets, *talk().packets]))
    for options in ({}, {"ports": (5900,)}):
        copy, _ = redacted(file, **options)
        assert SECRET not in copy
        assert len(packets(copy)[0][1]) == 40 + len(SECRET)
        assert packets(copy)[0][1][40:] == bytes(len(SECRET))
    assert redacted(file)[1].account.unread_packets == 1


def test_fragments_and_packets_that_cannot_be_read_are_zero_behind_their_headers() -> None:
    segment = tcp(40000, 5900, 1, 1, ACK, SECRET)
    first = Captured(ipv4("192.0.2.1", "192.0.2.2", segment, fragment=0x2000))
    second = Captured(ipv4("192.0.2.1", "192.0.2.2", SECRET, fragment=0x0005))
    sixth = Captured(
        ipv6("2001:db8::9", "2001:db8::1", b"\x06\0" + struct.pack(">HI", 0x29, 7) + SECRET, following=44)
    )
    cut = Captured(segment and ipv4("192.0.2.1", "192.0.2.2", segment)[:32])
    file = pcapng(stamped([*talk().packets, first, second, sixth, cut]))
    copy, outcome = redacted(file)
    assert SECRET not in copy
    assert outcome.account.unread_packets == 4
    assert len(packets(copy)) == len(packets(file))
    assert packets(copy)[-4][1][:20] == first.data[:20]
    again = Summary()
    for _ in packets_of(io.BytesIO(copy), None, again):
        pass
    assert redacted(copy)[1].summary.problems == outcome.summary.problems  # the reader says the same of it


def test_a_link_type_that_nobody_reads_is_all_zero() -> None:
    file = (
        build.section() + build.interface(options=build.option("<", 9, b"\x09")) + build.interface(link=147)
    )
    made = [*stamped(talk().packets), Captured(SECRET, interface=1)]
    copy, outcome = redacted(file + b"".join(map(build.enhanced, made)))
    assert packets(copy)[-1][1] == bytes(len(SECRET))
    assert packets(copy)[-1][4] == 147
    assert outcome.account.unread_packets == 1


def test_a_packet_that_was_cut_by_the_sniffer_stays_cut() -> None:
    made = talk().packets
    made[-1] = Captured(made[-1].data[:-3], original=len(made[-1].data))
    copy, _ = redacted(pcapng(stamped(made)))
    assert packets(copy)[-1][3] == 3
    assert len(packets(copy)[-1][1]) == len(made[-1].data)


def test_of_comments_only_what_the_recorder_writes_stays() -> None:
    made = talk().packets
    told = "SPICE_MSG_MAIN_MIGRATE_BEGIN rewritten by spiceproxy; the server sent host kvm2 port 5900 sport 65535"
    made[1] = replace(made[1], comment=told)
    made[2] = replace(made[2], comment=f"{told}; {SECRET.decode()}")
    file = pcapng(stamped(made))
    copy, outcome = redacted(file)
    assert [told for _, _, told, *_ in packets(copy)[:3]] == ["inputs:0 hop 0", told, None]
    assert outcome.account.comments == 1
    assert SECRET in redacted(file, keep_comments=True)[0]
    assert b"kvm2" not in redacted(file, addresses=True)[0]


def test_addresses_have_stand_ins_in_all_headers() -> None:
    made = [
        replace(each, data=ethernet(each.data).replace(bytes(12), b"\2maker\4maker", 1))
        for each in stamped(talk().packets)
    ]
    copy, outcome = redacted(pcapng(made, link=1), addresses=True)
    assert b"maker" not in copy
    assert bytes([192, 0, 2]) not in key_bytes(copy)
    assert outcome.summary.spice_connections == redacted(copy)[1].summary.spice_connections == 1


def test_a_port_that_is_used_again_belongs_to_the_connection_of_its_time() -> None:
    one, other = talk(), talk()
    other.client_isn += 70_000
    again = Talk(client_isn=90_000, server_isn=500)
    again.greet()
    at = {CLIENT: 0, SERVER: 0}
    for side, data in inputs():
        again.say(side, at[side], data, ack=at[SERVER if side is CLIENT else CLIENT])
        at[side] += len(data)
    file = pcapng(stamped([*one.packets, *again.packets]))
    copy, outcome = redacted(file)
    assert outcome.summary.spice_connections == 2
    assert bytes(KEYS) not in copy
    half = len(packets(copy)) // 2
    bodies = [data[40:] for _, data, *_ in packets(copy)]
    assert bodies[:half] == bodies[half:]


# Checksums ------------------------------------------------------------------------------------------------


class Sink:
    """Packets of the recorder, whose checksums are right."""

    ended = False

    def __init__(self) -> None:
        self.file = bytearray(recording.section_header(application="test"))
        self.file += recording.interface_description(name="test", description="")

    def lose(self, size: int) -> None:
        raise AssertionError(size)

    def packet(self, time_ns: int, header: bytes, payload: Any, comment: str | None) -> None:
        recording.append_packet(self.file, time_ns, header, payload, comment)


def recorded(host: str = "192.0.2.") -> bytes:
    sink = Sink()
    made = Conversation(sink, (f"{host}1", 40000), (f"{host}2", 5900), client_isn=5, server_isn=2**32 - 100)
    made.open(build.START_NS)
    for number, (side, data) in enumerate(inputs()):
        made.data(side, build.START_NS + number, data, ends=[len(data)])
    made.close(None, build.START_NS + 1000)
    return bytes(sink.file)


def is_right(packet: bytes) -> bool:
    if packet[0] >> 4 == 4:
        addresses, ip = packet[12:20], 20
        if word_sum(packet[:20]) % 65535:
            return False
    else:
        addresses, ip = packet[8:40], 40
    return (word_sum(addresses) + 6 + len(packet) - ip + word_sum(packet[ip:])) % 65535 == 0


@pytest.mark.parametrize("host", ["192.0.2.", "2001:db8::"])
@pytest.mark.parametrize("addresses", [False, True])
def test_checksums_that_were_right_are_right(host: str, addresses: bool) -> None:
    copy, _ = redacted(recorded(host), addresses=addresses)
    assert all(is_right(data) for _, data, *_ in packets(copy))
    assert bytes(KEYS) not in copy


@given(st.integers(1, 0xFFFF))
def test_a_wrong_checksum_is_wrong_and_says_nothing_of_what_was_there(told: int) -> None:
    """Two captures that differ in one key, with checksums that differ as much: the copies are the same."""
    copies = []
    for key in (0x1E, 0x30):
        made = talk()
        data = bytearray(made.packets[7].data)
        assert struct.unpack_from("<HI", data, 40) == (101, 4)
        data[46] = key
        made.packets[7] = Captured(bytes(data))
        made.packets[7] = Captured(
            bytes(data[:36]) + struct.pack(">H", told ^ key << 3 or 1) + bytes(data[38:])
        )
        was_right = is_right(made.packets[7].data)
        copy, _ = redacted(pcapng(stamped(made.packets)))
        after = packets(copy)[7][1]
        pseudo = (word_sum(after[12:20]) + 6 + len(after) - 20) % 65535
        if not was_right and int.from_bytes(made.packets[7].data[36:38]) % 65535 != pseudo:
            copies.append(after)
            assert (word_sum(after[12:20]) + 6 + len(after) - 20 + word_sum(after[20:])) % 65535
    assert len(set(copies)) <= 1


def test_a_checksum_that_the_network_card_was_to_fill_in_stays() -> None:
    made = talk()
    data = made.packets[7].data
    pseudo = (word_sum(data[12:20]) + 6 + len(data) - 20) % 65535
    made.packets[7] = Captured(data[:36] + struct.pack(">H", pseudo) + data[38:])
    assert packets(redacted(pcapng(stamped(made.packets)))[0])[7][1][36:38] == struct.pack(">H", pseudo)


def test_no_checksum_stays_over_bytes_that_were_not_captured() -> None:
    made = talk()
    data = made.packets[7].data
    made.packets[7] = Captured(data[:36] + b"\x12\x34" + data[38:-2], original=len(data))
    assert packets(redacted(pcapng(stamped(made.packets)))[0])[7][1][36:38] == bytes(2)


def test_syn_is_still_syn() -> None:
    copy, _ = redacted(recorded())
    assert packets(copy)[0][1][33] == SYN
