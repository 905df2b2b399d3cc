"""Expression, record, result."""

import enum
import subprocess
import sys
from enum import IntEnum
from typing import Any

import pytest

from dissectors.common import MigrateFlags
from spiceproxy.filter import MISSING, compile_filter
from spiceproxy.filter.values import _Remembered


class ClipType(IntEnum):
    NONE = 0
    RECTS = 1


class Side(enum.Enum):
    CLIENT = "client"


class Word(enum.StrEnum):
    WEDGED = "wedged"


BEGIN = "SPICE_MSG_MAIN_MIGRATE_BEGIN"
FLUSH, BOTH = MigrateFlags.NEED_FLUSH, MigrateFlags.NEED_FLUSH | MigrateFlags.NEED_DATA_TRANSFER
RECTS = {"fields": {"rects": [{"top": 5}, {"top": -1}], "flags": 6}}


@pytest.mark.parametrize(
    ("text", "record", "fits"),
    [
        # Names of messages
        ('name == "SPICE_MSG_MAIN_MIGRATE_BEGIN"', {"name": BEGIN}, True),
        ('name == "MAIN_MIGRATE_BEGIN"', {"name": BEGIN}, True),
        ('name == "MIGRATE_BEGIN"', {"name": BEGIN}, True),
        ('"MIGRATE_BEGIN" == name', {"name": BEGIN}, True),
        ('name == "migrate_begin"', {"name": BEGIN}, False),
        ('name == "BEGIN"', {"name": BEGIN}, False),
        ('name == "MSG_MAIN_MIGRATE_BEGIN"', {"name": BEGIN}, False),
        ('name != "MIGRATE_BEGIN"', {"name": BEGIN}, False),
        ('name != "MIGRATE_BEGIN"', {"name": "SPICE_MSG_PING"}, True),
        ('name in ["PING", "MIGRATE_BEGIN"]', {"name": BEGIN}, True),
        ('name not in ["PING", "MIGRATE_BEGIN"]', {"name": BEGIN}, False),
        ('name =~ "migrate*"', {"name": BEGIN}, True),
        ('name =~ "*_MAIN_*"', {"name": BEGIN}, True),
        ('name =~ "MAIN*"', {"name": BEGIN}, True),
        ('name =~ "BEGIN*"', {"name": BEGIN}, False),
        ('name !~ "MIGRATE*"', {"name": BEGIN}, False),
        ('name == "ACK"', {"name": "SPICE_MSGC_ACK"}, True),
        ('name == "INPUTS_KEY_DOWN" and name == "KEY_DOWN"', {"name": "SPICE_MSGC_INPUTS_KEY_DOWN"}, True),
        ('name == "MARK"', {"name": "MAIN_MARK"}, False),  # only C names are shortened
        ('name == "unknown_77"', {"name": "unknown_77"}, True),
        ('fields.name == "MIGRATE_BEGIN"', {"fields": {"name": BEGIN}}, False),  # only the message's own name
        # Channels
        ('channel == "display"', {"channel": "display:0"}, True),
        ('channel == "display"', {"channel": "display:1"}, True),
        ('channel == "display:1"', {"channel": "display:1"}, True),
        ('channel == "display:1"', {"channel": "display:10"}, False),
        ('channel == "display:1"', {"channel": "display:0"}, False),
        ('channel != "display"', {"channel": "display:0"}, False),
        ('channel != "display"', {"channel": "cursor:0"}, True),
        ('channel =~ "DIS*"', {"channel": "display:0"}, True),
        ('channel =~ "*y"', {"channel": "display:0"}, True),
        ('channel in ["cursor", "display:0"]', {"channel": "display:0"}, True),
        ('channel == "disp"', {"channel": "display:0"}, False),
        ('fields.channel == "display"', {"fields": {"channel": "display:0"}}, False),
        # What is missing
        ("size == 1", {}, False),
        ("size != 1", {}, False),
        ("size < 1", {}, False),
        ('name =~ "*"', {}, False),
        ('name !~ "x"', {}, False),
        ("size in [1]", {}, False),
        ("size not in [1]", {}, False),
        ("not size == 1", {}, True),
        ("not size != 1", {}, True),
        ("size", {}, False),
        ("size == null", {}, True),
        ("size == null", {"size": None}, True),
        ("size != null", {"size": 0}, True),
        ("size != null", {"size": None}, False),
        ("null == size", {}, True),
        ("size < null", {"size": 1}, False),
        ("size in [1, null]", {}, True),
        ("size in [1, null]", {"size": 1}, True),
        ("size in [1, null]", {"size": 2}, False),
        ("size not in [1, null]", {}, False),
        ("size not in [1, null]", {"size": 2}, True),
        ("a == b", {}, False),
        ("a != b", {"a": 1}, False),
        ("a != b", {"a": 1, "b": 2}, True),
        ("a == b", {"a": 1, "b": 1}, True),
        ("a < b", {"a": 1, "b": 2}, True),
        ("a < b", {"a": 1, "b": "2"}, False),
        ("a < b", {"a": "1", "b": "2"}, True),
        ("fields.a.b == 1", {"fields": {"a": None}}, False),
        ("fields.a.b == 1", {"fields": {"a": 3}}, False),
        ("fields.a.b == null", {"fields": {}}, True),
        ("fields.a", {"fields": [1]}, False),
        ("fields.rects[2].top == null", RECTS, True),
        ("fields[0]", {"fields": {"0": 1}}, False),
        # Paths
        ("fields.rects[0].top == 5", RECTS, True),
        ("fields.rects[1].top == -1", RECTS, True),
        ("fields . rects [1] . top == -1", RECTS, True),
        ("fields.rects[1].top > 0", RECTS, False),
        ("fields.in == 1 and fields.not.true == 2", {"fields": {"in": 1, "not": {"true": 2}}}, True),
        ("android == 1 and nothing == 2", {"android": 1, "nothing": 2}, True),
        ("inside[0].size", {"inside": [{"size": 1}]}, True),
        # A value alone
        ("error", {"error": "cut"}, True),
        ("error", {"error": ""}, False),
        ("size", {"size": 0}, False),
        ("fields", {"fields": {}}, False),
        ("fields.rects", RECTS, True),
        ("not error", {}, True),
        ("true", {}, True),
        ("false or null or 0 or ''", {}, False),
        # Bits
        ("fields.flags & 2", RECTS, True),
        ("fields.flags & 1", RECTS, False),
        ("fields.flags & 2 == 2", RECTS, True),
        ("fields.flags & 3 == 3", RECTS, False),
        ("fields.flags & 2|1 == 3", RECTS, True),
        ("fields.flags & (8 | 4)", RECTS, True),
        ("fields.flags | 1 == 7", RECTS, True),
        ("2 & fields.flags", RECTS, True),
        ("fields.flags & fields.flags == 6", RECTS, True),
        ("fields.none & 2 == 0", RECTS, False),
        ("fields.none & 2 != 0", RECTS, False),
        ("fields.rects & 2", RECTS, False),
        ("size & 1", {"size": 1.0}, False),
        # Numbers
        ("size == 0x10", {"size": 16}, True),
        ("size == 16.0", {"size": 16}, True),
        ("size == -2", {"size": -2}, True),
        ("size >= 64KiB", {"size": 65536}, True),
        ("size > 64KiB", {"size": 65536}, False),
        ("10 < size", {"size": 11}, True),
        ("10 <= size", {"size": 10}, True),
        ("10 > size", {"size": 10}, False),
        ("10 >= size", {"size": 10}, True),
        ("duration_s > 10ms", {"duration_s": 0.011}, True),
        ("duration_s == 10ms", {"duration_s": 0.01}, True),
        ("duration_s < 2min", {"duration_s": 119}, True),
        ("time > 1.5e-3", {"time": 0.002}, True),
        ('size == "16"', {"size": 16}, False),
        ('size != "16"', {"size": 16}, True),
        ('size < "16"', {"size": 1}, False),
        ("size < 16", {"size": "1"}, False),
        ("tls == true", {"tls": True}, True),
        ("tls == true", {"tls": 1}, True),
        ("tls == false", {"tls": None}, False),
        ("size == size and not 1 == 2 and 'a' < 'b' and not 2 < 1", {"size": 1}, True),
        # Text
        ('session == "s1"', {"session": "s1"}, True),
        ("session == 's1'", {"session": "s1"}, True),
        ('session != "s1"', {"session": "s2"}, True),
        ('session in ["s1", "s3"]', {"session": "s3"}, True),
        (r'a == "\\\"\'\n\t\r\0\x41\u20ac"', {"a": "\\\"'\n\t\r\0A€"}, True),
        ('a == "é\n"', {"a": "é\n"}, True),
        ('a < "b"', {"a": "a"}, True),
        ('a =~ "A[0-9]?"', {"a": "a1x"}, True),
        ('a =~ "A[!0-9]?"', {"a": "a1x"}, False),
        ('a =~ "*[*]*"', {"a": "x*y"}, True),
        ('a =~ "a"', {"a": "ab"}, False),
        ('a =~ "a*"', {"a": "a\nb"}, True),
        ('a =~ "1*"', {"a": 12}, False),
        ('a !~ "1*"', {"a": 12}, True),
        # Enums, flags, bytes
        ('fields.type == "RECTS"', {"fields": {"type": ClipType.RECTS}}, True),
        ('fields.type == "NONE"', {"fields": {"type": ClipType.NONE}}, True),
        ('fields.type == "RECTS"', {"fields": {"type": ClipType.NONE}}, False),
        ('fields.type != "RECTS"', {"fields": {"type": ClipType.NONE}}, True),
        ('fields.type in ["NONE", "RECTS"]', {"fields": {"type": ClipType.NONE}}, True),
        ('fields.type =~ "re*"', {"fields": {"type": ClipType.RECTS}}, True),
        ("fields.type == 1", {"fields": {"type": ClipType.RECTS}}, True),
        ('fields.type == "RECTS"', {"fields": {"type": 1}}, False),
        ("a == b", {"a": ClipType.RECTS, "b": "RECTS"}, True),
        ("a == b", {"a": "RECTS", "b": ClipType.NONE}, False),
        ('from == "client"', {"from": Side.CLIENT}, True),
        ('from =~ "cl*"', {"from": Side.CLIENT}, True),
        ('name == "wedged"', {"name": Word.WEDGED}, True),
        ('a == "wedged" and a =~ "wed*"', {"a": Word.WEDGED}, True),
        ('fields.flags & "NEED_FLUSH"', {"fields": {"flags": BOTH}}, True),
        ('"NEED_FLUSH" & fields.flags', {"fields": {"flags": BOTH}}, True),
        ('fields.flags & "NEED_DATA_TRANSFER"', {"fields": {"flags": FLUSH}}, False),
        ('fields.flags & "NOBODY"', {"fields": {"flags": BOTH}}, False),
        ('fields.flags & "NEED_FLUSH"', {"fields": {"flags": 3}}, False),
        ('fields.flags & "NEED_DATA_TRANSFER|NEED_FLUSH" == 3', {"fields": {"flags": BOTH}}, True),
        ('fields.flags == "NEED_DATA_TRANSFER|NEED_FLUSH"', {"fields": {"flags": BOTH}}, True),
        ('fields.flags == "NEED_FLUSH"', {"fields": {"flags": BOTH}}, False),
        ('fields.flags == "NEED_FLUSH"', {"fields": {"flags": FLUSH}}, True),
        ('fields.flags =~ "*data*"', {"fields": {"flags": BOTH}}, True),
        ('fields.flags =~ "*data*"', {"fields": {"flags": FLUSH}}, False),
        ("fields.flags & 2", {"fields": {"flags": BOTH}}, True),
        ('a == "0a1B"', {"a": b"\x0a\x1b"}, True),
        ('a == "0a1b"', {"a": memoryview(b"\x0a\x1b")}, True),
        ('a == "0a"', {"a": b"\x0a\x1b"}, False),
        ('a == "xyz"', {"a": b"\x0a\x1b"}, False),
        ('a =~ "0a*"', {"a": b"\x0a\x1b"}, True),
        ("a", {"a": b""}, False),
        ('a == "1"', {"a": [1]}, False),
        ('name == "x"', {"name": [1]}, False),
        ('channel =~ "*"', {"channel": {"a": 1}}, False),
        # and, or, not
        ("a or b and c", {"a": 1}, True),
        ("(a or b) and c", {"a": 1}, False),
        ("a || b && !c", {"b": 1}, True),
        ("not a == 1 and b", {"a": 2, "b": 1}, True),
        ("not (a and b)", {"a": 1}, True),
        ("!!a", {"a": 1}, True),
        ("a and b and c", {"a": 1, "b": 1, "c": 1}, True),
        ("a and b and c", {"a": 1, "b": 1}, False),
        ("a or b or c", {"c": 1}, True),
        ("a or b or c", {}, False),
    ],
)  # fmt: skip
def test_a_filter_fits_what_its_words_say(text: str, record: dict[str, Any], fits: bool) -> None:
    for _ in range(2):  # the second time from what is remembered
        assert compile_filter(text).matches(record) is fits
    wanted = compile_filter(text).matches
    assert [wanted(record), wanted(record)] == [fits, fits]


