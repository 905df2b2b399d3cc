"""The real thing: QEMU, spicy or remote-viewer, the proxy between them."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from spiceproxy.lab.programs import QEMU
from spiceproxy.lab.result import ClientKind, Course, LabOptions, LabResult, MigrationKind, Picture
from spiceproxy.lab.run import run_lab
from spiceproxy.lab.sasl import SASLPASSWD
from spiceproxy.lab.viewer import needed_programs
from spiceproxy.protocol.migration.model import Kind, Outcome
from tests.programs import require_programs

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

# TCG boots our guest in a tenth of a second; KVM inside a virtual machine takes four.
TCG = LabOptions(accelerators=("tcg",))
SPICY_CHANNELS = [
    "cursor:0",
    "display:0",
    "inputs:0",
    "main:0",
    "playback:0",
    "record:0",
    "usbredir:0",
    "webdav:0",
]


async def run(options: LabOptions) -> LabResult:
    require_programs(QEMU, *needed_programs(options.client))
    result = await run_lab(options)
    assert result.problems == []
    assert result.ok
    return result


def check_every_channel_is_on_the_last_server_through_the_proxy(
    result: LabResult, channels: list[str]
) -> None:
    assert result.channels == channels
    assert [migration.hop for migration in result.migrations] == list(range(1, result.hops + 1))
    for migration in result.migrations:
        assert migration.kind == result.migration
        assert migration.completed_event
        assert migration.source.migrated
        assert migration.source.channels == []
        assert migration.destination.channels == channels
        assert migration.picture is Picture.MOVING
        for place in migration.channels:
            assert place.through_proxy
            assert place.hop == migration.hop
            assert place.messages is not None
            if place.channel in {"main:0", "display:0"}:
                assert place.messages["server"] > 0
    assert result.report
    assert result.report.status == 0
    performed = [str(migration.performed) for migration in result.report.migrations]
    assert performed == [str(result.migration)] * result.hops
    assert all(set(migration.channels) == set(channels) for migration in result.report.migrations)


@pytest.mark.parametrize("migration", list(MigrationKind))
async def test_spicy_stays_on_the_proxy_for_two_hops(migration: MigrationKind) -> None:
    result = await run(replace(TCG, migration=migration, hops=2))
    check_every_channel_is_on_the_last_server_through_the_proxy(result, SPICY_CHANNELS)
    servers = {place.server for migration in result.migrations for place in migration.channels}
    assert len(servers) == 2


async def test_kvm_is_used_where_it_works_and_logs_and_a_screenshot_are_kept_on_request(
    tmp_path: Path,
) -> None:
    shot, logs = tmp_path / "shot.png", tmp_path / "logs"
    result = await run(LabOptions(screenshot=shot, keep_logs=logs))
    check_every_channel_is_on_the_last_server_through_the_proxy(result, SPICY_CHANNELS)
    assert result.accelerator == ("kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg")
    assert result.screenshot == str(shot)
    assert shot.read_bytes().startswith(b"\x89PNG")
    assert "migrate connect reply" in (logs / "client.log").read_text(errors="replace")
    assert '"execute":"client_migrate_info"' in (logs / "s1.qmp.log").read_text()
    assert (logs / "s2.log").exists()


async def test_remote_viewer_stays_on_the_proxy() -> None:
    result = await run(replace(TCG, client=ClientKind.REMOTE_VIEWER))
    channels = [channel for channel in SPICY_CHANNELS if channel != "webdav:0"]
    check_every_channel_is_on_the_last_server_through_the_proxy(result, channels)


@pytest.mark.parametrize("migration", list(MigrationKind))
async def test_the_simulated_client_stays_on_the_proxy_and_qemu_breaks_no_rule(
    migration: MigrationKind,
) -> None:
    result = await run(replace(TCG, migration=migration, client=ClientKind.SIMULATED))
    check_every_channel_is_on_the_last_server_through_the_proxy(result, SPICY_CHANNELS)


async def test_without_the_proxy_the_same_is_seen_from_qemu_alone() -> None:
    result = await run(replace(TCG, direct=True))
    assert {place.through_proxy for place in result.migrations[0].channels} == {None}


async def test_a_cancelled_client_stays_and_can_be_migrated_after_that() -> None:
    result = await run(replace(TCG, course=Course.CANCEL, hops=2))
    cancelled, moved = result.migrations
    assert (cancelled.kind, cancelled.source.channels) == ("cancelled", SPICY_CHANNELS)
    assert (moved.kind, moved.destination.channels) == ("seamless", SPICY_CHANNELS)
    assert reported(result) == [Outcome.CANCELLED, Outcome.COMPLETED]


async def test_a_client_whose_password_has_expired_is_lost() -> None:
    result = await run(replace(TCG, course=Course.EXPIRED_TICKET))
    assert result.report
    (found,) = result.report.migrations
    assert (found.outcome, found.channels["main:0"].destination_linked) == (Outcome.FAILED, False)
    assert "SPICE_LINK_ERR_PERMISSION_DENIED" in found.reason


async def test_a_destination_that_dies_leaves_guest_and_client_where_they_are() -> None:
    result = await run(replace(TCG, course=Course.KILL_DURING))
    assert result.migrations[0].destination.guest == "gone"
    assert reported(result) == [Outcome.CANCELLED]


async def test_a_channel_that_spicy_has_not_opened_wedges_it_and_the_report_says_why() -> None:
    result = await run(replace(TCG, course=Course.IDLE_HEAD))
    assert result.report
    (found,) = result.report.migrations
    assert (found.outcome, found.blocking) == (Outcome.WEDGED, ["cursor:1"])
    assert "waits for MIGRATE on cursor:1" in found.reason


async def test_a_migration_that_comes_too_early_is_told_from_a_good_one() -> None:
    for _ in range(3):  # a client may be quick enough
        result = await run(replace(TCG, course=Course.TOO_EARLY))
        assert result.report
        (found,) = result.report.migrations
        if found.performed is not Kind.SEAMLESS:
            break
    assert (found.offered and found.offered.kind, found.performed) == (Kind.SEAMLESS, Kind.SWITCH_HOST)
    assert "before the client had replied" in found.agreed_reason or result.migrations[0].kind == "cancelled"
    assert result.migrations[0].source.migrated  # which is all that QEMU says


def reported(result: LabResult) -> list[Outcome | None]:
    assert result.report
    return [each.outcome for each in result.report.migrations]


@pytest.fixture
def private_tmp() -> Iterator[Path]:
    """A short one: the lab's unix sockets live under it."""
    with tempfile.TemporaryDirectory(prefix="lab-test-") as name:
        yield Path(name)


