"""A bar on standard error, for whoever waits for a large file and is there to see it."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

FROM_BYTES: Final = 8 * 2**20
"""Smaller files are done before a bar would say anything."""

Through = Callable[[BinaryIO], BinaryIO]


@contextlib.contextmanager
def progress(name: str, readings: int = 1, *, wanted: bool = True) -> Iterator[Through]:
    """Give what every reading of the file has to go through.

    Args:
        name: Of the file; nothing is shown for standard input, whose size nobody knows.
        readings: How often it will be read.
        wanted: Whether there may be one: what is printed meanwhile would run into it.
    """
    size = Path(name).stat().st_size if name != "-" else 0
    if not wanted or size < FROM_BYTES or not sys.stderr.isatty():
        yield lambda source: source
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with (
        contextlib.ExitStack() as read,  # what the bar wraps is not closed by it
        Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=5) as bar,
    ):
        task = bar.add_task("", total=size * readings)
        yield lambda source: bar.wrap_file(read.enter_context(source), task_id=task)
