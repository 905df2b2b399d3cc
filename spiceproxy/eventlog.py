"""The event log: what happened, one structured event at a time, to any number of sinks.

Built on structlog. Names and fields are stable and documented in docs/events.md. A sink is called with one
plain dict per event, in order, from the trio thread, and must not block.
"""

import contextlib
import json
import logging
import os
import queue
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

from spiceproxy.errors import UsageError
from spiceproxy.filter import Filter

Event = dict[str, Any]
Sink = Callable[[Event], None]

LEVELS: Final = ("debug", "info", "warning", "error")
# Lines that wait for a terminal or a pipe that nobody reads. More are dropped, counted and reported.
MAX_WAITING_LINES: Final = 10_000
# Width of an event's name on the console.
EVENT_COLUMNS: Final = 22

# Every event, for conditions that name one: with docs/events.md and the code a test holds it together.
EVENTS: Final = frozenset(
    {
        "accept_failed", "channel_closed", "channel_linked", "channels_listed", "clock_set",
        "connection_crashed", "connection_opaque", "connection_refused", "control_failed",
        "control_started", "destination_announced", "destination_closed", "destination_opened",
        "events_dropped", "events_withheld", "fault_added", "fault_failed", "fault_fired", "fault_log",
        "fault_never_fired", "fault_removed", "hook_abandoned", "hook_failed", "link_failed",
        "link_refused", "message_not_rewritten", "message_rewritten", "message_undecoded",
        "metrics_started", "migration_ended", "migration_message", "migration_phase",
        "migration_stalled", "migration_started", "migration_unfollowed", "proxy_started",
        "proxy_stopped", "recording_dumped", "recording_failed", "recording_file", "reload_failed",
        "reloaded", "rule_broken", "sasl_ended", "script_failed", "script_renewed", "server_unknown",
        "session_ended", "session_identified", "session_started", "session_unknown", "signal_received",
        "ticket_not_renewed", "tls_established", "tunnel_closed", "tunnel_opened",
    }
)  # fmt: skip

# Every field that an event may have, for filters: a name that is none of these is a slip. docs/events.md says what
# they mean, and a test holds the two together.
EVENT_NAMES: Final = frozenset(
    {
        "actions", "after", "agreed", "agreed_reason", "ahead_s", "before", "blocking", "by", "by_s", "bytes_from_client", "bytes_from_server",
        "channel", "channels", "client", "code", "connection", "connection_id", "connections", "destination",
        "destination_address", "destination_hop", "diagnoses", "duration_s", "error", "event", "events", "evidence",
        "exc_info", "fault", "faults", "fields", "firing", "from", "header", "hook", "hooks", "hop", "hops", "host", "id", "level", "listen", "losses", "message",
        "messages_from_client", "messages_from_server", "mode", "name", "number", "offered", "offset", "outcome", "performed",
        "phase", "port", "reason", "record", "rule", "server", "session", "sessions", "severity", "signal", "since_ms",
        "size", "source_address", "source_hop", "status", "stood_ms", "time", "time_ms", "time_ns", "times_ms", "tls", "token_file", "traceback",
        "tls_listen", "version", "cipher", "plain", "host_subject", "mechanism", "result",
        "verdict", "violations", "waiting",
    }
)  # fmt: skip


# On a terminal these events are as long as a line; files have all of them.
_TOLD: Final = {
    "migration_stalled": {"event", "level", "number", "reason"},
    "migration_ended": {"event", "level", "number", "verdict"},
    "rule_broken": {"event", "level", "number", "rule", "by", "severity", "message"},
}


