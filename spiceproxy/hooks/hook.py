"""A hook: a function, and what it wants to be asked about."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from spiceproxy.errors import UsageError
from spiceproxy.faults.context import Moment
from spiceproxy.faults.convert import convert
from spiceproxy.faults.errors import RuleError
from spiceproxy.faults.match import Match
from spiceproxy.faults.matching import Matcher, compile_match
from spiceproxy.faults.tables import Action
from spiceproxy.hooks.seen import Seen

Answer = Action | Sequence[Action] | None
"""What to do, in order. None or nothing: the message passes."""

Function = Callable[[Seen], Awaitable[Answer]]


class HookError(UsageError):
    """A hook or a script cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class Hook:
    """One hook, ready to be asked.

    Attributes:
        function: To be awaited.
        matcher: What it wants.
        ledger: Whether what counts messages is made to add up after what it does.
    """

    function: Function
    matcher: Matcher
    ledger: bool

    @property
    def name(self) -> str:
        """For logs, and as the name of its faults: "hook late"."""
        return f"hook {getattr(self.function, '__name__', 'without a name')}"


def message(*, ledger: bool = True, **match: Any) -> Callable[[Function], Hook]:
    """Ask a function about messages, which wait for its answer.

    Args:
        ledger: As of a fault.
        **match: The table `match` of a fault, but `sender` for `from`; no `moment` and no `probability`.

    Raises:
        HookError: A key, a message, a channel or a filter is wrong.
    """
    if "moment" in match:
        raise HookError("`moment` is for hooks of sessions, channels and migrations")
    return _hook(match, ledger=ledger)


def session(**match: Any) -> Callable[[Function], Hook]:
    """Ask a function when a session begins. Arguments and errors as of `message`."""
    return _hook({**match, "moment": Moment.SESSION.value})


def channel(*, moment: str = "linked", **match: Any) -> Callable[[Function], Hook]:
    """Ask a function at a moment of a connection, as "connect", "linked", "closed". The rest as of `message`."""
    return _hook({**match, "moment": moment})


def migration(**match: Any) -> Callable[[Function], Hook]:
    """Ask a function, for each open connection, when a migration enters a phase. Arguments as of `message`."""
    return _hook({**match, "moment": Moment.PHASE.value})


def _hook(match: dict[str, Any], *, ledger: bool = True) -> Callable[[Function], Hook]:
    table = {"from" if key == "sender" else key: value for key, value in match.items()}
    try:
        if "probability" in table:
            raise RuleError("a hook decides for itself: `probability` is for faults")
        matcher = compile_match(convert(table, Match))
    except RuleError as error:
        raise HookError(error.reason) from None

    def decorate(function: Function) -> Hook:
        if not iscoroutinefunction(function):
            raise HookError(f"a hook is an `async def`: {getattr(function, '__name__', function)}")
        return Hook(function, matcher, ledger)

    return decorate