def test_a_record_is_asked_only_for_what_decides() -> None:
    asked: list[str] = []

    class Lazy:
        def get(self, name: str) -> Any:
            asked.append(name)
            return "display:0" if name == "channel" else MISSING

    assert not compile_filter('channel == "main" and fields.flags & 2').matches(Lazy())
    assert compile_filter('channel == "display" or fields.flags & 2').matches(Lazy())
    assert asked == ["channel", "channel"]


@pytest.mark.parametrize(
    ("text", "names", "needs_fields"),
    [
        ('channel == "main" and size > 3', {"channel", "size"}, False),
        ("fields.flags & 2", {"fields"}, True),
        ("not error", {"error"}, True),
        ("trailing or id", {"trailing", "id"}, True),
        ("inside[0].name == 'x'", {"inside"}, True),
        ("true", set(), False),
        ("before.port == 1 or size in [1, 2]", {"before", "size"}, False),
    ],
)
def test_a_filter_knows_what_it_asks_for(text: str, names: set[str], needs_fields: bool) -> None:
    wanted = compile_filter(text)
    assert (wanted.names, wanted.needs_fields, wanted.text) == (frozenset(names), needs_fields, text)
    assert repr(wanted) == f"Filter({text!r})"


def test_many_different_names_of_a_peer_do_not_stay_in_memory() -> None:
    remembered = _Remembered(lambda text: text.endswith("7"))
    assert sum(remembered[str(number)] for number in range(3000)) == 300
    assert len(remembered) == 1024


def test_the_parser_is_loaded_with_the_first_filter_and_not_before() -> None:
    program = (
        "import sys, spiceproxy.filter as f, spiceproxy.eventlog\n"
        "print('lark' in sys.modules)\nf.compile_filter('a')\nprint('lark' in sys.modules)"
    )
    call = [sys.executable, "-c", program]
    output = subprocess.run(call, capture_output=True, text=True, timeout=30, check=True).stdout
    assert output.split() == ["False", "True"]
