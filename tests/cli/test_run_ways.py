"""`spiceproxy run` with ways in, as a user runs it: what it listens on, the file for the client, and what it refuses."""

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from spiceproxy.simulate import ClientOptions, open_client, open_server
from tests.ways.dialling import connect_dial, unix_dial

COMMAND = [sys.executable, "-m", "spiceproxy", "run"]


@contextmanager
def running(*arguments: str) -> Iterator[dict[str, Any]]:
    """`spiceproxy run --json`; its first line, decoded. Ended by SIGTERM, with status 0."""
    command = [*COMMAND, "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.communicate(timeout=30)
        assert process.returncode == 0


async def test_mode_connect_leads_a_client_to_the_server_that_it_asks_for(tmp_path: Path) -> None:
    vv, credentials = tmp_path / "vm.vv", tmp_path / "credentials"
    credentials.write_text("anna:secret\n")
    async with open_server() as server:
        assert server.address is not None
        options = ["--mode", "connect", "--allow", "127.0.0.1:*", "--credentials", str(credentials)]
        with running(*options, "--server", str(server.address), "--vv", str(vv)) as started:
            assert (started["mode"], started["server"]) == ("connect", None)
            assert f"proxy=http://{started['listen']}\n" in vv.read_text()
            assert f"port={server.address.port}\n" in vv.read_text()
            dial = connect_dial((started["host"], started["port"]), "anna:secret")
            async with open_client(ClientOptions(dial=dial)) as client:
                with trio.fail_after(20):
                    await client.connect(*server.address)
                    await server.wait_client_arrived()


async def test_it_listens_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    async with open_server() as server:
        assert server.address is not None
        with running("--listen", f"unix:{path}", "--server", str(server.address)) as started:
            assert started["listen"] == f"unix:{path}"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            async with open_client(ClientOptions(dial=unix_dial(path))) as client:
                with trio.fail_after(20):
                    await client.connect(*server.address)
                    await server.wait_client_arrived()
        assert not path.exists()


WRONG = {
    "no server": ([], 2, "'--server'"),
    "nobody to lead to": (["--mode", "connect", "--vv", "x.vv"], 2, "--vv needs --server"),
    "a server where clients dial": (["--mode", "transparent", "--server", "kvm1:1"], 2, "clients dial it themselves"),
    "a unix socket for the kernel": (["--mode", "transparent", "--listen", "unix:/x"], 2, "needs a TCP port"),
    "a file that leads to a unix socket": (["--listen", "unix:/x", "--server", "a:1", "--vv", "x.vv"], 2, "TCP port"),
    "--allow without CONNECT": (["--server", "kvm1:1", "--allow", "a:1"], 2, "--allow goes with --mode connect"),
    "--tproxy without transparent": (["--server", "kvm1:1", "--tproxy"], 2, "--tproxy goes with --mode transparent"),
    "--advertise where nothing is rewritten": (["--mode", "connect", "--advertise", "a"], 2, "--mode listen only"),
    "no rule": (["--mode", "connect", "--allow", "kvm1"], 1, "not a range of ports"),
    "a mode that there is not": (["--mode", "magic"], 2, "magic"),
    "a WebSocket to lead to": (["--mode", "connect", "--server", "ws://a:1/", "--vv", "x.vv"], 2, "takes HOST:PORT"),
    "no such directory": (["--listen", "unix:/nonexistent/x", "--server", "a:1"], 1, "No such file or directory"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_go_together_is_told(name: str) -> None:
    arguments, status, said = WRONG[name]
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_file_without_credentials_is_told(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("secret\n")
    command = [*COMMAND, "--mode", "connect", "--credentials", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "USER:PASSWORD" in done.stderr
    assert "secret" not in done.stderr
