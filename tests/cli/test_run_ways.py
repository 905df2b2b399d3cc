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
from click.testing import CliRunner

from spiceproxy.address import Address
from spiceproxy.cli import cli
from spiceproxy.errors import UsageError
from spiceproxy.simulate import ClientOptions, open_client, open_server
from spiceproxy.tls.authority import Authority
from spiceproxy.vvfile import read_vv
from tests.ways.dialling import connect_dial, unix_dial
from tests.ways.proxmox import name_of, vv_of

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


def test_the_file_for_the_client_has_the_tls_port_and_the_ca_if_tls_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))  # where a CA of one's own is kept
    for options, ca in ((["--insecure"], True), ([], False)):
        vv = tmp_path / "vm.vv"
        server = ["--server", "spice+tls://kvm1.example:5901", "--server-subject", "O=Servers,CN=kvm1"]
        with running(
            "--mode", "connect", *server[: 2 if "--insecure" in options else 4], *options, "--vv", str(vv)
        ):
            text = vv.read_text()
        assert "host=kvm1.example\ntls-port=5901\n" in text
        assert ("ca=-----BEGIN CERTIFICATE-----" in text) is ca
        assert ("host-subject=O=Servers,CN=kvm1\n" in text) is not ca
        assert "proxy=http://127.0.0.1:" in text


def test_a_connect_proxy_with_tls_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    vv = tmp_path / "vm.vv"
    with running(
        "--mode", "connect", "--tls-listen", "127.0.0.1:0", "--server", "kvm1:5900", "--vv", str(vv)
    ) as started:
        assert (started["plain"], started["tls_listen"]) == (False, started["listen"])
        assert f"host=kvm1\nport=5900\nproxy=https://{started['listen']}\n" in vv.read_text()


@pytest.mark.parametrize("mode", ["listen", "connect"])
def test_a_file_of_proxmox_is_made_into_one_that_leads_here(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    name, given, vv = name_of("pve1"), tmp_path / "pve.vv", tmp_path / "vm.vv"
    ca, subject = Authority.new().pem.decode(), "OU=PVE Cluster Node,CN=pve1"
    nobody = Address("127.0.0.1", 1)  # so it is told that the node is not known yet, and goes on
    given.write_text(vv_of(name, 61000, proxy=nobody, ca=ca, subject=subject, password="secret"))
    with running("--mode", mode, "--server-vv", str(given), "--vv", str(vv)) as started:
        found = read_vv(vv)
        assert found.target.password == "secret"
        assert found.ca not in {None, ca}
        if mode == "connect":
            assert found.target.tls == Address(name, 61000)
            assert (found.subject, found.proxy) == (subject, f"http://{started['listen']}")
        else:
            assert str(found.target.tls) == started["tls_listen"]
            assert (started["server"], found.proxy) == (f"{name.partition('::')[0]}:61000", None)


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
    "--local without transparent": (["--server", "kvm1:1", "--local"], 2, "--local goes with --mode transparent"),
    "TLS of its own for the kernel": (["--mode", "transparent", "--tls-listen", "0"], 2, "TLS comes by --listen as well"),
    "two who ask for the server": (["--mode", "transparent", "--tproxy", "--upstream-proxy", "a"], 2, "keeps the client's address"),
    "a proxy of no kind": (["--server", "a:1", "--upstream-proxy", "socks://a"], 1, "no URI of a proxy"),
    "a server twice": (["--server", "a:1", "--server-vv", __file__], 2, "--server-vv names the server"),
    "a file of another kind": (["--server-vv", __file__], 1, "no file for remote-viewer"),
    "a WebSocket to lead to": (["--mode", "connect", "--server", "ws://a:1/", "--vv", "x.vv"], 2, "takes HOST:PORT"),
}  # fmt: skip


def call(*arguments: str) -> tuple[int, str]:
    """Exit status and what is said, without a process: nothing is started by what is wrong."""
    result = CliRunner().invoke(cli, ["run", *arguments])
    if isinstance(result.exception, UsageError):  # as `spiceproxy.cli.main` says it
        return 1, str(result.exception)
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_go_together_is_told(name: str) -> None:
    arguments, status, said = WRONG[name]
    got, text = call(*arguments)
    assert (got, said in text) == (status, True), text


def test_a_file_without_credentials_is_told(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("secret\n")
    status, text = call("--mode", "connect", "--credentials", str(file))
    assert status == 1
    assert "USER:PASSWORD" in text
    assert "secret" not in text


def test_a_directory_that_is_not_there_is_told() -> None:
    command = [*COMMAND, "--listen", "unix:/nonexistent/x", "--server", "a:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == "spiceproxy: cannot listen on unix:/nonexistent/x: No such file or directory\n"
