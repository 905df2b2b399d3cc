"""A report on the migrations that a capture shows."""

from collections.abc import Collection, Iterator

from spiceproxy.capture.events import Opened, StreamEvent, Summary
from spiceproxy.capture.files import open_capture
from spiceproxy.capture.migrations import findings_in
from spiceproxy.capture.streams import stream_events
from spiceproxy.errors import CaptureError
from spiceproxy.protocol.migration.model import Kind
from spiceproxy.report.verdict import Report


def read_report(
    file: str, *, ports: Collection[int] = (), session: str | None = None, expected: Kind | None = None
) -> Report:
    """Read a capture.

    Args:
        file: Its name; - is standard input.
        ports: That carry SPICE, for connections whose start is not in the capture.
        session: Only this one: "s1" or "1".
        expected: As which each migration was to be performed.

    Raises:
        UsageError: It cannot be read, or is no capture.
    """
    summary, begin, broken = Summary(), _Begin(), list[str]()
    with open_capture(file) as source:
        events = stream_events(source, ports=ports, summary=summary, comments=True)
        migrations, violations, faults, left_out = findings_in(begin.watch(_whole(events, summary, broken)))
    if session is not None:
        migrations = [each for each in migrations if each.session in {session, f"s{session}"}]
        violations = [each for each in violations if each.session in {session, f"s{session}"}]
        faults = [each for each in faults if each.session in {session, f"s{session}"}]
    return Report(
        migrations,
        expected=expected,
        problems=[*summary.problems, *broken],
        start_ns=begin.time_ns,
        file=file,
        violations=violations,
        faults=faults,
        faults_left_out=left_out,
    )


class _Begin:
    """Notes when the first connection was opened: `spiceproxy read` counts from there."""

    time_ns: int | None = None

    def watch(self, events: Iterator[StreamEvent]) -> Iterator[StreamEvent]:
        """The same events."""
        for event in events:
            if self.time_ns is None and type(event) is Opened:
                self.time_ns = event.time_ns
            yield event


def _whole(events: Iterator[StreamEvent], summary: Summary, broken: list[str]) -> Iterator[StreamEvent]:
    """The same events, to the place where the file is broken.

    Raises:
        UsageError: It is no capture.
    """
    try:
        yield from events
    except CaptureError as error:
        if not summary.packets:
            raise
        broken.append(str(error))
