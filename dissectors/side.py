"""The two ends of a SPICE connection."""

from enum import Enum


class Side(Enum):
    """The peer that sent the bytes. Never a bare bool: ids 102, 103 and 111 mean different things per side."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def other(self) -> "Side":
        """The peer that receives what this one sends."""
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT
