"""The migration as tables: what may follow what, and which rule the rest breaks. No I/O, no clock.

A table's row says the next state; a row that is a rule's name (``"R28"``) says what is broken; a pair without a row
breaks the rule given as the table's `otherwise`. Sources: spice-server main-channel-client.cpp
(handle_migrate_connected, migrate_src_complete), reds.cpp (reds_on_migrate_dst_set_seamless), red-channel-client.cpp
(handle_migrate_flush_mark), spice-gtk channel-main.c and spice-channel.c (spice_channel_handle_migrate).
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, Generic, TypeVar

from dissectors.side import Side
from spiceproxy.simulate.errors import RuleBroken

State = TypeVar("State", bound=Enum)
Step = TypeVar("Step", bound=Enum)


class Machine(Generic[State, Step]):
    """A state and the table that moves it.

    Attributes:
        state: Where it stands.
        otherwise: The rule broken by a pair without a row.
    """

    def __init__(
        self,
        start: State,
        table: Mapping[tuple[State, Step], State | str],
        *,
        otherwise: str,
        by: Side,
        channel: str,
    ) -> None:
        self.state, self.otherwise = start, otherwise
        self._table, self._by, self._channel = table, by, channel

    def step(self, step: Step, detail: str, *, channel: str | None = None) -> State:
        """Take a step.

        Args:
            step: What happened.
            detail: The same in words, for the error.
            channel: Where, if not on the machine's own channel.

        Raises:
            RuleBroken: The table forbids it; the state stays as it was.
        """
        following = self._table.get((self.state, step), self.otherwise)
        if isinstance(following, str):
            raise RuleBroken(
                following,
                by=self._by,
                channel=channel or self._channel,
                detail=f"{detail} ({self.state.value})",
            )
        self.state = following
        return following


class Source(Enum):
    """Where a migration stands for its source server."""

    IDLE = "no migration"
    WAITING = "BEGIN sent, waiting for the client's reply"
    WAITING_SEAMLESS = "BEGIN_SEAMLESS sent, waiting for the client's reply"
    CONNECTED = "the client is connected to the destination"
    SEAMLESS = "the client is connected to the destination, seamless"
    REFUSED = "the client could not connect"
    TIMED_OUT = "no reply in time"
    NO_BEGIN = "the client cannot connect beforehand"
    ENDED = "told the client how it ends"


class Reply(Enum):
    """What moves `Source`."""

    BEGIN = 1
    BEGIN_SEAMLESS = 2
    NO_BEGIN = 3
    CONNECTED = 4
    CONNECTED_SEAMLESS = 5
    CONNECT_ERROR = 6
    TIMER = 7
    CANCELLED = 8
    END = 9


SOURCE: Final[dict[tuple[Source, Reply], Source | str]] = {
    (Source.WAITING, Reply.CONNECTED): Source.CONNECTED,
    (Source.WAITING, Reply.CONNECTED_SEAMLESS): "R9",
    (Source.WAITING, Reply.CONNECT_ERROR): Source.REFUSED,
    (Source.WAITING, Reply.TIMER): Source.TIMED_OUT,
    (Source.WAITING_SEAMLESS, Reply.CONNECTED): Source.CONNECTED,
    (Source.WAITING_SEAMLESS, Reply.CONNECTED_SEAMLESS): Source.SEAMLESS,
    (Source.WAITING_SEAMLESS, Reply.CONNECT_ERROR): Source.REFUSED,
    (Source.WAITING_SEAMLESS, Reply.TIMER): Source.TIMED_OUT,
    # Late, but the one reply that is owed. The server answers a success with CANCEL (R43). ENDED: it crossed the end.
    (Source.TIMED_OUT, Reply.CONNECTED): Source.IDLE,
    (Source.TIMED_OUT, Reply.CONNECTED_SEAMLESS): Source.IDLE,
    (Source.TIMED_OUT, Reply.CONNECT_ERROR): Source.IDLE,
    **{
        (state, step): following
        for state in Source
        if state is not Source.ENDED
        for step, following in (
            (Reply.BEGIN, Source.WAITING),
            (Reply.BEGIN_SEAMLESS, Source.WAITING_SEAMLESS),
            (Reply.NO_BEGIN, Source.NO_BEGIN),
            (Reply.CANCELLED, Source.IDLE),
            (Reply.END, Source.ENDED),
        )
    },
}  # everything else: R7


class Outcome(Enum):
    """How a source server ends a migration for its client."""

    MIGRATE = "seamless"
    MIGRATE_END = "semi-seamless"
    SWITCH_HOST = "switch-host"
    CANCEL = "cancelled"
    NOTHING = "nothing to tell"
    DISCONNECT = "disconnected"


OUTCOMES: Final[dict[tuple[bool, Source], Outcome]] = {
    (True, Source.SEAMLESS): Outcome.MIGRATE,
    (True, Source.CONNECTED): Outcome.MIGRATE_END,
    (True, Source.WAITING): Outcome.SWITCH_HOST,
    (True, Source.WAITING_SEAMLESS): Outcome.SWITCH_HOST,
    (True, Source.REFUSED): Outcome.SWITCH_HOST,
    (True, Source.TIMED_OUT): Outcome.SWITCH_HOST,
    (True, Source.NO_BEGIN): Outcome.SWITCH_HOST,
    (True, Source.IDLE): Outcome.DISCONNECT,
    (False, Source.SEAMLESS): Outcome.CANCEL,
    (False, Source.CONNECTED): Outcome.CANCEL,
}  # everything else: NOTHING


class Leaving(Enum):
    """A source server's channel on its way out."""

    STAYING = "no migration"
    FLUSHING = "MIGRATE sent, waiting for FLUSH_MARK"
    FLUSHED = "FLUSH_MARK received, nothing more may come"
    RELEASED = "MIGRATE with flags 0 sent"


