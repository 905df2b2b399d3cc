"""Options that belong together, put on a command at once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

_Command = TypeVar("_Command", bound=Callable[..., Any])


def with_options(command: _Command, options: Sequence[Callable[[_Command], _Command]]) -> _Command:
    """The command with all of these, in the order in which `--help` is to show them."""
    for option in reversed(options):
        command = option(command)
    return command
