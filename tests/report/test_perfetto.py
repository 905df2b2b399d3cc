"""The trace for ui.perfetto.dev, held against the Trace Event Format (Chromium project), JSON object form."""

import json
from collections import defaultdict
from typing import Any

import pytest

from spiceproxy.protocol.migration.model import Migration, Phase
from spiceproxy.report.perfetto import render_perfetto
from spiceproxy.report.verdict import Report
from tests.report.examples import CAPTURE_NS, EXAMPLES, seamless, wedged
from tests.report.hostile import flooded, spoiled
from tests.report.images import migrations_of

CAPTURES = ("seamless-two-hops", "switch-host", "destination-refuses")
METADATA = {
    "process_name": "name",
    "process_labels": "labels",
    "process_sort_index": "sort_index",
    "thread_name": "name",
    "thread_sort_index": "sort_index",
}


def events(*migrations: Migration, **options: Any) -> list[dict[str, Any]]:
    trace = json.loads(render_perfetto(migrations, **options))
    assert trace["displayTimeUnit"] in {"ms", "ns"}
    found: list[dict[str, Any]] = trace["traceEvents"]
    return found


def made(name: str) -> list[Migration]:
    if name in EXAMPLES:
        return [EXAMPLES[name]()]
    return {"spoiled": lambda: [spoiled()], "flooded": lambda: [flooded()]}.get(
        name, lambda: migrations_of(name)
    )()


@pytest.mark.parametrize("name", [*EXAMPLES, *CAPTURES, "spoiled", "flooded"])
def test_every_event_has_the_keys_that_the_format_asks_for(name: str) -> None:
    for event in events(*made(name)):
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["name"], str)
        assert isinstance(event["ts"], int | float)
        assert event["ts"] >= 0
        match event["ph"]:
            case "M":
                assert set(event["args"]) == {METADATA[event["name"]]}
            case "X":
                assert event["dur"] >= 0
            case "i":
                assert event["s"] in {"g", "p", "t"}
            case other:
                assert other == "B"


@pytest.mark.parametrize("name", [*EXAMPLES, *CAPTURES])
def test_slices_of_a_track_nest_as_viewers_demand(name: str) -> None:
    tracks = defaultdict(list)
    for event in events(*made(name)):
        if event["ph"] in "XB":
            end = event["ts"] + event["dur"] if event["ph"] == "X" else float("inf")
            tracks[event["pid"], event["tid"]].append((event["ts"], end))
    assert tracks
    for slices in tracks.values():
        for begin, end in slices:
            for other_begin, other_end in slices:
                crossing = begin < other_begin < end < other_end
                assert not crossing or end - other_begin < 0.01  # rounding of floats


@pytest.mark.parametrize("name", CAPTURES)
def test_every_channel_is_a_named_track_and_every_message_an_instant(name: str) -> None:
    migrations = made(name)
    found = events(*migrations, report=Report(migrations))
    start = Report(migrations).clock.start_ns
    for process, migration in enumerate(migrations, 1):
        mine = [event for event in found if event["pid"] == process]
        tracks = {event["args"]["name"] for event in mine if event["name"] == "thread_name"}
        assert set(migration.channels) <= tracks
        instants = [event["args"]["detail"] for event in mine if event["ph"] == "i"]
        told = "\n".join(line for detail in instants for line in detail)
        assert all(f"message {said.number}, " in told for said in migration.messages)
        phases = {event["name"]: event for event in mine if event["ph"] == "X" and event["tid"] == 1}
        for (phase, since), (_, until) in zip(migration.phases, migration.phases[1:], strict=False):
            if phase is not Phase.OVER and process == 1:
                base = found_base(found, migrations, start)
                assert phases[str(phase)]["ts"] == pytest.approx((since - start) / 1000 + base, abs=0.01)
                assert phases[str(phase)]["dur"] == pytest.approx((until - since) / 1000, abs=0.01)


def found_base(found: list[dict[str, Any]], migrations: list[Migration], start: int) -> float:
    """How far the trace was moved so that nothing is before 0."""
    first = min(
        event["ts"] for event in found if event["ph"] == "X" and event["pid"] == 1 and event["tid"] == 1
    )
    return float(first - (migrations[0].started_ns - start) / 1000)


def test_moments_count_from_the_start_of_the_capture_in_microseconds() -> None:
    found = events(seamless(), report=Report([seamless()], start_ns=CAPTURE_NS))
    begin = next(event for event in found if event["ph"] == "i")
    assert (begin["name"], begin["ts"]) == ("MIGRATE_BEGIN_SEAMLESS", 4_000_000)


def test_who_waits_is_a_slice_without_an_end() -> None:
    (begun,) = [event for event in events(wedged()) if event["ph"] == "B" and "waits" in event["name"]]
    assert begun["name"] == "client waits for MIGRATE_DATA"


def test_a_trace_leaves_nothing_out() -> None:
    migration = flooded()
    found = events(migration)
    assert sum(event["ph"] == "i" and event["tid"] == 2 for event in found) >= 4000
    tracks = [event["args"]["name"] for event in found if event["name"] == "thread_name"]
    assert set(migration.channels) <= set(tracks)


def test_what_a_peer_wrote_can_be_printed() -> None:
    def texts(value: Any) -> list[str]:
        if isinstance(value, str):
            return [value]
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        return [text for each in inner for text in texts(each)]

    assert not [text for text in texts(events(spoiled())) if not text.isprintable()]