class ClientStep(Enum):
    """What a client sends on a channel of its source."""

    FLUSH_MARK = 1
    MIGRATE_DATA = 2
    OTHER = 3
    ACK = 4


LEAVING: Final[dict[tuple[Leaving, ClientStep], Leaving | str]] = {
    (Leaving.STAYING, ClientStep.FLUSH_MARK): "R28",
    (Leaving.STAYING, ClientStep.MIGRATE_DATA): "R32",
    (Leaving.STAYING, ClientStep.OTHER): Leaving.STAYING,
    (Leaving.FLUSHING, ClientStep.FLUSH_MARK): Leaving.FLUSHED,
    (Leaving.FLUSHING, ClientStep.MIGRATE_DATA): "R32",
    (Leaving.FLUSHING, ClientStep.OTHER): Leaving.FLUSHING,  # written before MIGRATE arrived
    (Leaving.FLUSHED, ClientStep.FLUSH_MARK): "R28",
    # spice-gtk counts MIGRATE_DATA towards the window before it looks at it, and may acknowledge it to the source:
    # spice_channel_recv_msg() inside spice_channel_handle_migrate().
    (Leaving.FLUSHED, ClientStep.ACK): Leaving.FLUSHED,
    (Leaving.RELEASED, ClientStep.FLUSH_MARK): "R30",
    (Leaving.RELEASED, ClientStep.MIGRATE_DATA): "R30",
    (Leaving.RELEASED, ClientStep.OTHER): Leaving.RELEASED,
    **{(state, ClientStep.ACK): state for state in (Leaving.STAYING, Leaving.FLUSHING, Leaving.RELEASED)},
}  # everything else, that is anything after FLUSH_MARK: R29


class Arrival(Enum):
    """A client's arrival at a destination server, as its main channel sees it."""

    ORDINARY = "a new session, or one that has arrived"
    PARKED = "linked ahead of the migration, nothing agreed"
    AGREED = "seamless, MIGRATE_DATA is owed"
    DECLINED = "seamless declined"
    SEAMLESS = "arrived seamless"


class MainStep(Enum):
    """What a client sends on a destination's main channel."""

    DO_SEAMLESS = 1
    DO_SEAMLESS_DECLINED = 2  # one that this server answers with NACK
    MIGRATE_END = 3
    MIGRATE_DATA = 4
    ATTACH_CHANNELS = 5
    OTHER = 6


ARRIVAL: Final[dict[tuple[Arrival, MainStep], Arrival | str]] = {
    (Arrival.ORDINARY, MainStep.DO_SEAMLESS): "R13",
    (Arrival.ORDINARY, MainStep.DO_SEAMLESS_DECLINED): "R13",
    (Arrival.ORDINARY, MainStep.MIGRATE_END): "R40",
    (Arrival.ORDINARY, MainStep.MIGRATE_DATA): "R32",
    (Arrival.ORDINARY, MainStep.ATTACH_CHANNELS): Arrival.ORDINARY,
    (Arrival.ORDINARY, MainStep.OTHER): Arrival.ORDINARY,
    (Arrival.PARKED, MainStep.DO_SEAMLESS): Arrival.AGREED,
    (Arrival.PARKED, MainStep.DO_SEAMLESS_DECLINED): Arrival.DECLINED,
    (Arrival.PARKED, MainStep.MIGRATE_END): Arrival.ORDINARY,
    (Arrival.PARKED, MainStep.MIGRATE_DATA): "R40",
    (Arrival.DECLINED, MainStep.DO_SEAMLESS): "R13",
    (Arrival.DECLINED, MainStep.DO_SEAMLESS_DECLINED): "R13",
    (Arrival.DECLINED, MainStep.MIGRATE_END): Arrival.ORDINARY,
    (Arrival.DECLINED, MainStep.MIGRATE_DATA): "R40",
    (Arrival.AGREED, MainStep.DO_SEAMLESS): "R13",
    (Arrival.AGREED, MainStep.DO_SEAMLESS_DECLINED): "R13",
    (Arrival.AGREED, MainStep.MIGRATE_DATA): Arrival.SEAMLESS,
    (Arrival.AGREED, MainStep.MIGRATE_END): "R32",
    (Arrival.SEAMLESS, MainStep.ATTACH_CHANNELS): "R39",
    (Arrival.SEAMLESS, MainStep.DO_SEAMLESS): "R13",
    (Arrival.SEAMLESS, MainStep.DO_SEAMLESS_DECLINED): "R13",
    (Arrival.SEAMLESS, MainStep.MIGRATE_DATA): "R32",
    (Arrival.SEAMLESS, MainStep.MIGRATE_END): "R40",
    (Arrival.SEAMLESS, MainStep.OTHER): Arrival.SEAMLESS,
}  # everything else: R16 while the guest has not moved, then R32 (AGREED) or R40


