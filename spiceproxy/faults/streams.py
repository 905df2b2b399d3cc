"""What a fault can do to a connection as a whole and to its link phase: one class for each action.

The other actions, and the names of all, are in `actions.py`.
"""

from msgspec import field

from dissectors.side import Side
from spiceproxy.faults.tables import U8, U32, Action, ErrorCode, NonNegative, Password, Positive, Seconds

CapNames = str | NonNegative | list[str | NonNegative]


class Capabilities(Action, frozen=True):
    """Capabilities of a link message or a link reply.

    Attributes:
        add: Names of bits to set, or numbers of bits of the channel.
        clear: Names or numbers of bits to clear.
        set: Exactly these of the channel, and the common ones as they are.
    """

    add: CapNames = field(default_factory=list)
    clear: CapNames = field(default_factory=list)
    set: CapNames | None = None


class Link(Action, frozen=True):
    """Fields of a client's link message.

    Attributes:
        connection_id: 0 = a new session.
        channel_type: Of the channel.
        channel_id: Of the channel.
        minor_version: Nobody looks at it.
        major_version: Nobody takes another than 2.
    """

    connection_id: U32 | None = None
    channel_type: U8 | None = None
    channel_id: U8 | None = None
    minor_version: U32 | None = None
    major_version: U32 | None = None


class Ticket(Action, frozen=True):
    """The client's ticket is for another password, encrypted with the key that the server has sent.

    Attributes:
        password: That one.
    """

    short = "password"
    password: Password = ""


class LinkError(Action, frozen=True):
    """The client gets a link reply that turns it down, and the connection is closed.

    Attributes:
        code: Name of a link error, or a number.
    """

    short = "code"
    code: str | ErrorCode = "ERROR"


class AuthFail(Action, frozen=True):
    """The client gets a link result that turns it down, and the connection is closed.

    Attributes:
        code: Name of a link error, or a number.
    """

    short = "code"
    code: str | ErrorCode = "PERMISSION_DENIED"


class Refuse(Action, frozen=True):
    """The server is not dialled: as if it had refused the connection."""


class Reset(Action, frozen=True):
    """The connection is reset, both ways, in the place of the message.

    Attributes:
        bytes: So many bytes of the message, its header included, go out before.
        after: All of it does.
    """

    short = "bytes"
    bytes: NonNegative = 0
    after: bool = False


class Close(Action, frozen=True):
    """The connection is closed with FIN, in the place of the message.

    Attributes:
        bytes: So many bytes of the message, its header included, go out before.
        after: All of it does.
        to: Only the half towards this side; the other direction goes on.
    """

    short = "bytes"
    bytes: NonNegative = 0
    after: bool = False
    to: Side | None = None


class FromSide(Action, frozen=True, kw_only=True, rename={"sender": "from"}):
    """What the stream as a whole suffers, from here on; the message that was matched passes before.

    Attributes:
        sender: Only what this side sends; both where it is not given.
    """

    sender: Side | None = None


class Stall(FromSide, frozen=True):
    """Nothing more is read: the peers' buffers fill, and then they wait.

    Attributes:
        seconds: For so long; without it, for good.
    """

    short = "seconds"
    seconds: Seconds | None = None


class Throttle(FromSide, frozen=True, kw_only=True):
    """Not more than so many bytes a second.

    Attributes:
        rate: Bytes a second.
    """

    short = "rate"
    rate: Positive


class Latency(FromSide, frozen=True, kw_only=True):
    """All that is sent arrives later.

    Attributes:
        seconds: At least.
        jitter: At most so many seconds more, decided by the seed.
    """

    short = "seconds"
    seconds: Seconds
    jitter: Seconds = 0.0


class Blackhole(FromSide, frozen=True):
    """All that is sent is read and thrown away."""


class AbortSession(Action, frozen=True):
    """Every connection of the session is reset."""


class SecondClient(Action, frozen=True):
    """Another client links its main channel to the same server.

    Attributes:
        connection_id: Of its link message; 0 = a new session.
        seconds: It stays so long.
    """

    short = "seconds"
    connection_id: U32 = 0
    seconds: Seconds = 5.0
