"""What a diagnosis looks at: one attempt as it stands, and what has been found so far."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from dissectors.side import Side
from spiceproxy.protocol.migration.attempt import Attempt
from spiceproxy.protocol.migration.connections import TIMEOUT_NS, ConnectionState
from spiceproxy.protocol.migration.model import ChannelMigration, Evidence, Kind, Outcome
from spiceproxy.protocol.migration.wording import duration

# A deadline of ten seconds that has passed: clocks of servers and captures are a little apart.
PATIENCE_NS: Final = TIMEOUT_NS * 9 // 10
# A destination that goes so soon after the switch has not got over it; guests that are ended have been looked at first.
SOON_NS: Final = 10**9
# Closings that belong to one event, the death of a process: the kernel closes all its sockets at once.
TOGETHER_NS: Final = 500 * 10**6


class Finding(NamedTuple):
    """What a finder says; its code is known from the table."""

    text: str
    channels: Sequence[str] = ()
    evidence: Sequence[Evidence | None] = ()
    next: str = ""


class Case:
    """One attempt, and questions about it that several diagnoses have.

    Args:
        attempt: As the tracker has it.
        now_ns: The time up to which is known what happened.
    """

    def __init__(self, attempt: Attempt, now_ns: int) -> None:
        self.attempt, self.m, self.now = attempt, attempt.m, now_ns
        self.found: dict[str, set[str]] = {}  # codes so far, with their channels

    # The whole ---------------------------------------------------------------------------------------

    @property
    def stuck(self) -> bool:
        """Whether it did not get to a good end, or stands still."""
        if self.m.outcome in {None, Outcome.INCOMPLETE}:
            return self.m.stalled_ns is not None and not self.m.damaged
        return self.m.outcome in {Outcome.FAILED, Outcome.WEDGED}

    @property
    def good(self) -> bool:
        """Whether the client got there."""
        return self.m.outcome is Outcome.COMPLETED

    @property
    def began(self) -> Evidence | None:
        """BEGIN or BEGIN_SEAMLESS; None if there was none, or the capture lacks it."""
        offer = self.m.offered
        return None if offer is None or offer.kind is Kind.SWITCH_HOST else offer.evidence

    @property
    def word(self) -> Evidence | None:
        """The source's last word: MIGRATE, MIGRATE_END or SWITCH_HOST."""
        ending = self.m.ending
        return {
            Kind.SEAMLESS: ending.migrate,
            Kind.SEMI_SEAMLESS: ending.end,
            Kind.SWITCH_HOST: ending.switch_host,
            None: None,
        }[self.m.performed]

    @property
    def answered(self) -> bool:
        """Whether the client replied before the source said its last word."""
        reply, word = self.m.handshake.reply_evidence, self.attempt.word_ns
        return reply is not None and (word is None or reply.time_ns <= word)

    @property
    def connecting(self) -> bool:
        """Whether it ended, or stands, before the client's reply: nothing that came later matters."""
        return self.began is not None and not self.answered

    @property
    def where(self) -> str:
        """The destination's address, for texts."""
        return self.m.destination_address or self.attempt.announced or "the destination"

    def whole(self, *names: str) -> bool:
        """Whether nothing is missing of these channels: only then can it be said that something never came."""
        if self.m.torn:
            return False
        channels = [self.m.channels.get(name) for name in names]
        return not any(channel is not None and channel.damaged for channel in channels)

    def after_begin(self, time_ns: int) -> str:
        """A moment, in words."""
        return f"{duration(time_ns - self.m.started_ns)} after {self.begin_name}"

    def after_word(self, time_ns: int) -> str:
        """A moment, in words."""
        word = self.word
        name = short(word) if word is not None else "the source's last word"
        return f"{duration(time_ns - (self.attempt.word_ns or self.m.started_ns))} after {name}"

    @property
    def begin_name(self) -> str:
        """How the migration began."""
        offer = self.m.offered
        return short(offer.evidence) if offer is not None else "its beginning"

    @property
    def consequence(self) -> str:
        """What followed from a destination that the client could not reach."""
        parts = []
        if self.m.handshake.reply == "connect-error":
            parts.append("the client answered CONNECT_ERROR")
        if self.m.performed is Kind.SWITCH_HOST and self.began is not None:
            parts.append("the source ended the migration with SWITCH_HOST")
        return f"; {' and '.join(parts)}" if parts else ""

    # Connections and channels ------------------------------------------------------------------------

    @property
    def at_destination(self) -> list[tuple[str, ConnectionState]]:
        """All connections to the destination, those before SWITCH_HOST first."""
        return [*self.attempt.tried.items(), *self.attempt.destination.items()]

    @property
    def before_the_word(self) -> dict[str, ConnectionState]:
        """Connections to the destination that were made ahead of the switch."""
        if self.m.performed is Kind.SWITCH_HOST:
            return self.attempt.tried
        return self.attempt.destination

    @property
    def seamless_channels(self) -> Iterator[ChannelMigration]:
        """Channels that take part in a seamless switch, and of which nothing is missing in the capture."""
        if self.m.performed is Kind.SEAMLESS:
            for name, channel in self.m.channels.items():
                if self.whole(name) and channel.source_linked:
                    yield channel

    def gone_together(self, ends: Iterable[tuple[str, ConnectionState]], by: Side) -> tuple[int, bool] | None:
        """When one side closed all of these connections at once, and whether any was reset; None if it did not.

        A lonely connection closes alone, and says nothing of its process.
        """
        linked = [each for _name, each in ends if each.linked is not None]
        closings = [each.closing for each in linked if each.closing is not None]
        closings = [each for each in closings if each.by == by.value]
        if not linked or len(closings) < len(linked) or (len(linked) < 2 < len(self.m.channels)):
            return None
        first, last = min(closings).time_ns, max(closings).time_ns
        return None if last - first > TOGETHER_NS else (first, any(each.reset for each in closings))

    @property
    def destination_died_ns(self) -> int | None:
        """When the destination closed all its connections at once, before the migration was over or just behind it."""
        if self.m.outcome in {Outcome.CANCELLED, Outcome.INCOMPLETE} or self.m.torn:
            return None
        if (gone := self.gone_together(self.attempt.destination.items(), Side.SERVER)) is None:
            return None
        died, ended = gone[0], self.m.ended_ns
        if self.good:
            return died if ended is not None and died - ended < SOON_NS else None
        left = self.attempt.source_left_ns()
        over = left is not None and died > left and not self.attempt.client_left_first()
        return None if over else died

    @property
    def source_died_ns(self) -> int | None:
        """When the source closed all its connections at once, though it had no reason to."""
        word = self.attempt.word_ns
        if self.m.outcome in {Outcome.COMPLETED, Outcome.CANCELLED, Outcome.INCOMPLETE} or self.m.torn:
            return None
        gone = self.gone_together(self.attempt.source.items(), Side.SERVER)
        if gone is None or (word is not None and gone[0] - word >= PATIENCE_NS):
            return None
        return gone[0]

    @property
    def somebody_died(self) -> bool:
        """Whether a server did: then nobody need wonder why things stand still."""
        return self.destination_died_ns is not None or self.source_died_ns is not None

    def left(self, names: Iterable[str], *codes: str) -> list[str]:
        """Those of the channels that none of these diagnoses has named."""
        named = set().union(*(self.found.get(code, set()) for code in codes))
        return [name for name in names if name not in named]

    def last_to(self, hop: int, before_ns: int, *, from_: Side) -> Evidence | None:
        """The last migration message that one side said to or on a server before a moment."""
        said = [
            each
            for each in self.m.messages
            if each.hop == hop and each.side is from_ and each.time_ns <= before_ns
        ]
        return said[-1] if said else None


Finder = Callable[[Case], Iterable[Finding]]


class Code(NamedTuple):
    """A row of the table of diagnoses."""

    name: str
    meaning: str  # for the documents: when it is given
    find: Finder
    hides: Sequence[str] = ()  # later ones that would say the same in other words


def short(evidence: Evidence) -> str:
    """The name of a message, as people say it."""
    plain = evidence.name.removeprefix("SPICE_MSGC_").removeprefix("SPICE_MSG_")
    plain = plain.removeprefix(f"{evidence.channel.partition(':')[0].upper()}_")
    spoken = plain.removeprefix(
        "MIGRATE_"
    )  # BEGIN_SEAMLESS, SWITCH_HOST; but no END, and MIGRATE_DATA has "main" nowhere
    return spoken if evidence.name.partition("MAIN_MIGRATE_")[1] and spoken != "END" else plain


def listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else "no channel"
