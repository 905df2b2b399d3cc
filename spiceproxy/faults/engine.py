"""Rules at work: a message or a moment in, effects out. Knows no clock, no socket, and no chance but the seed's.

What comes of one message is a plan (`plan.py`): pauses and messages put in before it, the message itself, and what
follows. `carry.py` carries it out up to where it has to wait.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from random import Random
from typing import Final

from dissectors.side import Side
from spiceproxy.faults.carry import Carrier
from spiceproxy.faults.comments import fired
from spiceproxy.faults.context import CARRYING, Context, Moment
from spiceproxy.faults.effects import Effect, Fired, Token
from spiceproxy.faults.errors import RuleError, unknown
from spiceproxy.faults.flight import FAILURES, Flight, Variables
from spiceproxy.faults.matching import View
from spiceproxy.faults.plan import Memory, Plan, act
from spiceproxy.faults.rules import Rule
from spiceproxy.faults.wanted import Interest
from spiceproxy.protocol.framer import Message, Want

# Which rules a message may be for is remembered; a peer may send any id.
_REMEMBERED: Final = 4096


class Engine:
    """The rules of a proxy, and how far each of them has got.

    Args:
        rules: In the order in which they are asked.
        seed: Of all that is left to chance.
        variables: What values like "${destination_port}" stand for.
        live: Rules may be added later: what the ledger has to count is counted from the start.

    Attributes:
        seed: As given.
        variables: As given; may change.
        revision: Rises when rules are added or removed: then `wanted` may have another answer.
    """

    def __init__(
        self,
        rules: Iterable[Rule] = (),
        *,
        seed: int = 0,
        variables: Variables | None = None,
        live: bool = False,
    ) -> None:
        self.seed, self.variables, self.revision = seed, dict(variables or {}), 0
        self._live = live
        self._rules: list[Rule] = []
        self._held_for: tuple[Rule, ...] = ()
        self._carrier = Carrier()
        self._fired: Counter[str] = Counter()
        # How often a rule fitted, by its name and what it counts over; and in one direction of one channel.
        self._counts: Counter[tuple[str, str]] = Counter()
        self._drawn: Counter[tuple[str, str, str]] = Counter()
        self._memories: dict[tuple[str, str], Memory] = {}  # by rule and session
        self._renew()
        for rule in rules:
            self.add(rule)

    # Rules ----------------------------------------------------------------------------------------

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, in the order in which they are asked."""
        return tuple(self._rules)

    def fired(self, name: str) -> int:
        """How often the rule of this name has fired."""
        return self._fired[name]

    def never_fired(self) -> list[str]:
        """Names of the rules that have not fired."""
        return [rule.name for rule in self._rules if not self._fired[rule.name]]

    def add(self, rule: Rule) -> None:
        """Ask this rule from now on, after the others.

        Raises:
            RuleError: There is one of this name.
        """
        if any(each.name == rule.name for each in self._rules):
            raise RuleError(f"there is a fault called `{rule.name}` already")
        self._rules.append(rule)
        self._renew()

    def remove(self, name: str) -> Rule:
        """Do not ask this rule any more. What waits because of it goes on as it would have.

        Raises:
            RuleError: There is none of this name.
        """
        rule = self._named(name)
        self._rules.remove(rule)
        self._restart(name)
        self._renew()
        return rule

    def reset(self, name: str | None = None) -> None:
        """Let a rule, or all rules, count from the beginning.

        Raises:
            RuleError: There is none of this name.
        """
        for rule in self.rules if name is None else (self._named(name),):
            self._restart(rule.name)

    def hold_for(self, rules: Iterable[Rule]) -> None:
        """Want the messages of these rules as well, for somebody who gives what comes of them as `then`.

        They take the place of those of the last call.
        """
        self._held_for = tuple(rules)
        self._renew()

    def _named(self, name: str) -> Rule:
        for rule in self._rules:
            if rule.name == name:
                return rule
        raise RuleError(unknown("fault", name, (rule.name for rule in self._rules)))

    def _restart(self, name: str) -> None:
        del self._fired[name]
        self._counts = Counter({key: n for key, n in self._counts.items() if key[0] != name})
        self._drawn = Counter({key: n for key, n in self._drawn.items() if key[0] != name})
        self._memories = {key: memory for key, memory in self._memories.items() if key[0] != name}

    def _renew(self) -> None:
        self.revision += 1
        self._interest = Interest([*self._rules, *self._held_for], live=self._live)
        self._for_message: dict[tuple[int, bool, int], tuple[Rule, ...]] = {}
        self._for_moment = {
            moment: tuple(rule for rule in self._rules if moment in rule.matcher.moments) for moment in Moment
        }

    # What the relay asks --------------------------------------------------------------------------

    def wanted(self, channel_type: int, side: Side, *, mini_header: bool = True) -> Mapping[int, Want]:
        """Which messages of a side have to be held and given to `message`; empty for none.

        Ask for each direction of a connection when its link phase is over, and again when `revision` has changed.
        """
        return self._interest.wanted(channel_type, side, mini_header=mini_header)

    def means(self, channel_type: int, message: Message) -> bool:
        """Whether a rule may be about a message of this kind."""
        return bool(self._rules_for(channel_type, message))

    def keep_bytes(self, channel_type: int, side: Side, *, mini_header: bool = True) -> int:
        """How long a body a framer has to be able to hold for that, its `keep`. Longer ones pass untouched."""
        return self._interest.keep_bytes(channel_type, side, mini_header=mini_header)

    def message(self, context: Context, message: Message, *, then: Iterable[Rule] = ()) -> list[Effect]:
        """What happens in the place of a message, which waits for the answer.

        Args:
            context: Of its connection, as things stand now.
            message: Whole, as it would go out: a destination in it has been rewritten.
            then: Rules for this message only, asked after the others.

        Returns:
            Effects, to be carried out in order before the next message of this direction is given. Of a message that
            no rule is about, one `Send` of the same bytes.
        """
        view = View(context, message.side, message.id, message.body)
        plan = Plan(Flight(message.side, message.id, message.body, message))
        out: list[Effect] = []
        for rule in (*self._rules_for(context.channel_type, message), *then):
            self._ask(rule, context, view, plan, out)
        plans = [plan.steps(), *self._carrier.due(context.connection, message.side)]
        self._carrier.carry_out(context, plans, message.side, out)
        self._carrier.wake(context, view, out)
        return out

    def moment(
        self,
        context: Context,
        moment: Moment,
        data: bytes = b"",
        side: Side | None = None,
        *,
        then: Iterable[Rule] = (),
    ) -> list[Effect]:
        """What happens at a moment.

        Args:
            context: Of the connection that it happens to.
            moment: Which one.
            data: What is on its way, at the moments of the link phase that carry something.
            side: Who sends that.
            then: Rules for this moment only, asked after the others.

        Returns:
            Effects, to be carried out in order. What is on its way goes out by a `Send` among them, or not at all.
        """
        if moment is Moment.LINKED:
            self._carrier.ledger(context.session).opened(context)
        view = View(context, side, None, data, moment)
        flight = Flight(side, None, data) if side is not None and moment in CARRYING else None
        plan = Plan(flight, moment)
        out: list[Effect] = []
        for rule in (*self._for_moment[moment], *then):
            self._ask(rule, context, view, plan, out)
        self._carrier.carry_out(context, [plan.steps()], plan.blocks, out)
        self._carrier.wake(context, view, out)
        if moment is Moment.CLOSED:
            self._carrier.forget_connection(context.connection)
            for rule in self._rules:
                if rule.count == "connection":
                    self._counts.pop((rule.name, context.connection), None)
        return out

    def resume(self, context: Context, token: Token) -> list[Effect]:
        """What happens after a `Wait`; nothing, if its connection is closed or this was asked before.

        Args:
            context: Of the connection that waited, as things stand now.
            token: Of the `Wait`.
        """
        out: list[Effect] = []
        self._carrier.resume(context, token, out)
        return out

    def session_over(self, session: str) -> None:
        """Forget a session."""
        self._carrier.forget_session(session)
        self._drawn = Counter({key: n for key, n in self._drawn.items() if key[1] != session})
        self._memories = {key: memory for key, memory in self._memories.items() if key[1] != session}
        over = {rule.name for rule in self._rules if rule.count == "session"}
        self._counts = Counter(
            {key: n for key, n in self._counts.items() if key[1] != session or key[0] not in over}
        )

    # Inside ---------------------------------------------------------------------------------------

    def _rules_for(self, channel_type: int, message: Message) -> tuple[Rule, ...]:
        key = channel_type, message.side is Side.CLIENT, message.id
        found = self._for_message.get(key)
        if found is None:
            kind = channel_type, message.side, message.id
            found = tuple(
                rule for rule in self._rules if not rule.matcher.moments and rule.matcher.means(*kind)
            )
            if len(self._for_message) < _REMEMBERED:
                self._for_message[key] = found
        return found

    def _ask(self, rule: Rule, context: Context, view: View, plan: Plan, out: list[Effect]) -> None:
        """Let a rule do what it does, if this is one of those that it means and there still is something."""
        if plan.is_over or not rule.matcher.fits(context, view):
            return
        counted = (
            rule.name,
            {"connection": context.connection, "session": context.session}.get(rule.count, ""),
        )
        self._counts[counted] += 1
        sender = "" if view.side is None else view.side.value
        drawn = rule.name, context.session, f"{context.hop} {context.channel} {sender} {view.moment}"
        self._drawn[drawn] += 1
        if not rule.matcher.chosen(self._counts[counted]):
            return
        random = _chance(self.seed, *drawn, self._drawn[drawn])
        probability = rule.matcher.match.probability
        if probability is not None and random.random() >= probability:
            return
        memory = self._memories.setdefault((rule.name, context.session), Memory())
        self._fired[rule.name] += 1
        comment = fired(rule.name, self._fired[rule.name], rule.text)
        plan.begin(comment, ledger=rule.ledger)
        failed = []
        for prepared in rule.actions:
            try:
                act(prepared, plan, context, random, self.variables, memory)
            except FAILURES as error:
                failed.append(str(error))
        if len(failed) == len(rule.actions):
            comment = plan.undone(comment)
        out.append(
            Fired(
                rule=rule.name,
                actions=rule.text,
                what=view.name,
                session=context.session,
                connection=context.connection,
                channel=context.channel,
                hop=context.hop,
                time_ns=context.now_ns,
                number=self._fired[rule.name],
                comment=comment,
                failed="; ".join(failed),
            )
        )


def _chance(*what: object) -> Random:
    """A stream of chance for one occurrence: no other connection's messages move it."""
    digest = hashlib.blake2b("|".join(map(str, what)).encode(), digest_size=16).digest()
    return Random(int.from_bytes(digest, "little"))  # noqa: S311  it has to be the same every time
