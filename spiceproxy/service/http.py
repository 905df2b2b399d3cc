"""`/metrics` and `/healthz` on a port of their own: read only, without a token, so on loopback unless told otherwise."""

import contextlib
import socket
from typing import Final

import trio

from spiceproxy import sockets
from spiceproxy.control.http import Answer, Conversation, HttpError, Request, answer_of
from spiceproxy.eventlog import EventLog
from spiceproxy.proxy import Proxy
from spiceproxy.relay.fairness import metered
from spiceproxy.service.metrics import Metrics

MAX_CONNECTIONS: Final = 32
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


async def serve_metrics(listener: socket.socket, metrics: Metrics, proxy: Proxy, log: EventLog) -> None:
    """Answer whoever asks, until it is cancelled. The caller closes the listener."""
    room = trio.CapacityLimiter(MAX_CONNECTIONS)

    async def answer(request: Request) -> Answer:
        if request.method not in {"GET", "HEAD"}:
            raise HttpError(405, "only GET", {"allow": "GET"})
        if request.segments == ("metrics",):
            return Answer(metrics.text(), content_type=_TEXT)
        if request.segments == ("healthz",):
            healthy = proxy.healthy
            return answer_of(
                {"status": "ok" if healthy else "nothing can be recorded any more"}, 200 if healthy else 503
            )
        raise HttpError(404, "there is /metrics and /healthz")

    async def converse(accepted: socket.socket) -> None:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        try:
            async with room:
                await metered(Conversation(stream, answer).run(), proxy.gate.newcomers)
        except Exception as error:
            log.error("control_failed", reason=repr(error), exc_info=error)
        finally:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        while True:
            try:
                accepted = await sockets.accept(listener)
            except OSError as error:  # no descriptor or memory
                listen = str(sockets.local_address(listener))
                log.error("accept_failed", listen=listen, reason=error.strerror or str(error))
                await trio.sleep(0.2)
                continue
            if len(nursery.child_tasks) > 2 * MAX_CONNECTIONS:
                with contextlib.suppress(OSError):
                    accepted.close()
                continue
            nursery.start_soon(converse, accepted)
            await proxy.gate.pause()
