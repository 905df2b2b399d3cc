"""TLS and tickets on the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import trio

from spiceproxy.address import Address, ServerTarget
from spiceproxy.cli.tls_options import listeners_of, target_of, tickets_of, tls_of, trusted_by_clients
from spiceproxy.errors import UsageError
from spiceproxy.simulate import ClientOptions, ServerOptions, open_client, open_server
from spiceproxy.tls.authority import Authority, Store
from spiceproxy.tls.settings import FixedCertificate, TlsConfig
from tests.tls.certificates import SERVER_SUBJECT, server_context, trusting, write_pair

A, B, ANY = Address("kvm1", 5900), Address("kvm1", 5901), Address("127.0.0.1", 0)
OPTIONS: dict[str, Any] = dict.fromkeys(
    ("server", "tls_server", "listen", "tls_listen", "server_ca", "server_subject", "ca_cert", "ca_key", "cert", "key",
     "ticket_key", "ticket_file")
) | {"insecure": False}  # fmt: skip

# What is said; the server; where clients come, in clear and with TLS.
PORTS: dict[str, tuple[Mapping[str, str], ServerTarget, tuple[Address | None, Address | None]]] = {
    "plain": ({"server": "kvm1:5900"}, ServerTarget(A), (ANY, None)),
    "TLS": ({"tls_server": "kvm1:5901"}, ServerTarget(None, None, B), (None, ANY)),
    "both": ({"server": "kvm1:5900", "tls_server": "kvm1:5901"}, ServerTarget(A, None, B), (ANY, ANY)),
    "both in a URI": ({"server": "spice://kvm1?port=5900&tls-port=5901"}, ServerTarget(A, None, B), (ANY, ANY)),
    "a port of the same host": ({"server": "kvm1:5900", "tls_server": "5901"}, ServerTarget(A, None, B), (ANY, ANY)),
    "TLS, clients in clear": (
        {"tls_server": "kvm1:5901", "listen": "0.0.0.0:1"}, ServerTarget(None, None, B), (Address("0.0.0.0", 1), None),
    ),
    "plain, clients with TLS": (
        {"server": "kvm1:5900", "tls_listen": "0.0.0.0:1"}, ServerTarget(A), (None, Address("0.0.0.0", 1)),
    ),
    "both, and where in clear": (
        {"server": "kvm1:5900", "tls_server": "kvm1:5901", "listen": "[::1]:1"}, ServerTarget(A, None, B),
        (Address("::1", 1), Address("::1", 0)),
    ),
    "both, and where with TLS: the rest stays on loopback": (
        {"server": "kvm1:5900", "tls_server": "kvm1:5901", "tls_listen": "0.0.0.0:1"}, ServerTarget(A, None, B),
        (ANY, Address("0.0.0.0", 1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("said", "target", "listeners"), PORTS.values(), ids=PORTS)
def test_each_port_of_the_server_can_be_reached(
    said: Mapping[str, str], target: ServerTarget, listeners: tuple[Address | None, Address | None]
) -> None:
    options = OPTIONS | dict(said)
    assert target_of(options) == target
    assert listeners_of(options, target) == listeners


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "half a CA": ({"ca_cert": Path("x")}, "--ca-cert and --ca-key go together"),
    "half a certificate": ({"key": Path("x")}, "--cert and --key go together"),
    "both": (dict.fromkeys(("ca_cert", "ca_key", "cert", "key"), Path("x")), "no CA goes with it"),
    "anybody with a subject": ({"insecure": True, "server_subject": "CN=x"}, "--insecure believes anybody"),
    "no subject": ({"server_subject": "kvm1"}, "--server-subject: subject 'kvm1': kvm1 has no value"),
}


@pytest.mark.parametrize(("said", "reason"), WRONG.values(), ids=WRONG)
def test_what_does_not_go_together_is_told(said: dict[str, Any], reason: str) -> None:
    with pytest.raises(click.UsageError, match=reason):
        tls_of(OPTIONS | said, None, B)


@pytest.mark.parametrize(
    ("said", "inside", "authority"),
    [
        ({}, False, False),
        ({"insecure": True}, True, True),
        ({"ca_cert": "ca", "ca_key": "ca-key"}, True, True),
    ],
    ids=["only the way to us", "and servers", "and what clients find inside"],
)
def test_where_a_connect_proxy_has_a_port_for_tls_a_certificate_is_for_that(
    said: dict[str, Any], inside: bool, authority: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    ours = Store(tmp_path)
    ours.open()
    files = {"ca": ours.certificate, "ca-key": ours.key}
    options = OPTIONS | {name: files.get(value, value) for name, value in said.items()}
    options |= {"cert": tmp_path / "c.pem", "key": tmp_path / "k.pem"}
    config = tls_of(options, ANY, None, shows=True)
    assert config is not None
    assert config.door == FixedCertificate(tmp_path / "c.pem", tmp_path / "k.pem")
    assert config.inside is inside
    assert isinstance(config.certificate, Authority) is authority


def test_without_any_word_of_tls_there_is_none() -> None:
    assert tls_of(OPTIONS, None, None) is None
    assert tls_of(OPTIONS | {"insecure": True}, None, None) is not None


def test_a_client_trusts_the_ca_or_a_certificate_that_is_its_own(tmp_path: Path) -> None:
    ours = Authority.new()
    assert trusted_by_clients(TlsConfig(certificate=ours)) == ours.pem.decode()
    pair = write_pair(tmp_path, "leaf", ours)
    assert trusted_by_clients(TlsConfig(certificate=FixedCertificate(*pair))) is None
    pair[0].write_bytes(pair[0].read_bytes() + ours.pem)
    assert trusted_by_clients(TlsConfig(certificate=FixedCertificate(*pair))) == ours.pem.decode()


def test_tickets_are_read_if_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "ticket"
    file.write_text("secret\n")
    assert tickets_of(OPTIONS) is None
    assert tickets_of(OPTIONS | {"ticket_key": "new"}) is not None
    tickets = tickets_of(OPTIONS | {"ticket_file": file})
    assert tickets is not None
    assert (tickets.server_password, tickets.client_password) == (b"secret", None)
    with pytest.raises(UsageError, match="cannot read"):
        tickets_of(OPTIONS | {"ticket_key": str(tmp_path / "none")})


async def test_the_vv_file_has_all_that_a_client_needs(tmp_path: Path) -> None:
    theirs, vv, ticket = Authority.new(), tmp_path / "vm.vv", tmp_path / "ticket"
    ca = tmp_path / "ca.pem"
    ca.write_bytes(theirs.pem)
    ticket.write_text("secret\nclient's\n")
    context = server_context(*write_pair(tmp_path, "server", theirs))
    async with open_server(ServerOptions(tls=context, password="secret")) as server:
        assert server.address
        command = [
            sys.executable,
            "-m",
            "spiceproxy",
            "run",
            "--json",
            "--vv",
            str(vv),
            "--server-ca",
            str(ca),
        ]
        command += ["--tls-server", str(Address(*server.address)), "--server-subject", SERVER_SUBJECT, "--ticket-file", str(ticket)]  # fmt: skip
        environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
        async with trio.open_nursery() as nursery:
            run = partial(
                trio.run_process, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, env=environment
            )
            process: trio.Process = await nursery.start(run, command)
            assert process.stdout is not None
            line = b""
            with trio.fail_after(30):
                while not line.endswith(b"\n"):
                    line += await process.stdout.receive_some(1)
                started = json.loads(line)
                values = dict(each.split("=", 1) for each in vv.read_text().splitlines()[1:])
                assert "port" not in values
                assert started["tls_listen"] == f"{values['host']}:{values['tls-port']}"
                assert (
                    values["host-subject"].replace("\\\\", "\\") == SERVER_SUBJECT == started["host_subject"]
                )
                assert values["password"] == "client's"
                pem = values["ca"].replace("\\n", "\n")
                assert pem == (tmp_path / "data/spiceproxy/ca.pem").read_text()
                trust = trusting(None)
                trust = type(trust)(trust.protocol)
                trust.check_hostname = False
                trust.load_verify_locations(cadata=pem)
                async with open_client(ClientOptions(tls=trust, password="client's")) as client:
                    await client.connect(
                        values["host"], int(values["tls-port"]), secure=True, subject=SERVER_SUBJECT
                    )
                    await server.wait_client_arrived()
                process.terminate()
                assert await process.wait() == 0
                assert process.stderr is not None
                said = bytearray()
                while more := await process.stderr.receive_some():
                    said += more
    assert b"secret" not in said
