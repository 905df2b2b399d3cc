"""What the API takes and gives: JSON by these types, and the schemas of its description too."""

from typing import Any

import msgspec
from msgspec import field


class Problem(msgspec.Struct):
    """Why a request was not answered as asked, in one line."""

    error: str


class Health(msgspec.Struct):
    """The proxy runs."""

    status: str = "ok"


class Proxy(msgspec.Struct):
    """The proxy: its version, process, where it listens for SPICE clients, the first server, and counts so far."""

    version: str
    pid: int
    listen: str
    server: str
    connections: int
    sessions: int
    migrations: int


class Fault(msgspec.Struct):
    """A rule that is loaded: what it does in a few words, and how often it has fired since it was added or reset."""

    name: str
    actions: str
    fired: int
    comment: str
    ledger: bool
    count: str


class Faults(msgspec.Struct):
    """The rules, in the order in which they are asked; hooks of a script are not among them."""

    faults: list[Fault]
    seed: int


class NewFaults(msgspec.Struct, forbid_unknown_fields=True):
    """Rules to add: those of a file of faults as JSON (`fault`), or a scenario of the catalog by its name.

    `variables` are what values like "${other_port}" stand for, from now on.
    """

    fault: list[dict[str, Any]] = field(default_factory=list)
    scenario: str | None = None
    variables: dict[str, str | int] = field(default_factory=dict)


class Names(msgspec.Struct):
    """The rules that this was done to."""

    faults: list[str]


class Connection(msgspec.Struct):
    """A connection. `upstream` is the proxy's own address as the server sees it; `messages` counts by who sent them."""

    id: str
    session: str
    channel: str
    hop: int
    state: str
    client: str
    server: str
    upstream: str | None
    messages: dict[str, int]


class Connections(msgspec.Struct):
    """Of all sessions that are kept: the live ones, and the latest that have ended."""

    connections: list[Connection]


class Session(msgspec.Struct):
    """A session, with its connections in the order in which they came."""

    id: str
    client_host: str
    ended: bool
    connections: list[Connection]


class Sessions(msgspec.Struct):
    """The live sessions, and the latest that have ended."""

    sessions: list[Session]


class Migrations(msgspec.Struct):
    """The migrations so far, each as in a report (docs/report.md), and how many earlier ones are not kept."""

    migrations: list[dict[str, Any]]
    forgotten: int


class Recording(msgspec.Struct):
    """Whether a recording is made, where, and what has become of it."""

    recording: bool
    file: str | None
    error: str | None
    lost_bytes: int


class Condition(msgspec.Struct, forbid_unknown_fields=True):
    """What to wait for, as a filter of messages and events, and for how many seconds.

    Events count from `since` on: seconds since 1970, or seconds ago if negative; without it from now on.
    """

    condition: str
    timeout_s: float = 60.0
    since: float | None = None


class Waiting(msgspec.Struct):
    """First line of an answer: what happens from now on is not missed.

    Messages count from `messages_from`, events from `events_from`, both in seconds since 1970. `complete`: all events from
    then on were there to be counted; else some are not kept any more.
    """

    messages_from: float
    events_from: float
    complete: bool


class Happened(msgspec.Struct):
    """Second line of an answer: whether it happened in time, and what did: the event, or the message's outside."""

    happened: bool
    what: dict[str, Any] | None


class Event(msgspec.Struct):
    """An event of the log; beside these it has the fields of docs/events.md."""

    event: str
    time: float
    time_ns: str
    level: str
