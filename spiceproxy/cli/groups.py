"""How commands are found: imported when they are called, so that `spiceproxy --help` is quick."""

import importlib
from typing import Any, Final

import click

CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class LazyGroup(click.Group):
    """A group whose commands live in modules of this package named after them.

    Args:
        commands_from: Command name to the name of the click command in `spiceproxy.cli.NAME`.
    """

    def __init__(self, *args: Any, commands_from: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commands_from = commands_from

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order they are told."""
        return [*self._commands_from, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        attribute = self._commands_from.get(cmd_name)
        if attribute is None:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(importlib.import_module(f"spiceproxy.cli.{cmd_name}"), attribute)
        return command
