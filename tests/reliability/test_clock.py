"""The wall clock is set ahead or back while a session migrates."""

import json
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing
from click.testing import CliRunner

from spiceproxy import clock
from spiceproxy.cli.report import report_command
from spiceproxy.eventlog import Event, EventLog
from tests.load.proxy_process import ProxyProcess, proxy_process
from tests.load.sessions import Front, Session, Tally
from tests.recording.packets import recorded

HOUR_S: Final = 3600
SPAN_S: Final = 60  # more than a session takes here, and much less than the clock is set by
BEFORE_S: Final = 0.5  # of a session, before the clock is set


class WallClock:
    """What libfaketime makes a process see; the steady clock stays."""

    def __init__(self, directory: Path) -> None:
        found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not found:
            pytest.skip("libfaketime is not installed")
        self._file = directory / "faketime"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(found[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead_s: int) -> None:
        """Set it, from one moment to the next."""
        made = self._file.with_suffix(".new")
        made.write_text(f"{ahead_s:+d}")
        made.rename(self._file)


@pytest.fixture
def wall(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


@pytest.fixture(params=[HOUR_S, -HOUR_S], ids=["ahead", "back"])
def step_s(request: pytest.FixtureRequest) -> int:
    step: int = request.param
    return step


async def migrate_while_it_is_set(
    directory: Path, wall: WallClock, step_s: int, *arguments: str
) -> list[dict[str, Any]]:
    """One migration, in the middle of which the proxy's clock is set; returns its events."""
    front = Front()
    async with (
        front.open() as server,
        proxy_process(directory, server, *arguments, environment=wall.environment) as proxy,
        Session(1, Tally()).open(front, proxy.address) as session,
    ):
        await session.traffic()
        await trio.sleep(BEFORE_S)
        await session.migrate(between=lambda: wall.set(step_s))
        await session.traffic()
        if "--record-ring" in arguments:
            proxy.process.send_signal(signal.SIGUSR1)
            await said(proxy, "recording_dumped")
    return [json.loads(line) for line in proxy.log.read_text("utf-8").splitlines()]


async def said(proxy: ProxyProcess, name: str) -> None:
    with trio.fail_after(20):
        while f'"{name}"' not in proxy.log.read_text("utf-8"):  # noqa: ASYNC110  it is a file
            await trio.sleep(0.02)


def span_s(recording: Path) -> float:
    """From the first packet to the last; they may not go back."""
    times = [each.time_ns for each in recorded(recording.read_bytes())]
    assert times == sorted(times)
    return (times[-1] - times[0]) / 1e9


async def test_a_clock_that_is_set_while_a_session_migrates_changes_neither_verdict_nor_durations(
    tmp_path: Path, wall: WallClock, step_s: int
) -> None:
    recording = tmp_path / "r.pcapng"
    events = await migrate_while_it_is_set(tmp_path, wall, step_s, "--record", str(recording))
    times = [each["time"] for each in events]
    assert any(abs(b - a - step_s) < SPAN_S for a, b in pairwise(times))  # it was set
    (ended,) = [each for each in events if each["event"] == "migration_ended"]
    assert (ended["outcome"], ended["performed"]) == ("completed", "seamless")
    (over,) = [each for each in events if each["event"] == "session_ended"]
    assert 0 < over["duration_s"] < SPAN_S
    assert {"migration_stalled", "rule_broken"}.isdisjoint(each["event"] for each in events)
    assert 0 < span_s(recording) < SPAN_S
    report = json.loads(CliRunner().invoke(report_command, ["--json", str(recording)]).stdout)
    (migration,) = report["migrations"]
    assert migration["outcome"] == "completed"
    assert report["violations"] == migration["violations"] == []


@pytest.mark.parametrize(("was_s", "is_s"), [(0, 3600), (0, -3600), (3600, 0)])
async def test_that_the_clock_was_set_is_logged_once_with_how_far(
    was_s: int, is_s: int, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    events: list[Event] = []
    ahead_s: float = was_s
    monkeypatch.setattr(clock, "wall_ahead_ns", lambda: round(ahead_s * 1e9))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clock.watch, EventLog([events.append]))
        await trio.sleep(12)
        ahead_s += 0.1  # what it takes to read two clocks
        await trio.sleep(10)
        assert events == []
        ahead_s = is_s
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    (event,) = events
    assert event["event"] == "clock_set"
    assert event["by_s"] == pytest.approx(is_s - was_s, abs=0.2)
    assert event["ahead_s"] == is_s


async def test_a_ring_keeps_what_it_has_when_the_clock_is_set_ahead(tmp_path: Path, wall: WallClock) -> None:
    await migrate_while_it_is_set(
        tmp_path, wall, HOUR_S, "--record", str(tmp_path / "r.pcapng"), "--record-ring", "300"
    )
    (dump,) = tmp_path.glob("r*.pcapng")  # noqa: ASYNC240
    assert BEFORE_S < span_s(dump) < SPAN_S
