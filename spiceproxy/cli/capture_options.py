"""Options of the commands that read captures, said once. Apart from `options`, which needs the event log."""

from typing import Final

import click

ports_option: Final = click.option(
    "--port",
    "ports",
    metavar="P",
    type=click.IntRange(1, 65535),
    multiple=True,
    help="A port that carries SPICE, for connections whose start is not in the capture. May be given again.",
)
color_option: Final = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colours.",
)
