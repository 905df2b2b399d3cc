import struct

import pytest

from spiceproxy.recording import pcapng
from tests.recording.packets import options, pcapng_blocks


def test_a_section_header_says_who_wrote_the_file_on_what() -> None:
    data = pcapng.section_header(hardware="x86_64", operating_system="Linux 6", application="spiceproxy 1.0")
    [(kind, body)] = pcapng_blocks(data)
    assert kind == 0x0A0D0D0A
    assert struct.unpack_from("<IHHq", body) == (0x1A2B3C4D, 1, 0, -1)
    assert options(body[16:]) == {2: b"x86_64", 3: b"Linux 6", 4: b"spiceproxy 1.0"}


def test_the_interface_is_raw_ip_in_nanoseconds_and_never_cuts_packets() -> None:
    [(kind, body)] = pcapng_blocks(pcapng.interface_description(name="spiceproxy", description="made up"))
    assert kind == 1
    assert struct.unpack_from("<HHI", body) == (101, 0, 0)
    assert options(body[8:]) == {2: b"spiceproxy", 3: b"made up", 9: b"\x09"}


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("comment", [None, "", "a", "ab", "abc", "abcd", "größer"])
def test_a_packet_of_any_length_is_padded_and_keeps_its_time_and_comment(
    size: int, comment: str | None
) -> None:
    out = bytearray(b"\x06\0\0\0\x0c\0\0\0\x0c\0\0\0")  # something before it
    time_ns = (3 << 32) + 5
    pcapng.append_packet(out, time_ns, b"H" * 40, b"P" * size, comment)
    _, (kind, body) = pcapng_blocks(bytes(out))
    assert kind == 6
    assert struct.unpack_from("<IIIII", body) == (0, 3, 5, 40 + size, 40 + size)
    assert body[20 : 60 + size] == b"H" * 40 + b"P" * size
    rest = body[60 + size + -size % 4 :]
    assert options(rest) == ({} if comment is None else {1: comment.encode()})


def test_a_long_comment_is_cut_between_characters() -> None:
    out = bytearray()
    pcapng.append_packet(out, 0, b"", b"", "a" + "ü" * pcapng.MAX_COMMENT_BYTES)
    [(_, body)] = pcapng_blocks(bytes(out))
    comment = options(body[20:])[1]
    assert comment.decode() == "a" + "ü" * ((pcapng.MAX_COMMENT_BYTES - 1) // 2)


def test_a_comment_that_is_no_unicode_is_written_all_the_same() -> None:
    out = bytearray()
    pcapng.append_packet(out, 0, b"", b"", "host \udcff")
    [(_, body)] = pcapng_blocks(bytes(out))
    assert options(body[20:])[1] == b"host ?"


def test_walking_blocks_stops_before_one_that_is_not_whole() -> None:
    out = bytearray(pcapng.interface_description(name="n", description="d"))
    first = len(out)
    pcapng.append_packet(out, 1, b"header", b"payload", None)
    second = len(out) - first
    pcapng.append_packet(out, 2, b"header", b"payload", None)
    for cut in range(len(out) - second, len(out)):
        assert list(pcapng.blocks(out[:cut])) == [(0, first), (first, second)]
    assert pcapng.packet_at(out, 0) == b""
    assert pcapng.packet_at(out, first) == b"headerpayload"