class Switch(Enum):
    """A client's channel on its way from source to destination."""

    STAYING = "on its server"
    FLUSHED = "MIGRATE received, waiting for MIGRATE_DATA"
    SWITCHED = "on the destination"


class ServerStep(Enum):
    """What a source server sends on a channel."""

    MIGRATE_WITH_DATA = 1
    MIGRATE_WITHOUT = 2
    MIGRATE_DATA = 3
    OTHER = 4


SWITCH: Final[dict[tuple[Switch, ServerStep], Switch | str]] = {
    (Switch.STAYING, ServerStep.MIGRATE_WITH_DATA): Switch.FLUSHED,
    (Switch.STAYING, ServerStep.MIGRATE_WITHOUT): Switch.SWITCHED,
    (Switch.STAYING, ServerStep.MIGRATE_DATA): "R26",
    (Switch.STAYING, ServerStep.OTHER): Switch.STAYING,
    (Switch.FLUSHED, ServerStep.MIGRATE_DATA): Switch.SWITCHED,
    (Switch.FLUSHED, ServerStep.MIGRATE_WITH_DATA): "R23",
    (Switch.FLUSHED, ServerStep.MIGRATE_WITHOUT): "R23",
    (Switch.FLUSHED, ServerStep.OTHER): "R25",
    # From here on the destination speaks. While the others still switch it may send, but not MIGRATE and data.
    (Switch.SWITCHED, ServerStep.OTHER): Switch.SWITCHED,
    (Switch.SWITCHED, ServerStep.MIGRATE_DATA): "R26",
}  # everything else: R23


class Phase(Enum):
    """A migration as its client sees it."""

    NONE = "no migration"
    REFUSED = "could not connect to the destination"
    CONNECTED = "connected to the destination"
    SEAMLESS = "connected to the destination, seamless"
    SWITCHING = "channels are switching"


class Order(Enum):
    """What a source server says about a migration on main (MIGRATE: on any channel)."""

    BEGIN = 1
    MIGRATE = 2
    MIGRATE_END = 3
    CANCEL = 4


# BEGIN is answered before anything else is read, so that there is no state "connecting" here. The states that BEGIN
# leads to are set by what came of it; SWITCH_HOST is judged by the clock as well (R22).
PHASE: Final[dict[tuple[Phase, Order], Phase | str]] = {
    (Phase.NONE, Order.BEGIN): Phase.NONE,
    (Phase.REFUSED, Order.BEGIN): Phase.NONE,
    (Phase.CONNECTED, Order.BEGIN): "R19",  # a new attempt cancels the old one first
    (Phase.SEAMLESS, Order.BEGIN): "R19",
    (Phase.SEAMLESS, Order.MIGRATE): Phase.SWITCHING,
    (Phase.SWITCHING, Order.MIGRATE): Phase.SWITCHING,
    (Phase.NONE, Order.MIGRATE): "R20",
    (Phase.REFUSED, Order.MIGRATE): "R20",
    (Phase.CONNECTED, Order.MIGRATE): "R20",
    (Phase.CONNECTED, Order.MIGRATE_END): Phase.SWITCHING,
    (Phase.NONE, Order.MIGRATE_END): "R21",
    (Phase.REFUSED, Order.MIGRATE_END): "R21",
    (Phase.SEAMLESS, Order.MIGRATE_END): "R21",
    (Phase.CONNECTED, Order.CANCEL): Phase.NONE,
    (Phase.SEAMLESS, Order.CANCEL): Phase.NONE,
    (Phase.NONE, Order.CANCEL): Phase.NONE,  # harmless: answers a reply that came too late
    (Phase.REFUSED, Order.CANCEL): Phase.NONE,
}  # everything else: R19
