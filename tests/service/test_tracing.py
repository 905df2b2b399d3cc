"""Sessions as spans: from a real migration through the proxy, and from events as they may come."""

import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from spiceproxy.service import tracing
from spiceproxy.service.tracing import Tracing, traced
from tests.test_proxy import lab


def parent_of(span: ReadableSpan, spans: list[ReadableSpan]) -> str | None:
    if span.parent is None:
        return None
    (found,) = (each.name for each in spans if each.context.span_id == span.parent.span_id)
    return found


async def test_a_session_that_migrates_is_one_trace() -> None:
    exporter = InMemorySpanExporter()
    with traced(exporter) as tracing:
        async with lab() as it:
            await it.migrate(0, 1)
            await it.events.wait_for("migration_ended")
        for event in it.events:
            tracing(event)
    spans = list(exporter.get_finished_spans())
    parents = {(span.name, parent_of(span, spans)) for span in spans}
    assert {("session s1", None), ("migration 1", "session s1"), ("main:0", "session s1")} <= parents
    assert {name for name, parent in parents if parent == "migration 1"} >= {"connecting", "switching"}
    assert len([span for span in spans if span.name == "display:0"]) == 2  # on each server
    (migration,) = (span for span in spans if span.name == "migration 1")
    assert migration.attributes is not None
    assert migration.attributes["spice.outcome"] == "completed"
    assert all(span.end_time is not None and span.end_time >= (span.start_time or 0) for span in spans)


def play(*events: dict[str, Any]) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    with traced(exporter) as tracing:
        for number, event in enumerate(events):
            tracing({"time_ns": 1000 + number, "session": "s1", "level": "info", **event})
        kept = [tracing._sessions, tracing._channels, tracing._migrations, tracing._phases]
        assert not any(kept)
    return list(exporter.get_finished_spans())


STARTED = {"event": "session_started", "client": "127.0.0.1:1"}
ENDED = {
    "event": "session_ended",
    "connections": 1,
    "hops": 0,
    "messages_from_client": 1,
    "messages_from_server": 2,
}
LINKED = {
    "event": "channel_linked", "connection": "c1", "channel": "main:0", "hop": 0, "server": "s:1", "client": "c:1", "header": "mini",
}  # fmt: skip
MIGRATION = {
    "event": "migration_started",
    "number": 1,
    "offered": "seamless",
    "source_address": "a",
    "destination_address": "b",
}


def test_what_is_open_when_a_session_ends_ends_with_it() -> None:
    spans = play(STARTED, LINKED, MIGRATION, ENDED)
    assert [span.name for span in spans] == ["main:0", "connecting", "migration 1", "session s1"]
    assert {span.end_time for span in spans} == {1003}


def test_what_went_wrong_has_the_status_of_an_error() -> None:
    closed = {"event": "channel_closed", "connection": "c1", "by": "server", "reason": "reset"}
    stalled = {"event": "migration_stalled", "number": 1, "reason": "the client waits"}
    over = {
        "event": "migration_ended",
        "number": 1,
        "outcome": "failed",
        "verdict": "it failed",
        "performed": None,
    }
    spans = {span.name: span for span in play(STARTED, LINKED, MIGRATION, stalled, closed, over, ENDED)}
    assert spans["main:0"].status.status_code is StatusCode.ERROR
    assert spans["migration 1"].status.description == "it failed"
    assert [event.name for event in spans["migration 1"].events] == ["migration_stalled"]
    assert spans["session s1"].status.status_code is StatusCode.UNSET


def test_events_of_what_began_before_are_passed_over() -> None:
    unknown = {"event": "migration_phase", "number": 7, "phase": "switching"}
    closed = {"event": "channel_closed", "connection": "c9", "by": "client", "reason": "closed"}
    assert (
        play(unknown, closed, {"event": "migration_ended", "number": 7, "outcome": "completed"}, ENDED) == []
    )


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "spiceproxy"),
        ({"OTEL_SERVICE_NAME": "vm1"}, "vm1"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=vm2"}, "vm2"),
    ],
)
def test_the_variables_of_opentelemetry_say_who_we_are(
    variables: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    resource = play(STARTED, ENDED)[0].resource.attributes
    assert resource["service.name"] == name
    assert resource["telemetry.sdk.language"] == "python"


class _Stuck(SpanExporter):
    """A collector that is gone, in the eyes of an exporter that does not give up."""

    def __init__(self) -> None:
        self.tried, self.given_up = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.tried.set()
        self.given_up.wait()
        return SpanExportResult.FAILURE

    def shutdown(self) -> None:
        """As OpenTelemetry's own: what is being tried is tried on."""


def test_a_collector_that_is_gone_does_not_keep_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "FLUSH_S", 0.1)
    exporter = _Stuck()
    with traced(exporter) as sink:
        for event in (STARTED, ENDED):
            sink({"time_ns": 1000, "session": "s1", "level": "info", **event})
    assert not exporter.given_up.is_set()
    assert exporter.tried.wait(10)
    exporter.given_up.set()


def test_nothing_of_it_is_imported_unless_it_is_asked_for() -> None:
    code = "import sys, spiceproxy.cli.run; assert not [name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus'))]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_events_without_a_session_are_none_of_its_business() -> None:
    exporter = InMemorySpanExporter()
    with traced(exporter) as tracing:
        assert isinstance(tracing, Tracing)
        tracing({"event": "proxy_started", "time_ns": 1, "level": "info"})
    assert exporter.get_finished_spans() == ()
