"""The event log: lines that programs and people can read, and that cost nobody anything when they do not."""

import contextlib
import io
import json
import os
import pty
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dissectors.common import MigrateFlags
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import (
    EVENT_NAMES,
    MAX_WAITING_LINES,
    Event,
    EventLog,
    Sink,
    console,
    jsonl_file,
    only,
    render_json,
)
from spiceproxy.filter import compile_filter

NOW_NS = 1_700_000_000_123_456_789


def log_into(sink_events: list[Event]) -> EventLog:
    return EventLog([sink_events.append], clock_ns=lambda: NOW_NS)


def log_through(sink: Sink) -> EventLog:
    return EventLog([sink], clock_ns=lambda: NOW_NS)


def test_an_event_has_its_name_its_time_its_level_and_its_fields() -> None:
    events: list[Event] = []
    log_into(events).warning("link_failed", reason="no reply", offset=16)
    assert events == [
        {"time": NOW_NS / 1e9, "time_ns": NOW_NS, "event": "link_failed", "level": "warning",
         "reason": "no reply", "offset": 16}
    ]  # fmt: skip
    assert list(events[0])[:3] == ["time", "time_ns", "event"]


def test_each_level_has_a_method_and_sinks_get_all_of_them() -> None:
    events: list[Event] = []
    log = log_into(events)
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d")
    assert [(event["event"], event["level"]) for event in events] == [
        ("a", "debug"), ("b", "info"), ("c", "warning"), ("d", "error")
    ]  # fmt: skip


def test_what_is_bound_is_in_every_event_of_that_log_only() -> None:
    events: list[Event] = []
    log = log_into(events)
    session = log.bind(session="s1")
    session.bind(connection="s1-c1").info("one")
    session.info("two", session="s2")
    log.info("three")
    assert [{key: event.get(key) for key in ("session", "connection")} for event in events] == [
        {"session": "s1", "connection": "s1-c1"},
        {"session": "s2", "connection": None},
        {"session": None, "connection": None},
    ]


def test_every_sink_gets_every_event_in_order() -> None:
    one: list[Event] = []
    two: list[Event] = []
    log = EventLog([one.append, two.append])
    for number in range(10):
        log.info("counted", number=number)
    assert [event["number"] for event in one] == list(range(10))
    assert one == two


def test_the_clock_is_the_time_of_day() -> None:
    events: list[Event] = []
    before = time.time_ns()
    EventLog([events.append]).info("now")
    assert before <= events[0]["time_ns"] <= time.time_ns()
    assert events[0]["time"] == pytest.approx(events[0]["time_ns"] / 1e9)


# JSON ---------------------------------------------------------------------------------------------


def test_a_json_line_has_its_time_as_a_number_and_in_nanoseconds_as_a_string() -> None:
    events: list[Event] = []
    log_into(events).info(
        "session_started", session="s1", name="grün", data=b"\x01\xff", path=Path("/x"), port=None
    )
    line = render_json(events[0])
    assert "\n" not in line
    assert json.loads(line) == {
        "time": NOW_NS / 1e9, "time_ns": str(NOW_NS), "event": "session_started", "level": "info",
        "session": "s1", "name": "grün", "data": "01ff", "path": "/x", "port": None,
    }  # fmt: skip
    assert "grün" in line


def test_line_breaks_in_a_value_do_not_break_the_line() -> None:
    events: list[Event] = []
    log_into(events).info(
        "said", text="one\ntwo\r\x00", data=memoryview(b"\n"), more={"raw": bytearray(b"\n")}
    )
    line = render_json(events[0])
    assert len(line.splitlines()) == 1
    assert json.loads(line)["more"] == {"raw": "0a"}


def test_each_event_is_a_line_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with jsonl_file(path) as sink:
        log = EventLog([sink])
        for number in range(3):
            log.info("counted", number=number)
            lines = path.read_text(encoding="utf-8").splitlines()
            assert [json.loads(line)["number"] for line in lines] == list(range(number + 1))


