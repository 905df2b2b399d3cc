"""What waits for a time, or for a word of the engine."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from dissectors.side import Side
from spiceproxy.faults.effects import Wait
from spiceproxy.protocol.link import Phase

if TYPE_CHECKING:
    from spiceproxy.injection.faulty import FaultyConnection


@dataclass(eq=False, slots=True)
class Waiting:
    """Something that the engine is to be asked to go on with.

    Attributes:
        connection: On which it waits.
        wait: As the engine said it.
        side: Whose message it is about, if it is about one.
        unit: What that is in the link phase.
        scope: Of the task that waits.
    """

    connection: "FaultyConnection"
    wait: Wait
    side: Side | None
    unit: Phase | None
    scope: trio.CancelScope
