"""Faults as commands are given them: files, scenarios of the catalog, and TOML on the command line."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spiceproxy.errors import UsageError
from spiceproxy.faults import RuleFile, load, parse
from spiceproxy.faults.errors import FaultFileError
from spiceproxy.faults.rules import Rule
from spiceproxy.faults.scenarios import scenario
from spiceproxy.hooks.script import Script
from spiceproxy.injection.injector import Faults


def load_faults(
    files: Sequence[Path],
    scenarios: Sequence[str],
    inline: Sequence[str],
    *,
    script: Path | None = None,
    seed: int | None = None,
    variables: Mapping[str, Any] | None = None,
) -> Faults | None:
    """All that a command was given; None for nothing.

    Args:
        files: Of rules.
        scenarios: Names of the catalog.
        script: Of hooks.
        inline: TOML: a file's text, one fault's, or one fault as an inline table.
        seed: Instead of what files and scenarios say.
        variables: What values like "${other_port}" stand for.

    Raises:
        UsageError: Something is wrong with one of them, in one line.
    """
    found = [(path.stem, load(path)) for path in files]
    for name in scenarios:
        each = scenario(name)
        found.append((name, RuleFile(each.rules(), each.seed)))
    found += [("inline", inline_faults(text, file="--fault")) for text in inline]
    if not found and script is None:
        return None
    rules = _named_apart((source, rule) for source, file in found for rule in file.rules)
    hooks = Script(script) if script is not None else None
    seeds = [file.seed for _, file in found if file.seed]
    return Faults(
        tuple(rules), (seeds or [0])[0] if seed is None else seed, dict(variables or {}), script=hooks
    )


def inline_faults(text: str, *, file: str) -> RuleFile:
    """Faults in TOML: a file's text, one fault's, or one fault as an inline table.

    Args:
        text: That.
        file: What it is called in errors.

    Raises:
        FaultFileError: Something is wrong with it.
    """
    if text.lstrip().startswith("{"):
        return parse(f"fault = [{text}]", file=file)
    if "fault]" in text or text.lstrip().startswith("fault"):
        return parse(text, file=file)
    try:
        return parse(f"[[fault]]\n{text}", file=file)
    except FaultFileError as error:
        raise FaultFileError(file, max(1, error.line - 1), error.reason) from None


def _named_apart(rules: Iterable[tuple[str, Rule]]) -> Iterable[Rule]:
    """Rules of several sources, with names that no two have."""
    taken: set[str] = set()
    for source, each in rules:
        rule = each
        if rule.name in taken:
            rule = replace(rule, name=f"{rule.name} of {source}")
        if rule.name in taken:
            raise UsageError(f"two faults are called `{rule.name}`")
        taken.add(rule.name)
        yield rule
