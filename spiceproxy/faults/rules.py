"""Rules: a fault, checked and compiled; and the files that they come from."""

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from spiceproxy.errors import UsageError
from spiceproxy.faults import actions, convert, model, streams
from spiceproxy.faults.errors import FaultFileError, RuleError
from spiceproxy.faults.lines import Lines
from spiceproxy.faults.matching import Matcher, compile_match
from spiceproxy.faults.prepare import VARIABLE, Prepared, check_after, prepare
from spiceproxy.faults.tables import Action

# A file of rules is written by hand; a catalog has some hundred lines.
MAX_FILE_BYTES: Final = 2**20
_TOO_DEEP: Final = "nested too deeply"
_TOML_PLACE: Final = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One fault, ready to fire.

    Attributes:
        name: For people, and what the rule's share of chance is made of: no two rules have the same.
        comment: For people.
        matcher: When it fires.
        actions: What it does, in order.
        ledger: Whether what counts messages is made to add up.
        count: What `nth`, `every` and `first` count over.
        text: What it does, in a few words.
    """

    name: str
    comment: str
    matcher: Matcher
    actions: tuple[Prepared, ...]
    ledger: bool
    count: model.Scope
    text: str


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A file of rules, read.

    Attributes:
        rules: In the order in which they are asked.
        seed: For all that is left to chance.
        comment: For people.
    """

    rules: tuple[Rule, ...]
    seed: int = 0
    comment: str = ""


def compile_fault(fault: model.Fault, *, name: str) -> Rule:
    """Look up every name in a fault.

    Args:
        fault: As it stands in a file.
        name: If it has none of its own.

    Raises:
        RuleError: Something is wrong; the path leads to it from the fault's table.
    """
    try:
        matcher = compile_match(fault.match)
    except RuleError as error:
        raise error.under("match") from None
    try:
        found = convert.actions_of(fault.do)
    except RuleError as error:
        raise error.under("do") from None
    ready = []
    for position, action in enumerate(found):
        try:
            check_after(found[:position], action)
            ready.append(prepare(action, matcher))
        except RuleError as error:
            within = (position,) if isinstance(fault.do, list) else ()
            item = fault.do[position] if isinstance(fault.do, list) else fault.do
            key = (actions.NAMES[type(action)],) if isinstance(item, dict) else ()
            raise error.under("do", *within, *key) from None
    text = ", ".join(describe(action) for action in found)
    return Rule(fault.name or name, fault.comment, matcher, tuple(ready), fault.ledger, fault.count, text)


def describe(action: Action) -> str:
    """What an action does, in a few words: "set flags", "delay 2 s"."""
    name = actions.NAMES[type(action)]
    match action:
        case actions.Set():
            return f"{name} {', '.join(action.fields)}"
        case actions.Replace() | actions.Inject():
            return f"{name} {action.message}"
        case actions.Delay() | streams.Latency():
            return f"{name} {action.seconds:g} s"
        case actions.Corrupt() if action.field is not None:
            return f"{name} {action.field}"
    return name


def variables_of(rule: Rule) -> set[str]:
    """What has to be said when it runs: "other_port" of "${other_port}"."""
    waiting: list[Any] = [msgspec.to_builtins(each.action, enc_hook=str) for each in rule.actions]
    found: set[str] = set()
    while waiting:
        match waiting.pop():
            case dict() as table:
                waiting += table.values()
            case list() as items:
                waiting += items
            case str() as text if name := VARIABLE.fullmatch(text):
                found.add(name.group(1))
    return found


def compile_faults(faults: Collection[model.Fault], *, prefix: str = "fault") -> tuple[Rule, ...]:
    """Compile faults that belong together.

    Args:
        faults: In the order in which they are asked.
        prefix: Those without a name are called "fault 1", "fault 2", or just this if there is one.

    Raises:
        RuleError: Something is wrong, or two have the same name; the path begins with the number of the fault.
    """
    rules: list[Rule] = []
    taken: set[str] = set()
    for position, fault in enumerate(faults):
        try:
            alone = prefix != "fault" and len(faults) == 1
            rule = compile_fault(fault, name=prefix if alone else f"{prefix} {position + 1}")
        except RuleError as error:
            raise error.under(position) from None
        if rule.name in taken:
            raise RuleError(f"two faults are called `{rule.name}`", (position, "name"))
        taken.add(rule.name)
        rules.append(rule)
    return tuple(rules)


def parse(text: str, *, file: str = "faults") -> RuleFile:
    """Read rules.

    Args:
        text: TOML.
        file: Its name, for errors.

    Raises:
        FaultFileError: Something is wrong with it.
    """
    table = parse_toml(text, file=file)
    try:
        found = convert.convert(table, model.FaultFile)
        try:
            rules = compile_faults(found.fault)
        except RuleError as error:
            raise error.under("fault") from None
    except RuleError as error:
        raise FaultFileError(file, Lines(text).line_of(error.path), error.reason) from None
    except RecursionError:  # dotted keys: tomllib takes any number of them
        raise FaultFileError(file, _longest(text), _TOO_DEEP) from None
    return RuleFile(rules, found.seed, found.comment)


def parse_toml(text: str, *, file: str) -> dict[str, Any]:
    """Read TOML.

    Raises:
        FaultFileError: It is none.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _TOML_PLACE.search(str(error))
        last = text.count("\n") + (not text.endswith("\n"))
        line = int(place.group(1)) if place and place.group(1) else last
        reason = _TOML_PLACE.sub("", str(error))
        raise FaultFileError(file, line, f"no TOML: {reason[:1].lower()}{reason[1:]}") from None
    except RecursionError:
        raise FaultFileError(file, _longest(text), _TOO_DEEP) from None


def _longest(text: str) -> int:
    """The line that has the most levels in it, roughly: brackets and dots."""
    lines = text.splitlines()
    return 1 + max(range(len(lines)), key=lambda at: sum(map(lines[at].count, "[{.")))


def load(path: Path) -> RuleFile:
    """Read a file of rules.

    Raises:
        FaultFileError: Something is wrong with what is in it.
        UsageError: It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path} is longer than {MAX_FILE_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FaultFileError(str(path), line, "not UTF-8") from error
    return parse(text, file=str(path))
