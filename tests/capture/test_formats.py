import gzip
import io
import itertools
import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.side import Side
from spiceproxy.capture.files import open_capture
from spiceproxy.capture.streams import Data, Gap, Opened, Summary, stream_events
from spiceproxy.errors import CaptureError, UsageError
from tests.capture.build import (
    LINK_MESSAGE,
    SECOND,
    START_NS,
    Captured,
    Talk,
    block,
    enhanced,
    hear,
    interface,
    option,
    pcap,
    pcapng,
    section,
    stamped,
)

Pack = Callable[[bytes], bytes]
C, S = Side.CLIENT, Side.SERVER


def conversation() -> list[Captured]:
    talk = Talk().greet("display:0")
    talk.say(C, 0, LINK_MESSAGE)
    talk.say(S, 0, b"REDQ and so on", ack=34)
    return stamped(talk.packets)


def file_of(*blocks: bytes, order: str = "<", options: bytes = b"") -> bytes:
    return section(order) + interface(order, options=options) + b"".join(blocks)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("nano", "modified"), [(False, False), (True, False), (False, True)])
def test_pcap_of_every_kind_is_read(order: str, nano: bool, modified: bool) -> None:
    packets = [Captured(packet.data, packet.time_ns + 1_234_567) for packet in conversation()]
    heard = hear(pcap(packets, order=order, nano=nano, modified=modified))
    assert heard.of(1, C) == LINK_MESSAGE
    assert heard.of(1, S) == b"REDQ and so on"
    assert heard.opened[0].time_ns == START_NS + (1_234_567 if nano else 1_234_000)
    assert (heard.summary.packets, heard.summary.problems) == (5, [])


@pytest.mark.parametrize("order", "<>")
def test_pcapng_in_both_byte_orders_is_read_with_the_comment_of_the_syn(order: str) -> None:
    heard = hear(pcapng(conversation(), order=order))
    assert heard.opened[0].comment == "display:0"
    assert (heard.of(1, C), heard.of(1, S)) == (LINK_MESSAGE, b"REDQ and so on")
    assert [event.packet for event in heard.events if isinstance(event, Data)] == [4, 5]


