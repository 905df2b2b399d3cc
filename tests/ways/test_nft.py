"""`spiceproxy nft`: the rules as text, and what the kernel has after --apply and --remove."""

import subprocess
import sys

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
    assert [" ".join(command) for command in nft.routes(what, add=True)] == [
        "ip -4 rule add fwmark 0x1 lookup 7",
        "ip -4 route replace local 0.0.0.0/0 dev lo table 7",
        "ip -6 rule add fwmark 0x1 lookup 7",
        "ip -6 route replace local ::/0 dev lo table 7",
    ]


def test_redirect_needs_no_routes() -> None:
    assert nft.routes(nft.Interception(4000, range(5900, 6000)), add=True) == []


@pytest.mark.parametrize("text", ["kvm1", "10.0.0.0/99", ""])
def test_what_is_no_server_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="address or a network"):
        nft.parse_servers((text,))


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--to", "1", "--apply", "--remove"], 2, "not both"),
        (["--to", "0"], 2, "--to"),
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


@pytest.mark.lab
def test_apply_may_be_repeated_and_remove_leaves_nothing() -> None:
    with network() as net:

        def call(*command: str) -> str:
            inside = net.inside(net.router, *command)
            return subprocess.run(inside, capture_output=True, text=True, timeout=60, check=True).stdout

        before = [call("ip", version, "rule") for version in ("-4", "-6")]
        for _ in range(2):
            call(*COMMAND, "--to", "4000", "--tproxy", "--apply")
            assert call("nft", "list", "ruleset").count("tproxy ip") == 2
            assert call("ip", "-4", "rule").count("lookup 5900") == 1
            assert "local default dev lo" in call("ip", "-6", "route", "show", "table", "5900")
        for _ in range(2):
            call(*COMMAND, "--to", "4000", "--tproxy", "--remove")
            assert call("nft", "list", "ruleset") == ""
            assert [call("ip", version, "rule") for version in ("-4", "-6")] == before
