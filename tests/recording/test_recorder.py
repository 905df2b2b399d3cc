import os
import resource
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
import trio
import trio.testing

from dissectors.side import Side
from spiceproxy.errors import RecordingError, UsageError
from spiceproxy.recording import recorder as module
from spiceproxy.recording import writer as writer_module
from spiceproxy.recording.recorder import Recorder, open_recorder
from tests.recording.packets import PSH, SYN, options, pcapng_blocks, recorded
from tests.recording.test_writer import largest_file

CLIENT, SERVER = ("127.0.0.1", 40000), ("127.0.0.1", 5900)
PIECE = bytes(60_000)


@asynccontextmanager
async def recording_into(fd: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Recorder]:
    """A recorder that writes to `fd`, which may be what create_file() never returns."""
    with monkeypatch.context() as patch:
        patch.setattr(module, "create_file", lambda path, head: fd)
        async with open_recorder("elsewhere") as recorder:
            yield recorder


def record_pieces(recorder: Recorder, count: int) -> None:
    conversation = recorder.conversation(CLIENT, SERVER)
    for _ in range(count):
        conversation.data(Side.SERVER, time.time_ns(), PIECE, ends=[len(PIECE)])


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_the_file_is_there_with_its_head_and_mode_from_the_first_moment(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    path.write_bytes(b"older")
    path.chmod(0o644)
    async with open_recorder(str(path)) as recorder:
        assert recorder.path == path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        (section, body), (interface, _) = pcapng_blocks(path.read_bytes())
    assert (section, interface) == (0x0A0D0D0A, 1)
    assert options(body[16:])[4].decode() == f"spiceproxy {version('spiceproxy')}"


async def test_a_file_that_cannot_be_made_is_said_before_anything_else(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot record to"):
        async with open_recorder(tmp_path):
            pytest.fail("entered")


async def test_what_was_recorded_is_in_the_file_within_half_a_second(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path) as recorder:
        conversation = recorder.conversation(CLIENT, SERVER)
        conversation.data(Side.CLIENT, time.time_ns(), b"whole.half", ends=[6])
        await trio.sleep(0.5)
        assert [each.payload for each in recorded(path.read_bytes())] == [b"", b"", b"", b"whole.", b"half"]


async def test_leaving_writes_what_is_buffered_and_held_and_leaves_open_connections_open(
    tmp_path: Path,
) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path) as recorder:
        conversation = recorder.conversation(CLIENT, SERVER, comment="main:0", time_ns=10)
        conversation.data(Side.CLIENT, 11, b"whole.half", ends=[6])
    segments = recorded(path.read_bytes())
    assert [(each.time_ns, each.payload, each.comment) for each in segments] == [
        (10, b"", "main:0"),
        (10, b"", None),
        (10, b"", None),
        (11, b"whole.", None),
        (11, b"half", None),
    ]
    assert segments[-1].flags & PSH == 0


async def test_what_comes_after_the_end_is_counted_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path) as recorder:
        conversation = recorder.conversation(CLIENT, SERVER)
    size = path.stat().st_size
    for _ in range(200):
        conversation.data(Side.CLIENT, 11, PIECE, ends=[len(PIECE)])
    conversation.close(None, 12)
    await recorder.checkpoint()
    assert recorder.lost_bytes == 200 * len(PIECE)
    assert recorder.error is None
    assert path.stat().st_size == size


async def test_times_never_go_back(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path) as recorder:
        one = recorder.conversation(CLIENT, SERVER, time_ns=100)
        two = recorder.conversation(("::1", 1), ("::1", 2), time_ns=50)
        for time_ns in (200, 150, -7, 300):
            one.data(Side.CLIENT, time_ns, b"1", ends=[1])
            two.data(Side.CLIENT, time_ns, b"2", ends=[1])
    times = [each.time_ns for each in recorded(path.read_bytes())]
    assert times == [100] * 6 + [200] * 6 + [300] * 2


