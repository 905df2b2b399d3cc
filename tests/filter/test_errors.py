"""What is wrong with a filter is said in words, with the place."""

import pytest

from spiceproxy.errors import UsageError
from spiceproxy.filter import FilterError, compile_filter

NAMES = {"name", "channel", "size", "fields"}
VALUE = "a value (a name, a number, or text in quotes)"


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "the filter is empty"),
        (" \n", 0, "the filter is empty"),
        ("size ==", 7, f"expected {VALUE} after `==`, but the filter ends"),
        ("size == ", 8, f"expected {VALUE} after `==`, but the filter ends"),
        ('name = "x"', 5, "`=` is not an operator: use `==` to compare, `=~` for a pattern"),
        ('name == "x', 8, 'the closing " of this text is missing'),
        ("name == 'x\\'", 8, "the closing ' of this text is missing"),
        ('(name == "a"', 12, "the closing `)` is missing"),
        ("(((size)) and 1", 15, "the closing `)` is missing"),
        ("size == 1)", 9, "no `(` is open that this `)` could close"),
        ("fields. == 2", 8, "expected the name of a field after `.`, found `==`"),
        ("fields.rects[x]", 13, "expected the number of an item after `[`, found `x`"),
        ("fields.rects[1", 14, "expected `]` after `1`, but the filter ends"),
        ('name == "a" size', 12, "expected `and`, `or` or the end after the text in quotes, found `size`"),
        ("size name", 5, "expected a comparison, `and`, `or` or the end after `size`, found `name`"),
        ("and", 0, f"expected {VALUE}, found `and`"),
        ("not", 3, f"expected {VALUE} after `not`, but the filter ends"),
        ("size == null == 1", 13, "expected `and`, `or` or the end after `null`, found `==`"),
        ("name =~ size", 8, "expected a pattern in quotes after `=~`, found `size`"),
        ("size in 5", 8, "expected `[` after `in`, found `5`"),
        ("size in []", 9, "expected a number or text in quotes after `[`, found `]`"),
        ("size in [1 2]", 11, "expected `,` or `]` after `1`, found `2`"),
        ('name in ["a" "b"]', 13, "expected `,` or `]` after the text in quotes, found text in quotes"),
        ("size == \x1b", 8, f"expected {VALUE} after `==`, found `\\x1b`"),
        ("size == 10mz", 10, "`mz` is not a unit; there are us ms s min h B kB MB GB KiB MiB GiB"),
        ("size == 1.2.3", 8, "`1.2.3` is not a number"),
        ("size == 1e999", 8, "the number is too large"),
        ("size == " + "9" * 51, 8, "the number is too long"),
        (r'name == "a\q"', 10, r"no such escape in text; there are \\ \" \' \n \r \t \0 \x41 \u0041"),
        ('name =~ "' + "a" * 257 + '"', 8, "a pattern has 256 characters at most"),
        ("(size == 1) == 2", 12, "`==` compares values; one side of it is true or false already"),
        ("(not size) in [1]", 11, "`in` compares values; one side of it is true or false already"),
        ('(not size) =~ "1"', 11, "`=~` compares values; one side of it is true or false already"),
        ("size & (name or 1)", 5, "`&` tests the bits of a whole number"),
        ("size & 1.5", 5, "`&` tests the bits of a whole number"),
        ('fields.flags & "A" & "B"', 21, 'bits go by name only beside the field: fields.flags & "A|B"'),
        ('"A" | 1', 0, 'bits go by name only beside the field: fields.flags & "A|B"'),
        ('chanel == "main"', 0, "there is no name `chanel`; did you mean `channel`?"),
        ("size and not (nmae)", 14, "there is no name `nmae`; did you mean `name`?"),
        ("channel == display", 11, 'there is no name `display`; text is written in quotes: "display"'),
        ("xyz.a", 0, "there is no name `xyz`; names are channel, fields, name, size"),
        ("size == 1 " * 500, 4096, "a filter has 4096 characters at most"),
        ("!" * 50 + "size", 50, "a filter is nested 50 levels deep at most"),
    ],
)  # fmt: skip
def test_an_error_says_what_is_wrong_and_where(text: str, position: int, message: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text, names=NAMES)
    assert (caught.value.message, caught.value.position, caught.value.text) == (message, position, text)


def test_the_text_of_an_error_shows_the_filter_with_a_mark_under_the_place() -> None:
    with pytest.raises(UsageError) as caught:
        compile_filter('channel == "main" and name = "x"')
    assert str(caught.value).split("\n") == [
        "filter, column 28: `=` is not an operator: use `==` to compare, `=~` for a pattern",
        '  channel == "main" and name = "x"',
        "                             ^",
    ]


def test_of_a_long_filter_what_is_around_the_place_is_shown() -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter("size == 1 and " * 20 + "size = 2" + " and size == 3" * 20)
    _, shown, mark = str(caught.value).split("\n")
    assert shown.startswith("  …")
    assert shown.endswith("…")
    assert len(shown) < 100
    assert shown[: mark.index("^") + 3].endswith("and size = 2")


def test_control_characters_of_a_filter_do_not_reach_the_terminal() -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter('name == "\x1b[2J\n" and \x07')
    assert "\x1b" not in str(caught.value)
    assert "\x07" not in str(caught.value)
    assert str(caught.value).count("\n") == 2


def test_names_are_free_if_nobody_says_which_there_are() -> None:
    assert compile_filter("whatever.x == 1").matches({"whatever": {"x": 1}})


def test_as_deep_as_allowed_still_works() -> None:
    assert compile_filter("!" * 48 + "size").matches({"size": 1})
