"""Recordings that rotate, that keep the last seconds only, that have a limit, or a file for each session."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
import trio

from dissectors.channels import ChannelType
from dissectors.side import Side
from spiceproxy.capture.reports import read_report
from spiceproxy.errors import RecordingError
from spiceproxy.recording import recordings as recordings_module
from spiceproxy.recording.beginning import Beginning
from spiceproxy.recording.options import RecordingOptions
from spiceproxy.recording.recorder import FLUSH_INTERVAL_S, Recorder, open_recorder
from spiceproxy.recording.ring import Ring
from spiceproxy.redaction.redact import Options, redact
from spiceproxy.repair.repair import repair
from tests.raw_peers import message, raw_proxy, read_exactly
from tests.recording.packets import SYN, Sink, pcapng_blocks, recorded
from tests.recording.test_conversation import started
from tests.recording.test_writer import largest_file
from tests.test_proxy import lab
from tests.whole_capture import read_whole

CLIENT, SERVER = ("127.0.0.1", 40000), ("127.0.0.1", 5900)
LINK = [(Side.CLIENT, b"link message"), (Side.SERVER, b"link reply"), (Side.CLIENT, bytes(132))]


def payloads(path: Path, *, behind_syn: bool = False) -> dict[Side, bytes]:
    """What each side sent, by the numbers of its segments: every byte must be there, and once.

    With `behind_syn`, what stands before the handshake does not count.
    """
    streams: dict[Side, bytes] = {}
    for side, source in ((Side.CLIENT, CLIENT), (Side.SERVER, SERVER)):
        own = [each for each in recorded(path.read_bytes()) if each.source == source]
        expected = None
        data = b""
        for each in own:
            if each.flags & SYN:
                expected = (each.seq + 1) & 0xFFFFFFFF
                continue
            if each.payload and not (behind_syn and expected is None):
                assert each.seq == expected
                data += each.payload
                expected = (each.seq + len(each.payload)) & 0xFFFFFFFF
        streams[side] = data
    return streams


def test_the_beginning_of_a_connection_can_be_repeated_so_that_what_follows_fits_on() -> None:
    sink, made = started()
    for side, unit in LINK:
        made.data(side, 1, unit, ends=(len(unit),))
    made.linked()
    made.data(Side.SERVER, 2, b"message", ends=(7,))
    again = Sink()
    Beginning.of(made).repeat(again, 3)
    made.data(Side.SERVER, 4, b"more", ends=(4,))
    repeated, followed = again.take(), sink.take()[-1]
    assert [each.payload for each in repeated if each.payload] == [unit for _, unit in LINK]
    last = [each for each in repeated if each.payload and each.source == followed.source][-1]
    assert followed.seq == last.seq + len(last.payload)
    assert "began before this file" in (repeated[0].comment or "")


def test_a_beginning_that_is_too_long_is_not_kept() -> None:
    _, made = started()
    for _ in range(40):
        made.data(Side.CLIENT, 1, bytes(1000), ends=(1000,))
    assert made.beginning(made.next_seq) == ()


def captures(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.pcapng"))


async def record(recorder: Recorder, count: int, size: int = 10_000) -> None:
    conversation = recorder.conversation(CLIENT, SERVER)
    for side, unit in LINK:
        conversation.data(side, time.time_ns(), unit, ends=(len(unit),))
    conversation.linked()
    for number in range(count):
        body = number.to_bytes(4, "big") + bytes(size - 4)
        conversation.data(Side.SERVER, time.time_ns(), body, ends=(len(body),))
        await recorder.checkpoint()


async def test_a_recording_goes_on_in_another_file_and_each_can_be_read_by_itself(tmp_path: Path) -> None:
    files: list[Path] = []
    options = RecordingOptions(rotate_bytes=100_000)
    async with open_recorder(tmp_path / "vm.pcapng", options, on_file=files.append) as recorder:
        files.append(recorder.path)
        await record(recorder, 35)
    assert captures(tmp_path) == files
    assert len(files) == 4
    numbers: list[int] = []
    for path in files:
        got = payloads(path)
        assert got[Side.CLIENT] == LINK[0][1] + LINK[2][1]
        assert got[Side.SERVER].startswith(LINK[1][1])
        bodies = got[Side.SERVER][len(LINK[1][1]) :]
        assert len(bodies) % 10_000 == 0
        numbers += [int.from_bytes(bodies[at : at + 4], "big") for at in range(0, len(bodies), 10_000)]
        assert path.stat().st_size < 130_000
    assert numbers == list(range(35))


async def test_a_recording_is_continued_in_another_file_after_some_time(tmp_path: Path) -> None:
    async with open_recorder(tmp_path / "vm.pcapng", RecordingOptions(rotate_s=0.3)) as recorder:
        await record(recorder, 1)
        await trio.sleep(0.9)
    assert len(captures(tmp_path)) >= 2


async def test_of_files_in_a_row_the_oldest_go(tmp_path: Path) -> None:
    options = RecordingOptions(rotate_bytes=100_000, keep=2)
    async with open_recorder(tmp_path / "vm.pcapng", options) as recorder:
        await record(recorder, 60)
        last = recorder.path
    names = [each.name for each in captures(tmp_path)]
    assert len(names) == 2
    assert names[-1] == last.name
    assert recorder.lost_bytes == 0


async def test_a_file_is_not_left_in_the_middle_of_a_long_message(tmp_path: Path) -> None:
    options = RecordingOptions(rotate_bytes=100_000)
    async with open_recorder(tmp_path / "vm.pcapng", options) as recorder:
        first = recorder.path
        conversation = recorder.conversation(CLIENT, SERVER)
        conversation.linked()
        for _ in range(4):  # one message of 400 kB
            conversation.data(Side.SERVER, 1, bytes(100_000), ends=())
            await recorder.checkpoint()
            assert recorder.path == first
        conversation.data(Side.SERVER, 1, b"end", ends=(3,))
        await recorder.checkpoint()
        assert recorder.path != first
    assert payloads(first)[Side.SERVER] == bytes(400_000) + b"end"


async def test_a_message_that_does_not_end_delays_another_file_by_a_second_at_most(tmp_path: Path) -> None:
    options = RecordingOptions(rotate_bytes=100_000)
    async with open_recorder(tmp_path / "vm.pcapng", options) as recorder:
        first = recorder.path
        conversation = recorder.conversation(CLIENT, SERVER)
        conversation.data(Side.CLIENT, 1, b"link", ends=(4,))
        conversation.linked()
        conversation.data(Side.SERVER, 1, bytes(200_000), ends=())
        await trio.sleep(1.5)
        assert recorder.path != first
        conversation.data(Side.SERVER, 1, b"rest", ends=(4,))
        await recorder.checkpoint()
        conversation.data(Side.SERVER, 1, b"message", ends=(7,))
    got = payloads(recorder.path, behind_syn=True)
    assert got == {Side.CLIENT: b"link", Side.SERVER: b"message"}


async def test_a_limit_ends_the_recording_with_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "vm.pcapng"
    async with open_recorder(path, RecordingOptions(limit_bytes=100_000)) as recorder:
        await record(recorder, 5)
        with pytest.raises(RecordingError, match="limit of 100000 bytes is reached"):
            await record(recorder, 20)
    assert path.stat().st_size < 112_000
    assert recorder.ended
    assert problems(path) == ["recording ended: the limit of 100000 bytes is reached"]


def problems(path: Path) -> list[str]:
    from spiceproxy.capture.events import Summary
    from spiceproxy.capture.packets import packets_of

    summary = Summary()
    with path.open("rb") as file:
        assert list(packets_of(file, None, summary))
    return summary.problems


@pytest.mark.parametrize("room", [30_000, 30_001, 30_050, 30_103, 34_999, 40_000])
async def test_a_full_disk_leaves_a_mark_in_the_place_of_the_last_packets(room: int, tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    with largest_file(room), pytest.raises(RecordingError, match="File too large"):
        async with open_recorder(path) as recorder:
            await record(recorder, 100, size=1000)
    assert list(pcapng_blocks(path.read_bytes()))[-1][0] == 5
    assert problems(path) == [f"recording ended: {os.strerror(errno.EFBIG)}"]
    kept = payloads(path)[Side.SERVER]
    assert (
        recorder.lost_bytes + len(kept) + len(payloads(path)[Side.CLIENT])
        == sum(len(unit) for _, unit in LINK) + 100 * 1000
    )
    assert path.stat().st_size <= room


@pytest.mark.parametrize("room", [0, 20, 4096])
async def test_a_file_that_cannot_be_followed_by_another_says_so(room: int, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()

    async def lose_the_directory() -> None:
        async with open_recorder(here / "vm.pcapng", RecordingOptions(rotate_s=3600)) as recorder:
            recorders.append(recorder)
            await record(recorder, 5)
            await trio.sleep(2 * FLUSH_INTERVAL_S)
            here.rename(there)
            (file,) = captures(there)
            with largest_file(file.stat().st_size + room):  # as where the disk is full
                recorder._rotate_soon()
                recorder._rotate_if_possible()
                while recorder.error is None:  # noqa: ASYNC110  the writer's thread
                    await trio.sleep(0.01)

    recorders: list[Recorder] = []
    with pytest.raises(RecordingError, match="No such file or directory"):
        await lose_the_directory()
    (file,), (recorder,) = captures(there), recorders
    assert problems(file) == [f"recording ended: {os.strerror(errno.ENOENT)}"]
    kept = len(payloads(file)[Side.SERVER])
    lost = recorder.lost_bytes - sum(len(unit) for _, unit in LINK)  # which the next file would have repeated
    assert lost + kept == len(LINK[1][1]) + 5 * 10_000
    assert lost == (0 if room > 1000 else 10_000)


# A ring -----------------------------------------------------------------------------------------------


async def test_of_the_files_of_a_ring_the_oldest_go(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "vm.pcapng", RecordingOptions(ring_s=10, keep=2))
    ring.conversation(CLIENT, SERVER)
    written = [await ring.dump() for _ in range(4)]
    assert captures(tmp_path) == written[2:]


async def test_a_ring_keeps_the_last_seconds_and_what_connections_began_with(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "vm.pcapng", RecordingOptions(ring_s=10))
    second, now = 10**9, time.time_ns()
    conversation = ring.conversation(CLIENT, SERVER, time_ns=now - 100 * second)
    for side, unit in LINK:
        conversation.data(side, now - 99 * second, unit, ends=(len(unit),))
    conversation.linked()
    for age in range(60, 0, -1):
        body = age.to_bytes(1, "big") * 5
        conversation.data(Side.SERVER, now - age * second, body, ends=(5,))
    path = await ring.dump()
    got = payloads(path)
    assert got[Side.CLIENT] == LINK[0][1] + LINK[2][1]
    assert got[Side.SERVER] == LINK[1][1] + b"".join(bytes([age]) * 5 for age in range(9, 0, -1))


async def test_a_ring_takes_no_more_memory_than_it_may(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "vm.pcapng", RecordingOptions(ring_s=3600, ring_bytes=2**20))
    conversation = ring.conversation(CLIENT, SERVER)
    conversation.linked()
    for _ in range(500):
        conversation.data(Side.SERVER, time.time_ns(), bytes(50_000), ends=(50_000,))
        assert ring.held_bytes <= 2**20
    path = await ring.dump()
    assert 900_000 < len(payloads(path)[Side.SERVER]) < 2**20


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_has_left_a_ring_what_is_written_begins_with_whole_units(
    seed: int, tmp_path: Path
) -> None:
    """Units of any size, cut anywhere, both ways: what is in a dump is the end of what was sent, from a unit on."""
    random = Random(seed)
    ring = Ring(
        tmp_path / "vm.pcapng", RecordingOptions(ring_s=3600, ring_bytes=random.randrange(10_000, 400_000))
    )
    conversation = ring.conversation(CLIENT, SERVER)
    for side, unit in LINK:
        conversation.data(side, time.time_ns(), unit, ends=(len(unit),))
    conversation.linked()
    sent: dict[Side, list[bytes]] = {side: [] for side in Side}
    for _ in range(60):
        side = random.choice(list(Side))
        unit = random.randbytes(random.choice([3, 500, 70_000, 200_000]))
        sent[side].append(unit)
        while unit:
            piece, unit = unit[: (cut := random.choice([1, 1000, 60_000, 100_000]))], unit[cut:]
            conversation.data(side, time.time_ns(), piece, ends=() if unit else (len(piece),))
    got = payloads(await ring.dump())
    for side in Side:
        head = b"".join(unit for sender, unit in LINK if sender is side)
        assert got[side].startswith(head)
        rest = got[side][len(head) :]
        ends = {b"".join(sent[side][at:]) for at in range(len(sent[side]) + 1)} | {b"".join(sent[side])}
        assert rest in ends, (
            side,
            len(rest),
            [len(each) for each in sent[side]],
            [len(e) for e in ends if rest.endswith(e)][:3],
        )


async def test_a_ring_forgets_connections_whose_packets_have_gone(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "vm.pcapng", RecordingOptions(ring_s=5))
    now = time.time_ns() - 100 * 10**9
    for number in range(50):
        ring.conversation((CLIENT[0], 1024 + number), SERVER, time_ns=now).close(None, now)
    ring.conversation(CLIENT, SERVER)
    assert len(ring._known) == 1


# With a proxy -----------------------------------------------------------------------------------------


async def test_every_file_of_a_session_that_migrates_is_read_without_trouble(tmp_path: Path) -> None:
    options = RecordingOptions(rotate_bytes=100_000)
    async with lab(servers=2, record=tmp_path / "vm.pcapng", recording=options) as it:
        for source, destination in ((0, 1), (1, 0), (0, 1)):
            it.servers[source].draw(300)
            await it.migrate(source, destination)
            await trio.sleep(0.3)
    files = captures(tmp_path)
    assert len(files) >= 2
    messages = 0
    for path in files:
        whole = read_whole(path)
        assert not whole.unreadable
        messages += whole.messages
    assert messages > 500
    assert it.events.named("recording_file")[0]["record"] == str(files[0])


async def test_the_last_seconds_are_written_when_asked_and_hold_a_whole_migration(tmp_path: Path) -> None:
    options = RecordingOptions(ring_s=600)
    async with lab(servers=2, record=tmp_path / "vm.pcapng", recording=options) as it:
        await it.migrate(0, 1)
        await it.events.wait_for("migration_ended")
        assert it.proxy.dump("test")
        event = await it.events.wait_for("recording_dumped")
    (path,) = captures(tmp_path)
    assert event["record"] == str(path)
    assert event["reason"] == "test"
    report = await trio.to_thread.run_sync(read_report, str(path))
    assert [str(each.outcome) for each in report.migrations] == ["completed"]


async def test_without_a_ring_nothing_is_dumped(tmp_path: Path) -> None:
    async with raw_proxy(record=tmp_path / "r.pcapng") as raw:
        assert not raw.proxy.dump("test")
    async with raw_proxy() as raw:
        assert not raw.proxy.dump("test")


async def test_a_dump_that_cannot_be_written_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with raw_proxy(record=tmp_path / "r.pcapng", recording=RecordingOptions(ring_s=60)) as raw:
        client, server = await raw.linked()
        await server.send_all(message(304, bytes(100_000)))
        await read_exactly(client, 100_006)
        with largest_file(50_000):
            raw.proxy.dump("test")
            event = await raw.events.wait_for("recording_failed")
        assert "File too large" in event["reason"]
    assert captures(tmp_path) == []


async def test_a_ring_that_is_asked_again_and_again_writes_one_file_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings_module, "DUMP_PAUSE_S", 0.5)
    async with raw_proxy(record=tmp_path / "r.pcapng", recording=RecordingOptions(ring_s=60)) as raw:
        for _ in range(20):
            raw.proxy.dump("test")
            await trio.sleep(0.01)
        await raw.events.wait_for("recording_dumped", count=2)
        assert len(captures(tmp_path)) == 2


async def test_each_session_has_a_file_of_its_own_that_is_whole_when_it_is_over(tmp_path: Path) -> None:
    options = RecordingOptions(per_session=True)
    async with raw_proxy(record=tmp_path / "vm.pcapng", recording=options) as raw:
        for number in (1, 2):
            ends = await raw.linked(ChannelType.MAIN)
            other = await raw.linked(ChannelType.MAIN)
            await ends[1].send_all(message(304, bytes([number]) * 100))
            await read_exactly(ends[0], 106)
            for end in (*ends, *other):
                await end.aclose()
            await raw.events.wait_for("session_ended", count=2 * number)
        files = captures(tmp_path)
        assert [path.stem.split("-")[-2] for path in files] == ["s1", "s2", "s3", "s4"]
        told = {event["session"]: event["record"] for event in raw.events.named("recording_file")}
        assert told == {f"s{n}": str(path) for n, path in enumerate(files, 1)}
    for path in files:
        assert len({each.source for each in recorded(path.read_bytes())}) == 2


async def test_a_session_whose_file_cannot_be_made_goes_on_without(tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    options = RecordingOptions(per_session=True)
    async with raw_proxy(record=directory / "vm.pcapng", recording=options) as raw:
        directory.rmdir()
        client, server = await raw.linked()
        assert "cannot record" in (await raw.events.wait_for("recording_failed", session="s1"))["reason"]
        await server.send_all(message(304, b"alive"))
        assert await read_exactly(client, 11) == message(304, b"alive")


@pytest.mark.parametrize("per_session", [False, True])
async def test_sessions_that_must_be_recorded_end_with_their_recording(
    per_session: bool, tmp_path: Path
) -> None:
    options = RecordingOptions(on_full="end-sessions", limit_bytes=200_000, per_session=per_session)
    async with raw_proxy(record=tmp_path / "vm.pcapng", recording=options) as raw:
        witness_client, witness_server = await raw.linked()
        client, server = await raw.linked()
        await server.send_all(message(304, bytes(300_000)))
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await read_exactly(client, 400_000)
        await raw.events.wait_for("recording_failed")
        if per_session:
            await witness_server.send_all(message(304, b"alive"))
            assert await read_exactly(witness_client, 11) == message(304, b"alive")
            await raw.linked()
        else:
            await raw.events.wait_for("session_ended", count=2)
            late = await raw.connect()
            assert await late.receive_some() == b""
            refused = await raw.events.wait_for("connection_refused")
            assert refused["reason"] == "nothing can be recorded any more"


async def test_a_dump_can_be_redacted_and_says_that_it_begins_in_the_middle(tmp_path: Path) -> None:
    options = RecordingOptions(ring_s=600)
    async with raw_proxy(record=tmp_path / "vm.pcapng", recording=options) as raw:
        client, server = await raw.linked(ChannelType.INPUTS)
        await client.send_all(message(101, b"\x1e\0\0\0"))  # a key
        await read_exactly(server, 10)
        ring = raw.proxy.recorder
        assert isinstance(ring, Ring)
        ring._keep_ns = 0  # whatever has passed is over
        await trio.sleep(0.3)
        ring._keep_ns = 600 * 10**9
        await client.send_all(message(102, b"\x9e\0\0\0"))
        await read_exactly(server, 10)
        path = await ring.dump()
    out = io.BytesIO()
    redact(lambda: path.open("rb"), out, Options())
    segments = recorded(out.getvalue())
    assert "began before this file" in (segments[0].comment or "")
    assert segments[-1].payload == message(102, bytes(4))


# Killed -------------------------------------------------------------------------------------------------

# Forks a recorder for each line it reads, which is a path: starting Python fifty times would take longer than the rest.
RECORDS = """
import os, sys, time, trio
from dissectors.side import Side
from spiceproxy.recording.recorder import open_recorder
async def main(path):
    async with open_recorder(path) as recorder:
        conversation = recorder.conversation(("127.0.0.1", 40000), ("127.0.0.1", 5900))
        number = 0
        print(os.getpid(), flush=True)
        while True:
            now = time.time_ns()
            size = (number * 7919) % 3000
            body = now.to_bytes(8, "big") + bytes(size)
            conversation.data(Side.SERVER, now, body, ends=(len(body),))
            await recorder.checkpoint()
            await trio.sleep(0.0005)
            number += 1
