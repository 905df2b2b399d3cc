"""docs/filter.md says nothing that is not so."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from spiceproxy.eventlog import EVENT_NAMES
from spiceproxy.filter import compile_filter, parser
from spiceproxy.filter.values import MAX_MATCHED_CHARACTERS

DOCUMENT = (Path(__file__).parents[2] / "docs/filter.md").read_text()
RECORDS: list[dict[str, Any]] = [json.loads(line) for line in DOCUMENT.splitlines() if line.startswith("{")]
EXAMPLES = re.findall(r"^\| `([^`]+)` \| ([0-9 ]+) \|", DOCUMENT, re.MULTILINE)
MESSAGE_NAMES = set(re.findall(r"`(\w+)`", DOCUMENT.split("**Names**:")[1].split(" of a message")[0]))


def test_the_document_has_its_examples() -> None:
    assert len(RECORDS) == 4
    assert len(EXAMPLES) >= 15


@pytest.mark.parametrize(("text", "numbers"), EXAMPLES)
def test_an_example_fits_the_records_that_the_document_says(text: str, numbers: str) -> None:
    wanted = compile_filter(text, names=MESSAGE_NAMES | EVENT_NAMES)
    assert [number for number, record in enumerate(RECORDS, 1) if wanted.matches(record)] == [
        int(number) for number in numbers.split()
    ]


def test_the_limits_are_those_of_the_parser() -> None:
    assert f"A filter has {parser.MAX_CHARACTERS} characters at most" in DOCUMENT
    assert f"is nested {parser.MAX_DEPTH} levels deep" in DOCUMENT
    assert f"a pattern has {parser.MAX_PATTERN_CHARACTERS} characters" in DOCUMENT
    assert f"of more than {MAX_MATCHED_CHARACTERS} characters" in " ".join(DOCUMENT.split())


def test_the_python_example_does_what_its_comments_say() -> None:
    example = DOCUMENT.split("```python\n")[1].split("```")[0]
    lines = [line for line in example.splitlines() if "# " in line]
    scope: dict[str, Any] = {}
    exec(example, scope)
    assert len(lines) == 2
    for line in lines:
        code, comment = line.split("  # ")
        assert repr(eval(code, scope)) == comment.split(":")[0]


def test_every_unit_is_documented() -> None:
    paragraph = DOCUMENT.split("- **Numbers**")[1].split("- `true`")[0]
    assert set(re.findall(r"`([A-Za-z]+)`", paragraph)) == set(filter(None, parser._UNITS))
    assert compile_filter("a == 10ms and b == 64KiB").matches({"a": 0.01, "b": 65536})
