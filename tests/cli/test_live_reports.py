"""What `run`, `demo` and `lab` say of migrations when they end, run as users run them."""

import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import trio
from click.testing import CliRunner

from spiceproxy.cli.lab import lab_command
from spiceproxy.simulate import ServerOptions, SimulatedClient, SimulatedServer, open_client, open_server
from tests.raw_peers import read_all

COMMAND = [sys.executable, "-m", "spiceproxy"]
WIDE = os.environ | {"COLUMNS": "100"}


def call(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        cwd=cwd,
        env=WIDE,
        check=False,
    )


async def migrate(s1: SimulatedServer, s2: SimulatedServer, client: SimulatedClient) -> None:
    assert s2.address
    s1.draw(5)
    s1.migrate_connect(*s2.address)
    await s1.wait_client_connected()
    s1.hand_over_to(s2)
    await s1.migrate_end()
    await client.wait_migrated()
    await s2.wait_client_arrived()
    s2.draw(5)
    await client.wait_until(lambda: client.drawn >= 10)


class Ran:
    """A `spiceproxy run` that has ended: its status and what it printed."""

    status = -1
    out = err = ""

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


async def run(*arguments: str, migrates: bool = True, silent: bool = False) -> Ran:
    """Run it between a client and two servers, migrate (or leave the client waiting), and end it with a signal."""
    ran = Ran()
    with trio.fail_after(40), socket.create_server(("127.0.0.1", 0)) as nobody:
        async with (
            trio.open_nursery() as nursery,
            open_server() as s1,
            open_server(ServerOptions(incoming=True)) as s2,
            open_client() as client,
        ):
            assert s1.address
            start = partial(
                trio.run_process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=WIDE, check=False
            )
            server = "{}:{}".format(*s1.address)
            command = [*COMMAND, "run", "--listen", "127.0.0.1:0", "--server", server, *arguments]
            process: trio.Process = await nursery.start(start, command)
            assert process.stdout
            assert process.stderr
            err = b""

            async def hear(stream: trio.abc.ReceiveStream) -> None:
                nonlocal err
                async for data in stream:
                    err += data

            nursery.start_soon(hear, process.stderr)
            first = b""
            while not first.endswith(b"\n"):
                first += await process.stdout.receive_some(1)
            port = (
                json.loads(first)["port"]
                if first.startswith(b"{")
                else int(first.split(b" for ")[0].rpartition(b":")[2])
            )
            await client.connect("127.0.0.1", port)
            await s1.wait_client_arrived()
            if silent:
                s1.migrate_connect(*nobody.getsockname())
                while b"migration_stalled" not in err:  # noqa: ASYNC110
                    await trio.sleep(0.02)
            elif migrates:
                await migrate(s1, s2, client)
                while b"migration_ended" not in err:  # noqa: ASYNC110
                    await trio.sleep(0.02)
            process.send_signal(signal.SIGTERM)
            rest = await read_all(process.stdout)
            ran.status = await process.wait()
            nursery.cancel_scope.cancel()
        ran.out, ran.err = (first + rest).decode(), err.decode()
    return ran


def text_of(name: str) -> str:
    return Path(name).read_text(encoding="utf-8")


async def test_run_ends_with_the_report_in_every_form(tmp_path: Path) -> None:
    names = {form: str(tmp_path / f"r.{form}") for form in ("report", "html", "svg", "perfetto", "junit")}
    options = [text for form, name in names.items() for text in (f"--{form}", name)]
    ran = await run("--json", "--expect", "seamless", *options)
    assert ran.status == 0, ran.err
    started, stopped = ran.lines
    assert (started["event"], stopped["event"]) == ("proxy_started", "proxy_stopped")
    report = stopped["report"]
    assert (report["v"], report["status"], report["expected"]) == (1, 0, "seamless")
    (migration,) = report["migrations"]
    assert (migration["performed"], migration["outcome"]) == ("seamless", "completed")
    assert all(
        channel["data_equal"] for channel in migration["channels"] if "NEED_DATA_TRANSFER" in channel["flags"]
    )
    made = {form: text_of(name) for form, name in names.items()}
    assert json.loads(made["report"]) == report
    assert made["svg"].startswith("<svg")
    assert "<html" in made["html"]
    assert json.loads(made["perfetto"])
    assert ET.fromstring(made["junit"]).get("failures") == "0"