@pytest.mark.parametrize(
    ("resolution", "offset", "stamp", "time_ns"),
    [
        (None, None, 1_500_000, 1_500_000_000),
        (b"\x03", None, 1_500, 1_500_000_000),
        (b"\x09", 10, 7, 10 * SECOND + 7),
        (b"\x09", -1, 2 * SECOND, SECOND),
        (b"\x0c", None, 5_999, 5),  # picoseconds
        (b"\x00", None, 3, 3 * SECOND),
        (b"\x8a", None, 1536, 1_500_000_000),  # 2**-10 s
        (b"\xc0", None, 1 << 63, SECOND // 2),  # 2**-64 s
        (b"\x7f", None, (1 << 64) - 1, 0),
    ],
)
def test_time_stamps_of_every_resolution_and_offset_are_nanoseconds(
    resolution: bytes | None, offset: int | None, stamp: int, time_ns: int
) -> None:
    options = b"" if resolution is None else option("<", 9, resolution)
    if offset is not None:
        options += option("<", 14, struct.pack("<q", offset))
    blocks = [enhanced(packet, stamp=stamp) for packet in conversation()]
    assert hear(file_of(*blocks, options=options)).opened[0].time_ns == time_ns


def test_sections_have_their_own_byte_order_and_interfaces() -> None:
    packets = conversation()
    first = section("<") + interface("<", link=0) + interface("<", link=101, options=option("<", 9, b"\x09"))
    first += b"".join(enhanced(Captured(p.data, p.time_ns, interface=1)) for p in packets[:3])
    second = section(">") + interface(">", link=1)
    second += b"".join(
        enhanced(Captured(bytes(12) + b"\x08\0" + p.data), ">", stamp=p.time_ns // 1000) for p in packets[3:]
    )
    heard = hear(first + second)
    assert (heard.of(1, C), heard.of(1, S)) == (LINK_MESSAGE, b"REDQ and so on")
    assert heard.summary.problems == []
    assert [event.time_ns for event in heard.events if isinstance(event, Data)] == [
        packets[3].time_ns,
        packets[4].time_ns,
    ]


def test_simple_and_obsolete_packet_blocks_are_read_and_unknown_ones_skipped() -> None:
    packets = conversation()
    blocks = [enhanced(packets[0], stamp=5_000_000)]
    # names, statistics, keys, unknown, local use
    blocks += [block("<", kind, bytes(36)) for kind in (4, 5, 10, 0xBAD, 0x80000001)]
    blocks += [block("<", 3, struct.pack("<I", len(p.data)) + p.data) for p in packets[1:3]]
    for packet in packets[3:]:
        size = len(packet.data)
        blocks.append(block("<", 2, struct.pack("<HHIIII", 0, 9, 0, 6_000_000, size, size) + packet.data))
    heard = hear(file_of(*blocks))
    assert heard.of(1, C) == LINK_MESSAGE
    assert [event.time_ns for event in heard.events if isinstance(event, Opened | Data)] == [
        5 * SECOND,
        6 * SECOND,
        6 * SECOND,
    ]
    assert (heard.summary.packets, heard.summary.problems) == (5, [])


def test_a_simple_packet_is_cut_at_the_snap_length_of_its_interface() -> None:
    packets = conversation()
    blocks = [enhanced(packet, stamp=0) for packet in packets[:3]]
    cut = packets[3].data[:50]  # 10 bytes of payload
    blocks.append(block("<", 3, struct.pack("<I", len(packets[3].data)) + cut))
    heard = hear(section() + interface(snap=50) + b"".join(blocks))
    assert heard.parts(1, C) == [LINK_MESSAGE[:10], len(LINK_MESSAGE) - 10]


@pytest.mark.parametrize("make", [pcap, pcapng])
@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_packed_files_are_read_by_their_contents(make: object, pack: Pack) -> None:
    plain = pcap(conversation(), nano=True) if make is pcap else pcapng(conversation())
    packed = pack(plain)
    half = len(plain) // 2
    in_two = pack(plain[:half]) + pack(plain[half:])
    assert hear(packed).events == hear(in_two).events == hear(in_two + bytes(99)).events
    assert hear(packed).of(1, S) == b"REDQ and so on"
    whole = hear(packed).summary
    assert (whole.packets, whole.problems) == (5, [])


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_a_packed_file_that_is_cut_gives_what_is_whole_and_says_so(pack: Pack) -> None:
    body = random.Random(1).randbytes(600_000)  # several blocks of zstd
    talk = Talk().greet()
    talk.say(C, 0, LINK_MESSAGE)
    for at in range(0, len(body), 1000):
        talk.say(S, at, body[at : at + 1000])
    packed = pack(pcapng(talk.packets))
    heard = hear(packed[: len(packed) * 3 // 4])
    got = heard.of(1, S)
    assert len(got) > len(body) // 4
    assert body.startswith(got)
    assert any("end in the middle" in problem for problem in heard.summary.problems)


def test_damaged_gzip_is_one_error() -> None:
    packed = bytearray(gzip.compress(pcapng(conversation())))
    packed[-8] ^= 1  # the checksum
    with pytest.raises(CaptureError, match="gzip data are damaged"):
        hear(bytes(packed))


def test_zstd_that_wants_much_memory_is_refused() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.window_log: 27}
    packer = zstd.ZstdCompressor(options=options)
    packed = packer.compress(pcapng(conversation())) + packer.flush()
    with pytest.raises(CaptureError, match="zstd data are damaged"):
        hear(packed)


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_what_unpacks_to_very_much_takes_little_memory(pack: Pack) -> None:
    unread = section() + interface() + struct.pack("<II", 0xBAD, 64 * 2**20) + bytes(64 * 2**20 - 12)
    packed = pack(unread + struct.pack("<I", 64 * 2**20) + b"".join(map(enhanced, conversation())))
    del unread
    tracemalloc.start()
    try:
        heard = hear(packed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert heard.of(1, C) == LINK_MESSAGE
    assert peak < 4 * 2**20


GARBAGE = [
    (b"", "empty"),
    (b"ab", "no capture"),
    (b"hello, this is not a capture", "neither pcap nor pcapng"),
    (bytes(1000), "neither"),
    (pcap([])[:20], "header is cut"),
    (pcap([]) + struct.pack("<IIII", 0, 0, 0x7FFFFFFF, 0x7FFFFFFF), "2147483647 bytes"),
    (b"\x0a\x0d\x0d\x0a" + bytes(40), "byte-order magic"),
    (section() + struct.pack("<II", 6, 8) + bytes(30), "block of 8 bytes"),
    (section() + struct.pack("<II", 6, 33) + bytes(30), "block of 33 bytes"),
    (section() + struct.pack("<II", 6, 16) + bytes(30), "block of 16 bytes"),
    (section() + struct.pack("<II", 1, 0xFFFFFFFC) + bytes(30), "header of 4294967292 bytes"),
    (section() + interface()[:-4] + bytes(4), "two lengths"),
    (section() + interface() * 5000, "interfaces"),
]


@pytest.mark.parametrize(("file", "reason"), GARBAGE, ids=[reason for _, reason in GARBAGE])
def test_what_is_no_capture_is_one_error_with_its_place(file: bytes, reason: str) -> None:
    with pytest.raises(CaptureError, match=reason) as caught:
        hear(file)
    assert isinstance(caught.value, UsageError)
    assert 0 <= caught.value.offset <= len(file)
    assert f"(at byte {caught.value.offset})" in str(caught.value)


def test_what_stood_before_the_damage_is_given_and_closed() -> None:
    file = pcapng(conversation()) + struct.pack("<II", 6, 7) + bytes(8)
    events = stream_events(io.BytesIO(file))
    kinds = [type(event).__name__ for event in itertools.islice(events, 4)]
    assert kinds == ["Opened", "Data", "Data", "Closed"]
    with pytest.raises(CaptureError) as caught:
        next(events)
    assert caught.value.offset == len(file) - 16


@pytest.mark.parametrize("kind", [2, 3, 6])
@pytest.mark.parametrize("length", [0xFFFFFFFC, 0x7FFFFFFC, 2**26])
def test_a_length_from_the_file_allocates_nothing(kind: int, length: int) -> None:
    tail = struct.pack("<II", kind, length) + struct.pack("<IIIII", 0, 0, 0, length - 32, length - 32)
    tracemalloc.start()
    try:
        heard = hear(pcapng(conversation()) + tail)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert heard.of(1, C) == LINK_MESSAGE
    assert len(heard.summary.problems) == 2
    assert peak < 2**20


def test_a_packet_that_contradicts_its_block_costs_only_itself() -> None:
    packets = conversation()
    bad_interface = enhanced(Captured(packets[0].data, interface=7))
    bad_size = block("<", 6, struct.pack("<IIIII", 0, 0, 0, 5000, 5000) + bytes(40))
    bad_old = block("<", 2, struct.pack("<HHIIII", 0, 0, 0, 0, 5000, 5000) + bytes(40))
    heard = hear(file_of(bad_interface, bad_size, bad_old, *map(enhanced, packets)))
    assert heard.of(1, C) == LINK_MESSAGE
    assert [problem.split(":")[0] for problem in heard.summary.problems] == [
        "packet 1",
        "packet 2",
        "packet 3",
    ]
    assert heard.summary.packets == 8


@pytest.mark.parametrize("file", [pcap(conversation()), pcapng(conversation())], ids=["pcap", "pcapng"])
def test_every_cut_gives_what_is_whole(file: bytes) -> None:
    whole = hear(file)
    for end in range(len(file)):
        try:
            heard = hear(file[:end])
        except CaptureError:
            assert end < 60
            continue
        assert whole.of(1, C).startswith(heard.of(1, C))
        assert (
            heard.summary.packets == whole.summary.packets
            or heard.summary.problems
            or heard.summary.packets < 5
        )
        ends = sum(1 for problem in heard.summary.problems if "the file ends within" in problem)
        assert len(heard.summary.problems) == ends <= 1


BASES = [
    pcap(conversation()),
    pcapng(conversation()),
    file_of(*(enhanced(p) for p in conversation()), block("<", 3, struct.pack("<I", 40) + bytes(40))),
]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(BASES),
    st.lists(
        st.tuples(st.integers(0, 10**4), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x40])), max_size=6
    ),
)
def test_damage_anywhere_gives_no_other_exception(base: bytes, changes: list[tuple[int, int]]) -> None:
    file = bytearray(base)
    for at, value in changes:
        file[at % len(file)] = value
    try:
        heard = hear(bytes(file), ports=[5900])
    except CaptureError:
        return
    sizes = [event.size for event in heard.events if isinstance(event, Gap)]
    assert all(size > 0 for size in sizes)
    assert all(event.data for event in heard.events if isinstance(event, Data))


class _Growing(io.RawIOBase):
    """A file of which there is more each time somebody waits."""

    def __init__(self, file: bytes, step: int) -> None:
        self.file, self.step, self.there, self.at = file, step, 0, 0
        self.waits = 0

    def read(self, size: int = -1) -> bytes:
        data = self.file[self.at : min(self.there, self.at + size)]
        self.at += len(data)
        return data

    def grow(self) -> bool:
        self.waits += 1
        self.there += self.step
        return self.there < len(self.file) + self.step


@pytest.mark.parametrize("step", [1, 7, 100, 10_000])
@pytest.mark.parametrize("kind", ["pcap", "pcapng", "gzip", "zstd"])
def test_a_growing_file_is_followed_also_when_it_ends_within_a_block(kind: str, step: int) -> None:
    plain = pcapng(conversation())
    makers = {
        "pcap": pcap(conversation()),
        "pcapng": plain,
        "gzip": gzip.compress(plain),
        "zstd": zstd.compress(plain),
    }
    file = makers[kind]
    source = _Growing(file, step)
    summary = Summary()
    events = list(stream_events(source, follow=source.grow, summary=summary))  # type: ignore[arg-type]
    assert events == hear(file).events
    assert summary.problems == []
    assert source.waits > len(file) // step


def test_what_is_there_is_given_before_anybody_waits_for_more() -> None:
    file = pcapng(conversation())
    heard: list[object] = []
    heard_when_waiting = []

    def follow() -> bool:
        heard_when_waiting.append(len(heard))
        return False

    heard.extend(itertools.islice(stream_events(io.BytesIO(file), follow=follow), 3))
    assert [type(event).__name__ for event in heard] == ["Opened", "Data", "Data"]
    assert heard_when_waiting == []


def test_files_are_opened_by_name_and_a_missing_one_is_an_error_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng.gz"
    path.write_bytes(gzip.compress(pcapng(conversation())))
    with open_capture(str(path)) as source:
        assert sum(isinstance(event, Data) for event in stream_events(source)) == 2
    with pytest.raises(UsageError, match="No such file"):
        open_capture(str(tmp_path / "none.pcap"))
    with pytest.raises(UsageError, match="directory"):
        open_capture(str(tmp_path))
