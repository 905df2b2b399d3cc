"""Faults: rules that break a session on purpose, the same way every time.

A rule says what to match and what to do (`model`), in TOML (`rules.load`; docs/faults.md). The engine is told of messages
and moments and answers with effects, which the relay carries out:

    engine = Engine(load(path).rules, seed=...)
    engine.wanted(channel_type, side, mini_header=...)   # which messages it has to be told of, before they pass
    engine.message(context, message) -> [Effect, ...]    # what happens in the place of this message
    engine.moment(context, Moment.LINKED) -> [Effect, ...]
    engine.resume(context, token) -> [Effect, ...]       # after a Wait

Sans-I/O and deterministic: the same seed and the same input give the same faults, however connections interleave.
"""

from spiceproxy.faults.context import Context, Moment
from spiceproxy.faults.effects import Effect
from spiceproxy.faults.engine import Engine
from spiceproxy.faults.errors import FaultFileError, RuleError
from spiceproxy.faults.rules import Rule, RuleFile, load, parse

__all__ = [
    "Context",
    "Effect",
    "Engine",
    "FaultFileError",
    "Moment",
    "Rule",
    "RuleError",
    "RuleFile",
    "load",
    "parse",
]
