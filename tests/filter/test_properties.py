"""What holds for any filter and any text."""

import contextlib
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from spiceproxy.filter import FilterError, compile_filter
from spiceproxy.filter.parser import MAX_CHARACTERS, parse
from spiceproxy.filter.syntax import Literal, Node, Not, Path, walk
from tests.filter.trees import names, scalars, show, trees

records = st.dictionaries(
    names,
    st.recursive(
        scalars | st.binary(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=5,
)


@given(trees)
def test_a_tree_that_is_printed_parses_to_the_same_tree(tree: Node) -> None:
    text = show(tree)
    assume(len(text) <= MAX_CHARACTERS)
    again = parse(text)
    assert again == tree
    kinds = [(type(node.value), node.value) for node, _ in walk(tree) if isinstance(node, Literal)]
    assert kinds == [(type(node.value), node.value) for node, _ in walk(again) if isinstance(node, Literal)]


@given(trees, records)
def test_any_filter_says_yes_or_no_to_any_record_and_not_turns_it_around(
    tree: Node, record: dict[str, Any]
) -> None:
    text = show(tree)
    assume(len(text) < MAX_CHARACTERS - 6)
    says = compile_filter(text).matches(record)
    assert says in {True, False}
    assert type(says) is bool
    assert compile_filter(show(Not(tree))).matches(record) is not says


@given(trees)
def test_the_names_of_a_filter_are_those_of_its_paths(tree: Node) -> None:
    paths = {node.name for node, _ in walk(tree) if isinstance(node, Path)}
    assert compile_filter(show(tree)).names == paths
    assert compile_filter(show(tree), names=paths).names == paths


PIECES = st.sampled_from(
    [
        "name", "channel", "fields", ".a", "[0]", "[", "]", "(", ")", "==", "!=", "<", "=~", "!~", "=", "&", "&&",
        "|", "||", "!", "not", "and", "or", "in", ",", '"x"', "'y'", '"', "\\", "0x1", "12", "1e", "3ms", "#", "true",
    ]
)  # fmt: skip


@given(st.text(max_size=60) | st.lists(PIECES, max_size=12).map(" ".join) | st.lists(PIECES).map("".join))
@example("(" * 2000 + "a" + ")" * 2000)
@example("not " * 1000 + "a")
@example("(" * 4096)
@example("a" + " == 1 and a" * 300)
@example("a" + "[0]" * 1300)
@example("\ud800")
@example('"' + "\\" * 4000)
@example("9" * 4000)
@example("0x" + "f" * 4000)
@example("1e99999999")
def test_any_text_is_a_filter_or_a_filter_error_that_shows_the_place(text: str) -> None:
    error: FilterError | None = None
    try:
        compile_filter(text).matches({})
    except FilterError as raised:
        error = raised
    if error is None:
        return
    assert 0 <= error.position <= len(text)
    message, shown, mark = str(error).split("\n")
    assert message == f"filter, column {error.position + 1}: {error.message}"
    column = mark.index("^")
    if error.position < len(text) and text[error.position].isprintable():
        assert shown[column] == text[error.position]
    else:
        assert column >= len(shown) or shown[column] == "·"
    for token in ("LPAR", "LSQB", "STRING", "NUMBER", "COMPARE", "$END", "__"):
        assert token in text or token not in error.message


@given(st.text(max_size=40), st.text(alphabet="ab*?[]!-^\\", max_size=40))
def test_any_pattern_is_tried_without_an_error(value: str, pattern: str) -> None:
    quoted = pattern.replace("\\", "\\\\")
    found = compile_filter(f'a =~ "{quoted}"').matches({"a": value})
    assert found is not compile_filter(f'a !~ "{quoted}"').matches({"a": value})


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "pattern", ["*a" * 100 + "b", "*" * 200 + "b", "?*" * 100 + "b", "*[a-z]" * 40 + "!"]
)
def test_a_pattern_of_many_stars_does_not_take_for_ever(pattern: str) -> None:
    assert not compile_filter(f'a =~ "{pattern}"').matches({"a": "a" * 1_000_000})


def test_text_that_is_cut_anywhere_gives_only_filter_errors() -> None:
    whole = (
        r"""not (channel == "a\"b" and fields.x[0].y & 0x2 != 3ms) || name not in ['a', 2.5] && id !~ "x*" """
    )
    for begin in range(len(whole)):
        for end in range(begin, len(whole) + 1):
            with contextlib.suppress(FilterError):
                compile_filter(whole[begin:end])
