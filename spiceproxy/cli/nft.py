"""`spiceproxy nft`: the kernel's part of `run --mode transparent`."""

import re
import shlex
import subprocess
from typing import Any, Final

import click

from spiceproxy.address import parse_port_range
from spiceproxy.errors import UsageError
from spiceproxy.ways import nft

_TIMEOUT_S: Final = 20
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.@-]{1,15}")

EPILOG = """\b
Examples:
  spiceproxy nft --to 5999                                # look at the rules
  spiceproxy nft --to 5999 --apply                        # have SPICE that passes this machine come to the proxy
  spiceproxy run --mode transparent --listen '[::]:5999'
  spiceproxy nft --to 5999 --tproxy --apply               # the same, and servers see the client's address
  spiceproxy run --mode transparent --listen '[::]:5999' --tproxy
  spiceproxy nft --to 5999 --tproxy --remove

\b
The rules are in a table of their own, inet spiceproxy. They catch what this machine forwards, as a router between
clients and servers; not what programs on it send. Forwarding is up to you (sysctl net.ipv4.ip_forward).
--remove takes the same options as --apply did."""


@click.command("nft", epilog=EPILOG)
@click.option(
    "--to", "to_port", metavar="PORT", type=click.IntRange(1, 65535), required=True, help="Port of the proxy."
)
@click.option(
    "--ports", metavar="A-B", default="5900-5999", show_default=True, help="Ports of servers to catch."
)
@click.option(
    "--server",
    "servers",
    metavar="ADDRESS",
    multiple=True,
    help="Catch only what goes to this address or network; may be repeated.",
)
@click.option("--interface", metavar="NAME", help="Catch only what comes in here: the clients' side.")
@click.option("--tproxy", is_flag=True, help="TPROXY instead of REDIRECT: servers see the client's address.")
@click.option(
    "--mark",
    metavar="N",
    type=click.IntRange(1, 2**32 - 1),
    default=nft.DEFAULT_MARK,
    show_default=True,
    help="Packet mark, with --tproxy.",
)
@click.option(
    "--route-table",
    metavar="N",
    type=click.IntRange(1, 2**32 - 1),
    default=nft.DEFAULT_ROUTE_TABLE,
    show_default=True,
    help="Routing table, with --tproxy.",
)
@click.option("--apply", "apply_", is_flag=True, help="Hand the rules to the kernel (nft, ip; as root).")
@click.option("--remove", is_flag=True, help="Take them away again.")
def nft_command(**options: Any) -> None:
    """Print, apply or remove the rules that bring connections to `run --mode transparent`."""
    if options["apply_"] and options["remove"]:
        raise click.UsageError("--apply or --remove, not both")
    interface = options["interface"]
    if interface is not None and not _INTERFACE.fullmatch(interface):
        raise UsageError(f"{interface!r} is no name of a network interface")
    what = nft.Interception(
        to_port=options["to_port"],
        ports=parse_port_range(options["ports"]),
        servers=nft.parse_servers(options["servers"]),
        interface=interface,
        tproxy=options["tproxy"],
        mark=options["mark"],
        route_table=options["route_table"],
    )
    if options["apply_"]:
        _run(["nft", "-f", "-"], nft.ruleset(what))
        for command in nft.routes(what, add=False):
            _run(command, may_fail=True)  # of an earlier --apply
        for command in nft.routes(what, add=True):
            _run(command)
    elif options["remove"]:
        _run(["nft", "-f", "-"], nft.removal())
        for command in nft.routes(what, add=False):
            _run(command, may_fail=True)
    else:
        click.echo(nft.ruleset(what), nl=False)
        for command in nft.routes(what, add=True):
            click.echo(f"# {shlex.join(command)}")


def _run(command: list[str], text: str | None = None, *, may_fail: bool = False) -> None:
    try:
        result = subprocess.run(  # noqa: S603  our own words, and numbers
            command, input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise UsageError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise UsageError(f"{shlex.join(command)}: no answer within {_TIMEOUT_S} s") from None
    if result.returncode and not may_fail:
        raise UsageError(f"{shlex.join(command)}: {(result.stderr.strip() or 'failed').splitlines()[0]}")
