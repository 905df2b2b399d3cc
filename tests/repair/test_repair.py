"""Damaged captures made whole: every packet that is whole, no byte that is not, and what was lost is told."""

import gzip
import io
import struct
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiceproxy.capture.events import Summary
from spiceproxy.capture.packets import packets_of
from spiceproxy.errors import CaptureError
from spiceproxy.repair.losses import Times
from spiceproxy.repair.repair import Repaired, repair
from tests.capture import build
from tests.capture.build import SECOND, START_NS, Captured, block, ipv4, pcap, pcapng, stamped

PACKETS = stamped(
    Captured(ipv4("192.0.2.1", "192.0.2.2", bytes([number]) * (7 * number), protocol=17))
    for number in range(30)
)
MAKERS: dict[str, Callable[[], bytes]] = {
    "pcapng": lambda: pcapng(PACKETS),
    "pcapng, big-endian": lambda: pcapng(PACKETS, order=">"),
    "pcap": lambda: pcap(PACKETS, nano=True),
    "pcap in microseconds, big-endian": lambda: pcap(PACKETS, order=">"),
    "pcap, modified": lambda: pcap(PACKETS, modified=True),
}
EACH = pytest.mark.parametrize("kind", MAKERS)


def packets(file: bytes) -> list[tuple[int, bytes]]:
    """What a reader finds, without a complaint."""
    summary = Summary()
    found = [
        (time_ns, buffer[at:end])
        for time_ns, _, buffer, at, end, *_ in packets_of(io.BytesIO(file), None, summary)
    ]
    assert summary.problems == []
    return found


def mended(file: bytes) -> tuple[bytes, Repaired]:
    out = io.BytesIO()
    result = repair(io.BytesIO(file), out)
    looked = repair(io.BytesIO(file), None)
    assert looked == result  # --check says the same
    return out.getvalue(), result


@EACH
def test_a_whole_capture_stays_what_it_is(kind: str) -> None:
    file = MAKERS[kind]()
    out, result = mended(file)
    assert out == file
    assert result.is_whole
    assert (result.packets, result.size) == (len(PACKETS), len(file))


@EACH
def test_a_capture_cut_anywhere_keeps_all_packets_before(kind: str) -> None:
    file = MAKERS[kind]()
    whole = packets(file)
    first = 24 if kind.startswith("pcap ") or kind in {"pcap", "pcap, modified"} else 28
    for size in range(first, len(file), 13):
        out, result = mended(file[:size])
        found = packets(out)
        assert found == whole[: len(found)]
        assert result.packets == len(found)
        assert result.lost_bytes + kept(out, result) == size
        if result.losses:
            (loss,) = result.losses
            assert loss.to_end
            assert loss.offset + loss.size == size
            assert loss.after_ns == (found[-1][0] if found else None)


