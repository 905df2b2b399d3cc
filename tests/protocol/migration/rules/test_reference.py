"""The rules as a table, a document and a command."""

import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from spiceproxy.cli.rules import rules_command
from spiceproxy.protocol.migration.rules import RULES
from spiceproxy.protocol.migration.rules.catalog import FIRST_OF_OURS
from spiceproxy.protocol.migration.rules.reference import reference

DOCS = Path(__file__).parents[4] / "docs"


def test_the_document_is_up_to_date() -> None:
    assert (DOCS / "rules.md").read_text(encoding="utf-8") == reference(), "make docs"


def test_reports_lead_to_the_document() -> None:
    assert "(rules.md)" in (DOCS / "report.md").read_text(encoding="utf-8")


def test_the_rules_are_numbered_without_a_gap_and_say_whom_they_bind_and_where_they_come_from() -> None:
    assert list(RULES) == [f"R{number}" for number in range(1, len(RULES) + 1)]
    assert len(RULES) >= FIRST_OF_OURS - 1
    for rule in RULES.values():
        assert rule.bound
        assert rule.text
        assert not rule.text.endswith(".")
        assert re.search(r"seed|spice-server|spice-gtk|spice\.proto", rule.source), rule.id


def test_the_command_prints_all_rules_or_those_that_are_named() -> None:
    result = CliRunner().invoke(rules_command, [])
    assert result.exit_code == 0
    assert re.findall(r"^(R\d+): ", result.output, re.MULTILINE) == list(RULES)
    result = CliRunner().invoke(rules_command, ["r28", "4"])
    assert re.findall(r"^(R\d+): ", result.output, re.MULTILINE) == ["R28", "R4"]
    assert "binds:     the client" in result.output
    assert RULES["R4"].exceptions in result.output


def test_the_command_prints_json() -> None:
    result = CliRunner().invoke(rules_command, ["--json", "R28"])
    (rule,) = msgspec.json.decode(result.stdout.encode())
    assert rule["id"] == "R28"
    assert rule["bound"] == ["client"]
    assert rule["severity"] == "error"
    assert rule.keys() == {"id", "bound", "severity", "text", "source", "exceptions"}


@pytest.mark.parametrize("name", ["R99", "0", "x"])
def test_a_rule_that_does_not_exist_is_a_usage_error(name: str) -> None:
    result = CliRunner().invoke(rules_command, [name])
    assert result.exit_code == 2
    assert f"no rule '{name}'" in result.output
