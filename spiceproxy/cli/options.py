"""Options that several commands have, said once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from spiceproxy.eventlog import EVENT_NAMES
from spiceproxy.filter import Filter, FilterError, compile_filter


class FilterText(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """A filter over events; what is wrong with it is shown with the place."""

    name = "filter"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Filter:
        """Compile it; a filter that is compiled already stays as it is."""
        if isinstance(value, Filter):
            return value
        try:
            return compile_filter(value, names=EVENT_NAMES)
        except FilterError as error:
            self.fail(str(error), param, ctx)


FILE: Final = click.Path(path_type=Path, dir_okay=False)

record_option: Final = click.option(
    "--record", metavar="FILE.pcapng", type=FILE, help="Record everything for Wireshark."
)
events_option: Final = click.option(
    "--events", metavar="FILE.jsonl", type=FILE, help="Write the proxy's event log as JSON lines."
)
events_filter_option: Final = click.option(
    "--events-filter",
    metavar="EXPR",
    type=FilterText(),
    help="Write only the events that fit, as 'event == \"link_failed\"'; see docs/filter.md.",
)


def check_events_filter(options: Mapping[str, Any]) -> None:
    """A filter without a file to write would go unnoticed.

    Raises:
        click.UsageError: There is `--events-filter` without `--events`.
    """
    if options["events_filter"] is not None and options["events"] is None:
        raise click.UsageError("--events-filter needs --events, the file that it is for")
