"""A plain port in front of a TLS one, as a man in the middle offers it who would have clients speak in clear."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import trio
from trio.abc import Stream

from spiceproxy.address import Address
from spiceproxy.lab.qemu import HOST

_BROKEN: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


async def serve_plain(
    secure: Callable[[], Address | None], *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Take connections in clear and lead them on with TLS; a task for a nursery.

    Args:
        secure: Where the TLS port is by now; without one, connections are closed.
        task_status: Is given the port.
    """
    context = ssl.create_default_context()
    # Who stands in the middle does not care whom it speaks to.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

    async def lead_on(near: trio.SocketStream) -> None:
        target = secure()
        with suppress(*_BROKEN):
            async with near:
                if target is None:
                    return
                plain = await trio.open_tcp_stream(*target)
                async with trio.SSLStream(plain, context, https_compatible=True) as far:
                    await far.do_handshake()
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_pump, near, far, nursery.cancel_scope)
                        nursery.start_soon(_pump, far, near, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, lead_on, 0, host=HOST))
        task_status.started(listeners[0].socket.getsockname()[1])


async def _pump(source: Stream, sink: Stream, scope: trio.CancelScope) -> None:
    """TLS has no half-close: the end of one direction ends both."""
    with suppress(*_BROKEN):
        while data := await source.receive_some():
            await sink.send_all(data)
    scope.cancel()
