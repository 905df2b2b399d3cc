"""What is wrong with a file of faults is said with its line and, where there is one, the nearest name that is right."""

import re
from pathlib import Path

import pytest

from spiceproxy.errors import UsageError
from spiceproxy.faults import FaultFileError, load, parse

# Files that are wrong, each with what is said of it: "=> line: reason".
WRONG = re.findall(
    r"(.+?)\n=> (\d+): (.+?)\n\n", (Path(__file__).parent / "wrong.txt").read_text(), re.DOTALL
)


@pytest.mark.parametrize(("text", "line", "reason"), WRONG)
def test_what_is_wrong_is_said(text: str, line: str, reason: str) -> None:
    with pytest.raises(FaultFileError) as caught:
        parse(text, file="rules.toml")
    assert (caught.value.line, caught.value.reason) == (int(line), reason)
    assert str(caught.value) == f"rules.toml, line {line}: {reason}"


def test_a_wrong_file_of_each_kind_is_there() -> None:
    assert len(WRONG) > 120


LONG = """\
# A comment, and a table of tables.
seed = 7

[[fault]]
name = "one"
[fault.match]
message = "PING"
[fault.do.delay]
seconds = 1

[[fault]]
do = [
    "drop",
    { inject = { message = "PONG", body = "" } },
]
comment = '''
three
lines'''
match = { channel = "main", hop = [
    0, # the first
    1,
] }

[[fault]]
do = [
    "log",  # a comment with ] in it
    { hold = { until = { message = [
        "NOTIFY",
    ] } } },
]
"""


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [
        ("seed = 7", "seed = 7.5", 2),
        ('"PING"', '"PIN"', 7),
        ("seconds = 1", 'seconds = "x"', 9),
        ("seconds = 1", "second = 1", 9),
        ('"drop"', '"drpo"', 13),
        ('"PONG"', '"PNOG"', 14),
        ("comment = ", "coment = ", 16),
        ('"main"', '"man"', 19),
        ("hop = [", "hopp = [", 19),
        ('"log"', '"lag"', 26),
        ('"NOTIFY"', '"NOTFY"', 27),
        ('do = [\n    "drop', 'ledger = 3\ndo = [\n    "drop', 12),
        ("[fault.do.delay]", "[fault.do.dely]", 8),
        ('name = "one"', 'nam = "one"', 5),
    ],
)
def test_the_line_is_right_however_a_file_is_laid_out(right: str, wrong: str, line: int) -> None:
    parse(LONG)
    assert LONG.count(right) == 1
    with pytest.raises(FaultFileError) as caught:
        parse(LONG.replace(right, wrong))
    assert caught.value.line == line


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*nowhere\.toml: no such file or directory"):
        load(tmp_path / "nowhere.toml")
    path = tmp_path / "rules.toml"
    path.write_bytes(b"seed = 1\n# \xff\n")
    with pytest.raises(FaultFileError, match=r"rules\.toml, line 2: not UTF-8"):
        load(path)
    path.write_bytes(b"#" * 2**21)
    with pytest.raises(UsageError, match="is longer than 1048576 bytes"):
        load(path)
    path.write_text('seed = 3\ncomment = "x"\n[[fault]]\ncomment = "y"\ndo = "drop"\n')
    found = load(path)
    assert (found.seed, found.comment, found.rules[0].comment, found.rules[0].name) == (
        3,
        "x",
        "y",
        "fault 1",
    )


@pytest.mark.parametrize(
    "do",
    [
        "{ set = { " + ".".join(["a"] * 3000) + " = 1 } }",
        "[" * 3000 + "]" * 3000,
        "{ set = " + "{ a = " * 3000 + "1" + "}" * 3001,
    ],
    ids=["dots", "lists", "tables"],
)
def test_a_file_that_is_nested_without_end_is_one_line(do: str) -> None:
    with pytest.raises(FaultFileError) as caught:
        parse(f'[[fault]]\nmatch = {{ message = "PING" }}\ndo = {do}\n')
    assert (caught.value.line, caught.value.reason) == (3, "nested too deeply")