async def test_a_conversation_without_a_time_begins_now(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    before = time.time_ns()
    async with open_recorder(path) as recorder:
        recorder.conversation(CLIENT, SERVER)
        after = time.time_ns()
    assert before <= recorded(path.read_bytes())[0].time_ns <= after


async def test_two_open_connections_with_the_same_addresses_get_different_ports(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path) as recorder:
        recorder.conversation((CLIENT[0], 65535), SERVER, comment="first")
        recorder.conversation(("::ffff:127.0.0.1", 65535), SERVER, comment="second")
        # The same connection seen from its other end.
        recorder.conversation(SERVER, (CLIENT[0], 65535), comment="third")
    syns = [each for each in recorded(path.read_bytes()) if each.flags == SYN]
    assert [(each.source[1], each.destination[1]) for each in syns] == [
        (65535, 5900),
        (1024, 5900),
        (5901, 65535),
    ]
    assert syns[0].comment == "first"
    assert syns[1].comment == (
        "second\nThe client's port is 65535, as on another connection to 127.0.0.1 port 5900."
    )


async def test_a_connection_that_comes_after_a_closed_one_keeps_its_port(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path) as recorder:
        recorder.conversation(CLIENT, SERVER).close(None, 1)
        recorder.conversation(CLIENT, SERVER).close(None, 1, reset=True)
        await trio.sleep(0.3)  # forgotten by now
        recorder.conversation(CLIENT, SERVER)
    syns = [each for each in recorded(path.read_bytes()) if each.flags == SYN]
    assert [each.source for each in syns] == [CLIENT] * 3
    apart = [abs(one.seq - two.seq) for one in syns for two in syns if one is not two]
    assert min(apart) > 2**28


async def test_a_full_disk_is_told_once_and_the_rest_counted(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    async with open_recorder(path) as recorder:
        with largest_file(150_000):
            record_pieces(recorder, 10)
            with trio.fail_after(5):
                while recorder.error is None:  # noqa: ASYNC110 - set by a thread that knows no events
                    await trio.sleep(0.01)
        with pytest.raises(RecordingError, match=f"{path} ended: .*File too large"):
            await recorder.checkpoint()
        for _ in range(100):
            await recorder.checkpoint()
            record_pieces(recorder, 1)
        assert recorder.ended
    assert [len(each.payload) for each in recorded(path.read_bytes())] == [0, 0, 0, 60_000, 60_000]
    assert recorder.lost_bytes == (8 + 100) * len(PIECE)


async def test_a_disk_that_fills_up_unnoticed_is_told_on_leaving(tmp_path: Path) -> None:
    with largest_file(100_000), pytest.raises(RecordingError, match="File too large"):
        async with open_recorder(tmp_path / "r.pcapng") as recorder:
            record_pieces(recorder, 2)
    assert recorder.lost_bytes == len(PIECE)


async def test_an_error_inside_the_block_is_not_hidden_by_one_of_the_disk(tmp_path: Path) -> None:
    recorders = []

    async def fail() -> None:
        async with open_recorder(tmp_path / "r.pcapng") as recorder:
            recorders.append(recorder)
            record_pieces(recorder, 2)
            raise ZeroDivisionError

    with largest_file(100_000), pytest.raises(ExceptionGroup) as caught:
        await fail()
    assert caught.group_contains(ZeroDivisionError)
    assert not caught.group_contains(RecordingError)
    assert recorders[0].error is not None


async def test_checkpoint_waits_for_a_slow_disk_and_memory_stays_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, fd = os.pipe()
    passed, received = 0, 0
    slow = trio.lowlevel.FdStream(reader)
    async with slow, trio.open_nursery() as nursery, recording_into(fd, monkeypatch) as recorder:

        async def relay() -> None:
            nonlocal passed
            conversation = recorder.conversation(CLIENT, SERVER)
            for _ in range(100):
                conversation.data(Side.SERVER, 7, PIECE, ends=[len(PIECE)])
                passed += len(PIECE)
                await recorder.checkpoint()

        nursery.start_soon(relay)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert passed < module.BACKLOG_BYTES + 2 * module.CHUNK_BYTES
        while received < 100 * len(PIECE):
            received += len(await slow.receive_some(65_536))
            assert passed - received < module.BACKLOG_BYTES + 3 * module.CHUNK_BYTES

        async def drain() -> None:
            while await slow.receive_some(65_536):
                pass

        nursery.start_soon(drain)
    assert passed == 100 * len(PIECE)
    assert recorder.lost_bytes == 0


async def test_a_disk_that_hangs_at_the_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.2)
    reader, fd = os.pipe()
    started = trio.current_time()
    with pytest.raises(RecordingError, match="the disk did not take the last blocks in time"):
        async with recording_into(fd, monkeypatch) as recorder:
            record_pieces(recorder, 42)
    assert trio.current_time() - started < 5
    assert recorder.lost_bytes > 0
    os.close(reader)  # lets the thread end


async def test_cancellation_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "r.pcapng"
    with trio.move_on_after(0.05):
        async with open_recorder(path) as recorder:
            record_pieces(recorder, 40)
            await trio.sleep_forever()
    assert sum(len(each.payload) for each in recorded(path.read_bytes())) == 40 * len(PIECE)


async def test_a_gibibyte_in_one_message_leaves_no_trace_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    piece = bytes(256 * 1024)
    async with recording_into(os.open("/dev/null", os.O_WRONLY), monkeypatch) as recorder:
        conversation = recorder.conversation(CLIENT, SERVER)
        before = highest = resident_bytes()
        for _ in range(4 * 1024):
            conversation.data(Side.SERVER, time.time_ns(), piece, ends=[])
            await recorder.checkpoint()
            highest = max(highest, resident_bytes())
    assert recorder.lost_bytes == 0
    assert highest - before < writer_module.MAX_BACKLOG_BYTES + 2 * 2**20