for line in sys.stdin:
    if os.fork() == 0:
        trio.run(main, line.strip())
"""
KILLS = 50


def test_a_recording_killed_at_any_moment_is_readable_to_the_last_half_second(tmp_path: Path) -> None:
    random = Random(50)
    command = [sys.executable, "-c", RECORDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forker:
        assert forker.stdin is not None
        assert forker.stdout is not None
        for first in range(0, KILLS, 5):
            recorders = []
            for number in range(first, first + 5):
                path = tmp_path / f"{number}.pcapng"
                print(path, file=forker.stdin, flush=True)
                recorders.append((int(forker.stdout.readline()), path))
            time.sleep(0.25)  # what is recorded is written every 0.2 s
            for pid, path in recorders:
                time.sleep(random.random() / 10)
                killed_ns = time.time_ns()
                os.kill(pid, signal.SIGKILL)
                data = path.read_bytes()
                whole = data[: _whole(data)]
                times = _times(whole)
                assert killed_ns - times[-1] < 500_000_000
                assert times == sorted(times)
                mended = io.BytesIO()
                repair(io.BytesIO(data), mended)
                copy = mended.getvalue()
                assert copy.startswith(whole)
                assert _whole(copy) == len(copy)
                assert len(copy) == len(whole) or copy[len(whole)] == 5  # statistics
        forker.stdin.close()


def _times(file: bytes) -> Sequence[int]:
    """Of the units in a file, whose first bytes are the time at which they passed."""
    return [int.from_bytes(each.payload[:8], "big") for each in recorded(file) if each.payload]


def _whole(data: bytes) -> int:
    at = 0
    while (
        at + 12 <= len(data) and (length := int.from_bytes(data[at + 4 : at + 8], "little")) <= len(data) - at
    ):
        at += length
    return at
