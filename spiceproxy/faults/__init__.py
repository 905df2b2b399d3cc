"""Faults: rules that break a session on purpose, the same way every time.

A rule says what to match and what to do (`model`), in TOML (`rules.load`; docs/faults.md). The engine is told of messages
and moments and answers with effects, which the relay carries out:

    engine = Engine(load(path).rules, seed=...)
    engine.wanted(channel_type, side, mini_header=...)   # which messages it has to be told of, before they pass
    engine.message(context, message) -> [Effect, ...]    # what happens in the place of this message
    engine.moment(context, Moment.LINKED) -> [Effect, ...]
    engine.resume(context, token) -> [Effect, ...]       # after a Wait

Sans-I/O and deterministic: the same seed and the same input give the same faults, however connections interleave.

What the engine relies on, beside what effects and methods say:

* Messages of one direction are given in order, each once, and only after the effects of the one before it have been
  carried out; where a `Wait` blocks, after what `resume` gave. Directions and connections may interleave as they like.
* A `Send` to a side goes out at the next boundary between messages of that direction, which is where an injection counts.
* A destination in a message is rewritten before the engine is given it, so that a fault has the last word; a `Send` with
  `redirect` names a destination that is still to be rewritten.
* After LINK_MESSAGE and LINK_REPLY, what was sent on says which capabilities hold: `Context.mini_header` follows from
  that, not from what came.
* `moment(..., LINKED)` comes before the first message of a connection, and CLOSED after the last one; `session_over`
  after the last connection of a session.
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