def kept(out: bytes, result: Repaired) -> int:
    """Bytes of the copy that were in the file: all but the statistics at its end."""
    if result.format == "pcap":
        return len(out)
    order = "<" if out[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
    at, own = 0, 0
    while at < len(out):
        type_, length = struct.unpack_from(f"{order}II", out, at)
        own += 0 if type_ == 5 else length
        at += length
    return own


@EACH
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_behind_damage_packets_are_found_again_and_none_is_made_up(kind: str, data: st.DataObject) -> None:
    file = MAKERS[kind]()
    whole = packets(file)
    at = data.draw(st.integers(120, len(file) - 1))
    damage = data.draw(st.binary(max_size=40) | st.sampled_from([b"\xff" * 8, b"\x06\0\0\0" * 6, bytes(30)]))
    removed = data.draw(st.integers(0, 60))
    broken = file[:at] + damage + file[at + removed :]
    out, result = mended(broken)
    found = packets(out)
    # Damage inside a packet's bytes leaves a whole block with other bytes: nothing can tell.
    assert len(found) <= len(whole) + 1
    strangers = [each for each in found if each not in whole]
    assert len(strangers) <= 2
    before = [each for each in whole if each in found]
    assert before == sorted(before)
    touched = 4 + (removed + len(damage)) // 60
    if at < len(file) - 1500:
        assert len(before) >= len(whole) - touched
    assert result.is_whole == (not result.losses)


@EACH
def test_what_was_lost_is_told_with_its_place_and_times(kind: str) -> None:
    file = MAKERS[kind]()
    whole = packets(file)
    head = {"pcap, modified": 24, "pcapng": 28, "pcapng, big-endian": 28}.get(kind, 16)
    at = file.index(bytes([15]) * 105) - 20 - head  # IP, and what is in front of it
    out, result = mended(file[:at] + b"\xff" * 20 + file[at + 20 :])
    found = packets(out)
    assert found == whole[:15] + whole[16:]
    (loss,) = result.losses
    assert loss.offset == at
    assert (loss.after_ns, loss.before_ns) == (whole[14][0], whole[16][0])
    assert (loss.packets, loss.to_end) == (1, False)


def test_two_places_are_two_losses() -> None:
    file = MAKERS["pcapng"]()
    one, other = (file.index(bytes([number]) * (7 * number)) - 40 for number in (10, 20))
    broken = bytearray(file)
    broken[one : one + 4] = broken[other : other + 4] = b"\xff" * 4
    out, result = mended(bytes(broken))
    assert len(result.losses) == 2
    assert packets(out) == [each for number, each in enumerate(packets(file)) if number not in {10, 20}]


# What may look like a beginning ---------------------------------------------------------------------------


def nested(inner: bytes) -> tuple[bytes, list[tuple[int, bytes]]]:
    """A capture with a packet that carries a piece of a capture, and damage in the head of just that packet."""
    outer = [
        *PACKETS[:10],
        Captured(ipv4("192.0.2.1", "192.0.2.2", inner, protocol=17), PACKETS[10].time_ns),
        *PACKETS[11:],
    ]
    file = bytearray(pcapng(outer))
    at = file.index(inner) - 48
    assert file[at : at + 4] == b"\6\0\0\0"
    whole = packets(bytes(file))
    file[at + 4 : at + 8] = b"\xff" * 4
    return bytes(file), whole[:10] + whole[11:]


def test_a_capture_inside_a_packet_is_not_taken_for_the_one_around_it() -> None:
    """What is sent over a network was captured before."""
    earlier = [Captured(each.data, each.time_ns - 3600 * SECOND) for each in PACKETS[:8]]
    file, expected = nested(b"".join(build.enhanced(each) for each in earlier))
    assert packets(mended(file)[0]) == expected


def test_packets_about_interfaces_that_are_not_known_are_not_taken() -> None:
    strange = [Captured(each.data, each.time_ns, interface=7) for each in PACKETS[10:18]]
    file, expected = nested(b"".join(build.enhanced(each) for each in strange))
    assert packets(mended(file)[0]) == expected


def test_a_new_section_behind_damage_is_a_beginning() -> None:
    one, other = pcapng(PACKETS[:10]), pcapng(PACKETS[10:], order=">")
    out, result = mended(one[:-30] + b"\xff" * 10 + other)
    assert packets(out) == packets(one)[:9] + packets(other)
    assert len(result.losses) == 1


def test_the_last_block_alone_is_a_beginning_if_the_file_ends_with_it() -> None:
    file = bytearray(pcapng(PACKETS[:5]))
    second_last = file.index(bytes([3]) * 21) - 48
    file[second_last + 4 : second_last + 8] = b"\xff" * 4
    out, _ = mended(bytes(file))
    assert packets(out) == [each for number, each in enumerate(packets(pcapng(PACKETS[:5]))) if number != 3]


def test_blocks_of_other_kinds_are_copied() -> None:
    file = (
        pcapng(PACKETS[:5])
        + block("<", 0xBAD, b"\1\2\3\4")
        + block("<", 4, bytes(8))
        + block("<", 10, b"KEYS" * 4)
    )
    simple = block("<", 3, struct.pack("<I", 20) + PACKETS[0].data)
    old = block(
        "<", 2, struct.pack("<HHIIII", 0, 0, START_NS >> 32, START_NS & 0xFFFFFFFF, 20, 20) + PACKETS[0].data
    )
    out, result = mended(file + simple + old)
    assert out == file + simple + old
    assert result.packets == 7


def test_the_length_of_a_section_is_not_told_any_more() -> None:
    file = pcapng(PACKETS[:5])
    told = file[:16] + struct.pack("<q", len(file) - 28) + file[24:]
    assert mended(told[:-3])[0][16:24] == b"\xff" * 8


# The end --------------------------------------------------------------------------------------------------


def test_a_repaired_file_ends_with_statistics_of_its_interface() -> None:
    out, _ = mended(pcapng(PACKETS)[:-5])
    type_, length = struct.unpack_from("<II", out, len(out) - struct.unpack("<I", out[-4:])[0])
    assert type_ == 5
    statistics = out[-length:]
    stamps = [
        struct.pack("<II", each.time_ns >> 32, each.time_ns & 0xFFFFFFFF)
        for each in (PACKETS[0], PACKETS[28])
    ]
    assert all(stamp in statistics for stamp in stamps)
    assert struct.pack("<HHQ", 8, 8, 29) in statistics
    assert b"repaired: " in statistics


def test_statistics_that_are_there_are_not_written_twice() -> None:
    statistics = block("<", 5, struct.pack("<III", 0, 1, 2))
    out, _ = mended(pcapng(PACKETS[:5]) + statistics + b"\6\0")
    assert out.count(b"\5\0\0\0\x18\0\0\0") == 1
    assert out.endswith(statistics)


@pytest.mark.parametrize("kind", ["pcapng", "pcap"])
def test_compressed_files_are_unpacked_as_far_as_they_go(kind: str) -> None:
    file = MAKERS[kind]()
    packed = gzip.compress(file, mtime=0)
    out, result = mended(packed[: len(packed) * 2 // 3])
    assert 0 < result.packets < len(PACKETS)
    assert packets(out) == packets(file)[: result.packets]
    assert result.notes
    broken = packed[: len(packed) // 2] + b"\xff" * 50 + packed[len(packed) // 2 + 50 :]
    out, result = mended(broken)
    assert not result.is_whole
    assert packets(out)[:3] == packets(file)[:3]


@pytest.mark.parametrize(
    "file",
    [b"", b"\n", b"no capture at all", pcapng(PACKETS)[:20], pcap(PACKETS)[:20], b"\n\r\r\n" + b"\xff" * 60],
)
def test_of_what_has_no_beginning_nothing_can_be_saved(file: bytes) -> None:
    with pytest.raises(CaptureError, match="nothing can be saved"):
        repair(io.BytesIO(file), io.BytesIO())


def test_a_pcap_file_without_a_whole_packet_has_nothing_to_go_on_by() -> None:
    out, result = mended(pcap(PACKETS)[:24] + b"\xff" * 300)
    assert out == pcap([])
    assert result.packets == 0
    assert result.losses[0].to_end


def test_a_pcap_packet_whose_length_is_wrong_is_left_out() -> None:
    """A length that could be right leads astray: the packet that has it is lost, and those it covers are not."""
    file = bytearray(pcap(PACKETS, nano=True))
    at = file.index(bytes([15]) * 105) - 20 - 8
    assert struct.unpack_from("<I", file, at)[0] == 20 + 105
    struct.pack_into("<I", file, at, 20 + 105 + 250)
    out, _ = mended(bytes(file))
    assert packets(out) == [
        each for number, each in enumerate(packets(pcap(PACKETS, nano=True))) if number != 15
    ]


def test_times_that_may_follow() -> None:
    assert Times.fits(None, 0)
    assert Times.fits(START_NS, START_NS + 3600 * SECOND)
    assert Times.fits(START_NS, START_NS - SECOND)
    assert not Times.fits(START_NS, START_NS - 3600 * SECOND)
    assert not Times.fits(START_NS, START_NS + 30 * 86400 * SECOND)


def test_a_long_file_is_repaired_in_little_memory() -> None:
    """Bytes are let go as the copy goes on."""

    class Source(io.RawIOBase):
        def __init__(self) -> None:
            self._pieces = self._make()

        def _make(self) -> Iterator[bytes]:
            yield build.section() + build.interface(options=build.option("<", 9, b"\x09"))
            for number in range(400):
                yield build.enhanced(Captured(bytes(50_000), START_NS + number))
            yield b"\xff" * 3_000_000

        def read(self, size: int = -1) -> bytes:
            return next(self._pieces, b"")

    tracemalloc.start()
    result = repair(Source(), None)  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.packets == 400
    assert result.lost_bytes == 3_000_000
    assert peak < 12 * 2**20
