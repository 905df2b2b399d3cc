"""Sessions as traces of OpenTelemetry: a span for each session, and in it one for each channel, migration and phase.

A sink of the event log, so it knows what the log knows. Where spans go is said by the variables of OpenTelemetry
(OTEL_EXPORTER_OTLP_ENDPOINT and others). Only imported when asked for: `pip install spiceproxy[otel]`.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Final

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from spiceproxy.eventlog import Event

FLUSH_S: Final = 2.0
"""What is left may take so long when the proxy stops; a collector that is gone must not keep it."""


class Tracing:
    """Turns events into spans.

    Args:
        provider: Of OpenTelemetry.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer("spiceproxy")
        self._sessions: dict[str, Span] = {}
        self._channels: dict[str, tuple[str, Span]] = {}  # by connection; with its session
        self._migrations: dict[tuple[str, int], Span] = {}
        self._phases: dict[tuple[str, int], Span] = {}

    def __call__(self, event: Event) -> None:
        """Take an event."""
        session = event.get("session")
        if session is None:
            return
        match event["event"]:
            case "session_started":
                self._sessions[session] = self._start(
                    f"session {session}", None, event, client=event["client"]
                )
            case "session_ended":
                self._end_session(session, event)
            case "channel_linked":
                told = {key: event[key] for key in ("hop", "server", "client", "header")}
                span = self._start(event["channel"], self._sessions.get(session), event, **told)
                self._channels[event["connection"]] = session, span
            case "channel_closed":
                if (found := self._channels.pop(event["connection"], None)) is not None:
                    _tell(found[1], event, "by", "reason", "messages_from_client", "messages_from_server")
                    _finish(found[1], event, error=event["reason"] not in {"closed", "the proxy stops"})
            case "migration_started":
                key = session, event["number"]
                span = self._start(f"migration {event['number']}", self._sessions.get(session), event)
                _tell(span, event, "offered", "source_address", "destination_address")
                self._migrations[key] = span
                self._phase(key, "connecting", event)
            case "migration_phase":
                self._phase((session, event["number"]), event["phase"], event)
            case "migration_stalled" | "rule_broken":
                if (migration := self._migrations.get((session, event["number"]))) is not None:
                    text = event.get("reason") or event.get("message")
                    migration.add_event(event["event"], {"text": str(text)}, timestamp=event["time_ns"])
            case "migration_ended":
                self._end_migration((session, event["number"]), event)

    def _start(self, name: str, parent: Span | None, event: Event, **attributes: Any) -> Span:
        context = set_span_in_context(parent) if parent is not None else None
        told = {f"spice.{key}": value for key, value in attributes.items()}
        return self._tracer.start_span(name, context, attributes=told, start_time=event["time_ns"])

    def _phase(self, key: tuple[str, int], phase: str, event: Event) -> None:
        if (before := self._phases.pop(key, None)) is not None:
            before.end(event["time_ns"])
        if phase != "over" and (migration := self._migrations.get(key)) is not None:
            self._phases[key] = self._start(phase, migration, event)

    def _end_migration(self, key: tuple[str, int], event: Event) -> None:
        self._phase(key, "over", event)
        if (span := self._migrations.pop(key, None)) is not None:
            _tell(span, event, "agreed", "performed", "outcome", "verdict")
            _finish(span, event, error=event["outcome"] not in {"completed", "cancelled"})

    def _end_session(self, session: str, event: Event) -> None:
        for connection in [each for each, (owner, _) in self._channels.items() if owner == session]:
            self._channels.pop(connection)[1].end(event["time_ns"])
        for key in [each for each in self._migrations if each[0] == session]:
            self._phase(key, "over", event)
            self._migrations.pop(key).end(event["time_ns"])
        if (span := self._sessions.pop(session, None)) is not None:
            _tell(span, event, "connections", "hops", "messages_from_client", "messages_from_server")
            span.end(event["time_ns"])


def _tell(span: Span, event: Event, *keys: str) -> None:
    for key in keys:
        if (value := event.get(key)) is not None:
            span.set_attribute(f"spice.{key}", value if isinstance(value, int | float | bool) else str(value))


def _finish(span: Span, event: Event, *, error: bool) -> None:
    if error:
        span.set_status(Status(StatusCode.ERROR, str(event.get("verdict") or event.get("reason"))))
    span.end(event["time_ns"])


@contextlib.contextmanager
def traced(exporter: SpanExporter | None = None) -> Iterator[Tracing]:
    """A sink whose spans are exported, in a thread of OpenTelemetry's, for as long as the block runs.

    Args:
        exporter: Where to; None: by OTLP over HTTP, as the variables of OpenTelemetry say.
    """
    if exporter is None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter()
    # What the variables say goes first: where there is a proxy for each machine, their names tell them apart.
    resource = Resource({"service.name": "spiceproxy"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=Resource.create().merge(resource), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield Tracing(provider)
    finally:
        # In a thread that may be left behind: an exporter that tries again and again heeds no deadline of its caller's.
        ending = threading.Thread(target=provider.shutdown, name="spiceproxy traces", daemon=True)
        ending.start()
        ending.join(FLUSH_S)
