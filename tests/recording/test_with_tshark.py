"""The judges of a recording are the programs that users open it with."""

import itertools
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from dissectors.side import Side
from spiceproxy.errors import RecordingError
from spiceproxy.recording import pcapng
from spiceproxy.recording.conversation import Conversation
from spiceproxy.recording.flow import MAX_SEGMENT_BYTES
from spiceproxy.recording.recorder import open_recorder
from tests.programs import require_programs
from tests.recording.test_writer import largest_file
from tests.recording.tshark import assert_flawless, fields, run, streams

pytestmark = pytest.mark.lab

CLIENT, SERVER = ("127.0.0.1", 40000), ("127.0.0.1", 5910)
HOSTS = [("127.0.0.1", "127.0.0.1"), ("::1", "2001:db8::1"), ("192.0.2.7", "fe80::1")]


@pytest.mark.parametrize("hosts", HOSTS, ids=["IPv4", "IPv6", "mixed"])
async def test_a_busy_conversation_has_no_flaw(tmp_path: Path, hosts: tuple[str, str]) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path) as recorder:
        conversation = recorder.conversation((hosts[0], 40000), (hosts[1], 5910), comment="display:0")
        dice = random.Random(1)
        sent: dict[Side, bytes] = dict.fromkeys(Side, b"")
        for turn in range(300):
            side = Side.CLIENT if dice.random() < 0.2 else Side.SERVER
            data = dice.randbytes(dice.choice([1, 2, 30, 1400, 65_000, 200_001]))
            sent[side] += data
            comment = f"turn {turn}" if turn % 100 == 0 else None
            conversation.data(side, time.time_ns(), data, ends=[len(data)], comment=comment)
            await recorder.checkpoint()
        conversation.close(Side.SERVER, time.time_ns())
        conversation.data(Side.CLIENT, time.time_ns(), b"bye", ends=[3])
        sent[Side.CLIENT] += b"bye"
        conversation.close(Side.CLIENT, time.time_ns())
    assert_flawless(path)
    assert streams(path, 0) == (sent[Side.CLIENT], sent[Side.SERVER])
    comments = [comment for (comment,) in fields(path, "frame.comment", only="frame.comment")]
    assert comments[:2] == ["display:0", "turn 0"]
    assert set(comments) == {"display:0", "turn 0", "turn 100", "turn 200"}
    completeness = fields(path, "tcp.completeness")
    assert completeness[-1] == ("31",)  # SYN, SYN-ACK, ACK, data and FIN were all seen


async def test_addresses_are_the_real_ones_and_mixed_families_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path) as recorder:
        for client, server in HOSTS:
            recorder.conversation((client, 40000), (server, 5910))
    v4 = fields(path, "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport", only="tcp.flags == 2 && ip")
    v6 = fields(path, "ipv6.src", "tcp.srcport", "ipv6.dst", "tcp.dstport", only="tcp.flags == 2 && ipv6")
    assert v4 == [("127.0.0.1", "40000", "127.0.0.1", "5910")]
    assert v6 == [
        ("::1", "40000", "2001:db8::1", "5910"),
        ("::ffff:192.0.2.7", "40000", "fe80::1", "5910"),
    ]


async def test_time_stamps_keep_their_nanoseconds(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path) as recorder:
        conversation = recorder.conversation(CLIENT, SERVER, time_ns=1_700_000_000_000_000_001)
        conversation.data(Side.CLIENT, 1_700_000_000_123_456_789, b"x", ends=[1])
    times = [time for (time,) in fields(path, "frame.time_epoch")]
    assert times == ["1700000000.000000001"] * 3 + ["1700000000.123456789"]


