"""Show stream events as the command does."""

import io
import re
from collections.abc import Iterable
from typing import Any

import msgspec

from spiceproxy.capture.events import StreamEvent
from spiceproxy.reading.output import Output
from spiceproxy.reading.reader import Reader, ReadOptions


def show(stream_events: Iterable[StreamEvent], /, **options: Any) -> str:
    """What is written to standard output."""
    stream = io.BytesIO()
    reader = Reader(ReadOptions(**options), Output(stream))
    reader.read(stream_events)
    reader.finish()
    return stream.getvalue().decode(options.get("encoding", "utf-8"))


def objects(stream_events: Iterable[StreamEvent], /, **options: Any) -> list[dict[str, Any]]:
    """The objects of `--json`."""
    text = show(stream_events, **{"as_json": True, "events": False, **options})
    return [msgspec.json.decode(line) for line in text.splitlines()]


def plain(text: str) -> str:
    """Without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
