"""A filter asked about a record of which not everything is known yet."""

from typing import Any

import pytest
from hypothesis import assume, given

from spiceproxy.filter import FilterError, compile_filter
from spiceproxy.filter.parser import MAX_CHARACTERS
from spiceproxy.filter.possible import compile_possible
from spiceproxy.filter.syntax import Node, Path, walk
from tests.filter.test_properties import records
from tests.filter.trees import show, trees

PING = {"name": "SPICE_MSG_PING", "channel": "main:0", "id": 4}


@pytest.mark.parametrize(
    ("text", "possible"),
    [
        ('name == "PING"', True),
        ('name == "MIGRATE"', False),
        ('name == "PING" and size > 5', True),
        ('name == "MIGRATE" and size > 5', False),
        ('name == "MIGRATE" or size > 5', True),
        ("not (size > 5)", True),
        ('not (name == "PING" or size > 5)', False),
        ('not (name == "PING" and size > 5)', True),
        ('not (name == "MIGRATE" and size > 5)', True),
        ("fields.a == 3 and not (id == 4)", False),
        ("size & id == 4", True),
        ('event == "channel_linked"', False),
        ("event == null", True),
        ("fields", True),
    ],
)
def test_what_is_not_known_may_be_anything_and_what_is_missing_is_null(text: str, possible: bool) -> None:
    assert compile_possible(text, ("size", "fields"))(PING) is possible


def test_a_text_that_is_no_filter_is_an_error() -> None:
    with pytest.raises(FilterError):
        compile_possible("name =", ())


@given(trees, records)
def test_what_fits_was_possible_before_and_what_is_known_altogether_is_decided(
    tree: Node, record: dict[str, Any]
) -> None:
    text = show(tree)
    assume(len(text) <= MAX_CHARACTERS)
    fits = compile_filter(text).matches(record)
    assert compile_possible(text, ())(record) is fits
    asked = {node.name for node, _ in walk(tree) if isinstance(node, Path)}
    for name in asked:
        known = {key: value for key, value in record.items() if key != name}
        assert compile_possible(text, (name,))(known) >= fits
