"""`spiceproxy rules`: the rules of the protocol that reports check."""

import sys

import click
import msgspec

from spiceproxy.protocol.migration.rules.catalog import RULES, Rule
from spiceproxy.protocol.migration.rules.reference import lines
from spiceproxy.reading.output import GoneError, Output

EPILOG = """\b
Examples:
  spiceproxy rules
  spiceproxy rules R28 R29
  spiceproxy rules --json | jq -r '.[] | select(.severity == "error") | .id'
"""


@click.command("rules", epilog=EPILOG)
@click.argument("ids", nargs=-1, metavar="[RULE]...")
@click.option(
    "--json", "as_json", is_flag=True, help="Print an array of objects: id, bound, severity, text ..."
)
def rules_command(ids: tuple[str, ...], as_json: bool) -> None:
    """Print the rules of a migration that `spiceproxy report` checks: all, or those that are named (R28, or 28).

    docs/rules.md has the same.
    """
    output = Output(sys.stdout.buffer)
    found = [_find(each) for each in ids] or list(RULES.values())
    try:
        if as_json:
            output.line(
                msgspec.json.format(msgspec.json.encode([each._asdict() for each in found]), indent=2)
            )
        else:
            for rule in found:
                for line in _text(rule):
                    output.line(line.encode())
        output.flush()
    except GoneError:
        pass


def _find(name: str) -> Rule:
    """The rule of this name.

    Raises:
        click.UsageError: There is none.
    """
    rule = RULES.get(name.upper()) or RULES.get(f"R{name}")
    if rule is None:
        raise click.UsageError(f"no rule {name!r}; there are R1 to R{len(RULES)}")
    return rule


def _text(rule: Rule) -> list[str]:
    return [f"{rule.id}: {rule.text}", *(f"  {name + ':':<10} {value}" for name, value in lines(rule)), ""]