def start_command(private_tmp: Path, *arguments: str) -> subprocess.Popen[bytes]:
    require_programs(QEMU, *needed_programs(ClientKind.SPICY))
    return subprocess.Popen(
        [sys.executable, "-m", "spiceproxy", "lab", "--accel", "tcg", *arguments],
        env=os.environ | {"TMPDIR": str(private_tmp)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def descendants(private_tmp: Path) -> list[int]:
    """Processes that were given our directory for temporary files, or an environment that points into it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = entry.read_bytes()
        except OSError:
            continue
        if os.fsencode(private_tmp) in environment:
            found.append(int(entry.parent.name))
    return found


def test_the_command_prints_one_json_object(private_tmp: Path) -> None:
    with start_command(private_tmp, "--repeat", "2", "--json") as process:
        output, progress = process.communicate(timeout=120)
    assert process.returncode == 0, progress.decode()
    report = msgspec.json.decode(output)
    assert report["ok"] is True
    assert report["passed"] == len(report["runs"]) == 2
    assert [run["migrations"][0]["kind"] for run in report["runs"]] == ["seamless", "seamless"]
    assert [run["report"]["migrations"][0]["performed"] for run in report["runs"]] == ["seamless", "seamless"]
    assert b"client_migrate_info" in progress
    assert descendants(private_tmp) == []
    assert list(private_tmp.iterdir()) == []


def test_the_command_prints_a_table_and_a_verdict(private_tmp: Path) -> None:
    with start_command(private_tmp, "--migration", "semi-seamless") as process:
        output, progress = process.communicate(timeout=120)
    assert process.returncode == 0, progress.decode()
    text = output.decode()
    assert "\x1b" not in text
    assert "peer on s2" in text
    for channel in SPICY_CHANNELS:
        assert channel in text
    assert "ok: semi-seamless with spicy: 8 channels moved 1 time" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["connecting to the proxy", "client_migrate_info"])
def test_an_interrupted_run_leaves_nothing_behind(
    private_tmp: Path, number: signal.Signals, moment: str
) -> None:
    with start_command(private_tmp) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if moment in line.decode():
                break
        assert len(descendants(private_tmp)) >= 2  # the command and QEMU
        process.send_signal(number)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert f"interrupted by {number.name}" in rest.decode()
    assert b"Traceback" not in rest
    assert descendants(private_tmp) == []
    assert list(private_tmp.iterdir()) == []


def test_a_qemu_that_dies_is_a_failed_run_that_says_so(private_tmp: Path) -> None:
    with start_command(private_tmp) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"client_migrate_info" in line:
                break
        (victim,) = [pid for pid in descendants(private_tmp) if _is_qemu(pid, "s1")]
        os.kill(victim, signal.SIGKILL)
        output, rest = process.communicate(timeout=60)
    assert process.returncode == 1, rest.decode()
    assert "s1 ended by itself (SIGKILL)" in output.decode()
    assert b"Traceback" not in rest
    assert descendants(private_tmp) == []
    assert list(private_tmp.iterdir()) == []


DEATHS = sorted(course for course in Course if course.startswith("kill-"))


@pytest.mark.parametrize(
    "course",
    [
        pytest.param(course, marks=() if course is Course.KILL_CLIENT_DURING else pytest.mark.nightly)
        for course in DEATHS
    ],
)
async def test_a_killed_client_or_server_comes_to_what_the_course_says(course: Course) -> None:
    result = await run(replace(TCG, course=course))
    assert len(result.migrations) == 1


def _is_qemu(pid: int, name: str) -> bool:
    return f"-name\0{name}\0".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()


# TLS and SASL -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ticket", [False, True], ids=["", "ticket"])
@pytest.mark.parametrize("migration", list(MigrationKind))
async def test_spicy_stays_on_the_proxy_with_tls(migration: MigrationKind, ticket: bool) -> None:
    """It has a CA file and a host-subject; each server has a certificate and a subject of its own."""
    result = await run(replace(TCG, migration=migration, hops=2, tls=True, ticket=ticket))
    check_every_channel_is_on_the_last_server_through_the_proxy(result, SPICY_CHANNELS)


@pytest.mark.parametrize("migration", list(MigrationKind))
async def test_remote_viewer_stays_on_the_proxy_with_sasl_over_tls(migration: MigrationKind) -> None:
    require_programs(SASLPASSWD)
    viewer = ClientKind.REMOTE_VIEWER
    options = replace(TCG, migration=migration, hops=2, tls=True, sasl="SCRAM-SHA-256", client=viewer)
    channels = [name for name in SPICY_CHANNELS if name != "webdav:0"]
    check_every_channel_is_on_the_last_server_through_the_proxy(await run(options), channels)


async def test_a_sasl_security_layer_is_told_and_the_channels_are_one_session(tmp_path: Path) -> None:
    require_programs(SASLPASSWD)
    events = tmp_path / "e.jsonl"
    options = replace(TCG, hops=0, sasl="DIGEST-MD5", client=ClientKind.REMOTE_VIEWER, events=events)
    await run(options)
    told = [msgspec.json.decode(line) for line in events.read_text().splitlines()]
    opaque = {event["channel"] for event in told if event["event"] == "connection_opaque"}
    assert opaque == {name for name in SPICY_CHANNELS if name != "webdav:0"}
    ended = [event for event in told if event["event"] == "sasl_ended"]
    assert {(event["mechanism"], event["result"]) for event in ended} == {("DIGEST-MD5", "accepted")}
    assert {event["session"] for event in ended} == {"s1"}
