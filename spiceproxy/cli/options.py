"""Options that several commands have, said once."""

from pathlib import Path
from typing import Final

import click

FILE: Final = click.Path(path_type=Path, dir_okay=False)

record_option: Final = click.option(
    "--record", metavar="FILE.pcapng", type=FILE, help="Record everything for Wireshark."
)
events_option: Final = click.option(
    "--events", metavar="FILE.jsonl", type=FILE, help="Write the proxy's event log as JSON lines."
)
