"""What a hook is given."""

from typing import Any

from dissectors.side import Side
from spiceproxy.faults.context import Context, Moment
from spiceproxy.faults.matching import View


class Seen:
    """A message or a moment, as it was when the hook was asked. Its body is decoded when `fields` is read.

    Attributes:
        name: The message's C name; the moment's for a moment.
        sender: Who sends it; None for a moment that nothing rides on.
        body: Of the message, without its header; what is on its way at a moment of the link phase.
        moment: Unless it is a message.
        session: As "s1".
        connection: As "c5".
        channel: As "display:0".
        hop: Which server of the session, from 0.
        leg: "source" or "destination".
        migration: Of the session, from 1; 0 before the first.
        phase: Of the migration; "none" before the first.
        now_ns: By a steady clock.
    """

    def __init__(self, context: Context, view: View) -> None:
        self._view = view
        self.name: str = view.name
        self.sender: Side | None = view.side
        self.body: bytes = view.body
        self.moment: Moment | None = view.moment
        self.session, self.connection, self.channel = context.session, context.connection, context.channel
        self.hop, self.leg, self.migration = context.hop, context.which_leg, context.migration
        self.phase: str = "none" if context.phase is None else context.phase.value
        self.now_ns = context.now_ns

    @property
    def fields(self) -> dict[str, Any] | None:
        """As in docs/messages.md; None where there are none, or where the body cannot be decoded."""
        found: dict[str, Any] | None = self._view.get("fields")
        return found

    @property
    def error(self) -> str | None:
        """Why the body cannot be decoded."""
        found: str | None = self._view.get("error")
        return found
