"""Events of which there may be too many."""

from spiceproxy.eventlog import EventLog
from spiceproxy.sparing import A_SECOND, AT_ONCE, SparingLog
from tests.raw_peers import Events


def sparing(now: list[float]) -> tuple[SparingLog, Events]:
    events = Events()
    return SparingLog(EventLog([events]).bind(connection="c1"), lambda: now[0]), events


def test_as_many_as_a_migration_has_are_all_told_at_every_level_with_the_fields_of_the_log() -> None:
    log, events = sparing([0.0])
    for tell in (log.debug, log.info, log.warning, log.error):
        tell("x", number=1)
    log.bind(hop=2).info("y")
    log.tell()
    assert [(e["event"], e["level"], e["connection"]) for e in events] == [
        ("x", "debug", "c1"), ("x", "info", "c1"), ("x", "warning", "c1"), ("x", "error", "c1"), ("y", "info", "c1"),
    ]  # fmt: skip
    assert events[-1]["hop"] == 2


def test_more_are_counted_and_the_number_is_told_once_a_second_and_at_the_end() -> None:
    now = [0.0]
    log, events = sparing(now)
    for number in range(AT_ONCE + 100):
        log.info("x", number=number)
    assert len(events.named("x")) == AT_ONCE
    assert [e["events"] for e in events.named("events_withheld")] == [
        1
    ]  # the first: somebody may be looking on
    log.tell()
    assert [e["events"] for e in events.named("events_withheld")] == [1, 99]
    log.tell()
    assert len(events.named("events_withheld")) == 2


def test_some_are_told_as_time_goes_on_behind_the_number_of_those_that_were_not() -> None:
    now = [0.0]
    log, events = sparing(now)
    seconds, each_s = 10, 0.001
    for _ in range(AT_ONCE):
        log.info("first")
    for _ in range(int(seconds / each_s)):
        now[0] += each_s
        log.info("x")
    log.tell()
    told, withheld = len(events.named("x")), sum(e["events"] for e in events.named("events_withheld"))
    assert told + withheld == seconds / each_s
    assert abs(told - seconds * A_SECOND) <= 1
    at = [e["event"] for e in events].index("x")
    assert events[at - 1]["event"] == "events_withheld"
