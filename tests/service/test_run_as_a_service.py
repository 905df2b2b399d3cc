"""`spiceproxy run` under what a service manager does: sockets, notifications, signals; and what monitoring asks."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from spiceproxy.address import Address
from spiceproxy.simulate import open_client, open_server
from tests.cli.test_run import COMMAND
from tests.cli.test_run_production import _wait_for_event
from tests.test_proxy import lab

# systemd sets LISTEN_PID to the process that it starts; a shell in between would have another one.
ACTIVATED = """
import os, sys
descriptor = int(sys.argv[1])
os.dup2(descriptor, 3)
os.set_inheritable(3, True)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), "1"
os.execv(sys.executable, [sys.executable, "-m", "spiceproxy", *sys.argv[2:]])
"""


class Running:
    """The process, and what there is to know of it."""

    def __init__(self, process: "subprocess.Popen[str]", events: Path) -> None:
        self.process, self.events = process, events

    async def wait_for(self, name: str) -> dict[str, Any]:
        return await _wait_for_event(self.events, name)

    async def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert await trio.to_thread.run_sync(self.process.wait, 20) == 0


def start(tmp_path: Path, server: Address, *arguments: str, **options: Any) -> Running:
    events = tmp_path / "events.jsonl"
    events.touch()
    command = options.pop("command", COMMAND)
    process = subprocess.Popen(
        [
            *command,
            "run",
            "--server",
            str(server),
            "--events",
            str(events),
            "--log-level",
            "error",
            *arguments,
        ],
        stdout=subprocess.DEVNULL,
        text=True,
        **options,
    )
    return Running(process, events)


def get(listen: str, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{listen}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def test_the_manager_hears_of_every_step(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(20)
        environment = os.environ | {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"}
        running = start(tmp_path, Address("127.0.0.1", 1), env=environment)
        ready = (await trio.to_thread.run_sync(manager.recv, 1000)).decode()
        started = await running.wait_for("proxy_started")
        assert ready == f"READY=1\nSTATUS=listening on {started['listen']}"
        for _ in range(3):
            assert await trio.to_thread.run_sync(manager.recv, 1000) == b"WATCHDOG=1"
        running.process.send_signal(signal.SIGHUP)
        await running.wait_for("reloaded")
        await running.stop()
        manager.setblocking(False)
        heard = []
        while True:
            try:
                heard.append(manager.recv(1000).decode().partition("=")[0])
            except BlockingIOError:
                break
        said = [each for each in heard if each != "WATCHDOG"]
        assert said == ["RELOADING", "READY", "STOPPING"]


async def test_a_socket_of_the_manager_is_where_clients_connect(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        async with open_server() as server:
            assert server.address is not None
            descriptor = listening.fileno()
            running = start(
                tmp_path,
                Address(*server.address),
                command=[sys.executable, "-c", ACTIVATED, str(descriptor)],
                pass_fds=[descriptor],
            )
            async with open_client() as client:  # it may come before the proxy does: the socket is there
                with trio.fail_after(20):
                    await client.connect("127.0.0.1", port)
                    await server.wait_client_arrived()
            assert (await running.wait_for("proxy_started"))["port"] == port
            await running.stop()


async def test_clients_are_sent_to_where_the_managers_socket_is_and_not_to_what_is_said_of_listen() -> None:
    listening = socket.create_server(("127.0.0.2", 0))
    listening.setblocking(False)
    async with lab(inherited=listening, listen=Address("127.0.0.1", 0)) as it:
        await it.migrate(0, 1)
        await it.check_all_moved(1, 1)
        assert {view.server.host for view in it.client.channels} == {"127.0.0.2"}


def test_a_socket_that_does_not_listen_is_refused(tmp_path: Path) -> None:
    one, other = socket.socketpair()
    with one, other:
        result = subprocess.run(
            [sys.executable, "-c", ACTIVATED, str(one.fileno()), "run", "--server", "127.0.0.1:1"],
            pass_fds=[one.fileno()],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert result.returncode == 1
    assert "does not listen" in result.stderr


async def test_monitoring_is_told_what_goes_on(tmp_path: Path) -> None:
    async with open_server() as server:
        assert server.address is not None
        recording = ["--record", str(tmp_path / "r.pcapng")]
        running = start(tmp_path, Address(*server.address), "--metrics", "0", *recording)
        listen = str((await running.wait_for("metrics_started"))["listen"])
        port = (await running.wait_for("proxy_started"))["port"]
        assert await trio.to_thread.run_sync(get, listen, "/healthz") == (200, '{"status":"ok"}')
        async with open_client() as client:
            await client.connect("127.0.0.1", port)
            await server.wait_client_arrived()
            status, text = await trio.to_thread.run_sync(get, listen, "/metrics")
            assert status == 200
            values = {
                (sample.name, *sample.labels.values()): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
            assert values["spiceproxy_sessions",] == 1
            assert values["spiceproxy_connections",] == len(client.channels) == 4
            assert values["spiceproxy_events_total", "channel_linked", "info"] == 4
            assert values["spiceproxy_recording",] == 1
            assert values["spiceproxy_recording_lost_bytes_total",] == 0
            assert values["spiceproxy_listeners",] == 1
            assert values["spiceproxy_tasks",] > 8
            assert values["process_open_fds",] > 8
        assert (await trio.to_thread.run_sync(get, listen, "/secrets"))[0] == 404
        await running.stop()


async def test_a_hang_up_reads_limits_and_faults_again(tmp_path: Path) -> None:
    limits, faults = tmp_path / "limits.toml", tmp_path / "faults.toml"
    limits.write_text("connections = 1\n")
    rule = '[[fault]]\nname = "{}"\nmatch = {{ message = "PING" }}\ndo = "drop"\n'
    faults.write_text(rule.format("one"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = Address(*server.getsockname())
        running = start(tmp_path, address, "--limits", str(limits), "--faults", str(faults))
        port = (await running.wait_for("proxy_started"))["port"]
        first = await trio.open_tcp_stream("127.0.0.1", port)
        second = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.fail_after(10):
            assert await second.receive_some() == b""
        limits.write_text("connections = 2\n")
        faults.write_text(rule.format("one") + rule.format("two"))
        running.process.send_signal(signal.SIGHUP)
        assert (await running.wait_for("reloaded"))["faults"] == ["one", "two"]
        third = await trio.open_tcp_stream("127.0.0.1", port)
        with trio.move_on_after(0.3) as still_open:
            await third.receive_some()
        assert still_open.cancelled_caught
        limits.write_text("connections = none\n")
        running.process.send_signal(signal.SIGHUP)
        assert "limits.toml" in str((await running.wait_for("reload_failed"))["reason"])
        await running.stop()
        for stream in (first, second, third):
            await stream.aclose()


ROOT = Path(__file__).parents[2]


@pytest.mark.lab
@pytest.mark.parametrize("unit", ["spiceproxy@.service", "spiceproxy@.socket"])
def test_units_are_what_systemd_takes(unit: str, tmp_path: Path) -> None:
    from tests.programs import require_programs

    require_programs("systemd-analyze")
    for name in ("spiceproxy@.service", "spiceproxy@.socket"):
        text = (
            (ROOT / "docs/packaging" / name)
            .read_text()
            .replace("ExecStart=spiceproxy", f"ExecStart={sys.executable}")
        )
        (tmp_path / name.replace("@", "@vm1")).write_text(text)
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.replace("@", "@vm1"))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "spiceproxy" not in result.stderr


@pytest.mark.lab
def test_the_unit_leaves_the_process_little_to_break(tmp_path: Path) -> None:
    from tests.programs import require_programs

    require_programs("systemd-analyze")
    unit = tmp_path / "spiceproxy@vm1.service"
    unit.write_text((ROOT / "docs/packaging/spiceproxy@.service").read_text())
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--json=short", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    exposed = [each for each in json.loads(result.stdout) if each.get("exposure")]
    total = sum(float(each["exposure"]) for each in exposed)
    assert total < 2.5, exposed
