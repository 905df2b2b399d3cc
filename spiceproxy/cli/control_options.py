"""Options of `run`, `demo` and `lab` for being controlled."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from spiceproxy.cli.together import with_options

if TYPE_CHECKING:
    from spiceproxy.control.options import ControlOptions

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS: Final = (
    click.option(
        "--control",
        metavar="ADDRESS",
        help="Let `spiceproxy ctl` and other programs of yours control it (docs/control.md), at 127.0.0.1:PORT or unix:/PATH; "
        "port 0 for any free one.",
    ),
    click.option(
        "--control-token-file",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Holds the token that they have to show.  [default: one is made, for programs of this user]",
    ),
)


def control_options(command: _Command) -> _Command:
    """The options."""
    return with_options(command, _OPTIONS)


def control_of(arguments: Mapping[str, Any]) -> "ControlOptions | None":
    """From where a command is to be controlled; None for nowhere.

    Raises:
        UsageError: The address cannot be used.
    """
    if arguments["control"] is None:
        if arguments["control_token_file"] is not None:
            raise click.UsageError("--control-token-file goes with --control")
        return None
    from spiceproxy.control.options import ControlOptions, parse_control

    return ControlOptions(parse_control(arguments["control"]), arguments["control_token_file"])
