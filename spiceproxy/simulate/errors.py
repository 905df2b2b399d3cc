"""What can go wrong between simulated peers, and whose fault it is."""

from dissectors.side import Side
from spiceproxy.errors import SpiceProxyError
from spiceproxy.simulate.rules import RULES


class SimulationError(SpiceProxyError):
    """A simulated peer cannot do what it was asked to, or lost the other side."""


class ConnectionLost(SimulationError):  # noqa: N818 - says what happened, as trio's own names do
    """The other side closed or reset a connection that was still needed."""


class LinkRefused(SimulationError):  # noqa: N818
    """The server answered a link with an error.

    Attributes:
        code: The link error's number, or None if the server closed the connection without a word.
    """

    def __init__(self, channel: str, code: int | None, reason: str) -> None:
        super().__init__(f"{channel}: {reason}")
        self.channel, self.code = channel, code


class RuleBroken(SimulationError):  # noqa: N818
    """The other side broke a rule of the protocol.

    Attributes:
        rule: Name of the rule, a key of `spiceproxy.simulate.RULES`.
        by: Who broke it.
        channel: Where, as ``display:0``.
        detail: What happened, in one sentence without the rule's text.
    """

    def __init__(self, rule: str, *, by: Side, channel: str, detail: str) -> None:
        super().__init__(f"{rule} broken by the {by.value} on {channel}: {detail} (rule: {RULES[rule]})")
        self.rule, self.by, self.channel, self.detail = rule, by, channel, detail
