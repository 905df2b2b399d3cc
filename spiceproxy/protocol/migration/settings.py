"""How patient the tracker is, and how much it keeps."""

from dataclasses import dataclass
from typing import Final

SECOND_NS: Final = 10**9


@dataclass(frozen=True, slots=True)
class Settings:
    """Thresholds in nanoseconds, and bounds.

    The steps of a migration take milliseconds, also over slow links seldom more than a few hundred; only the guest itself
    may move for minutes, and no threshold is set for that. Whoever waits gives up after 10 s, by the protocol, so that after
    `give_up_ns` nothing more is expected.
    """

    connect_stall_ns: int = 3 * SECOND_NS  # without progress while the client connects
    switch_stall_ns: int = 2 * SECOND_NS  # without progress after the source's last word
    give_up_ns: int = 15 * SECOND_NS  # a migration that stood still for so long is over
    return_ns: int = 30 * SECOND_NS  # after SWITCH_HOST, until the client is taken for lost
    left_ns: int = 1 * SECOND_NS  # after the client left the source, for what is still on its way
    max_migrations: int = 256  # of a session; of more, the oldest are forgotten
    max_connections: int = 2048  # of a session that are remembered at once
