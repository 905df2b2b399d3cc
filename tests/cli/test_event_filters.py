"""`--events-filter` and `--log-filter` as a user runs them."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

COMMAND = [sys.executable, "-m", "spiceproxy"]


def _call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)


async def _run_and_stop(events: Path, *arguments: str) -> str:
    """Start `spiceproxy run`, stop it when it listens; what it wrote on standard error."""
    run = partial(trio.run_process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    command = [*COMMAND, "run", "--json", "--server", "127.0.0.1:1", "--events", str(events), *arguments]
    async with trio.open_nursery() as nursery:
        process: trio.Process = await nursery.start(run, command)
        assert process.stdout is not None
        assert process.stderr is not None
        with trio.fail_after(20):
            assert json.loads(await process.stdout.receive_some())["event"] == "proxy_started"
            process.terminate()
            shown = b"".join([part async for part in process.stderr])
            assert await process.wait() == 0
    return shown.decode()


async def test_each_filter_chooses_for_its_own_output_only(tmp_path: Path) -> None:
    events = tmp_path / "e.jsonl"
    shown = await _run_and_stop(
        events, "--events-filter", 'event =~ "*_stopped"', "--log-filter", 'signal == "SIGTERM"'
    )
    assert [json.loads(line)["event"] for line in events.read_text().splitlines()] == ["proxy_stopped"]
    assert [line.split("]")[1].split()[0] for line in shown.splitlines()] == ["signal_received"]


async def test_the_level_holds_for_what_the_filter_lets_through(tmp_path: Path) -> None:
    shown = await _run_and_stop(tmp_path / "e.jsonl", "--log-level", "warning", "--log-filter", "true")
    assert shown == ""


def test_the_demo_writes_only_the_events_that_are_wanted(tmp_path: Path) -> None:
    events = tmp_path / "e.jsonl"
    wanted = (
        'event == "migration_message" and name =~ "MIGRATE_BEGIN*" and from == "server" and fields.dst_info'
    )
    done = _call("demo", "--events", str(events), "--events-filter", wanted)
    assert done.returncode == 0, done.stderr
    (line,) = map(json.loads, events.read_text().splitlines())
    assert line["name"] == "SPICE_MSG_MAIN_MIGRATE_BEGIN_SEAMLESS"


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["run", "--server", "127.0.0.1:1", "--events", "e"], "--events-filter"),
        (["run", "--server", "127.0.0.1:1"], "--log-filter"),
        (["demo", "--events", "e"], "--events-filter"),
        (["lab", "--events", "e"], "--events-filter"),
    ],
)
def test_a_wrong_filter_ends_it_with_status_2_and_shows_the_place(command: list[str], option: str) -> None:
    done = _call(*command, option, 'level == "info" and evnt == "x"')
    assert done.returncode == 2
    assert done.stderr.splitlines()[-3:] == [
        f"Error: Invalid value for '{option}': filter, column 21: there is no name `evnt`; did you mean `event`?",
        '  level == "info" and evnt == "x"',
        "                      ^",
    ]


@pytest.mark.parametrize("command", [["run", "--server", "127.0.0.1:1"], ["demo"], ["lab"]])
def test_a_filter_without_the_file_that_it_is_for_is_refused(command: list[str]) -> None:
    done = _call(*command, "--events-filter", "hop > 0")
    assert done.returncode == 2
    assert "--events-filter needs --events" in done.stderr
