"""What is to come of one message or one moment: steps in order, made by the actions of the rules that fire."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from dissectors.link import build_link_error
from dissectors.side import Side
from spiceproxy.faults import actions, streams
from spiceproxy.faults.comments import FAILED
from spiceproxy.faults.context import Context, Moment
from spiceproxy.faults.effects import (
    AbortSession,
    Blackhole,
    Close,
    Effect,
    Latency,
    Log,
    Refuse,
    SecondClient,
    Send,
    Stall,
    Throttle,
    Token,
    Wake,
)
from spiceproxy.faults.flight import Flight, Variables, change, check_copies, encode, injected, nanoseconds
from spiceproxy.faults.matching import Matcher
from spiceproxy.faults.prepare import Prepared
from spiceproxy.faults.tables import Action
from spiceproxy.protocol.framer import Message


@dataclass(slots=True)
class Direct:
    """An effect as it is."""

    effect: Effect


@dataclass(slots=True)
class Emit:
    """What was matched goes out, or does not."""

    flight: Flight


@dataclass(slots=True)
class Insert:
    """A message that nobody sent goes out; it stands before `before` in its stream, if that is given."""

    flight: Flight
    delay_ns: int = 0
    before: Message | None = None
    redirect: bool = False


@dataclass(slots=True)
class Pause:
    """What follows has to wait.

    Attributes:
        delay_ns: So long at most; None: only for `until`, or for who knows the token.
        overtake: What comes behind passes meanwhile.
        until: A message or a moment of the session that ends the pause.
        told: Called with the pause's token.
    """

    delay_ns: int | None
    overtake: bool = False
    until: Matcher | None = None
    told: Callable[[Token], None] | None = None


@dataclass(slots=True)
class Park:
    """What follows waits for so many messages of its direction to pass, or for so long."""

    behind: int
    within_ns: int


Step = Direct | Emit | Insert | Pause | Park


@dataclass(slots=True)
class Plan:
    """Steps for one message, one unit of the link phase, or one moment.

    Attributes:
        flight: What is on its way, if something is.
        moment: Unless it is about a message.
        comment: What the rule that adds its part now says of it.
        ledger: Whether that part is to add up.
    """

    flight: Flight | None
    moment: Moment | None = None
    comment: str = ""
    ledger: bool = True
    before: list[Step] = field(default_factory=list)
    after: list[Step] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether what was on its way has been dropped, so that no other rule can be about it."""
        return self.flight is not None and self.flight.dropped

    def begin(self, comment: str, *, ledger: bool) -> None:
        """A rule is about to add its part: what it says of it, and whether it is to add up."""
        self.comment, self.ledger = comment, ledger
        if self.flight is not None:
            self.flight.comment = f"{self.flight.comment}; {comment}" if self.flight.comment else comment
            self.flight.counted = self.flight.counted and ledger

    def undone(self, comment: str) -> str:
        """Nothing of what the rule that was begun with this comment does could be done; return what is said of it now."""
        if self.flight is not None:
            self.flight.comment = self.flight.comment.removesuffix(comment) + comment + FAILED
        return comment + FAILED

    @property
    def blocks(self) -> Side | None:
        """Whose messages wait where the plan waits: at a moment that nothing rides on, nobody's."""
        if self.flight is not None:
            return self.flight.side
        return Side.CLIENT if self.moment is Moment.CONNECT else None

    def pause(self, step: Pause | Park) -> None:
        """The message has to wait; where it is dropped already, or there is none, what comes after it."""
        self._first.append(step)

    @property
    def _first(self) -> list[Step]:
        return self.after if self.flight is None or self.flight.dropped else self.before

    def insert(self, step: Insert, *, before: bool) -> None:
        """A message is put in."""
        (self._first if before else self.after).append(step)

    def end_here(self, *effects: Effect) -> None:
        """What was on its way does not go out; these effects take its place."""
        if self.flight is not None:
            self.flight.dropped = True
            self.flight.counted = False
        self.after += map(Direct, effects)

    def steps(self) -> list[Step]:
        """All steps in order."""
        message = [] if self.flight is None else [Emit(self.flight)]
        return [*self.before, *message, *self.after]


@dataclass(slots=True)
class Memory:
    """What a rule keeps of one session from one firing to the next.

    Attributes:
        waiting: For `swap`: the first of two, and its token once it waits.
        body: For `copy`.
    """

    waiting: tuple[Flight, list[Token]] | None = None
    body: bytes | None = None