async def test_the_file_says_who_made_it(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path):
        pass
    report = run("capinfos", str(path))
    assert "Capture application: spiceproxy " in report
    assert "Name = spiceproxy" in report


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_follow_stream_gives_back_what_went_in_however_it_was_cut(data: st.DataObject) -> None:
    require_programs("tshark")
    sizes = data.draw(st.lists(st.sampled_from([1, 4, 18, 300, 65_494, 65_495, 65_496, 140_000]), min_size=1))
    stream = random.Random(len(sizes)).randbytes(sum(sizes))
    ends = list(itertools.accumulate(sizes))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=6)) | {0, len(stream)})
    answer = data.draw(st.binary(max_size=40))

    async def record(path: Path) -> None:
        async with open_recorder(path) as recorder:
            conversation = recorder.conversation(CLIENT, SERVER)
            for start, stop in itertools.pairwise(cuts):
                inside = [end - start for end in ends if start < end <= stop]
                conversation.data(Side.SERVER, 7, stream[start:stop], ends=inside)
                conversation.data(Side.CLIENT, 7, answer, ends=[len(answer)])
            conversation.close(None, 8)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "r.pcapng")
        trio.run(record, path)
        assert streams(path, 0) == (answer * (len(cuts) - 1), stream)
        lengths = [int(n) for (n,) in fields(path, "tcp.len", only="tcp.srcport == 5910 && tcp.len > 0")]
        assert_flawless(path)
    expected: list[int] = []
    for size in sizes:
        expected += [MAX_SEGMENT_BYTES] * ((size - 1) // MAX_SEGMENT_BYTES)
        expected.append((size - 1) % MAX_SEGMENT_BYTES + 1)
    assert lengths == expected


def test_a_sequence_number_that_wraps_is_followed(tmp_path: Path) -> None:
    class File:
        ended = False

        def lose(self, size: int) -> None:
            raise AssertionError

        def packet(
            self, time_ns: int, header: bytes, payload: bytes | bytearray | memoryview, comment: str | None
        ) -> None:
            pcapng.append_packet(out, time_ns, header, payload, comment)

    out = bytearray(pcapng.section_header(hardware="", operating_system="", application=""))
    out += pcapng.interface_description(name="", description="")
    conversation = Conversation(File(), CLIENT, SERVER, client_isn=2**32 - 5, server_isn=2**32 - 1_000_000)
    conversation.open(1)
    stream = random.Random(2).randbytes(40 * 60_001)
    for at in range(0, len(stream), 60_001):
        conversation.data(Side.SERVER, 2, stream[at : at + 60_001], ends=[60_001])
        conversation.data(Side.CLIENT, 2, b"x", ends=[1])
    conversation.close(None, 3)
    path = tmp_path / "r.pcapng"
    path.write_bytes(out)
    assert_flawless(path)
    assert streams(path, 0) == (b"x" * 40, stream)


async def test_connections_with_the_same_addresses_stay_apart(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path) as recorder:
        for number in range(3):  # one after the other, ended in different ways
            conversation = recorder.conversation(CLIENT, SERVER)
            conversation.data(Side.CLIENT, time.time_ns(), b"client %d" % number, ends=[8])
            data = bytes([number]) * 500_000
            conversation.data(Side.SERVER, time.time_ns(), data, ends=[500_000])
            conversation.close(Side.CLIENT, time.time_ns(), reset=number == 1)
            conversation.close(None, time.time_ns())
        first, second = recorder.conversation(CLIENT, SERVER), recorder.conversation(CLIENT, SERVER)
        for _ in range(2):  # at the same time
            first.data(Side.CLIENT, time.time_ns(), b"first", ends=[5])
            second.data(Side.CLIENT, time.time_ns(), b"second", ends=[6])
    # "A new tcp session is started with the same ports as an earlier session in this trace": so it is.
    assert_flawless(path, reused_ports=3)
    expected = [(b"client %d" % number, bytes([number]) * 500_000) for number in range(3)]
    expected += [(b"firstfirst", b""), (b"secondsecond", b"")]
    assert [streams(path, number) for number in range(5)] == expected


def mini(message: int, body: bytes) -> bytes:
    return struct.pack("<HI", message, len(body)) + body


LINK_MESS = b"REDQ" + struct.pack("<III", 2, 2, 26) + struct.pack("<IBBIIIII", 0, 1, 0, 1, 1, 18, 0x0D, 0x0F)
LINK_REPLY = (
    b"REDQ"
    + struct.pack("<III", 2, 2, 186)
    + struct.pack("<I162sIIIII", 0, b"\x30" * 162, 1, 1, 178, 0x0B, 0x0F)
)
SET_ACK, PING = mini(3, struct.pack("<II", 1, 20)), mini(4, struct.pack("<IQ", 7, 123456))
ACK_SYNC, PONG = mini(1, struct.pack("<I", 1)), mini(3, struct.pack("<IQ", 7, 123456))
NET_TEST = mini(4, struct.pack("<IQ", 2, 123456) + bytes(256_000))


async def test_tshark_names_every_message_and_stays_in_sync(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path) as recorder:
        conversation = recorder.conversation(CLIENT, SERVER)

        def units(side: Side, *blocks: bytes) -> None:
            ends = list(itertools.accumulate(map(len, blocks)))
            conversation.data(side, time.time_ns(), b"".join(blocks), ends=ends)

        units(Side.CLIENT, LINK_MESS)
        units(Side.SERVER, LINK_REPLY)
        units(Side.CLIENT, struct.pack("<I", 1), bytes(128))
        units(Side.SERVER, bytes(4), SET_ACK, PING, NET_TEST, PING)
        units(Side.CLIENT, ACK_SYNC, PONG, PONG)
        # A message that stops in the middle of its header is in the file before it goes on.
        conversation.data(Side.SERVER, time.time_ns(), PING[:3], ends=[])
        await trio.sleep(0.5)
        units(Side.CLIENT, PONG)
        conversation.data(Side.SERVER, time.time_ns(), PING[3:] + SET_ACK, ends=[15, 15 + len(SET_ACK)])
        units(Side.CLIENT, ACK_SYNC)
        conversation.close(None, time.time_ns())
    assert_flawless(path)
    rows = fields(path, "tcp.len", "_ws.col.Info", only="tcp.len > 0", decode_as="tcp.port==5910,spice")
    segment = "[TCP segment of a reassembled PDU]"
    named = [(int(size), "segment" if segment in info else info) for size, info in rows]
    assert named == [
        (42, "Client link message"),
        (202, "Server link message"),
        (4, "Client authentication method selection"),
        (128, "Client ticket"),
        (4, "Server ticket"),
        (14, "Server SET_ACK"),
        (18, "Server PING"),
        *[(MAX_SEGMENT_BYTES, "segment")] * 3,
        (len(NET_TEST) - 3 * MAX_SEGMENT_BYTES, "Server PING"),
        (18, "Server PING"),
        (10, "Client ACK_SYNC"),
        (18, "Client PONG"),
        (18, "Client PONG"),
        (3, "segment"),
        (18, "Client PONG"),
        (15, "Server PING"),
        (14, "Server SET_ACK"),
        (10, "Client ACK_SYNC"),
    ]


async def test_migrate_data_costs_no_sync_where_tshark_takes_segment_by_segment(tmp_path: Path) -> None:
    # tshark 4.0 takes the body of MIGRATE_DATA for a header and asks for thousands of bytes more. Told not to put
    # segments together, it begins anew with each, and each of ours begins with a message.
    path = tmp_path / "r.pcapng"
    migrate_data = b"MNMD" + struct.pack("<I", 1) + bytes(57)
    async with open_recorder(path) as recorder:
        conversation = recorder.conversation(CLIENT, SERVER)
        for side, unit in (
            (Side.CLIENT, LINK_MESS),
            (Side.SERVER, LINK_REPLY),
            (Side.CLIENT, struct.pack("<I", 1)),
            (Side.CLIENT, bytes(128)),
            (Side.SERVER, bytes(4)),
            (Side.CLIENT, mini(5, migrate_data)),
            (Side.CLIENT, PONG),
            (Side.SERVER, mini(2, migrate_data)),
            (Side.SERVER, PING),
        ):
            conversation.data(side, time.time_ns(), unit, ends=[len(unit)])
    rows = fields(
        path,
        "_ws.col.Info",
        only="tcp.len > 0",
        decode_as="tcp.port==5910,spice",
        preferences=["tcp.desegment_tcp_streams:FALSE"],
    )
    expected = ["Client MIGRATE_DATA", "Client PONG", "Server MIGRATE_DATA", "Server PING"]
    assert [info for (info,) in rows[5:]] == expected


async def test_after_a_full_disk_the_file_is_flawless(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    with largest_file(1_000_001):
        async with open_recorder(path) as recorder:
            conversation = recorder.conversation(CLIENT, SERVER)
            while recorder.error is None:
                conversation.data(Side.SERVER, time.time_ns(), bytes(700), ends=[700])
                await trio.lowlevel.checkpoint()
            with pytest.raises(RecordingError):
                await recorder.checkpoint()
    assert_flawless(path)
    client, server = streams(path, 0)
    assert client == b""
    assert 900_000 < len(server) < 1_000_001
    assert len(server) % 700 == 0


SENDER = """
import sys, time, trio
from dissectors.side import Side
from spiceproxy.recording.recorder import open_recorder

async def main():
    async with open_recorder(sys.argv[1]) as recorder:
        busy = recorder.conversation(("127.0.0.1", 1), ("127.0.0.1", 2))
        quiet = recorder.conversation(("127.0.0.1", 3), ("127.0.0.1", 4))
        print("recording", flush=True)
        while True:
            for size in (20, 3000, 100_000):
                busy.data(Side.SERVER, time.time_ns(), bytes(size), ends=[size])
            quiet.data(Side.CLIENT, time.time_ns(), b"x", ends=[1])
            await recorder.checkpoint()
            await trio.sleep(0.005)

trio.run(main)
"""


def test_after_sigkill_all_but_the_last_half_second_is_there(tmp_path: Path) -> None:
    require_programs("tshark")
    path = tmp_path / "r.pcapng"
    with subprocess.Popen([sys.executable, "-c", SENDER, str(path)], stdout=subprocess.PIPE) as sender:
        assert sender.stdout is not None
        try:
            assert sender.stdout.readline() == b"recording\n"
            time.sleep(1.3)
        finally:
            killed_at = time.time()
            sender.send_signal(signal.SIGKILL)
    assert path.stat().st_mode & 0o777 == 0o600
    done = subprocess.run(
        [
            "tshark",
            "-r",
            str(path),
            "-Tfields",
            "-e",
            "frame.time_epoch",
            "-e",
            "tcp.stream",
            "-e",
            "tcp.analysis.flags",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    # Killed in the middle of a write, the file may end in part of a block; what stands before it is read.
    assert done.returncode == 0 or "cut short in the middle of a packet" in done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert {row[2] for row in rows} == {""}
    for stream in ("0", "1"):
        times = [float(row[0]) for row in rows if row[1] == stream]
        assert killed_at - 0.5 < times[-1] <= killed_at
