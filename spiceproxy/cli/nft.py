"""`spiceproxy nft`: the kernel's part of `run --mode transparent`."""

import os
import pwd
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import click

from spiceproxy.address import parse_port_range
from spiceproxy.errors import UsageError
from spiceproxy.ways import nft

_TIMEOUT_S: Final = 20
_INTERFACE: Final = re.compile(r"[A-Za-z0-9_.@-]{1,15}")

_IPV6: Final = Path("/proc/sys/net/ipv6")  # not there where the kernel has none (ipv6.disable=1)

EPILOG = """\b
Examples:
  spiceproxy nft --to 5999                                # look at the rules
  spiceproxy nft --to 5999 --apply                        # have SPICE that passes this machine come to the proxy
  spiceproxy run --mode transparent --listen '[::]:5999'
  spiceproxy nft --to 5999 --tproxy --apply               # the same, and servers see the client's address
  spiceproxy run --mode transparent --listen '[::]:5999' --tproxy
  spiceproxy nft --to 5999 --local --apply                # what programs on this machine send as well
  spiceproxy run --mode transparent --listen '[::]:5999' --local
  spiceproxy nft --remove

\b
The rules are in a table of their own, inet spiceproxy. They catch what this machine forwards, as a router between
clients and servers, and with --local what its own programs send. Forwarding is up to you (sysctl net.ipv4.ip_forward).
--apply may be repeated, also with other options; --remove may be, too."""


@click.command("nft", epilog=EPILOG)
@click.option(
    "--to",
    "to_port",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    help="Port of the proxy; needed but to --remove.",
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
    "--local",
    is_flag=True,
    help="Catch also what programs on this machine send, all but a proxy that runs with --local too.",
)
@click.option(
    "--proxy-user",
    metavar="USER",
    help="With --local: all but what this user's programs send; then the proxy runs as this user, without --local.",
)
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
@click.option(
    "--dry-run", is_flag=True, help="Only print what --apply or --remove would do, as without either."
)
def nft_command(**options: Any) -> None:
    """Print, apply or remove the rules that bring connections to `run --mode transparent`."""
    if options["apply_"] and options["remove"]:
        raise click.UsageError("--apply or --remove, not both")
    if options["to_port"] is None and not options["remove"]:
        raise click.UsageError("Missing option '--to'.")
    if options["proxy_user"] is not None and not options["local"]:
        raise click.UsageError("--proxy-user goes with --local only")
    interface = options["interface"]
    if interface is not None and not _INTERFACE.fullmatch(interface):
        raise UsageError(f"{interface!r} is no name of a network interface")
    what = nft.Interception(
        to_port=options["to_port"] or 0,
        ports=parse_port_range(options["ports"]),
        servers=nft.parse_servers(options["servers"]),
        interface=interface,
        tproxy=options["tproxy"],
        mark=options["mark"],
        route_table=options["route_table"],
        local=options["local"],
        proxy_uid=_uid(options["proxy_user"]),
    )
    if options["dry_run"] or not (options["apply_"] or options["remove"]):
        _print(what, remove=options["remove"])
    elif options["apply_"]:
        _apply(what)
    else:
        _remove(what)


def _uid(user: str | None) -> int | None:
    if user is None:
        return None
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise UsageError(f"--proxy-user: there is no user {user!r}") from None


def _print(what: nft.Interception, *, remove: bool) -> None:
    click.echo(nft.removal() if remove else nft.ruleset(what), nl=False)
    for route in nft.routes(what) if what.tproxy or remove else ():
        for command in route.remove if remove else route.add:
            click.echo(f"# {shlex.join(command)}")


def _apply(what: nft.Interception) -> None:
    """All or nothing, and connections are caught last."""
    _remove_routes(what)  # of an earlier one
    try:
        for route in nft.routes(what) if what.tproxy else ():
            if route.version == "-4" or _IPV6.exists():
                for command in route.add:
                    _run(command)
        _run(["nft", "-f", "-"], nft.ruleset(what))
    except UsageError:
        _remove_routes(what)
        raise


def _remove(what: nft.Interception) -> None:
    _run(["nft", "-f", "-"], nft.removal())
    _remove_routes(what)


def _remove_routes(what: nft.Interception) -> None:
    """If they are there: the table may be somebody else's if the rule that leads to it is not."""
    for route in nft.routes(what):
        rule, table = route.remove
        while _run(rule, may_fail=True):
            _run(table, may_fail=True)


def _run(command: list[str], text: str | None = None, *, may_fail: bool = False) -> bool:
    """Run a command; whether it went well.

    Raises:
        UsageError: It did not, or cannot be run.
    """
    program = shutil.which(command[0], path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if program is None and may_fail:
        return False
    if program is None:
        package = {"nft": "nftables", "ip": "iproute2"}[command[0]]
        raise UsageError(
            f"{command[0]} is not installed; install {package}, or load elsewhere what --dry-run prints"
        )
    try:
        result = subprocess.run(  # noqa: S603  our own words, and numbers
            [program, *command[1:]],
            input=text,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"{shlex.join(command)}: no answer within {_TIMEOUT_S} s") from None
    if result.returncode and not may_fail:
        said = (result.stderr.strip() or "failed").splitlines()[0]
        if "not permitted" in said:
            said += "; run this as root (sudo), or with CAP_NET_ADMIN"
        raise UsageError(f"{shlex.join(command)}: {said}")
    return not result.returncode
