"""`run` as a service: its options, and what goes on beside the proxy."""

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click
import trio

from spiceproxy import sockets
from spiceproxy.address import parse_address
from spiceproxy.cli.fault_options import faults_of
from spiceproxy.cli.limit_options import limits_of
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import Sink
from spiceproxy.proxy import Proxy
from spiceproxy.service.activation import inherited_socket
from spiceproxy.service.notify import Notifier

if TYPE_CHECKING:
    from spiceproxy.injection import Faults
    from spiceproxy.service.metrics import Metrics

_Command = TypeVar("_Command", bound=Callable[..., Any])


def service_options(command: _Command) -> _Command:
    """The options."""
    command = click.option(
        "--traces",
        is_flag=True,
        help="Send spans of sessions and migrations to OpenTelemetry; needs spiceproxy[otel].",
    )(command)
    return click.option(
        "--metrics",
        metavar="HOST:PORT",
        help="Answer /metrics (Prometheus) and /healthz there, to anybody who asks; PORT alone is on 127.0.0.1.",
    )(command)


@dataclass
class Service:
    """What goes on beside the proxy."""

    options: Mapping[str, Any]
    inherited: socket.socket | None
    listener: socket.socket | None
    metrics: "Metrics | None"
    sinks: list[Sink]
    """Of the event log: what else wants to hear of everything."""
    notifier: Notifier = field(default_factory=Notifier)

    def reloadable(self, faults: "Faults | None") -> "Faults | None":
        """Faults of files may be others after the next SIGHUP."""
        return replace(faults, live=True) if faults is not None and self.options["faults"] else faults

    def reload(self, proxy: Proxy) -> None:
        """SIGHUP."""
        from spiceproxy.service.reload import reload

        self.notifier.tell("RELOADING=1", f"MONOTONIC_USEC={_monotonic_usec()}")
        options = self.options
        reload(
            proxy,
            lambda: limits_of(options),
            (lambda: faults_of(options, all_known=True)) if options["faults"] else None,
        )
        self.notifier.tell("READY=1")

    @contextlib.asynccontextmanager
    async def running(self, proxy: Proxy) -> AsyncIterator[None]:
        """Tell whoever wants to know that the proxy runs, for as long as the block does."""
        async with trio.open_nursery() as nursery:
            if self.metrics is not None and self.listener is not None:
                from spiceproxy.service.http import serve_metrics

                self.metrics.watch(proxy)
                nursery.start_soon(serve_metrics, self.listener, self.metrics, proxy, proxy.config.events)
                proxy.config.events.info("metrics_started", listen=str(sockets.local_address(self.listener)))
            nursery.start_soon(self.notifier.run)
            self.notifier.tell("READY=1", f"STATUS=listening on {proxy.address}")
            try:
                yield
            finally:
                self.notifier.tell("STOPPING=1")
                nursery.cancel_scope.cancel()


@contextlib.contextmanager
def service_of(arguments: Mapping[str, Any]) -> Iterator[Service]:
    """What the options and the service manager say; sockets are closed with the block.

    Raises:
        UsageError: A socket cannot be had.
    """
    with contextlib.ExitStack() as stack:
        inherited = inherited_socket(os.environ)
        if inherited is not None:
            stack.enter_context(inherited)
        listener, metrics = None, None
        if arguments["metrics"] is not None:
            from spiceproxy.service.metrics import Metrics

            address = parse_address(arguments["metrics"], any_port=True)
            listener = stack.enter_context(sockets.listen(address.host, (address.port,)))
            metrics = Metrics()
        sinks: list[Sink] = [metrics] if metrics is not None else []
        if arguments["traces"]:
            try:
                from spiceproxy.service.tracing import traced
            except ImportError:
                raise UsageError("--traces needs OpenTelemetry: pip install 'spiceproxy[otel]'") from None
            sinks.append(stack.enter_context(traced()))
        yield Service(arguments, inherited, listener, metrics, sinks)


def _monotonic_usec() -> int:
    import time

    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
