"""Options of `run` about what peers may take."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click
import msgspec

from spiceproxy.cli.options import FILE
from spiceproxy.cli.together import with_options
from spiceproxy.limits import Limits, load_limits

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option(
        "--limits",
        "limits_file",
        metavar="FILE.toml",
        type=FILE,
        help="What peers may take: see docs/service.md. Read again on SIGHUP.",
    ),
    click.option(
        "--max-connections",
        metavar="N",
        type=click.IntRange(1, 1_000_000),
        help="Connections in all; a session has 6 to 12.  [default: 8192, or what descriptors allow]",
    ),
    click.option(
        "--max-connections-per-address",
        metavar="N",
        type=click.IntRange(1, 1_000_000),
        help="Connections of one client address.  [default: 4096]",
    ),
    click.option(
        "--peer-timeout",
        metavar="SECONDS",
        type=click.FloatRange(1, 86_400),
        help="Give a peer up that acknowledges nothing, or does not read, for so long.  [default: 300]",
    ),
    click.option(
        "--connect-timeout",
        metavar="SECONDS",
        type=click.FloatRange(0.1, 600),
        default=10.0,
        show_default=True,
        help="How long a server may take to accept a connection.",
    ),
    click.option(
        "--link-timeout",
        metavar="SECONDS",
        type=click.FloatRange(0.1, 3600),
        default=60.0,
        show_default=True,
        help="How long a client may take for its link message, and both peers for the link phase.",
    ),
)


def limit_options(command: _Command) -> _Command:
    """The options."""
    return with_options(command, _OPTIONS)


def limits_of(arguments: Mapping[str, Any]) -> Limits:
    """What options say; for the rest what the file says, read now; for the rest the defaults.

    Raises:
        UsageError: The file is no file of limits.
    """
    file = arguments["limits_file"]
    limits = load_limits(file) if file is not None else Limits()
    said = {
        "connections": arguments["max_connections"],
        "connections_per_address": arguments["max_connections_per_address"],
        "peer_timeout_s": arguments["peer_timeout"],
    }
    return msgspec.structs.replace(limits, **{key: value for key, value in said.items() if value is not None})
