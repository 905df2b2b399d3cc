"""Figures for Prometheus. Gauges are asked of the proxy when somebody looks; counters count events."""

from collections import Counter
from collections.abc import Iterator

import trio
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from spiceproxy.eventlog import Event
from spiceproxy.proxy import Proxy


class Metrics(Collector):
    """The figures of one proxy; also a sink of its event log. docs/service.md lists them."""

    def __init__(self) -> None:
        self._proxy: Proxy | None = None
        self._events: Counter[tuple[str, str]] = Counter()
        self._migrations: Counter[tuple[str, str]] = Counter()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def __call__(self, event: Event) -> None:
        """Count an event."""
        self._events[event["event"], event["level"]] += 1
        if event["event"] == "migration_ended":
            self._migrations[str(event["performed"]), str(event["outcome"])] += 1

    def watch(self, proxy: Proxy) -> None:
        """Ask this proxy."""
        self._proxy = proxy

    def text(self) -> bytes:
        """In the text format of Prometheus."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Called by the registry."""
        events = CounterMetricFamily("spiceproxy_events", "Events of the log.", labels=["event", "level"])
        for (name, level), count in sorted(self._events.items()):
            events.add_metric([name, level], count)
        yield events
        migrations = CounterMetricFamily(
            "spiceproxy_migrations", "Migrations that have ended.", labels=["performed", "outcome"]
        )
        for key, count in sorted(self._migrations.items()):
            migrations.add_metric(list(key), count)
        yield migrations
        if (proxy := self._proxy) is None:
            return
        totals, gate, recorder = proxy.totals, proxy.gate, proxy.recorder
        yield _gauge("sessions", "Sessions that are open.", proxy.live_sessions)
        yield _gauge("connections", "Connections that are open.", gate.inside)
        yield _gauge("listeners", "Ports that the proxy listens on for clients.", proxy.listeners)
        yield _gauge("tasks", "Tasks of the event loop.", _tasks())
        yield CounterMetricFamily("spiceproxy_sessions", "Sessions so far.", totals["sessions"])
        yield CounterMetricFamily("spiceproxy_connections", "Connections so far.", totals["connections"])
        yield CounterMetricFamily(
            "spiceproxy_connections_refused", "Connections turned away by a limit.", gate.turned_away
        )
        if recorder is not None:
            yield _gauge(
                "recording",
                "1 while everything is recorded, 0 after the recording has ended.",
                not recorder.ended,
            )
            yield CounterMetricFamily(
                "spiceproxy_recording_lost_bytes",
                "Bytes that passed and are not recorded.",
                recorder.lost_bytes,
            )


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"spiceproxy_{name}", what, float(value))


def _tasks() -> int:
    try:
        return trio.lowlevel.current_statistics().tasks_living
    except RuntimeError:  # nothing runs yet, or any more
        return 0
