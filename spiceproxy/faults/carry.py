"""Carry plans out, up to where they have to wait; what goes out passes the ledger in the order in which it goes out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dissectors.side import Side
from spiceproxy.faults.comments import LEDGER
from spiceproxy.faults.context import Context
from spiceproxy.faults.effects import Effect, Failed, Send, Token, Wait, Wake
from spiceproxy.faults.flight import Flight, encode
from spiceproxy.faults.ledger import Ledger
from spiceproxy.faults.matching import Matcher, View
from spiceproxy.faults.plan import Direct, Emit, Insert, Park, Step
from spiceproxy.protocol.framer import Message

# What may wait on one connection while others overtake it: a rule that lets everything wait for ever is no leak.
MAX_WAITING: Final = 4096
MAX_WAITING_BYTES: Final = 64 * 2**20


@dataclass(slots=True, eq=False)
class _Suspended:
    """A plan that waits.

    Attributes:
        steps: What is left of it.
        side: Whose message it is about.
        session: Of its connection.
        until: What ends the wait.
        seen: How often that has come.
        behind: Messages that still have to pass, where it waits for these.
        bytes: Of messages in it, when it began to wait.
    """

    steps: list[Step]
    side: Side | None
    session: str
    until: Matcher | None = None
    seen: int = 0
    behind: int | None = None
    bytes: int = 0


class Carrier:
    """Carries plans out, for all connections."""

    def __init__(self) -> None:
        self._ledgers: dict[str, Ledger] = {}  # by session
        self._suspended: dict[Token, _Suspended] = {}  # in the order in which they began to wait
        self._waiting: Counter[str] = Counter()  # how many of these, by connection
        self._bytes: Counter[str] = Counter()  # of messages in there, by connection
        self._numbers: Counter[str] = Counter()  # tokens so far, by connection

    def ledger(self, session: str) -> Ledger:
        """The books of a session."""
        return self._ledgers.setdefault(session, Ledger())

    def forget_connection(self, connection: str) -> None:
        """Nothing of it waits any more."""
        for token in [token for token in self._suspended if token.connection == connection]:
            del self._suspended[token]
        del self._waiting[connection], self._bytes[connection], self._numbers[connection]

    def forget_session(self, session: str) -> None:
        """Its books are closed."""
        self._ledgers.pop(session, None)

    def carry_out(
        self, context: Context, plans: Sequence[list[Step]], side: Side | None, out: list[Effect]
    ) -> None:
        """Carry out plans of one direction, in order. Behind one that blocks it the others wait as well."""
        blocked: _Suspended | None = None
        for steps in plans:
            if blocked is not None:
                blocked.steps += steps
            else:
                blocked = self._run(context, steps, side, out)

    def resume(self, context: Context, token: Token, out: list[Effect]) -> None:
        """Go on with a plan that waited; with nothing, if it does not wait any more."""
        suspended = self._take(token)
        if suspended is not None:
            self.carry_out(context, [suspended.steps], suspended.side, out)

    def due(self, connection: str, side: Side) -> list[list[Step]]:
        """A message of this direction passes: plans that have waited for it, and for enough others."""
        found = []
        if self._waiting[connection]:
            for token, suspended in list(self._suspended.items()):
                if token.connection == connection and suspended.side is side and suspended.behind is not None:
                    suspended.behind -= 1
                    if not suspended.behind:
                        self._take(token)
                        found.append(suspended.steps)
        return found

    def wake(self, context: Context, view: View, out: list[Effect]) -> None:
        """Something has come: whoever waits for it in this session goes on."""
        woken: list[Effect] = []
        for token, suspended in self._suspended.items():
            until = suspended.until
            if (
                until is not None
                and suspended.session == context.session
                and _is_meant(until, context, view)
                and until.fits(context, view)
            ):
                suspended.seen += 1
                if until.chosen(suspended.seen):
                    suspended.until = None
                    woken.append(Wake(token))
        blocks = bool(out) and isinstance(out[-1], Wait) and out[-1].blocks is not None
        out[len(out) - blocks : len(out) - blocks] = woken

    def _take(self, token: Token) -> _Suspended | None:
        suspended = self._suspended.pop(token, None)
        if suspended is not None:
            self._waiting[token.connection] -= 1
            self._bytes[token.connection] -= suspended.bytes
        return suspended

    def _run(
        self, context: Context, steps: list[Step], side: Side | None, out: list[Effect]
    ) -> _Suspended | None:
        """Carry out one plan; return what waits if it blocks its direction."""
        for position, step in enumerate(steps):
            match step:
                case Direct(effect):
                    out.append(effect)
                case Emit(flight):
                    self._emit(context, flight, out)
                case Insert(flight, delay_ns, _, redirect) if delay_ns:
                    later = _Suspended([Insert(flight, 0, None, redirect)], flight.side, context.session)
                    self._suspend(context, later, delay_ns, None, out)
                case Insert():
                    self._insert(context, step, out)
                case Park(behind, within_ns):
                    rest = _Suspended(steps[position + 1 :], side, context.session, behind=behind)
                    if self._suspend(context, rest, within_ns, None, out) is not None:
                        return None
                case _:
                    blocks = None if step.overtake else side
                    rest = _Suspended(steps[position + 1 :], side, context.session, step.until)
                    token = self._suspend(context, rest, step.delay_ns, blocks, out)
                    if token is not None:
                        if step.told is not None:
                            step.told(token)
                        return None if blocks is None else rest
        return None

    def _suspend(
        self, context: Context, rest: _Suspended, delay_ns: int | None, blocks: Side | None, out: list[Effect]
    ) -> Token | None:
        """Let a plan wait; None if too much waits already."""
        connection, size = context.connection, _bytes_in(rest.steps)
        waiting = self._bytes[connection]
        if self._waiting[connection] >= MAX_WAITING or (waiting and waiting + size > MAX_WAITING_BYTES):
            out.append(Failed(f"{self._waiting[connection]} messages of {waiting} bytes wait already"))
            return None
        self._waiting[connection] += 1
        self._bytes[connection] += size
        rest.bytes = size
        self._numbers[connection] += 1
        token = Token(connection, self._numbers[connection])
        self._suspended[token] = rest
        out.append(Wait(token, delay_ns, blocks))
        return token

    def _emit(self, context: Context, flight: Flight, out: list[Effect]) -> None:
        flight.gone = True
        if flight.id is None:
            if not flight.dropped:
                out.append(
                    Send(
                        flight.side.other,
                        flight.body,
                        flight.comment,
                        segment_bytes=flight.segment_bytes,
                        gap_ns=flight.gap_ns,
                    )
                )
            return
        sent = [] if flight.dropped else [flight.message()] * (1 + flight.copies)
        carried = self.ledger(context.session).carry(
            context, flight.side, flight.original, sent, counted=flight.counted
        )
        for position, message in enumerate(carried.messages):
            out.append(
                Send(
                    flight.side.other,
                    encode(message, mini_header=context.mini_header),
                    flight.comment,
                    injected=position > 0,
                    segment_bytes=flight.segment_bytes,
                    gap_ns=flight.gap_ns,
                )
            )
        self._extra(context, carried.extra, out)

    def _insert(self, context: Context, step: Insert, out: list[Effect]) -> None:
        flight = step.flight
        carried = self.ledger(context.session).carry(
            context, flight.side, None, [flight.message()], counted=flight.counted, before=step.before
        )
        for message in carried.messages:
            data = encode(message, mini_header=context.mini_header)
            out.append(Send(flight.side.other, data, flight.comment, injected=True, redirect=step.redirect))
        self._extra(context, carried.extra, out)

    def _extra(self, context: Context, messages: Sequence[Message], out: list[Effect]) -> None:
        for message in messages:
            data = encode(message, mini_header=context.mini_header)
            out.append(Send(message.side.other, data, LEDGER, injected=True))


def _bytes_in(steps: Sequence[Step]) -> int:
    return sum(len(step.flight.body) for step in steps if isinstance(step, Emit | Insert))


def _is_meant(until: Matcher, context: Context, view: View) -> bool:
    if view.moment is not None:
        return view.moment in until.moments
    if until.moments or view.side is None or view.id is None:
        return False
    return until.means(context.channel_type, view.side, view.id)
