"""Hooks and rules in one place: what the relay asks instead of the engine when there is a script."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import trio

from dissectors.side import Side
from spiceproxy.faults.actions import Drop
from spiceproxy.faults.context import Context, Moment
from spiceproxy.faults.effects import Effect
from spiceproxy.faults.engine import Engine
from spiceproxy.faults.errors import RuleError
from spiceproxy.faults.match import Match
from spiceproxy.faults.matching import Matcher, View
from spiceproxy.faults.names import Kind
from spiceproxy.faults.prepare import Prepared, prepare
from spiceproxy.faults.rules import Rule, describe
from spiceproxy.faults.tables import Action
from spiceproxy.hooks.hook import Hook
from spiceproxy.hooks.seen import Seen
from spiceproxy.hooks.traces import trace
from spiceproxy.protocol.framer import Message

HOOK_SECONDS: Final = 5.0
"""How long a hook may take, unless something else is said."""

Tell = Callable[[str, dict[str, str]], None]
"""Is given the name of an event and its fields."""


class Room:
    """Asks hooks, and then the engine, which carries out what rules and hooks want with one ledger.

    Args:
        engine: Of the rules; made with `live`, since nobody knows beforehand what a hook will do.
        hooks: To begin with.
        tell: For the events `hook_failed` and `hook_abandoned`.
        limit_s: How long one hook may take; then it is abandoned, and the bytes go on.
    """

    def __init__(
        self, engine: Engine, hooks: Iterable[Hook], tell: Tell, *, limit_s: float = HOOK_SECONDS
    ) -> None:
        self.engine, self._tell, self._limit_s = engine, tell, limit_s
        self._counts: Counter[tuple[str, str]] = Counter()  # by hook and session
        self.use(hooks)

    def use(self, hooks: Iterable[Hook]) -> None:
        """Ask these from now on instead; `Engine.revision` rises. What they count begins anew."""
        self._hooks = tuple(hooks)
        self._counts.clear()
        self.engine.hold_for(
            Rule(hook.name, "", hook.matcher, (Prepared(Drop()),), hook.ledger, "session", "")
            for hook in self._hooks
            if not hook.matcher.moments
        )

    async def message(self, context: Context, message: Message) -> list[Effect]:
        """As `Engine.message`, with what the hooks want. They see the message as it came, before any rule."""
        kind = Kind(context.channel_type, message.side, message.id)
        hooks = [hook for hook in self._hooks if not hook.matcher.moments and hook.matcher.means(*kind)]
        found: list[Rule] = []
        if hooks:
            view = View(context, message.side, message.id, message.body)
            exact = Matcher(
                Match(), frozenset({kind}), frozenset(), frozenset(),
                frozenset({context.channel_type}), frozenset({message.side}), None,
            )  # fmt: skip
            found = await self._answers(hooks, context, view, exact)
        return self.engine.message(context, message, then=found)

    async def moment(
        self, context: Context, moment: Moment, data: bytes = b"", side: Side | None = None
    ) -> list[Effect]:
        """As `Engine.moment`, with what the hooks want."""
        hooks = [hook for hook in self._hooks if moment in hook.matcher.moments]
        found: list[Rule] = []
        if hooks:
            exact = Matcher(
                Match(), frozenset(), frozenset({moment}), frozenset(),
                frozenset({context.channel_type}), frozenset(Side), None,
            )  # fmt: skip
            found = await self._answers(hooks, context, View(context, side, None, data, moment), exact)
        return self.engine.moment(context, moment, data, side, then=found)

    def session_over(self, session: str) -> None:
        """Forget a session."""
        self._counts = Counter({key: n for key, n in self._counts.items() if key[1] != session})
        self.engine.session_over(session)

    async def _answers(
        self, hooks: Iterable[Hook], context: Context, view: View, exact: Matcher
    ) -> list[Rule]:
        found = []
        for hook in hooks:
            if not hook.matcher.fits(context, view):
                continue
            counted = hook.name, context.session
            self._counts[counted] += 1
            if not hook.matcher.chosen(self._counts[counted]):
                continue
            rule = await self._ask(hook, Seen(context, view), exact)
            if rule is not None:
                found.append(rule)
        return found

    async def _ask(self, hook: Hook, seen: Seen, exact: Matcher) -> Rule | None:
        """One hook's answer as a rule that is about just this; None if it wants nothing, or failed."""
        where = {"hook": hook.name, "name": seen.name, "session": seen.session, "connection": seen.connection}
        try:
            with trio.move_on_after(self._limit_s) as scope:
                answer = await hook.function(seen)
            if scope.cancelled_caught:
                self._tell("hook_abandoned", {**where, "reason": f"took longer than {self._limit_s:g} s"})
                return None
            wanted = [] if answer is None else [answer] if isinstance(answer, Action) else list(answer)
            for each in wanted:
                if not isinstance(each, Action):
                    raise RuleError(f"it returned a {type(each).__name__} where an action was expected")
            if not wanted:
                return None
            ready = tuple(prepare(each, exact) for each in wanted)
        except RuleError as error:
            self._tell("hook_failed", {**where, "reason": error.reason})
            return None
        except (Exception, SystemExit) as error:  # noqa: BLE001  anything may be in a script
            self._tell("hook_failed", {**where, "reason": type(error).__name__, "traceback": trace(error)})
            return None
        text = ", ".join(map(describe, wanted))
        # The room has counted already; over the proxy, so that the engine keeps nothing for each session.
        return Rule(hook.name, "", exact, ready, hook.ledger, "proxy", text)
