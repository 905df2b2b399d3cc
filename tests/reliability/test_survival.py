"""Deaths and full disks; `make reliability` tries all of them, this a few."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spiceproxy.recording.options import RecordingOptions
from tests.programs import require_programs
from tests.raw_peers import message, raw_proxy, read_exactly
from tests.recording.test_production import problems
from tests.reliability.disks import small_disk
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


@pytest.mark.lab
@pytest.mark.parametrize("row", ["vanish client switching", "vanish destination connected", "no descriptors"])
def test_troubles_of_one_session_are_its_own(row: str) -> None:
    require_programs("unshare", "ip", "nft")
    command = [sys.executable, "-m", "tests.reliability.troubles", *row.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if "unshare failed" in done.stderr and os.environ.get("SPICEPROXY_REQUIRE_LAB") != "1":
        pytest.skip("no namespaces here")
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Of 256 KiB."""
    try:
        with small_disk(tmp_path / "disk", 256) as path:
            yield path
    except subprocess.CalledProcessError:
        pytest.skip("a tmpfs cannot be mounted here")


async def test_a_full_disk_is_told_of_when_nothing_passes_any_more(disk: Path) -> None:
    async with raw_proxy(record=disk / "r.pcapng") as raw:
        client, server = await raw.linked()
        await server.send_all(message(304, bytes(500_000)))  # at once, before the disk is found to be full
        await read_exactly(client, 500_006)
        failed = await raw.events.wait_for("recording_failed")
        assert "No space left on device" in failed["reason"]
        assert raw.events.named("session_ended") == []


@pytest.mark.parametrize("on_full", ["go-on", "end-sessions"])
async def test_a_disk_that_is_full_ends_the_recording_with_a_mark_and_sessions_as_was_chosen(
    on_full: str, disk: Path
) -> None:
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
