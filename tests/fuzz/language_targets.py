"""The filter language: any text is a filter or a FilterError, and a filter says yes or no to any record."""

from typing import Any, Final

from spiceproxy.filter import FilterError, compile_filter
from spiceproxy.reading.decode import NAMES

RECORDS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {
        "time": 1700000000.25,
        "session": "s1",
        "channel": "display:0",
        "from": "server",
        "id": 304,
        "name": "SPICE_MSG_DISPLAY_DRAW_COPY",
        "size": 70000,
        "hop": 1,
        "fields": {"flags": 3, "rects": [{"top": -4}, {"top": 7}], "data": b"\0\xff", "none": None},
        "inside": [{"protocol": "vd_agent", "name": "VD_AGENT_CLIPBOARD"}],
    },
    {
        "event": "channel_closed",
        "duration_s": 2.5,
        "by": None,
        "error": "",
        "fields": [],
        "id": True,
        "name": 7,
    },
)


def filter_text(data: bytes) -> None:
    """A filter's text: compiled, repeatable, and applied to records of every shape."""
    text = data.decode("utf-8", "surrogateescape")
    for names in (None, NAMES):
        try:
            made = compile_filter(text, names=names)
        except FilterError as error:
            _points(error)
            continue
        for record in RECORDS:
            assert made.matches(record) is made.matches(record)
        assert names is None or made.names <= set(names)


def _points(error: FilterError) -> None:
    """Three lines, the last of which points into the second."""
    said, shown, mark = str(error).split("\n")
    assert said.startswith("filter, column ")
    assert 0 <= error.position <= len(error.text)
    assert mark.index("^") <= len(shown)
