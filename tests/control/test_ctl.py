"""`spiceproxy ctl` and `spiceproxy run --control` as programs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.control.controlled import LOOPBACK, controlled, in_thread
from tests.injection.faulty import expect
from tests.raw_peers import message

COMMAND = [sys.executable, "-m", "spiceproxy"]
PING = message(4, bytes(12))
PONG = message(3, bytes(12))


def ctl(*arguments: str, timeout: float = 60, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    call = [*COMMAND, "ctl", *arguments]
    return subprocess.run(call, capture_output=True, text=True, timeout=timeout, input=stdin, check=False)


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A proxy that listens; its server is nowhere."""
    call = [*COMMAND, "run", "--listen", "0", "--server", "127.0.0.1:9", "--json", *arguments]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            while "control_started" not in (line := process.stdout.readline()):
                assert line, process.communicate()
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_running_proxy_is_found_and_its_faults_are_changed(tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    file.write_text('[[fault]]\nname = "late"\nmatch = { message = "PING" }\ndo = { delay = 1 }\n')
    with running("--control", f"unix:{tmp_path}/c.sock"):
        assert ctl("faults").stdout == ""
        assert ctl("faults", "add", str(file)).stdout == "late\n"
        again = ctl("faults", "add", str(file))
        assert (again.returncode, again.stderr) == (
            1,
            "spiceproxy: there is a fault called `late` already\n",
        )
        assert ctl("faults", "add", "--scenario", "nack-synth").returncode == 0
        one = '{ match = { message = "PONG" }, do = "drop" }'
        assert json.loads(ctl("faults", "add", "--fault", one, "--json").stdout) == {"faults": ["fault 1"]}
        assert ctl("faults", "add", "-", stdin=file.read_text().replace("late", "later")).stdout == "later\n"
        listed = ctl("faults", "list").stdout.splitlines()
        assert listed[0].split() == ["0", "late:", "delay", "1", "s"]
        assert len(listed) == 4
        assert ctl("faults", "remove", "nack-synth").stdout == "nack-synth\n"
        assert ctl("faults", "reset", "late").stdout == "late\n"
        gone = ctl("faults", "remove", "nack-synth")
        assert gone.returncode == 1
        assert gone.stderr.startswith("spiceproxy: there is no fault `nack-synth`")
        assert ctl("faults", "remove", "--all").stdout == "late\nfault 1\nlater\n"
        assert json.loads(ctl("faults", "--json").stdout) == {"faults": [], "seed": 0}
        assert json.loads(ctl("sessions", "--json").stdout) == {"sessions": []}
        assert json.loads(ctl("migrations", "--json").stdout) == {"migrations": [], "forgotten": 0}
        events = [json.loads(line) for line in ctl("events", "--no-follow", "--json").stdout.splitlines()]
        assert [event["event"] for event in events][:2] == ["proxy_started", "control_started"]
        assert "fault=late" in ctl("events", "--no-follow", 'event == "fault_added"').stdout
        assert ctl("events", "nonsense ==").returncode == 2
        for wrong in (("faults", "add"), ("faults", "remove"), ("faults", "remove", "x", "--all")):
            assert ctl(*wrong).returncode == 2
        missing = ctl("faults", "add", str(tmp_path / "none"))
        assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    nobody = ctl("faults")
    assert nobody.returncode == 1
    assert nobody.stderr.startswith("spiceproxy: no proxy with --control runs")


def test_of_several_proxies_one_has_to_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tmp_path / "token"
    token.write_text("t" * 40)
    token.chmod(0o600)
    path = f"unix:{tmp_path}/c.sock"
    with ExitStack() as stack:
        stack.enter_context(running("--control", "127.0.0.1:0"))
        stack.enter_context(running("--control", path, "--control-token-file", str(token)))
        several = ctl("faults")
        assert several.returncode == 1
        assert several.stderr.startswith("spiceproxy: 2 proxies run; say which with --control: ")
        assert ctl("--control", path, "sessions").returncode == 0
        monkeypatch.setenv("SPICEPROXY_CONTROL", path)
        assert ctl("sessions").returncode == 0
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "elsewhere"))
        unknown = ctl("sessions")
        assert unknown.returncode == 1
        assert "give --token-file" in unknown.stderr
        assert ctl("--token-file", str(token), "sessions").returncode == 0
        token.write_text("u" * 40)
        wrong = ctl("--token-file", str(token), "sessions")
        assert (wrong.returncode, wrong.stderr) == (1, "spiceproxy: the token is missing or wrong\n")
    silent = ctl("--token-file", str(token), "sessions")
    assert silent.returncode == 1
    assert "does not answer" in silent.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--control", "0.0.0.0:0"), "loopback or a unix socket only"),
        (("--control", "unix:c.sock"), "absolute path"),
        (("--control", "127.0.0.1:0", "--control-token-file", "/dev/null"), "holds no token"),
        (("--control", "unix:/nowhere/c.sock"), "cannot listen on unix:/nowhere/c.sock"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_line(arguments: tuple[str, ...], reason: str) -> None:
    call = [*COMMAND, "run", "--listen", "0", "--server", "127.0.0.1:9", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (1, 1, "")
    assert reason in done.stderr


def test_a_token_file_without_control_is_a_slip() -> None:
    call = [*COMMAND, "run", "--listen", "0", "--server", "127.0.0.1:9", "--control-token-file", "x"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2


async def test_a_wait_ends_with_the_message_that_it_waits_for(tmp_path: Path) -> None:
    async with controlled(tmp_path, LOOPBACK) as it:
        client, server = await it.raw.linked()
        call = [*COMMAND, "ctl", "wait", 'name == "SPICE_MSGC_PONG"', "--timeout", "30", "--json"]
        pipes: dict[str, int] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with await in_thread(subprocess.Popen, call, text=True, **pipes) as process:
            assert process.stderr is not None
            assert "messages count from" in await in_thread(process.stderr.readline)
            await client.send_all(PONG)
            await expect(server, PONG)
            told, _ = await in_thread(process.communicate, timeout=30)
        assert process.returncode == 0
        what = json.loads(told)
        assert (what["name"], what["channel"], what["connection"]) == ("SPICE_MSGC_PONG", "display:0", "c1")


def test_a_wait_in_vain_has_an_exit_status_of_its_own_and_one_line(tmp_path: Path) -> None:
    with running("--control", f"unix:{tmp_path}/c.sock"):
        begun = time.monotonic()
        done = ctl("wait", 'name == "MIGRATE_END"', "--timeout", "0.2")
        assert done.returncode == 3
        waiting, vain = done.stderr.splitlines()
        assert waiting.startswith("waiting; messages count from ")
        assert vain == 'spiceproxy: it has not happened within 0.2 s: name == "MIGRATE_END"'
        assert time.monotonic() - begun >= 0.2
        assert ctl("wait", "nam == 3").returncode == 1
        assert ctl("wait", "name ==").stderr.startswith("spiceproxy: filter, column")


def test_what_happened_between_the_start_of_a_wait_and_its_registration_is_not_missed(tmp_path: Path) -> None:
    with running("--control", f"unix:{tmp_path}/c.sock"):
        # It is stopped before it has done anything, and goes on when all is over.
        call = [*COMMAND, "ctl", "wait", 'event == "fault_added"', "--timeout", "1"]
        with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(0.05)  # the clock that tells when a process was started has a step of 10 ms
            assert ctl("faults", "add", "--scenario", "nack-synth").returncode == 0
            os.kill(process.pid, signal.SIGCONT)
            told, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "fault=nack-synth" in told
        condition = 'event == "fault_added"'
        assert ctl("wait", condition, "--timeout", "0.1").returncode == 3
        for since in ("start", "1h", "0"):
            assert ctl("wait", condition, "--timeout", "0.1", "--since", since).returncode == 0
        assert ctl("wait", condition, "--timeout", "0.1", "--since", f"{time.time():.9f}").returncode == 3
        assert ctl("wait", condition, "--since", "tomorrow").returncode == 2


def test_a_wait_says_so_when_the_proxy_ends(tmp_path: Path) -> None:
    with ExitStack() as stack:
        proxy = stack.enter_context(running("--control", f"unix:{tmp_path}/c.sock"))
        call = [*COMMAND, "ctl", "wait", 'name == "MIGRATE_END"']
        with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("waiting")
            proxy.send_signal(signal.SIGTERM)
            _, rest = process.communicate(timeout=20)
        assert process.returncode == 1
        assert rest.count("\n") == 1


@pytest.mark.parametrize("arguments", [("events", "--since", "start"), ("wait", 'name == "PING"')])
def test_whoever_interrupts_gets_no_complaint(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with running("--control", f"unix:{tmp_path}/c.sock"):
        call = [*COMMAND, "ctl", *arguments]
        with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Abort" not in rest
        assert "Traceback" not in rest


def test_without_the_proxy_there_is_nothing_to_control() -> None:
    call = [*COMMAND, "lab", "--direct", "--control", "127.0.0.1:0"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "--direct" in done.stderr


def test_control_of_nothing_costs_nothing() -> None:
    code = (
        "import sys, spiceproxy.proxy, spiceproxy.cli.run; "
        "assert not {'h11', 'spiceproxy.control.server'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_examples_are_in_the_help() -> None:
    text = ctl("--help").stdout
    assert "spiceproxy ctl wait 'name == \"SPICE_MSG_MAIN_MIGRATE_END\"' --timeout 10" in text
    assert "Exit status" in text


def test_the_demo_is_controlled_while_a_migration_goes_on(tmp_path: Path) -> None:
    path = f"unix:{tmp_path}/c.sock"
    slow = '{ match = { message = "MIGRATE_CONNECTED" }, do = { delay = 5 } }'
    call = [*COMMAND, "demo", "--migration", "semi-seamless", "--control", path, "--fault", slow, "--json"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        while '"SPICE_MSG_MAIN_MIGRATE_BEGIN"' not in (line := demo.stdout.readline()):
            assert line
        begun = ctl("wait", 'name == "SPICE_MSG_MAIN_MIGRATE_BEGIN"', "--since", "start")
        assert begun.returncode == 0
        log = '{ match = { message = "SPICE_MSG_MAIN_MIGRATE_END" }, do = "log" }'
        assert ctl("faults", "add", "--fault", log).stdout == "fault 2\n"
        end = ctl("wait", 'name == "SPICE_MSG_MAIN_MIGRATE_END"', "--timeout", "30", "--json")
        rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 0
    assert end.returncode == 0
    assert json.loads(end.stdout)["name"] == "SPICE_MSG_MAIN_MIGRATE_END"
    assert '"outcome":"semi-seamless"' in rest
    assert '"fault":"fault 2"' in rest
