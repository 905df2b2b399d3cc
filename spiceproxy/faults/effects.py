"""What the engine wants done: plain data, carried out by the relay, in order.

A list of effects is about one message or one moment of one connection. While the relay carries out what came of a
message, nothing else of that direction goes out: that is what makes a decision one with its message.
"""

from dataclasses import dataclass
from typing import NamedTuple

from dissectors.side import Side


class Token(NamedTuple):
    """Names something that the engine keeps until it is asked to go on with it."""

    connection: str
    number: int


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault has fired: an event of the log, a comment in the recording, a row in the report.

    Attributes:
        rule: Its name.
        actions: What it does, in a few words: "drop", "set flags".
        what: The message's C name or the moment.
        session: Of the connection.
        connection: On which it happened.
        channel: As "display:0".
        hop: Of the connection.
        time_ns: By the context's clock.
        number: Which firing of the rule this is, from 1.
        comment: All of that in a line, for the packet in a recording.
        failed: Why an action could not be carried out, "" if all were. What failed changed nothing.
    """

    rule: str
    actions: str
    what: str
    session: str
    connection: str
    channel: str
    hop: int
    time_ns: int
    number: int
    comment: str
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """These bytes go out to `to`, on this connection, at the next boundary between messages of that direction.

    Attributes:
        to: Who gets them.
        data: One whole message with its header, or a unit of the link phase; after a fault, whatever it made of it.
        comment: What was done to them, "" for nothing.
        injected: No peer sent this: it is of the engine's or the ledger's making.
        redirect: The message names a destination, and the proxy is to put itself in its place.
        segment_bytes: Written in pieces of so many bytes, each a segment of its own; 0: at once.
        gap_ns: To wait between these pieces.
    """

    to: Side
    data: bytes
    comment: str = ""
    injected: bool = False
    redirect: bool = False
    segment_bytes: int = 0
    gap_ns: int = 0


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask `Engine.resume(context, token)` for more effects, later.

    Attributes:
        token: To ask with.
        delay_ns: After so long; None: only when a `Wake` names the token.
        blocks: Which side's messages must not pass before that, nor be given to the engine; None: all go on. Always
            the last effect of its list where it blocks.
    """

    token: Token
    delay_ns: int | None
    blocks: Side | None = None


@dataclass(frozen=True, slots=True)
class Wake:
    """What the `Wait` with this token, of any connection, waits for has come. One that is over is no error."""

    token: Token


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection, or the half of it towards one peer.

    Attributes:
        to: Send the end of the stream to this side only, and go on with the other direction; None: close both.
        reset: With RST instead of FIN.
    """

    to: Side | None = None
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Refuse:
    """Do not dial the server: do as if it had refused the connection."""


@dataclass(frozen=True, slots=True)
class Stall:
    """Stop reading.

    Attributes:
        source: From this side; None: from both.
        duration_ns: Go on after that; None: never.
    """

    source: Side | None = None
    duration_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Throttle:
    """From here on let no more than so many bytes a second pass; 0 bytes a second is not meant.

    Attributes:
        source: What this side sends; None: each direction has this limit for itself.
        bytes_per_s: The limit.
    """

    source: Side | None
    bytes_per_s: int


@dataclass(frozen=True, slots=True)
class Latency:
    """From here on deliver what is read so much later, in order. Adds nothing up: the latest one counts.

    Attributes:
        source: What this side sends; None: both.
        delay_ns: At least.
        jitter_ns: At most so much more.
        seed: For the jitter of this connection.
    """

    source: Side | None
    delay_ns: int
    jitter_ns: int
    seed: int


@dataclass(frozen=True, slots=True)
class Blackhole:
    """From here on read what `source` sends and throw it away; None: what both send. Connections stay open."""

    source: Side | None = None


@dataclass(frozen=True, slots=True)
class AbortSession:
    """Close every connection of the session, with RST."""


@dataclass(frozen=True, slots=True)
class SecondClient:
    """Link another main channel to this connection's server, as another client would, with an empty password.

    Attributes:
        connection_id: For its link message.
        duration_ns: Close it after that.
    """

    connection_id: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class Log:
    """An event for the log."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Something of a fault that has fired was not done after all: an event."""

    reason: str


Effect = (
    Fired
    | Send
    | Wait
    | Wake
    | Close
    | Refuse
    | Stall
    | Throttle
    | Latency
    | Blackhole
    | AbortSession
    | SecondClient
    | Log
    | Failed
)
