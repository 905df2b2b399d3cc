"""The rules as a document: `python -m spiceproxy.protocol.migration.rules.reference > docs/rules.md`."""

from collections.abc import Iterator
from typing import Final

from spiceproxy.protocol.migration.rules.catalog import FIRST_OF_OURS, RULES, Rule
from spiceproxy.protocol.migration.rules.judge import CHECKED

_HEAD: Final = f"""# Rules

What source, client and destination owe each other in a live migration. `spiceproxy report` checks it and names who broke
what ([report.md](report.md)); `spiceproxy rules` prints this list. This page is made from the table in
`spiceproxy/protocol/migration/rules/catalog.py` by `make docs`.

- **error**: the peer would be right to give up; many of these kill a server or lose a session. Exit status 4.
- **warning**: unusual, or too late, and it can work all the same.
- **note**: what the usual programs never do, and others may.

The numbers up to R{FIRST_OF_OURS - 1} are those of the conformance list that the project began with; later ones are ours. "seed" is
the text in which seamless migration was proposed (spice-devel, August 2012). Functions are those of spice-server 0.15.1 and
spice-gtk 0.42.

Where parts of a capture are missing, nobody is accused of what they might explain, and nobody of what was said before the capture
began. Messages on two connections may be captured in another order than they were sent; 2 ms of that are no breach.
"""


def reference() -> str:
    """The page, in Markdown."""
    return f"{_HEAD}{''.join(_section(rule) for rule in RULES.values())}"


def lines(rule: Rule) -> Iterator[tuple[str, str]]:
    """What is known of a rule beside its text: name and value."""
    yield "binds", " and ".join(f"the {party}" for party in rule.bound)
    yield "severity", str(rule.severity)
    yield "source", rule.source
    if rule.exceptions:
        yield "no breach", rule.exceptions
    if rule.id not in CHECKED:
        yield "checked", "not yet within a migration"


def _section(rule: Rule) -> str:
    facts = "".join(f"- {name}: {value}\n" for name, value in lines(rule))
    return f"\n## {rule.id}\n\n{rule.text[0].upper()}{rule.text[1:]}.\n\n{facts}"


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - the one output of this module
