import errno
import os
import resource
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dissectors.side import Side
from spiceproxy.errors import UsageError
from spiceproxy.recording import pcapng
from spiceproxy.recording.conversation import Conversation
from spiceproxy.recording.writer import MAX_BACKLOG_BYTES, WriterThread, create_file
from tests.recording.packets import recorded

HEAD = pcapng.section_header(hardware="h", operating_system="o", application="a")


def packet(size: int) -> bytearray:
    """The block of one packet with `size` bytes of payload."""

    class One:
        ended = False

        def lose(self, size: int) -> None:
            raise AssertionError

        def packet(
            self, time_ns: int, header: bytes, payload: bytes | bytearray | memoryview, comment: str | None
        ) -> None:
            pcapng.append_packet(out, time_ns, header, payload, comment)

    out = bytearray()
    conversation = Conversation(One(), ("::1", 1), ("::1", 2), client_isn=0, server_isn=0)
    conversation.data(Side.CLIENT, 7, bytes(size), ends=[size])
    return out


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow above `size` bytes: writes fail with EFBIG as with ENOSPC on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_a_new_file_is_for_its_owner_only_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "new.pcapng"
    before = os.umask(umask)
    try:
        os.close(create_file(path, HEAD))
    finally:
        os.umask(before)
    assert mode(path) == 0o600
    assert path.read_bytes() == HEAD


def test_an_old_file_is_replaced_so_that_who_could_read_it_sees_nothing_new(tmp_path: Path) -> None:
    path, link = tmp_path / "old.pcapng", tmp_path / "hard-link"
    path.write_bytes(b"old")
    path.chmod(0o666)
    link.hardlink_to(path)
    with path.open("rb") as reader:
        os.close(create_file(path, HEAD))
        assert reader.read() == b"old"
    assert link.read_bytes() == b"old"
    assert mode(path) == 0o600
    assert path.read_bytes() == HEAD
    assert {each.name for each in tmp_path.iterdir()} == {"old.pcapng", "hard-link"}


def test_a_symbolic_link_is_refused_and_its_target_untouched(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "link.pcapng"
    target.write_bytes(b"precious")
    for name in (target, tmp_path / "nowhere"):
        path.symlink_to(name)
        with pytest.raises(UsageError, match="symbolic link"):
            create_file(path, HEAD)
        path.unlink()
    assert target.read_bytes() == b"precious"
    assert [each.name for each in tmp_path.iterdir()] == ["target"]


def test_what_is_not_a_regular_file_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path("/dev/null")):
        with pytest.raises(UsageError, match="not a regular file"):
            create_file(path, HEAD)
    assert [each.name for each in tmp_path.iterdir()] == ["fifo"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/file", "No such file or directory"),
        ("x" * 300, "File name too long"),
        ("nul\0", "null"),
        ("file/below", "Not a directory"),
    ],
)
def test_a_file_that_cannot_be_made_is_one_line_that_names_it(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=f"cannot record to .*{reason}"):
        create_file(tmp_path / name, HEAD)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_no_name_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot record to"):
        create_file(Path(), HEAD)


def test_no_room_for_the_head_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "old.pcapng"
    path.write_bytes(b"old")
    for size in (0, len(HEAD) - 1):
        with largest_file(size), pytest.raises(UsageError, match=r"No space|too large"):
            create_file(path, HEAD)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["old.pcapng"]


def test_chunks_are_written_in_order_and_the_file_closed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    fd = create_file(path, HEAD)
    writer = WriterThread(fd, lambda: None)
    chunks = [packet(size) for size in [1, 60_000, 3] * 50]
    expected = HEAD + b"".join(chunks)
    for chunk in chunks:
        writer.submit(chunk)
    writer.close(10)
    assert path.read_bytes() == expected
    assert (writer.backlog_bytes, writer.lost_bytes, writer.error) == (0, 0, None)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("room", [0, 1, 40, 499, 500, 1999])
def test_after_a_full_disk_the_file_ends_with_a_whole_block(tmp_path: Path, room: int) -> None:
    path = tmp_path / "f"
    one = packet(300)  # 392 bytes
    chunk = one * 3
    writer = WriterThread(create_file(path, HEAD), lambda: None)
    with largest_file(len(HEAD) + room):
        writer.submit(bytearray(chunk))
        writer.submit(bytearray(chunk))
        writer.close(10)
    assert writer.error is not None
    assert writer.error.errno == errno.EFBIG
    whole = room // len(one)
    assert path.read_bytes() == HEAD + one * whole
    assert len(recorded(path.read_bytes())) == whole
    assert writer.lost_bytes == (6 - whole) * 300


def test_what_comes_after_an_error_is_counted_and_not_kept(tmp_path: Path) -> None:
    seen: list[OSError | None] = []
    progress = threading.Event()

    def note() -> None:
        seen.append(writer.error)
        progress.set()

    writer = WriterThread(os.open("/dev/full", os.O_WRONLY), note)
    writer.submit(packet(100))
    assert progress.wait(10)
    for _ in range(3 * MAX_BACKLOG_BYTES // 50_000):  # would block for good if it were kept
        writer.submit(packet(50_000))
    writer.close(10)
    assert seen[0] is writer.error is not None
    assert writer.error.errno == errno.ENOSPC
    assert writer.lost_bytes == 100 + 3 * MAX_BACKLOG_BYTES // 50_000 * 50_000
    assert writer.backlog_bytes == 0


def test_a_disk_that_hangs_stops_who_submits_at_the_limit_and_nothing_is_lost() -> None:
    reader, fd = os.pipe()
    writer = WriterThread(fd, lambda: None)
    one = packet(60_000)
    count = 2 * MAX_BACKLOG_BYTES // len(one)
    submitted = 0

    def submit() -> None:
        nonlocal submitted
        for _ in range(count):
            writer.submit(bytearray(one))
            submitted += 1

    submitter = threading.Thread(target=submit)
    submitter.start()
    while writer.backlog_bytes < MAX_BACKLOG_BYTES:
        time.sleep(0.01)
    submitter.join(0.2)
    assert submitter.is_alive()
    assert submitted * len(one) <= MAX_BACKLOG_BYTES + len(one)
    with os.fdopen(reader, "rb") as file:
        data = file.read(count * len(one))
    submitter.join()
    writer.close(10)
    assert data == bytes(one * count)


def test_closing_gives_up_on_a_disk_that_hangs() -> None:
    reader, fd = os.pipe()
    writer = WriterThread(fd, lambda: None)
    chunk = packet(60_000) * 10
    size = len(chunk)
    writer.submit(chunk)
    with pytest.raises(TimeoutError, match="the disk did not take the last blocks in time"):
        writer.close(0.05)
    with os.fdopen(reader, "rb") as file:
        assert len(file.read()) == size  # up to the end: the thread goes on by itself and closes the file
