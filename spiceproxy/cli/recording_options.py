"""Options of `run` about how a recording is kept."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from spiceproxy.cli.together import with_options
from spiceproxy.recording.options import RecordingOptions

_Command = TypeVar("_Command", bound=Callable[..., Any])
_UNITS: Final = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
MIN_BYTES: Final = 64 * 2**10


class Size(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """A number of bytes, as 500M or 2G (powers of 1024)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        if isinstance(value, int):
            return value
        if (match := re.fullmatch(r"(\d{1,12})\s*([kmg]?)(i?b)?", value.strip().lower())) is None:
            self.fail(f"{value!r} is no size; write 500M or 2G", param, ctx)
        size = int(match[1]) * _UNITS[match[2]]
        if size < MIN_BYTES:
            self.fail(f"{value!r} is too little; at least 64K", param, ctx)
        return size


_SECONDS: Final = click.FloatRange(1, 7 * 86_400)
_OPTIONS: Final = (
    click.option(
        "--record-per-session",
        is_flag=True,
        help="A recording for each session, named after FILE and the session.",
    ),
    click.option(
        "--record-rotate-size", metavar="SIZE", type=Size(), help="Begin another file after so much, as 500M."
    ),
    click.option(
        "--record-rotate-time", metavar="SECONDS", type=_SECONDS, help="Begin another file after so long."
    ),
    click.option(
        "--record-keep",
        metavar="N",
        type=click.IntRange(1, 1_000_000),
        help="Of files in a row, or of a ring, keep so many; older ones are deleted.  [default: all]",
    ),
    click.option(
        "--record-limit", metavar="SIZE", type=Size(), help="End the recording when it has so much."
    ),
    click.option(
        "--record-ring",
        metavar="SECONDS",
        type=_SECONDS,
        help="Record into memory only, and write the last seconds to a file on SIGUSR1 and when a migration stalls.",
    ),
    click.option(
        "--record-ring-size",
        metavar="SIZE",
        type=Size(),
        default="64M",
        show_default=True,
        help="What the ring may take of memory.",
    ),
    click.option(
        "--record-on-full",
        type=click.Choice(["go-on", "end-sessions"]),
        default="go-on",
        show_default=True,
        help="When nothing can be recorded any more: sessions go on without, or end.",
    ),
)


def recording_options(command: _Command) -> _Command:
    """The options."""
    return with_options(command, _OPTIONS)


def recording_of(arguments: Mapping[str, Any]) -> RecordingOptions:
    """What they say.

    Raises:
        click.UsageError: They do not go together.
    """
    made = RecordingOptions(
        rotate_bytes=arguments["record_rotate_size"],
        rotate_s=arguments["record_rotate_time"],
        keep=arguments["record_keep"],
        limit_bytes=arguments["record_limit"],
        ring_s=arguments["record_ring"],
        ring_bytes=arguments["record_ring_size"],
        per_session=arguments["record_per_session"],
        on_full=arguments["record_on_full"],
    )
    if arguments["record"] is None and made != RecordingOptions(ring_bytes=made.ring_bytes):
        raise click.UsageError("--record-... needs --record, the file that it is about")
    if made.ring_s is not None and (made.rotates or made.per_session or made.limit_bytes is not None):
        raise click.UsageError(
            "--record-ring writes a file when asked: it neither rotates nor splits, and needs no limit"
        )
    if made.keep is not None and not made.rotates and made.ring_s is None:
        raise click.UsageError(
            "--record-keep needs --record-rotate-size, --record-rotate-time or --record-ring"
        )
    return made
