"""Deaths and full disks; `make reliability` tries all of them, this a few."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from spiceproxy.recording.options import RecordingOptions
from tests.raw_peers import message, raw_proxy, read_exactly
from tests.recording.test_production import problems
from tests.reliability.survival import play


@pytest.mark.parametrize(
    ("who", "kind", "phase"),
    [
        ("client", "seamless", "switching"),
        ("source", "semi-seamless", "connected"),
        ("destination", "seamless", "connected"),
        ("proxy", "seamless", "switching"),
    ],
)
async def test_whoever_is_killed_in_a_migration_takes_nobody_else_along_and_the_recording_is_readable(
    who: str, kind: str, phase: str, tmp_path: Path
) -> None:
    row = await play(tmp_path, who, kind, phase)
    assert row.wrong() == []


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.parametrize("on_full", ["go-on", "end-sessions"])
async def test_a_disk_that_is_full_ends_the_recording_with_a_mark_and_sessions_as_was_chosen(
    on_full: str, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk:
        options = RecordingOptions(on_full="go-on" if on_full == "go-on" else "end-sessions")
        async with raw_proxy(record=disk / "r.pcapng", recording=options) as raw:
            client, server = await raw.linked()
            body = bytes(50_000)
            try:
                for _ in range(20):
                    await server.send_all(message(304, body))
                    await read_exactly(client, 50_006)
            except (EOFError, OSError):
                assert on_full == "end-sessions"
            failed = await raw.events.wait_for("recording_failed")
            assert "No space left on device" in failed["reason"]
            if on_full == "go-on":
                await server.send_all(message(304, b"alive"))
                assert await read_exactly(client, 11) == message(304, b"alive")
            else:
                await raw.events.wait_for("session_ended")
        assert problems(disk / "r.pcapng") == ["recording ended: No space left on device"]