async def test_run_prints_verdict_and_table_and_logs_the_verdict_as_it_comes() -> None:
    ran = await run()
    assert ran.status == 0
    welcome, verdict, *rest = ran.out.splitlines()
    assert welcome.startswith("spiceproxy listens on")
    assert verdict.startswith(
        "✔ s1 migration 1: seamless as offered, completed; the user saw nothing new for "
    )
    assert any(line.startswith("Channels  times in ms after MIGRATE") for line in rest)
    assert not any("source" in line and "client" in line and "│" in line for line in rest)  # no chart
    (line,) = [line for line in ran.err.splitlines() if "migration_ended" in line]
    assert "verdict='seamless as offered, completed; the user saw nothing new for" in line
    assert "channels" not in line


async def test_with_expect_the_status_of_run_is_that_of_the_report() -> None:
    ran = await run("--expect", "switch-host")
    assert ran.status == 3
    assert ran.err.endswith("spiceproxy: s1 migration 1 was seamless, not switch-host\n")
    ran = await run("--expect", "seamless", migrates=False)
    assert ran.status == 1
    assert ran.err.endswith("spiceproxy: no migration took place\n")
    assert len(ran.out.splitlines()) == 1


async def test_a_migration_that_stalls_is_told_as_soon_as_the_user_wants_it(tmp_path: Path) -> None:
    events = tmp_path / "e.jsonl"
    ran = await run("--stall-after", "0.2", "--events", str(events), silent=True)
    assert ran.status == 0
    assert "the client waits for the link result from the destination on main:0" in ran.err
    (stalled,) = [
        event
        for event in map(json.loads, events.read_text().splitlines())
        if event["event"] == "migration_stalled"
    ]
    assert 200 <= stalled["stood_ms"] < 3000
    assert stalled["blocking"] == ["main:0"]
    # The proxy was ended before the client had replied: that is nobody's fault.
    assert "incomplete" in ran.out.splitlines()[1]


@pytest.mark.parametrize("option", ["--report", "--html", "--svg", "--perfetto", "--junit"])
def test_a_file_that_cannot_be_written_is_an_error_before_anything_is_done(
    option: str, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing" / "file")
    for command in (["run", "--server", "127.0.0.1:1"], ["demo"], ["lab"]):
        done = call(*command, option, missing)
        assert done.returncode == 1
        assert done.stderr.startswith("spiceproxy: cannot write ")
        assert done.stdout == ""


@pytest.mark.parametrize("seconds", ["0", "16", "x"])
def test_thresholds_that_make_no_sense_are_usage_errors(seconds: str) -> None:
    assert call("run", "--server", "127.0.0.1:1", "--stall-after", seconds).returncode == 2


@pytest.mark.parametrize("kind", ["seamless", "semi-seamless", "switch-host"])
def test_demo_ends_with_the_report(kind: str, tmp_path: Path) -> None:
    done = call(
        "demo", "--migration", kind, "--expect", kind, "--report", "r.json", "--svg", "r.svg", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "r.json").read_text())
    assert [each["performed"] for each in report["migrations"]] == [kind]
    assert report["migrations"][0]["verdict"] in " ".join(done.stdout.split())
    assert "Channels  times in ms after " in done.stdout
    assert (tmp_path / "r.svg").exists()


def test_demo_as_json_carries_the_report() -> None:
    done = call("demo", "--json", "--hops", "2")
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["report"]["v"] == 1
    assert [each["performed"] for each in result["report"]["migrations"]] == ["seamless"] * 2


def test_demo_that_went_otherwise_than_expected_has_status_3() -> None:
    done = call("demo", "--expect", "semi-seamless")
    assert done.returncode == 3
    assert done.stderr == "spiceproxy: s1 migration 1 was seamless, not semi-seamless\n"


@pytest.mark.parametrize("option", [["--expect", "seamless"], ["--report", "r.json"], ["--html", "r.html"]])
def test_lab_without_proxy_and_capture_has_nothing_to_report_on(option: list[str]) -> None:
    result = CliRunner().invoke(lab_command, ["--direct", *option])
    assert result.exit_code == 2
    assert "--record" in result.output
