"""docs/faults.md says all that there is, and its examples are right."""

import re
from pathlib import Path

import msgspec
import pytest

from spiceproxy.faults import Moment, parse
from spiceproxy.faults.actions import ACTIONS
from spiceproxy.faults.match import Match
from spiceproxy.faults.matching import FILTER_NAMES
from spiceproxy.faults.model import Fault, FaultFile

TEXT = (Path(__file__).parent.parent.parent / "docs/faults.md").read_text()
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def rows(heading: str) -> list[list[str]]:
    """Rows of the tables below a heading, up to the next one."""
    below = re.split(rf"^#+ .*{re.escape(heading)}.*$", TEXT, flags=re.MULTILINE)[1]
    part = re.split(r"^#", below, flags=re.MULTILINE)[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in part.splitlines()
        if line.startswith("| `")
    ]


def keys(kind: type[msgspec.Struct]) -> set[str]:
    return {each.encode_name for each in msgspec.structs.fields(kind)}


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_loads(example: str) -> None:
    assert parse(example).rules


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 8


def test_every_key_of_a_file_and_of_a_match_is_documented() -> None:
    assert {row[0].strip("`") for row in rows("A file")} == keys(FaultFile) | keys(Fault)
    first = [row for row in rows("`match`") if len(row) == 2]
    assert {row[0].strip("`") for row in first} == keys(Match) | {moment.value for moment in Moment}


def test_every_action_and_every_key_of_it_is_documented() -> None:
    documented = {
        row[0].strip("`"): row[2]
        for heading in ("Messages", "Link phase", "Streams")
        for row in rows(heading)
    }
    assert set(documented) == set(ACTIONS)
    for name, text in documented.items():
        kind = ACTIONS[name]
        if kind.short == "*":
            assert text == "*the fields"
            continue
        assert keys(kind) <= set(re.findall(r"`([a-z_]+)`", text)), name
        assert (kind.short is not None) == text.startswith("*"), name
        if kind.short is not None:
            assert text.startswith(f"*`{kind.short}`"), name


def test_every_name_of_a_filter_is_documented() -> None:
    (sentence,) = re.findall(r"\*\*A filter\*\* may ask.*?At the moments", TEXT, re.DOTALL)
    assert set(re.findall(r"`([a-z]+)`", sentence)) == FILTER_NAMES
