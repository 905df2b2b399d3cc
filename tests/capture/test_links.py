"""What may stand between the beginning of a packet and TCP."""

import struct
from collections.abc import Callable

import pytest

from dissectors.side import Side
from tests.capture.build import (
    ACK,
    LINK_MESSAGE,
    PSH,
    SYN,
    Captured,
    Talk,
    ethernet,
    hear,
    hear_packets,
    ipv4,
    ipv6,
    pcap,
    tcp,
)

C, S = Side.CLIENT, Side.SERVER


def packets(server: str = "192.0.2.2", client: str = "192.0.2.1") -> list[bytes]:
    talk = Talk(client=(client, 40000), server=(server, 5900)).greet()
    talk.say(C, 0, LINK_MESSAGE)
    return [packet.data for packet in talk.packets]


def kind(packet: bytes) -> bytes:
    return b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"


LINKS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "ethernet": (1, ethernet),
    "vlan": (1, lambda p: ethernet(p, [0x8100])),
    "qinq": (1, lambda p: ethernet(p, [0x88A8, 0x8100])),
    "padded": (1, lambda p: ethernet(p) + b"\xff" * 6),
    "raw": (101, lambda p: p),
    "raw-12": (12, lambda p: p),
    "raw-14": (14, lambda p: p),
    "cooked": (113, lambda p: bytes(14) + kind(p) + p),
    "cooked-vlan": (113, lambda p: bytes(14) + b"\x81\x00\x00\x05" + kind(p) + p),
    "cooked-2": (276, lambda p: kind(p) + bytes(18) + p),
    "cooked-2-vlan": (276, lambda p: b"\x81\x00" + bytes(18) + b"\x00\x05" + kind(p) + p),
    "null": (0, lambda p: struct.pack("<I", 2 if p[0] >> 4 == 4 else 10) + p),
    "null-big": (0, lambda p: struct.pack(">I", 2 if p[0] >> 4 == 4 else 30) + p),
    "loop": (108, lambda p: struct.pack(">I", 2 if p[0] >> 4 == 4 else 24) + p),
}


@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
@pytest.mark.parametrize("link", LINKS)
def test_every_link_type_leads_to_tcp(link: str, family: str) -> None:
    number, wrap = LINKS[link]
    plain = packets() if family == "IPv4" else packets("2001:db8::2", "2001:db8::1")
    heard = hear(pcap([Captured(wrap(packet)) for packet in plain], link=number))
    assert heard.of(1, C) == LINK_MESSAGE
    opened = heard.opened[0]
    assert (opened.client.port, opened.server.port) == (40000, 5900)
    assert opened.server.host == ("192.0.2.2" if family == "IPv4" else "2001:db8::2")
    assert heard.summary.problems == []


@pytest.mark.parametrize("number", [1, 113, 276, 0, 108])
def test_what_is_not_ip_is_passed_over(number: int) -> None:
    strange = [bytes(60), b"\xff" * 60, b"\x08\x06" * 30, b"", b"\x81\x00" * 40, b"\x02"]
    heard = hear(pcap([Captured(data) for data in strange], link=number))
    assert (heard.summary.packets, heard.summary.tcp_connections, heard.summary.problems) == (6, 0, [])


def test_an_unread_link_type_is_said_once() -> None:
    heard = hear(pcap([Captured(b"abc")] * 5, link=105))
    assert heard.summary.problems == ["packet 1: packets of link type 105 are not read"]


def test_an_ipv4_address_mapped_into_ipv6_stands_as_ipv4() -> None:
    heard = hear_packets([Captured(packet) for packet in packets("::ffff:192.0.2.9", "2001:db8::1")])
    assert heard.opened[0].server.host == "192.0.2.9"


def segment(data: bytes, seq: int, flags: int = PSH | ACK, options: bytes = b"") -> bytes:
    return tcp(40000, 5900, seq, 1, flags, data, options)


def test_options_of_ip_and_tcp_are_no_data() -> None:
    made = [
        segment(b"", 0, SYN, b"\x02\x04\x05\xb4" * 10),
        segment(LINK_MESSAGE[:10], 1, options=bytes(12)),
        segment(LINK_MESSAGE[10:], 11),
    ]
    ip_options = [bytes(40), b"", b"\x01\x01\x01\x01"]
    wrapped = [
        ipv4("192.0.2.1", "192.0.2.2", one, options=options)
        for one, options in zip(made, ip_options, strict=True)
    ]
    assert hear_packets(map(Captured, wrapped)).of(1, C) == LINK_MESSAGE