@pytest.mark.parametrize("there", [False, True], ids=["new", "there already"])
def test_the_file_can_be_read_by_its_owner_only(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "events.jsonl"
    if there:
        path.write_text("old")
        path.chmod(0o644)
    with jsonl_file(path) as sink:
        EventLog([sink]).info("new")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "old" not in path.read_text()


def test_a_file_name_that_is_no_text_costs_no_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    name = os.fsdecode(b"caf\xe9.pcapng")
    with jsonl_file(path) as sink:
        EventLog([sink]).info("recording_started", path=name)
    assert json.loads(path.read_bytes())["path"] == name


def test_a_file_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "events.jsonl"
    with pytest.raises(UsageError, match=f"cannot write {path}: No such file or directory"), jsonl_file(path):
        pytest.fail("entered")


def test_a_full_disk_is_said_once_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with jsonl_file(Path("/dev/full")) as sink:
        log = EventLog([sink])
        for _ in range(3):
            log.info("something")
    assert capsys.readouterr().err == (
        "event log /dev/full: No space left on device; no more events are written\n"
    )


def test_a_device_keeps_its_mode() -> None:
    before = Path("/dev/null").stat().st_mode
    with jsonl_file(Path("/dev/null")) as sink:
        EventLog([sink]).info("something")
    assert Path("/dev/null").stat().st_mode == before


# For people ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def on_console(stream: io.StringIO, level: str = "info") -> Iterator[EventLog]:
    """A log that is shown on `stream`; all of it is there when this is left."""
    with console(stream, level) as sink:
        yield EventLog([sink], clock_ns=lambda: NOW_NS)


@pytest.mark.parametrize(
    ("level", "names"),
    [("debug", "abcd"), ("info", "bcd"), ("warning", "cd"), ("error", "d")],
)
def test_the_console_shows_its_level_and_above(level: str, names: str) -> None:
    stream = io.StringIO()
    with on_console(stream, level) as log:
        log.debug("event_a")
        log.info("event_b")
        log.warning("event_c")
        log.error("event_d")
    lines = stream.getvalue().splitlines()
    assert [line.split("event_")[1].strip() for line in lines] == list(names)


def test_a_console_line_has_time_level_name_and_fields() -> None:
    stream = io.StringIO()
    with on_console(stream) as log:
        log.info("channel_linked", session="s1", fields={"port": 5900})
    (line,) = stream.getvalue().splitlines()
    clock = time.strftime("%H:%M:%S", time.localtime(NOW_NS / 1e9))
    assert line.startswith(f"{clock}.123 ")
    assert "[info" in line
    assert line.endswith("at=s1 fields={'port': 5900}")
    assert "channel_linked " in line
    assert "time_ns" not in line


def test_a_console_line_says_where_in_one_place_and_nothing_twice() -> None:
    stream = io.StringIO()
    where = {"session": "s1", "connection": "c5", "channel": "main:0", "hop": 1, "server": "kvm2:5900"}
    with on_console(stream) as log:
        log.bind(**where).info("channel_linked", header="mini")
        sent = {"from": "server", "name": "SPICE_MSG_MIGRATE", "id": 1, "size": 4}
        log.bind(**where).info("migration_message", **sent, fields={"flags": MigrateFlags(3)})
        log.bind(**where).info("migration_message", **sent, fields={})
    linked, flagged, plain = stream.getvalue().splitlines()
    assert linked.endswith("at='s1/c5 main:0 hop 1' server=kvm2:5900 header=mini")
    assert flagged.endswith(
        "at='s1/c5 main:0 hop 1' from=server name=SPICE_MSG_MIGRATE size=4 fields={'flags': 3}"
    )
    assert plain.endswith("name=SPICE_MSG_MIGRATE size=4")


def test_what_the_console_says_of_migrations_is_a_line() -> None:
    stream = io.StringIO()
    with on_console(stream) as log:
        bound = log.bind(session="s1")
        bound.warning(
            "migration_ended", number=2, verdict="it failed", channels=[{"channel": "main:0"}], status=3
        )
        bound.warning("migration_stalled", number=2, reason="c waits for s2", waiting=[{"who": "client"}])
        bound.warning(
            "rule_broken", number=2, rule="R28", by="client", message="too late", evidence=[{}], channel="x:0"
        )
    ended, stalled, broken = (
        line.partition("] ")[2].split(maxsplit=1)[1] for line in stream.getvalue().splitlines()
    )
    assert ended == "at=s1 number=2 verdict='it failed'"
    assert stalled == "at=s1 number=2 reason='c waits for s2'"
    assert broken == "at='s1 x:0' number=2 rule=R28 by=client message='too late'"


def test_what_a_peer_sent_cannot_steer_the_terminal() -> None:
    stream = io.StringIO()
    with on_console(stream) as log:
        log.info("destination_opened", destination="\x1b[2Jhost:5900", fields={"host": "\x1b[2J"})
    (line,) = stream.getvalue().splitlines()
    assert "\x1b" not in line
    assert r"destination=\x1b[2Jhost:5900" in line


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, no_color: str | None) -> str:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color is not None:
        monkeypatch.setenv("NO_COLOR", no_color)
    master, slave = pty.openpty()
    with open(master, "rb", buffering=0) as reader, open(slave, "w", encoding="utf-8") as terminal:  # noqa: PTH123
        with console(terminal) as sink:
            EventLog([sink]).info("something_happened")
        return reader.read(4096).decode()


@pytest.mark.parametrize(("no_color", "colours"), [(None, True), ("", True), ("1", False)])
def test_colours_are_for_terminals_whose_user_wants_them(
    monkeypatch: pytest.MonkeyPatch, no_color: str | None, colours: bool
) -> None:
    text = on_a_terminal(monkeypatch, no_color)
    assert "something_happened" in text
    assert ("\x1b[" in text) is colours


def test_no_colours_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = io.StringIO()
    with on_console(stream) as log:
        log.info("something_happened")
    assert "\x1b[" not in stream.getvalue()


