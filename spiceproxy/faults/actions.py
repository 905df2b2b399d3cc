"""What a fault can do: one class for each action, and its name in a file. Some of them are in `streams.py`.

An action is a word ("drop") or a table with one key ({ delay = { seconds = 2 } }), and most have one value that can stand
for the whole table ({ delay = 2 }).
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, field

from dissectors.side import Side
from spiceproxy.faults import streams
from spiceproxy.faults.match import Match
from spiceproxy.faults.tables import U8, U16, U32, Action, Fields, NonNegative, Positive, Seconds

# What a message may grow by, and how often one may be sent: a rule is no way to fill the memory.
MAX_PAD_BYTES: Final = 2**24
MAX_COPIES: Final = 10_000
MAX_COPIED_BYTES: Final = 64 * 2**20


class Drop(Action, frozen=True):
    """The message does not go out."""


class Delay(Action, frozen=True):
    """The message goes out later.

    Attributes:
        seconds: At least.
        jitter: At most so many seconds more, decided by the seed.
        overtake: What comes behind it passes meanwhile; else it waits as well.
    """

    short = "seconds"
    seconds: Seconds
    jitter: Seconds = 0.0
    overtake: bool = False


class Hold(Action, frozen=True):
    """The message goes out when something else happens.

    Attributes:
        until: What is waited for, in the same session.
        seconds: At the latest after that.
        overtake: As in `delay`.
    """

    short = "seconds"
    until: Match | None = None
    seconds: Seconds | None = None
    overtake: bool = False


class Reorder(Action, frozen=True):
    """The message goes out behind the next ones.

    Attributes:
        behind: So many of the same direction of its connection.
        within: Seconds after which it goes out in any case.
    """

    short = "behind"
    behind: Positive = 1
    within: Seconds = 5.0


class Duplicate(Action, frozen=True):
    """The message goes out more than once.

    Attributes:
        times: So many times more.
    """

    short = "times"
    times: Annotated[int, Meta(ge=1, le=MAX_COPIES)] = 1


class Set(Action, frozen=True):
    """Fields of the message get other values.

    Attributes:
        fields: Names as in docs/messages.md, one inside another as dst_info.port. Enums and flags by name or number,
            bytes in hexadecimal.
    """

    short = "*"
    fields: Fields


class Replace(Action, frozen=True):
    """Another message goes out in its place.

    Attributes:
        message: C name or id, of the same side.
        fields: Its fields. What is not given is taken from the message that was, where `keep` and of the same name, else
            is 0 or empty.
        body: The whole body in hexadecimal instead of fields.
        keep: Whether fields of the same name keep their values.
    """

    short = "message"
    message: str | NonNegative
    fields: Fields = field(default_factory=dict)
    body: str | None = None
    keep: bool = True


class Inject(Action, frozen=True):
    """A message that nobody sent goes out.

    Attributes:
        message: C name or id. Its name says who is meant to have sent it, and so where it goes.
        fields: Its fields; what is not given is 0 or empty.
        body: The whole body in hexadecimal instead of fields.
        to: Who gets it, where the name does not say.
        when: Before or after the message that was matched.
        delay: Seconds to wait; what was matched, and all else, goes on.
        times: How many of them.
        redirect: A destination named in it is taken for a true server, and the proxy puts itself in its place.
    """

    short = "message"
    message: str | NonNegative
    fields: Fields = field(default_factory=dict)
    body: str | None = None
    to: Side | None = None
    when: Literal["before", "after"] = "after"
    delay: Seconds = 0.0
    times: Annotated[int, Meta(ge=1, le=MAX_COPIES)] = 1
    redirect: bool = True


class Corrupt(Action, frozen=True):
    """Bytes of the body change.

    Attributes:
        at: Offset in the body; a negative one counts from its end.
        field: Instead of `at`: where this field stands.
        bytes: What is put there, in hexadecimal.
        xor: What is put there is what was there, changed by this.
        count: So many bytes change, each to another value, decided by the seed: anywhere, or from `at` or `field` on.
    """

    short = "count"
    at: int | None = None
    field: str | None = None
    bytes: str | None = None
    xor: str | None = None
    count: Positive | None = None


class Truncate(Action, frozen=True):
    """The end of the body is cut off; the header says so.

    Attributes:
        to: Bytes that stay.
        by: Bytes that go.
    """

    short = "to"
    to: NonNegative | None = None
    by: Positive | None = None


class Pad(Action, frozen=True):
    """Bytes are put at the end of the body; the header counts them.

    Attributes:
        count: How many.
        byte: Of this value.
    """

    short = "count"
    count: Annotated[int, Meta(ge=1, le=MAX_PAD_BYTES)]
    byte: U8 = 0


class Header(Action, frozen=True):
    """The header says something else than the truth.

    Attributes:
        id: Message id.
        size: Of the body.
        serial: Where there is one.
        sub_list: Where there is one.
    """

    id: U16 | None = None
    size: U32 | None = None
    serial: NonNegative | None = None
    sub_list: U32 | None = None


class Split(Action, frozen=True):
    """The message goes out in small segments.

    Attributes:
        bytes: Of each segment.
        gap: Seconds between them.
    """

    short = "bytes"
    bytes: Positive = 1
    gap: Seconds = 0.0


class Swap(Action, frozen=True):
    """Two messages that match, one after the other, exchange their bodies. The first waits for the second.

    Attributes:
        within: Seconds that it waits; then it goes out as it is.
    """

    short = "within"
    within: Seconds = 5.0


class Copy(Action, frozen=True):
    """The message gets the body of the one before it that matched; the first one is left alone."""


class Log(Action, frozen=True):
    """An event is written to the log; nothing else happens.

    Attributes:
        text: For that event.
    """

    short = "text"
    text: str = ""


ACTIONS: Final[dict[str, type[Action]]] = {
    "drop": Drop,
    "delay": Delay,
    "hold": Hold,
    "reorder": Reorder,
    "duplicate": Duplicate,
    "set": Set,
    "replace": Replace,
    "inject": Inject,
    "corrupt": Corrupt,
    "truncate": Truncate,
    "pad": Pad,
    "header": Header,
    "split": Split,
    "swap": Swap,
    "copy": Copy,
    "capabilities": streams.Capabilities,
    "link": streams.Link,
    "ticket": streams.Ticket,
    "link_error": streams.LinkError,
    "auth_fail": streams.AuthFail,
    "refuse": streams.Refuse,
    "reset": streams.Reset,
    "close": streams.Close,
    "stall": streams.Stall,
    "throttle": streams.Throttle,
    "latency": streams.Latency,
    "blackhole": streams.Blackhole,
    "log": Log,
    "abort_session": streams.AbortSession,
    "second_client": streams.SecondClient,
}
NAMES: Final = {action: name for name, action in ACTIONS.items()}
