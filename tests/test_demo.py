"""The demo, as its users run it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from dissectors.errors import DissectionError
from spiceproxy import redirect
from spiceproxy.demo import run as demo
from spiceproxy.demo.run import KINDS, DemoOptions, DemoResult, Happening, MigrationKind, run_demo
from spiceproxy.errors import UsageError
from spiceproxy.simulate import SimulatedClient

ALL_NAMES = {"main:0", *(f"{name}:0" for name in demo.CHANNELS)}


async def play(options: DemoOptions) -> tuple[DemoResult, list[Happening]]:
    happenings: list[Happening] = []
    with trio.fail_after(30):
        return await run_demo(options, happenings.append), happenings


@pytest.mark.parametrize("migration", KINDS)
@pytest.mark.parametrize("hops", [1, 4])
async def test_every_kind_of_migration_ends_as_asked_with_every_channel_on_the_proxy(
    migration: MigrationKind, hops: int
) -> None:
    result, happenings = await play(DemoOptions(migration, hops))
    assert result.ok, result.reasons
    assert result.reasons == []
    assert [hop.outcome for hop in result.hops] == [migration] * hops
    assert {place.channel for place in result.channels} == ALL_NAMES
    last = result.hops[-1].destination
    assert all(place.was.startswith("s1 ") and place.now.startswith(f"{last} ") for place in result.channels)
    assert len({place.connection for place in result.channels}) == 8
    assert sum(place.from_server for place in result.channels) > 60
    texts = [happening.meaning for happening in happenings]
    assert (
        sum("The proxy rewrites it" in text for text in texts)
        == (2 if migration == "switch-host" else 1) * hops
    )
    assert all(happening.meaning for happening in happenings)


async def test_three_hops_come_back_to_the_first_server() -> None:
    result, _ = await play(DemoOptions("seamless", 3))
    assert [(hop.source, hop.destination) for hop in result.hops] == [
        ("s1", "s2"),
        ("s2", "s3"),
        ("s3", "s1"),
    ]


async def test_the_account_has_the_whole_handshake_in_order() -> None:
    _, happenings = await play(DemoOptions("seamless"))
    told = [
        (h.sender, h.receiver, h.message)
        for h in happenings
        if h.event == "message" and h.channel == "main:0"
    ]
    order = [
        ("s1", "c", "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS"),
        ("c", "s2", "SPICE_MSGC_MAIN_MIGRATE_DST_DO_SEAMLESS"),
        ("s2", "c", "SPICE_MSG_MAIN_MIGRATE_DST_SEAMLESS_ACK"),
        ("c", "s1", "SPICE_MSGC_MAIN_MIGRATE_CONNECTED_SEAMLESS"),
        ("s1", "c", "SPICE_MSG_MIGRATE"),
        ("c", "s1", "SPICE_MSGC_MIGRATE_FLUSH_MARK"),
        ("s1", "c", "SPICE_MSG_MIGRATE_DATA"),
        ("c", "s2", "SPICE_MSGC_MIGRATE_DATA"),
    ]
    assert [step for step in told if step in order] == order


async def test_a_proxy_that_does_not_redirect_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> bytes:
        raise DissectionError("not today")

    monkeypatch.setattr(redirect, "rewrite_destination", refuse)
    result, _ = await play(DemoOptions("seamless"))
    assert not result.ok
    assert len(result.reasons) == 8  # the client got to s2, and all of its channels went past the proxy
    assert "display:0 is not on s2 through the proxy" in result.reasons
    assert {place.now for place in result.channels} == {""}
    assert result.verdict == f"failed: {result.reasons[0]}"


async def test_a_migration_that_ends_otherwise_than_asked_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refuse(*_: object) -> bool:
        return False

    monkeypatch.setattr("spiceproxy.simulate.client_migration.ClientMigration._ask_seamless", refuse)
    result, _ = await play(DemoOptions("seamless"))
    assert not result.ok
    assert any("broken by the client" in reason or "semi-seamless" in reason for reason in result.reasons)


async def test_a_peer_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_STEP_S", 2.0)
    monkeypatch.setattr(SimulatedClient, "send_key", lambda *_: None)
    result, _ = await play(DemoOptions())
    assert result.reasons == ["using s1: not done within 2 s"]


async def test_a_recording_that_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing"):
        await play(DemoOptions(record=tmp_path / "missing" / "demo.pcapng"))


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spiceproxy", "demo", *arguments]
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_shows_a_migration_from_any_directory(tmp_path: Path) -> None:
    started = time.monotonic()
    done = run(cwd=tmp_path, NO_COLOR="1")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert time.monotonic() - started < 15  # under 5 on a machine that is not busy with other tests
    assert "✔ seamless, s1 → s2: all 8 channels moved" in done.stdout
    assert "\x1b" not in done.stdout
    for words in (
        "MAIN_MIGRATE_BEGIN_SEAMLESS",
        "MIGRATE_FLUSH_MARK",
        "The proxy rewrites it",
        "│ display:0",
    ):
        assert words in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_json_is_one_object_a_line_and_ends_with_the_result(tmp_path: Path) -> None:
    done = run("--json", "--migration", "semi-seamless", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["event"] == "result"
    assert lines[-1]["ok"] is True
    assert {line["event"] for line in lines[:-1]} == {"phase", "message", "routine", "sum", "link", "proxy"}
    assert {"SPICE_MSG_MAIN_MIGRATE_END", "SPICE_MSGC_MAIN_MIGRATE_END"} <= {
        line.get("message") for line in lines
    }


def test_recording_and_events_are_written(tmp_path: Path) -> None:
    done = run("--record", "demo.pcapng", "--events", "demo.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "recorded in demo.pcapng" in done.stdout
    assert (tmp_path / "demo.pcapng").read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"
    events = [json.loads(line) for line in (tmp_path / "demo.jsonl").read_text().splitlines()]
    assert {"destination_opened", "message_rewritten", "channel_linked"} <= {
        event["event"] for event in events
    }


def test_a_file_that_cannot_be_written_is_one_line_and_exit_status_1(tmp_path: Path) -> None:
    for option in ("--record", "--events"):
        done = run(option, "missing/file", cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith("spiceproxy: ")
        assert len(done.stderr.splitlines()) == 1


def test_a_demo_that_failed_exits_with_1_and_one_line(tmp_path: Path) -> None:
    broken = (
        "import sys, spiceproxy.simulate as s\n"
        "def fail(_): raise s.SimulationError('no keys today')\n"
        "s.SimulatedClient.send_key = fail\n"
        "from spiceproxy.cli import main\n"
        "sys.argv = ['spiceproxy', 'demo']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", broken], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "spiceproxy: demo failed: using s1: no keys today\n"
    assert "✘ failed" in done.stdout


def test_nobody_has_to_read_to_the_end(tmp_path: Path) -> None:
    command = f"{sys.executable} -m spiceproxy demo | head -n 3"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 3


def test_help_has_examples(tmp_path: Path) -> None:
    done = run("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "spiceproxy demo --migration semi-seamless" in done.stdout
    assert "Exit status" in done.stdout


def test_a_migration_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    done = run("--migration", "teleport", cwd=tmp_path)
    assert done.returncode == 2
    assert "seamless" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
async def test_with_tls_every_channel_moves_and_stays_on_the_proxy(
    kind: MigrationKind, tmp_path: Path
) -> None:
    record = tmp_path / "tls.pcapng"
    said: list[str] = []
    with trio.fail_after(30):
        options = DemoOptions(kind, hops=2, tls=True, record=record)
        result = await run_demo(options, lambda happening: said.append(happening.meaning))
    assert result.ok, result.reasons
    assert result.report
    assert [str(each.performed) for each in result.report.migrations] == [kind] * 2
    assert any("The proxy rewrites it: c is sent to 127.0.0.1:" in line for line in said)
    assert b"SPICE_MSG_MAIN_MIGRATE" in record.read_bytes()  # in clear, with what was rewritten
