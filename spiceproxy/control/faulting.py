"""Rules added, listed and removed while the proxy runs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from spiceproxy.control import shapes
from spiceproxy.control.http import HttpError
from spiceproxy.errors import UsageError
from spiceproxy.faults import RuleError
from spiceproxy.faults.convert import convert
from spiceproxy.faults.model import FaultFile
from spiceproxy.faults.rules import Rule, compile_faults
from spiceproxy.faults.scenarios import scenario
from spiceproxy.injection import Injector
from spiceproxy.injection.loading import inline_faults

# Each message that a rule is about is put before all rules: a list that grows without end would be a slow proxy.
MAX_RULES: Final = 1000
_COUNTED: Final = re.compile(r"fault \d+")  # the name of a fault that has none


def listed(injector: Injector) -> shapes.Faults:
    """The rules as they stand."""
    engine = injector.engine
    rules = [
        shapes.Fault(rule.name, rule.text, engine.fired(rule.name), rule.comment, rule.ledger, rule.count)
        for rule in engine.rules
    ]
    return shapes.Faults(rules, engine.seed)


def from_toml(body: bytes) -> Sequence[Rule]:
    """Rules of a file, or of one fault.

    Raises:
        HttpError: Something is wrong with it.
    """
    try:
        return inline_faults(body.decode(), file="faults").rules
    except UnicodeDecodeError:
        raise HttpError(400, "not UTF-8") from None
    except UsageError as error:
        raise HttpError(400, str(error)) from None


def from_json(injector: Injector, body: bytes) -> Sequence[Rule]:
    """Rules of a file in JSON, or of a scenario.

    Raises:
        HttpError: Something is wrong with it.
    """
    try:
        wanted = msgspec.json.decode(body, type=shapes.NewFaults)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise HttpError(400, str(error) or type(error).__name__) from None
    try:
        rules = compile_faults(convert({"fault": wanted.fault}, FaultFile).fault)
        if wanted.scenario is not None:
            rules = (*rules, *scenario(wanted.scenario).rules())
    except RuleError as error:
        place = ".".join(map(str, error.path))
        raise HttpError(400, f"{place}: {error.reason}" if place else error.reason) from None
    except UsageError as error:
        raise HttpError(400, str(error)) from None
    injector.engine.variables.update(wanted.variables)
    return rules


def add(injector: Injector, rules: Sequence[Rule]) -> list[str]:
    """Add rules, all or none; the next message of every connection meets them.

    Those without a name of their own get the next one that is free.

    Raises:
        HttpError: There are none, or too many, or there is one of this name.
    """
    if not rules:
        raise HttpError(400, "there is no fault in it")
    engine = injector.engine
    taken = {rule.name for rule in engine.rules}
    if len(taken) + len(rules) > MAX_RULES:
        raise HttpError(409, f"there are {MAX_RULES} faults at most")
    ready = list(_named_apart(rules, taken))
    for rule in ready:
        engine.add(rule)
    injector.renew()
    return [rule.name for rule in ready]


def _named_apart(rules: Sequence[Rule], taken: set[str]) -> Iterator[Rule]:
    for each in rules:
        rule, number = each, 1
        while _COUNTED.fullmatch(rule.name) and rule.name in taken:
            rule = replace(each, name=f"fault {number}")
            number += 1
        if rule.name in taken:
            raise HttpError(409, f"there is a fault called `{rule.name}` already")
        taken.add(rule.name)
        yield rule


def remove(injector: Injector, name: str | None) -> list[str]:
    """Remove a rule, or all of them.

    Raises:
        HttpError: There is none of this name.
    """
    names = [rule.name for rule in injector.engine.rules] if name is None else [name]
    for each in names:
        try:
            injector.engine.remove(each)
        except RuleError as error:
            raise HttpError(404, error.reason) from None
    injector.renew()
    return names


def reset(injector: Injector, name: str | None) -> list[str]:
    """Let a rule, or all of them, count from the beginning.

    Raises:
        HttpError: There is none of this name.
    """
    try:
        injector.engine.reset(name)
    except RuleError as error:
        raise HttpError(404, error.reason) from None
    return [rule.name for rule in injector.engine.rules] if name is None else [name]