class EventLog:
    """Where events go. `bind` gives a log whose events all carry some fields.

    Args:
        sinks: Called with every event, whatever its level; a sink filters for itself.
        clock_ns: Nanoseconds since 1970.
    """

    def __init__(self, sinks: Sequence[Sink] = (), *, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._sinks = list(sinks)
        self._log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            _Dispatch(self._sinks),
            processors=[structlog.processors.add_log_level, _stamp(clock_ns)],
            wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        )

    def bind(self, **fields: Any) -> "EventLog":
        """A log whose events carry these fields as well."""
        bound = object.__new__(EventLog)
        bound._sinks, bound._log = self._sinks, self._log.bind(**fields)
        return bound

    @contextlib.contextmanager
    def listened_to(self, sink: Sink) -> Iterator[None]:
        """Give events to this sink as well, for as long as the block runs."""
        self._sinks.append(sink)
        try:
            yield
        finally:
            self._sinks.remove(sink)

    def debug(self, event: str, **fields: Any) -> None:
        """Something only a developer of this program asks for."""
        self._log.debug(event, **fields)

    def info(self, event: str, **fields: Any) -> None:
        """Something that happened as it should."""
        self._log.info(event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that cost a peer its connection, or may."""
        self._log.warning(event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something that this program could not do as asked."""
        self._log.error(event, **fields)


class _Dispatch:
    """What structlog calls at the end: hands the event to the sinks."""

    def __init__(self, sinks: list[Sink]) -> None:
        self._sinks = sinks

    def _emit(self, **event: Any) -> None:
        for sink in tuple(self._sinks):
            sink(event)

    debug = info = warning = error = _emit


def _stamp(clock_ns: Callable[[], int]) -> structlog.typing.Processor:
    def stamp(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        now = clock_ns()
        return {"time": now / 1e9, "time_ns": now, "event": event.pop("event"), **event}

    return stamp


def only(wanted: Filter | None, sink: Sink) -> Sink:
    """The sink, for events that a filter lets through. Without a filter that is every event."""
    if wanted is None:
        return sink
    matches = wanted.matches

    def select(event: Event) -> None:
        if matches(event):
            sink(event)

    return select


def render_json(event: Event) -> str:
    """One line of JSON. `time_ns` is a string, since JSON readers keep 53 bits of a number."""
    return json.dumps(event | {"time_ns": str(event["time_ns"])}, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes | bytearray | memoryview) else str(value)


@contextlib.contextmanager
def jsonl_file(path: Path) -> Iterator[Sink]:
    """A sink that writes JSON lines to a new file (mode 0600), each line at once.

    What is not a file (a pipe, a terminal) may have nobody who reads: a thread writes there.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        if regular:  # one that was there may have another mode
            with contextlib.suppress(PermissionError):  # or another owner, who decides
                os.fchmod(descriptor, 0o600)
        # In JSON a backslash escape is the same letter: a file name that is no UTF-8 costs no event.
        file = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
        put = file.write if regular else _unlocked_writer(file)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    failed = False

    def write(line: str) -> None:
        nonlocal failed
        if failed:
            return
        try:
            put(line + "\n")
        except OSError as error:
            # A full disk must not end the sessions; say it once where somebody may see it.
            failed = True
            print(f"event log {path}: {error.strerror}; no more events are written", file=sys.stderr)  # noqa: T201

    try:
        with contextlib.nullcontext(write) if regular else _in_a_thread(write, _events_dropped) as push:
            yield lambda event: push(render_json(event))
    finally:
        with contextlib.suppress(OSError):
            file.close()


def _events_dropped(count: int) -> str:
    told: list[Event] = []
    EventLog([told.append]).warning("events_dropped", events=count)
    return render_json(told[0])


@contextlib.contextmanager
def console(stream: TextIO, level: str = "info") -> Iterator[Sink]:
    """A sink that prints events for people, in a thread of its own: a pipe that nobody reads stalls nothing."""
    colors = stream.isatty() and not os.environ.get("NO_COLOR")
    render = structlog.dev.ConsoleRenderer(
        EVENT_COLUMNS,
        colors=colors,
        sort_keys=False,
        # Not structlog's choice, which shows local variables where rich is installed: tickets and passwords.
        exception_formatter=structlog.dev.plain_traceback,
    )
    lowest = LEVELS.index(level)
    put = _unlocked_writer(stream)

    def show(event: Event) -> None:
        if LEVELS.index(event["level"]) < lowest:
            return
        stamp = (
            time.strftime("%H:%M:%S", time.localtime(event["time"]))
            + f".{event['time_ns'] // 10**6 % 1000:03}"
        )
        push(str(render(None, "", {"timestamp": stamp, **_for_people(event)})))

    def write(line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            put(line + "\n")

    with _in_a_thread(write, lambda count: f"({count} lines dropped: nobody read them)") as push:
        yield show


@contextlib.contextmanager
def _in_a_thread(
    write: Callable[[str], None], dropped_line: Callable[[int], str]
) -> Iterator[Callable[[str], None]]:
    """Give lines to `write` in a thread of its own, so that one which waits for a reader stalls nothing.

    Lines beyond MAX_WAITING_LINES are dropped; the next that is taken has `dropped_line` of their number before it.
    """
    lines: queue.Queue[str | None] = queue.Queue(MAX_WAITING_LINES)
    dropped = 0

    def push(line: str) -> None:
        nonlocal dropped
        try:
            lines.put_nowait(f"{dropped_line(dropped)}\n{line}" if dropped else line)
            dropped = 0
        except queue.Full:
            dropped += 1

    def run() -> None:
        while (line := lines.get()) is not None:
            write(line)

    writer = threading.Thread(target=run, name="event log", daemon=True)
    writer.start()
    try:
        yield push
    finally:
        with contextlib.suppress(queue.Full):
            lines.put_nowait(None)
        writer.join(timeout=1.0)


def _for_people(event: Event) -> Event:
    """The event as short as it can be said: where it happened in one word, and nothing twice.

    `at='s1/c5 main:0 hop 1'` is session, connection, channel and hop. The server of a hop is told when it is linked.
    """
    left_out = {"time", "time_ns", "session", "connection", "channel", "hop"}
    if "hop" in event and event["event"] != "channel_linked":
        left_out.add("server")
    if event["event"] == "migration_message":
        left_out.add("id")  # the name says it
        if not event["fields"]:
            left_out.add("fields")
    if (told := _TOLD.get(event["event"])) is not None:
        left_out |= event.keys() - told
    place = "/".join(str(event[key]) for key in ("session", "connection") if key in event)
    if "channel" in event:
        place += f" {event['channel']}"
    if "hop" in event:
        place += f" hop {event['hop']}"
    head = {"event": event["event"], "level": event["level"]} | ({"at": place} if place else {})
    return head | {
        key: _printable(value) for key, value in event.items() if key not in left_out and key not in head
    }


def _printable(value: Any) -> Any:
    """Text that came from a peer must not move the cursor or change colours; a flag is its number."""
    if isinstance(value, str) and not value.isprintable():
        return value.encode("unicode_escape").decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        return {
            key: _printable(item) if isinstance(item, int | dict) else item for key, item in value.items()
        }
    return value


def _unlocked_writer(stream: TextIO) -> Callable[[str], None]:
    """Write to the file behind `stream`, not through its buffer.

    A thread that waits inside the buffer for somebody to read holds its lock, and the interpreter, which flushes
    stderr when it ends, then waits for that lock for ever.
    """
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # no file behind it
        return lambda text: print(text, end="", file=stream, flush=True)
    encoding = stream.encoding

    def put(text: str) -> None:
        data = memoryview(text.encode(encoding, "backslashreplace"))
        while data:
            data = data[os.write(descriptor, data) :]

    return put