HEADERS = {
    "hop-by-hop": (0, b"\x06\x00" + bytes(6)),
    "long destination options": (60, b"\x06\x02" + bytes(22)),
    "routing, then atomic fragment": (43, b"\x2c\x00" + bytes(6) + b"\x06\x00" + bytes(6)),
    "authentication": (51, b"\x06\x01" + bytes(10)),
}


@pytest.mark.parametrize("name", HEADERS)
def test_extension_headers_of_ipv6_are_passed(name: str) -> None:
    following, extension = HEADERS[name]
    made = [segment(b"", 0, SYN), segment(LINK_MESSAGE, 1)]
    wrapped = [ipv6("2001:db8::1", "2001:db8::2", extension + one, following=following) for one in made]
    assert hear_packets(map(Captured, wrapped)).of(1, C) == LINK_MESSAGE


def test_packets_without_a_length_of_their_own_are_as_long_as_they_were_captured() -> None:
    made = [segment(b"", 0, SYN), segment(LINK_MESSAGE, 1)]
    four = [ipv4("192.0.2.1", "192.0.2.2", one, total=0) for one in made]
    assert hear_packets(map(Captured, four)).of(1, C) == LINK_MESSAGE
    six = [ipv6("2001:db8::1", "2001:db8::2", one, size=0) for one in made]
    assert hear_packets(map(Captured, six)).of(1, C) == LINK_MESSAGE
    cut = [Captured(four[0]), Captured(four[1][:50], original=len(four[1]))]
    assert hear_packets(cut).parts(1, C) == [LINK_MESSAGE[:10], len(LINK_MESSAGE) - 10]


def test_fragments_are_said_and_left_out() -> None:
    whole = segment(LINK_MESSAGE, 1)
    four = [
        ipv4("192.0.2.1", "192.0.2.2", whole[:32], fragment=0x2000),
        ipv4("192.0.2.1", "192.0.2.2", whole[32:], fragment=4),
    ]
    heads = [b"\x06\x00" + struct.pack(">HI", offset, 1) for offset in (1, 32)]
    six = [ipv6("2001:db8::1", "2001:db8::2", head + whole, following=44) for head in heads]
    heard = hear_packets(map(Captured, four + six))
    assert heard.events == []
    assert [problem.partition(": ")[2] for problem in heard.summary.problems] == [
        *["a fragment of an IPv4 packet is left out"] * 2,
        *["a fragment of an IPv6 packet is left out"] * 2,
    ]


def test_other_protocols_are_no_problem() -> None:
    made = [ipv4("192.0.2.1", "192.0.2.2", bytes(30), protocol=17, fragment=9), bytes(50), b"\x50" * 50]
    made += [ipv6("::1", "::2", bytes(30), following=next_header) for next_header in (17, 59, 58)]
    heard = hear_packets(map(Captured, made))
    assert (heard.events, heard.summary.problems) == ([], [])


@pytest.mark.parametrize("base", [packets()[3], packets("2001:db8::2", "2001:db8::1")[3]])
def test_a_packet_cut_in_its_headers_is_a_problem_and_in_its_payload_a_gap(base: bytes) -> None:
    first = packets() if base[0] == 0x45 else packets("2001:db8::2", "2001:db8::1")
    headers = len(base) - len(LINK_MESSAGE)
    for size in range(1, len(base)):
        heard = hear_packets(
            [*map(Captured, first[:3]), Captured(base[:size], original=len(base))], ports=[5900]
        )
        if size < headers:
            assert len(heard.summary.problems) == 1
            assert heard.parts(1, C) == []
        else:
            kept = LINK_MESSAGE[: size - headers]
            assert heard.parts(1, C) == ([kept] if kept else []) + [len(base) - size]


def test_impossible_headers_are_problems() -> None:
    good = ipv4("192.0.2.1", "192.0.2.2", segment(LINK_MESSAGE, 1))
    bad = [
        b"\x44" + good[1:],  # IPv4 header of 16 bytes
        good[:2] + b"\x00\x1e" + good[4:],  # total length within the TCP header
        good[:32] + b"\x40" + good[33:],  # TCP header of 16 bytes
        good[:2] + b"\x00\x30" + good[4:32] + b"\xf0" + good[33:],  # TCP header beyond the packet
        ipv6("::1", "::2", b"\x00\x00" + bytes(6) + (b"\x00\x00" + bytes(6)) * 20, following=0),
        ipv6("::1", "::2", b"\x06", following=0),
        ipv6("::1", "::2", b"\x06\xff" + bytes(6), following=0),
    ]
    heard = hear_packets(map(Captured, bad))
    assert len(heard.summary.problems) == len(bad)
    assert heard.events == []
