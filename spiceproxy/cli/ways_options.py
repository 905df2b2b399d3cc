"""Options of `run` that say how clients come to the proxy."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from spiceproxy.address import Address, ServerTarget, parse_address, parse_listen
from spiceproxy.cli.tls_options import listeners_of, target_of
from spiceproxy.cli.together import with_options
from spiceproxy.errors import UsageError
from spiceproxy.ways.allowing import Allowed
from spiceproxy.ways.mode import ANYWHERE, Mode, WaysIn
from spiceproxy.ways.upstream import parse_upstream

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option(
        "--mode",
        type=click.Choice([str(mode) for mode in Mode]),
        default=str(Mode.LISTEN),
        show_default=True,
        help="How clients come: to a port that leads to --server; by HTTP CONNECT; or because the kernel brings them "
        "here (see `spiceproxy nft`).",
    ),
    click.option(
        "--allow",
        metavar="HOST:PORTS",
        multiple=True,
        help="connect: where clients may go, as *.example.org:5900-5999; may be repeated.  "
        "[default: any host's ports 5900-5999 and 61000-61099 if --listen is on loopback, nothing otherwise]",
    ),
    click.option(
        "--credentials",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="connect: file with USER:PASSWORD that clients have to give (HTTP Basic).",
    ),
    click.option(
        "--upstream-proxy",
        metavar="URI",
        envvar="SPICEPROXY_UPSTREAM_PROXY",
        help="Reach servers through this HTTP proxy, by CONNECT: http[s]://[USER:PASSWORD@]HOST[:PORT].  "
        "[default: the one of --server-vv]",
    ),
    click.option(
        "--tproxy",
        is_flag=True,
        help="transparent: take connections from TPROXY, and let servers see the client's address. As root.",
    ),
    click.option(
        "--local",
        is_flag=True,
        help="transparent: take connections of programs on this machine as well (`spiceproxy nft --local`). As root.",
    ),
    click.option(
        "--allow-origin",
        metavar="ORIGIN",
        multiple=True,
        help="A web page that may connect through a WebSocket, as http://console.example.org; may be repeated.  "
        "[default: pages of the proxy's own address]",
    ),
)

# In the other modes nothing is rewritten, and clients speak TLS wherever they do to the server.
_LISTEN_ONLY: Final = ("advertise", "destination_ports", "tls_server")
_ONLY_WITH: Final = {
    "allow": Mode.CONNECT,
    "credentials": Mode.CONNECT,
    "tproxy": Mode.TRANSPARENT,
    "local": Mode.TRANSPARENT,
} | dict.fromkeys(_LISTEN_ONLY, Mode.LISTEN)


def ways_options(command: Command) -> Command:
    """Add the options to a command."""
    return with_options(command, _OPTIONS)


Entry = tuple[WaysIn, ServerTarget, Address | None, Address | None]


def entry_of(options: Mapping[str, Any]) -> Entry:
    """What was said of ways in: how, the server, and where the proxy listens, in clear and with TLS.

    Raises:
        click.UsageError: It does not fit together.
        UsageError: A value is none.
    """
    mode = Mode(options["mode"])
    _check(options, mode)
    if mode is Mode.LISTEN:
        target = target_of(options)
        listen, tls_listen = listeners_of(options, target)
    else:
        target = target_of(options) if _names_server(options) else ServerTarget(ANYWHERE)
        tls_listen = parse_address(options["tls_listen"], any_port=True) if options["tls_listen"] else None
        listen = parse_listen(options["listen"] or "0") if options["listen"] or tls_listen is None else None
        if target.websocket or (target.address is not None and target.address.unix_path is not None):
            raise click.UsageError(f"--mode {mode}: --server is for --vv only, and takes HOST:PORT")
    over_unix = listen is not None and listen.unix_path is not None
    if options["vv"] is not None and over_unix:
        raise click.UsageError("--vv needs a TCP port, since the file leads a client there")
    if mode is Mode.TRANSPARENT and over_unix:
        raise click.UsageError("--mode transparent needs a TCP port: the kernel redirects to nothing else")
    ways = WaysIn(
        mode=mode,
        allowed=Allowed(options["allow"]) if options["allow"] else None,
        credentials=_read_credentials(options["credentials"]),
        tproxy=options["tproxy"],
        upstream=parse_upstream(options["upstream_proxy"]) if options["upstream_proxy"] else None,
        local=options["local"],
        websocket=target.websocket,
        origins=options["allow_origin"],
    )
    return ways, target, listen, tls_listen


def _check(options: Mapping[str, Any], mode: Mode) -> None:
    for name, needed in _ONLY_WITH.items():
        if options[name] and mode is not needed:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --mode {needed} only")
    if mode is Mode.TRANSPARENT:
        if _names_server(options):
            raise click.UsageError("--server does not go with --mode transparent: clients dial it themselves")
        if options["tls_listen"]:
            raise click.UsageError(
                "--tls-listen does not go with --mode transparent: TLS comes by --listen as well"
            )
        if options["upstream_proxy"] and options["tproxy"]:
            raise click.UsageError("--tproxy keeps the client's address, which an --upstream-proxy does not")
    if mode is not Mode.LISTEN and options["vv"] is not None and not _names_server(options):
        raise click.UsageError("--vv needs --server, since the file leads a client there")


def _names_server(options: Mapping[str, Any]) -> bool:
    return options["server"] is not None or options["server_vv"] is not None


def _read_credentials(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    if ":" not in text or "\n" in text:
        raise UsageError(f"{path} does not hold one line USER:PASSWORD")
    return text