def test_a_pipe_that_nobody_reads_stalls_nothing_and_what_is_dropped_is_told() -> None:
    read_end, write_end = os.pipe()
    events = 3 * MAX_WAITING_LINES
    with (
        open(read_end, encoding="utf-8") as reader,  # noqa: PTH123
        open(write_end, "w", encoding="utf-8") as writer,  # noqa: PTH123
        console(writer) as sink,
    ):
        log = EventLog([sink])
        started = time.monotonic()
        for number in range(events):
            log.info("counted", number=number, text="x" * 100)
        assert time.monotonic() - started < 30  # it is done, which is what matters
        # Now somebody reads: what waited comes first, then the count, then what happens from now on.
        lines = [reader.readline() for _ in range(MAX_WAITING_LINES // 2)]
        log.info("and_on")
        while "and_on" not in lines[-1]:
            lines.append(reader.readline())
    assert "number=0 " in lines[0]
    told = [int(line.removeprefix("(").split()[0]) for line in lines if line.startswith("(")]
    assert lines[-2] == f"({told[-1]} lines dropped: nobody read them)\n"
    counted = [line for line in lines if "counted" in line]
    assert len(counted) + sum(told) == events


def test_json_lines_into_a_pipe_that_nobody_reads_stall_nothing_and_what_is_dropped_is_an_event() -> None:
    read_end, write_end = os.pipe()
    events = MAX_WAITING_LINES + 2000  # the pipe itself takes some hundreds
    with (
        open(read_end, encoding="utf-8") as reader,  # noqa: PTH123
        jsonl_file(Path(f"/dev/fd/{write_end}")) as sink,
    ):
        os.close(write_end)
        log = EventLog([sink])
        for number in range(events):
            log.info("counted", number=number, text="x" * 100)
        lines = [json.loads(reader.readline()) for _ in range(1000)]
        log.info("and_on")
        while lines[-1]["event"] != "and_on":
            lines.append(json.loads(reader.readline()))
    assert [line["number"] for line in lines[:1000]] == list(range(1000))
    assert (lines[-2]["event"], lines[-2]["level"]) == ("events_dropped", "warning")
    assert sum(line.get("events", 1) for line in lines[:-1]) == events


def test_what_a_crash_shows_has_no_values_of_variables() -> None:
    def crash(ticket: str) -> None:
        raise KeyError(len(ticket))

    stream = io.StringIO()
    with on_console(stream) as log:
        try:
            crash("sesame" * 3)
        except KeyError as error:
            log.error("connection_crashed", exc_info=error)
    assert "raise KeyError" in stream.getvalue()
    assert "sesamesesame" not in stream.getvalue()


# As a user has it: with PYTHONUNBUFFERED=1 stderr has no buffer, and no lock that could be waited for.
_FULL_PIPE = """
import sys
from spiceproxy.eventlog import MAX_WAITING_LINES, EventLog, console
with console(sys.stderr) as sink:
    log = EventLog([sink])
    for number in range(2 * MAX_WAITING_LINES):
        log.info("counted", number=number, text="x" * 100)
print("done", flush=True)
"""


def test_a_program_whose_stderr_nobody_reads_ends_all_the_same() -> None:
    read_end, write_end = os.pipe()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    try:
        program = [sys.executable, "-c", _FULL_PIPE]
        done = subprocess.run(
            program, stdout=subprocess.PIPE, stderr=write_end, env=environment, timeout=60, check=True
        )
    finally:
        os.close(read_end)
        os.close(write_end)
    assert done.stdout == b"done\n"


def test_a_reader_that_has_gone_away_costs_nobody_anything() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w", encoding="utf-8") as writer, console(writer) as sink:  # noqa: PTH123
        log = EventLog([sink])
        for number in range(100):
            log.info("counted", number=number)
    assert not [thread for thread in threading.enumerate() if thread.name == "event log"]


def test_a_sink_with_a_filter_gets_only_the_events_that_fit() -> None:
    chosen: list[Event] = []
    wanted = compile_filter('name =~ "MIGRATE*" or level == "error"', names=EVENT_NAMES)
    log = log_through(only(wanted, chosen.append))
    log.info("migration_message", name="SPICE_MSG_MAIN_MIGRATE_BEGIN")
    log.info("migration_message", name="SPICE_MSG_PING")
    log.error("accept_failed", listen="127.0.0.1:1")
    log.info("session_started")
    assert [event["event"] for event in chosen] == ["migration_message", "accept_failed"]


def test_without_a_filter_the_sink_is_the_same_sink() -> None:
    sink = list[Event]().append
    assert only(None, sink) is sink


def test_a_filter_on_one_sink_leaves_the_others_alone() -> None:
    some: list[Event] = []
    everything: list[Event] = []
    log = EventLog([only(compile_filter("size > 1"), some.append), everything.append])
    for size in range(4):
        log.info("counted", size=size)
    assert [event["size"] for event in some] == [2, 3]
    assert [event["size"] for event in everything] == [0, 1, 2, 3]


def test_flags_in_an_event_can_be_named_in_a_filter() -> None:
    chosen: list[Event] = []
    log = log_through(only(compile_filter('fields.flags & "NEED_FLUSH"'), chosen.append))
    log.info("a", fields={"flags": MigrateFlags.NEED_FLUSH})
    log.info("b", fields={"flags": MigrateFlags.NEED_DATA_TRANSFER})
    assert [event["event"] for event in chosen] == ["a"]