def act(
    prepared: Prepared, plan: Plan, context: Context, random: Random, variables: Variables, memory: Memory
) -> None:
    """Let an action add its part to a plan.

    Raises:
        RuleError: It cannot be done here.
        DissectionError: It cannot be done to this message.
    """
    flight, action = plan.flight, prepared.action
    if flight is not None and change(prepared, flight, context, plan.moment, random, variables):
        return
    if flight is not None and _of_two(action, flight, plan, memory):
        return
    if _waits(prepared, plan, random):
        return
    match action:
        case actions.Inject():
            _inject(prepared, action, plan, context, variables)
        case streams.Reset():
            _end(action, plan, context, Close(reset=True))
        case streams.Close(to=to):
            _end(action, plan, context, Close(to))
        case streams.LinkError():
            plan.end_here(Send(Side.CLIENT, build_link_error(prepared.code), injected=True), Close())
        case streams.AuthFail():
            result = prepared.code.to_bytes(4, "little")
            plan.end_here(Send(Side.CLIENT, result, injected=True), Close())
        case _:
            plan.after.append(Direct(_effect(action, random)))


def _effect(action: Action, random: Random) -> Effect:
    match action:
        case streams.Refuse():
            return Refuse()
        case streams.Stall(sender=sender, seconds=seconds):
            return Stall(sender, None if seconds is None else nanoseconds(seconds))
        case streams.Throttle(sender=sender, rate=rate):
            return Throttle(sender, rate)
        case streams.Latency(sender=sender):
            delay, jitter = nanoseconds(action.seconds), nanoseconds(action.jitter)
            return Latency(sender, delay, jitter, random.getrandbits(32))
        case streams.Blackhole(sender=sender):
            return Blackhole(sender)
        case streams.SecondClient(connection_id=connection_id, seconds=seconds):
            return SecondClient(connection_id, nanoseconds(seconds))
        case streams.AbortSession():
            return AbortSession()
        case _:
            assert isinstance(action, actions.Log)  # noqa: S101  the last of actions.ACTIONS
            return Log(action.text)


def _waits(prepared: Prepared, plan: Plan, random: Random) -> bool:
    match prepared.action:
        case actions.Delay(seconds=seconds, jitter=jitter, overtake=overtake):
            plan.pause(Pause(nanoseconds(seconds + jitter * random.random()), overtake))
        case actions.Hold(seconds=seconds, overtake=overtake):
            delay_ns = None if seconds is None else nanoseconds(seconds)
            plan.pause(Pause(delay_ns, overtake, prepared.until))
        case actions.Reorder(behind=behind, within=within):
            plan.pause(Park(behind, nanoseconds(within)))
        case _:
            return False
    return True


def _of_two(action: Action, flight: Flight, plan: Plan, memory: Memory) -> bool:
    match action:
        case actions.Swap(within=within):
            if memory.waiting is None or memory.waiting[0].gone:
                tokens: list[Token] = []
                memory.waiting = flight, tokens
                plan.pause(Pause(nanoseconds(within), told=tokens.append))
            else:
                first, tokens = memory.waiting
                memory.waiting = None
                first.body, flight.body = flight.body, first.body
                plan.after += (Direct(Wake(token)) for token in tokens)
        case actions.Copy():
            memory.body, body = flight.body, memory.body
            flight.body = flight.body if body is None else body
        case _:
            return False
    return True


def _inject(
    prepared: Prepared, action: actions.Inject, plan: Plan, context: Context, variables: Variables
) -> None:
    flight = injected(prepared, context, variables)
    check_copies(action.times, flight.body)
    flight.comment, flight.counted = plan.comment, plan.ledger
    same = plan.flight is not None and plan.flight.side is flight.side
    first = action.when == "before"
    before = plan.flight.original if same and first and plan.flight is not None else None
    step = Insert(flight, nanoseconds(action.delay), before, action.redirect)
    for _ in range(action.times):
        plan.insert(step, before=first)


def _end(action: streams.Reset | streams.Close, plan: Plan, context: Context, close: Close) -> None:
    flight = plan.flight
    if action.after or flight is None or flight.dropped:
        plan.after.append(Direct(close))
        return
    data = flight.body
    if flight.id is not None:
        data = encode(flight.message(), mini_header=context.mini_header)
    first = [Send(flight.side.other, data[: action.bytes], plan.comment)] if action.bytes else []
    plan.end_here(*first, close)
