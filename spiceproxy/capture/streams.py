"""From a capture to the byte streams of its SPICE connections."""

from collections.abc import Callable, Collection, Iterator
from typing import BinaryIO

from spiceproxy.capture.connections import Route
from spiceproxy.capture.events import Closed, Data, Endpoint, Gap, Opened, StreamEvent, Summary
from spiceproxy.capture.packets import packets_of
from spiceproxy.capture.tcp import TcpStreams
from spiceproxy.errors import CaptureError

__all__ = ["Closed", "Data", "Endpoint", "Gap", "Opened", "StreamEvent", "Summary", "stream_events"]


def stream_events(
    source: BinaryIO,
    *,
    ports: Collection[int] = (),
    follow: Callable[[], bool] | None = None,
    summary: Summary | None = None,
    routes: list[Route] | None = None,
    comments: bool = False,
) -> Iterator[StreamEvent]:
    """Read the packets of a file and put together what the ends of each SPICE connection sent.

    Args:
        source: pcap or pcapng, plain or compressed by gzip or zstd: its first bytes tell.
        ports: Connections with one of these TCP ports are taken whatever they carry, also from their middle.
        follow: Called when the end is reached: waits for more and returns True, or returns False to stop.
        summary: Counts while the file is read.
        routes: Takes where every SPICE connection is, for who reads the packets again.
        comments: Give what packets' comments say as well.

    Raises:
        CaptureError: The file is no capture, or is damaged from some offset on. What stood before has been given.
    """
    if summary is None:
        summary = Summary()
    tcp = TcpStreams(ports, summary, routes, comments=comments)
    damage: CaptureError | None = None
    try:
        yield from tcp.read(packets_of(source, follow, summary))
    except CaptureError as error:
        damage = error  # what was read before it is worth having
    yield from tcp.finish()
    if damage is not None:
        raise damage
