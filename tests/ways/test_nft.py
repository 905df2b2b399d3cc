"""`spiceproxy nft`: the rules as text, and what the kernel has after --apply and --remove."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from spiceproxy.cli import cli
from spiceproxy.errors import UsageError
from spiceproxy.ways import nft
from tests.ways.network import network

COMMAND = [sys.executable, "-m", "spiceproxy", "nft"]

REDIRECT = """\
table inet spiceproxy
delete table inet spiceproxy
table inet spiceproxy {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		meta nfproto ipv4 iifname "c0" ip daddr { 10.1.0.0/16, 10.2.0.1/32 } tcp dport 5900-5999 redirect to :4000
	}
}
"""
TPROXY = """\
table inet spiceproxy
delete table inet spiceproxy
table inet spiceproxy {
	chain prerouting {
		type filter hook prerouting priority mangle; policy accept;
		meta l4proto tcp socket transparent 1 socket wildcard 0 meta mark set 0x1 accept
		iifname "lo" meta mark != 0x1 accept
		iifname != "lo" fib daddr type local accept
		meta nfproto ipv4 tcp dport 5900 tproxy ip to :4000 meta mark set 0x1 accept
		meta nfproto ipv6 tcp dport 5900 tproxy ip6 to :4000 meta mark set 0x1 accept
	}
}
"""


def test_redirect_has_a_rule_for_each_family_of_the_servers_that_are_named() -> None:
    servers = nft.parse_servers(("10.1.0.0/16", "10.2.0.1"))
    assert nft.ruleset(nft.Interception(4000, range(5900, 6000), servers, "c0")) == REDIRECT


def test_tproxy_marks_packets_and_a_route_leads_them_here() -> None:
    what = nft.Interception(4000, range(5900, 5901), tproxy=True, mark=1, route_table=7)
    assert nft.ruleset(what) == TPROXY
    assert [" ".join(command) for route in nft.routes(what) for command in route.add] == [
        "ip -4 rule add fwmark 0x1 lookup 7",
        "ip -4 route replace local 0.0.0.0/0 dev lo table 7",
        "ip -6 rule add fwmark 0x1 lookup 7",
        "ip -6 route replace local ::/0 dev lo table 7",
    ]


@pytest.mark.parametrize(("uid", "passes"), [(None, "meta mark 0x5b1cf accept"), (5, "meta skuid 5 accept")])
@pytest.mark.parametrize("tproxy", [False, True], ids=["REDIRECT", "TPROXY"])
def test_what_this_machine_sends_is_caught_but_not_what_the_proxy_does(
    uid: int | None, passes: str, tproxy: bool
) -> None:
    what = nft.Interception(4000, range(5900, 5901), interface="c0", tproxy=tproxy, local=True, proxy_uid=uid)
    output = nft.ruleset(what).partition("chain output {")[2]
    rules = [line.strip() for line in output.splitlines()]
    assert rules[2] == passes
    caught = "meta mark set 0x5b1ce" if tproxy else "redirect to :4000"
    assert rules[3] == f"meta nfproto ipv4 tcp dport 5900 {caught}"
    assert "c0" not in output  # that is where others come in


@pytest.mark.parametrize("text", ["kvm1", "10.0.0.0/99", ""])
def test_what_is_no_server_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="address or a network"):
        nft.parse_servers((text,))


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--to", "1", "--apply", "--remove"], 2, "not both"),
        (["--to", "0"], 2, "--to"),
        ([], 2, "Missing option '--to'"),
        (["--to", "1", "--proxy-user", "root"], 2, "--local"),
        (["--to", "1", "--local", "--proxy-user", "no such user"], 1, "no user"),
        (["--to", "1", "--ports", "9-1"], 1, "not a range"),
        (["--to", "1", "--interface", 'x"; drop'], 1, "no name of a network interface"),
    ],
)
def test_what_cannot_be_is_told(arguments: list[str], status: int, said: str) -> None:
    result = CliRunner().invoke(cli, ["nft", *arguments])
    if status == 2:
        assert result.exit_code == 2
        assert said in result.output
    else:  # `spiceproxy.cli.main` makes one line and status 1 of it
        assert isinstance(result.exception, UsageError)
        assert said in str(result.exception)


def test_without_nft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    for command, package in (
        (["--to", "1", "--apply"], "nftables"),
        (["--to", "1", "--apply", "--tproxy"], "iproute2"),
    ):
        result = CliRunner().invoke(cli, ["nft", *command])
        assert isinstance(result.exception, UsageError)
        assert f"install {package}" in str(result.exception)
        assert "\n" not in str(result.exception)


@pytest.mark.parametrize("option", ["--apply", "--remove"])
def test_a_dry_run_prints_and_does_nothing(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("it ran a program"))
    result = CliRunner().invoke(cli, ["nft", "--to", "1", "--tproxy", "--dry-run", option])
    assert result.exit_code == 0
    assert ("chain prerouting" in result.output) is (option == "--apply")
    assert f"# ip -6 rule {'add' if option == '--apply' else 'del'} fwmark" in result.output


def test_without_ipv6_in_the_kernel_there_are_no_routes_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        ran.append(command[1:])
        return subprocess.CompletedProcess(command, int("del" in command), "", "")

    monkeypatch.setattr("subprocess.run", run)
    for path, there in ((tmp_path, True), (tmp_path / "none", False)):
        monkeypatch.setattr("spiceproxy.cli.nft._IPV6", path)
        ran.clear()
        result = CliRunner().invoke(cli, ["nft", "--to", "1", "--tproxy", "--apply"])
        assert result.exit_code == 0
        added = [command[0] for command in ran if "add" in command]
        assert added == (["-4", "-6"] if there else ["-4"])


@pytest.fixture
def router() -> Iterator[Callable[..., str]]:
    """Runs programs on the router of a network; gives what they print, also where they fail."""
    with network() as net:

        def call(*command: str, status: int = 0) -> str:
            inside = net.inside(net.router, *command)
            done = subprocess.run(inside, capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == status, done.stderr
            return done.stdout + done.stderr

        yield call


@pytest.mark.lab
def test_apply_may_be_repeated_also_with_other_options_and_remove_leaves_nothing(
    router: Callable[..., str],
) -> None:
    before = [router("ip", version, "rule") for version in ("-4", "-6")]
    for _ in range(2):
        router(*COMMAND, "--to", "4000", "--tproxy", "--local", "--apply")
        rules = router("nft", "list", "ruleset")
        assert rules.count("tproxy ip") == 2
        assert "hook output" in rules
        assert router("ip", "-4", "rule").count("lookup 5900") == 1
        assert "local default dev lo" in router("ip", "-6", "route", "show", "table", "5900")
    router(*COMMAND, "--to", "4000", "--apply")
    rules = router("nft", "list", "ruleset")
    assert (rules.count("redirect to :4000"), rules.count("tproxy")) == (2, 0)
    assert [router("ip", version, "rule") for version in ("-4", "-6")] == before
    router(*COMMAND, "--to", "4000", "--tproxy", "--apply")
    for _ in range(2):
        router(*COMMAND, "--remove")
        assert router("nft", "list", "ruleset") == ""
        assert [router("ip", version, "rule") for version in ("-4", "-6")] == before


@pytest.mark.lab
@pytest.mark.parametrize("options", [[], ["--tproxy"]], ids=["REDIRECT", "TPROXY"])
def test_who_may_not_is_told_how_in_one_line_and_nothing_is_left(
    options: list[str], router: Callable[..., str]
) -> None:
    nobody = ["setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps=-all"]
    said = router(*nobody, *COMMAND, "--to", "4000", *options, "--apply", status=1)
    assert said.count("\n") == 1
    assert "run this as root" in said
    assert router("nft", "list", "ruleset") == ""
    assert "5900" not in router("ip", "rule")
