"""When a fault fires."""

from typing import Annotated

from msgspec import Meta

from dissectors.side import Side
from spiceproxy.faults.context import Moment
from spiceproxy.faults.tables import Leg, NonNegative, PhaseName, Positive, Seconds, Table


class Match(Table, frozen=True, rename={"sender": "from"}):
    """When a fault fires: where all of it is true. Without `message` and `moment`, at every message.

    Attributes:
        message: C name, with or without SPICE_MSG_ or SPICE_MSGC_ and the channel's word; a glob of such names; an id.
        moment: What is no message.
        channel: "display" or "display:0".
        sender: Who sends it: "client" or "server".
        leg: Of the present or last migration.
        hop: Which server of the session, from 0.
        phase: Of the migration; "none" before the first.
        migration: Which one of the session, from 1; 0 before the first.
        where: A filter, as in docs/filter.md.
        nth: Only these of what all the above matches, from 1.
        every: Only every so many of these.
        first: Only the first so many of these.
        after: Not before the session is so old, in seconds.
        after_migration: Not before so many seconds have passed since the present or last migration began.
        probability: Of what is left, from 0 to 1, decided by the seed.
    """

    message: str | NonNegative | list[str | NonNegative] | None = None
    moment: Moment | list[Moment] | None = None
    channel: str | list[str] | None = None
    sender: Side | None = None
    leg: Leg | None = None
    hop: NonNegative | list[NonNegative] | None = None
    phase: PhaseName | list[PhaseName] | None = None
    migration: NonNegative | None = None
    where: str | None = None
    nth: Positive | list[Positive] | None = None
    every: Positive | None = None
    first: Positive | None = None
    after: Seconds | None = None
    after_migration: Seconds | None = None
    probability: Annotated[float, Meta(ge=0, le=1)] | None = None
