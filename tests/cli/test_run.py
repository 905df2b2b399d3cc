"""`spiceproxy run` as a user runs it: a process, its output, its signals, its exit status."""

import contextlib
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from spiceproxy.simulate import open_client, open_server
from tests.raw_peers import link_mess, read_all, read_link_block

COMMAND = [sys.executable, "-m", "spiceproxy"]


def _call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | environment,
        check=False,
    )


async def _start(nursery: trio.Nursery, *arguments: str) -> tuple[trio.Process, dict[str, Any]]:
    """Start `spiceproxy run --json`; its first line, decoded."""
    command = [*COMMAND, "run", "--json", "--listen", "127.0.0.1:0", *arguments]
    run = partial(trio.run_process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    process: trio.Process = await nursery.start(run, command)
    assert process.stdout is not None
    line = b""
    with trio.fail_after(20):
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some(1)
    return process, json.loads(line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_with_status_0_and_a_closed_recording(
    number: signal.Signals, tmp_path: Path
) -> None:
    recording, events = tmp_path / "r.pcapng", tmp_path / "e.jsonl"
    async with trio.open_nursery() as nursery, open_server() as server:
        assert server.address is not None
        host, port = server.address
        files = ["--record", str(recording), "--events", str(events)]
        process, started = await _start(nursery, "--server", f"spice://{host}:{port}", *files)
        assert started["event"] == "proxy_started"
        async with open_client() as client:
            await client.connect("127.0.0.1", started["port"])
            await server.wait_client_arrived()
            server.draw(10)
        process.send_signal(number)
        with trio.fail_after(10):
            assert await process.wait() == 0
            assert process.stdout is not None
            assert json.loads(await process.stdout.receive_some())["event"] == "proxy_stopped"
    lines = [json.loads(line) for line in events.read_text().splitlines()]
    assert [line["event"] for line in lines][:: len(lines) - 1] == ["proxy_started", "proxy_stopped"]
    assert all(isinstance(line["time_ns"], str) and isinstance(line["time"], float) for line in lines)
    assert stat.S_IMODE(recording.stat().st_mode) == 0o600
    assert len(recording.read_bytes()) > 1000


async def test_signals_while_clients_are_connected_close_them(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery, open_server() as server:
        assert server.address is not None
        process, started = await _start(nursery, "--server", "{}:{}".format(*server.address))
        stream = await trio.open_tcp_stream("127.0.0.1", started["port"])
        async with stream:
            process.send_signal(signal.SIGTERM)
            with trio.fail_after(10):
                with contextlib.suppress(
                    trio.BrokenResourceError
                ):  # the kernel's, if it was not accepted yet
                    assert await stream.receive_some() == b""
                assert await process.wait() == 0


async def test_more_signals_change_nothing() -> None:
    async with trio.open_nursery() as nursery:
        process, _ = await _start(nursery, "--server", "127.0.0.1:1")
        with trio.fail_after(10):
            while process.returncode is None:  # all the while it closes
                process.send_signal(signal.SIGTERM)
                process.send_signal(signal.SIGINT)
                await trio.sleep(0.001)
        assert process.returncode == 0


@pytest.mark.parametrize("descriptor", [1, 2])
async def test_a_closed_standard_stream_costs_nothing(descriptor: int, tmp_path: Path) -> None:
    events = tmp_path / "e.jsonl"
    command = [*COMMAND, "run", "--server", "127.0.0.1:1", "--events", str(events)]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, check=False, preexec_fn=lambda: os.close(descriptor))
        process: trio.Process = await nursery.start(run, command)
        with trio.fail_after(20):
            while not (events.exists() and "proxy_started" in events.read_text()):  # noqa: ASYNC110
                await trio.sleep(0.02)
            process.terminate()
            assert await process.wait() == 0


async def test_a_full_disk_that_no_connection_noticed_is_an_event(tmp_path: Path) -> None:
    recording = tmp_path / "r.pcapng"
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        port = listener.socket.getsockname()[1]
        process, started = await _start(nursery, "--server", f"127.0.0.1:{port}", "--record", str(recording))
        size = recording.stat().st_size
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
        with trio.fail_after(10):
            async with await trio.open_tcp_stream("127.0.0.1", started["port"]) as stream:
                await stream.send_all(link_mess())
                async with await listener.accept() as server:
                    await read_link_block(server)
                    process.terminate()
                    assert await process.wait() == 0
            assert process.stderr is not None
            said = await read_all(process.stderr)
        assert b"recording_failed" in said
        assert b"Traceback" not in said


async def test_the_vv_file_leads_to_the_proxy_and_is_private(tmp_path: Path) -> None:
    vv = tmp_path / "vm.vv"
    async with trio.open_nursery() as nursery:
        process, started = await _start(
            nursery, "--server", "spice://127.0.0.1?port=1&password=secret", "--vv", str(vv)
        )
        text = vv.read_text()
        assert f"port={started['port']}" in text
        assert "host=127.0.0.1" in text
        assert "password=secret" in text
        assert stat.S_IMODE(vv.stat().st_mode) == 0o600
        process.terminate()


def test_a_port_in_use_is_one_line_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = _call("run", "--listen", f"127.0.0.1:{port}", "--server", "127.0.0.1:1")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}: the port is in use" in result.stderr


WRONG = {
    "no port": ["--server", "kvm1"],
    "a port too large": ["--server", "kvm1:70000"],
    "an IPv6 address without brackets": ["--server", "fe80::1:5900"],
    "another scheme": ["--server", "vnc://kvm1:5900"],
    "a unix socket without a path": ["--server", "spice+unix://kvm1"],
    "a CA that is not there": ["--tls-server", "kvm1:5901", "--server-ca", "/nonexistent/ca.pem"],
    "a TLS port twice": ["--server", "spice+tls://kvm1:5900", "--tls-server", "kvm1:5901"],
    "a certificate that is not there": [
        "--tls-server",
        "kvm1:5901",
        "--cert",
        "/nonexistent",
        "--key",
        "/nonexistent",
    ],
    "a CA of clients that is not there": [
        "--server",
        "kvm1:5900",
        "--tls-listen",
        "0",
        "--ca-cert",
        "/nonexistent",
        "--ca-key",
        "/nonexistent",
    ],
    "a range upside down": ["--server", "kvm1:5900", "--destination-ports", "20-10"],
    "a recording that cannot be written": ["--server", "kvm1:5900", "--record", "/nonexistent/r.pcapng"],
    "an event log that cannot be written": ["--server", "kvm1:5900", "--events", "/nonexistent/e.jsonl"],
    "a vv file that cannot be written": ["--server", "kvm1:5900", "--vv", "/nonexistent/x.vv"],
    "a host that is not here": ["--server", "kvm1:5900", "--listen", "192.0.2.1:0"],
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_what_the_user_got_wrong_is_one_line_and_status_1(arguments: list[str]) -> None:
    result = _call("run", *arguments)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert sum(line.startswith("spiceproxy: ") for line in result.stderr.splitlines()) == 1


def test_a_missing_option_is_a_usage_error_with_status_2() -> None:
    result = _call("run")
    assert result.returncode == 2
    assert "--server" in result.stderr


@pytest.mark.parametrize("command", [[], ["run"], ["demo"], ["lab"]])
def test_help_has_examples(command: list[str]) -> None:
    result = _call(*command, "--help")
    assert result.returncode == 0
    assert "Examples:" in result.stdout
    assert "spiceproxy" in result.stdout


def test_the_version_is_printed() -> None:
    assert "spiceproxy, version 0" in _call("--version").stdout
