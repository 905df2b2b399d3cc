"""Files that begin in the middle of a session say of its migrations what a recording of all of it would say."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from dissectors.side import Side
from spiceproxy.capture.reports import read_report
from spiceproxy.capture.sessions import REPEATED
from spiceproxy.protocol.migration.model import Outcome
from spiceproxy.recording.options import RecordingOptions
from spiceproxy.recording.recorder import Recorder
from spiceproxy.recording.ring import Ring
from spiceproxy.report.verdict import Report
from tests.recording.packets import ACK, SYN, recorded
from tests.recording.test_production import CLIENT, LINK, SERVER, payloads
from tests.test_proxy import Lab, lab


async def use(it: Lab, server: int) -> None:
    """Have guest and user do something, so that there is something to keep count of."""
    for _ in range(3):
        it.servers[server].draw(5)
        it.client.send_motion(1, 1)
        await trio.sleep(0.02)


async def migrations(it: Lab, count: int) -> None:
    """Back and forth, each to its end."""
    for number in range(count):
        source = number % 2
        await it.migrate(source, 1 - source)
        await it.events.wait_for("migration_ended", count=number + 1)
        await use(it, 1 - source)


def said_of(report: Report) -> tuple[list[Outcome | None], list[str]]:
    """How migrations ended, and which rules were broken."""
    violations = [*report.violations, *(each for m in report.migrations for each in m.violations)]
    return [each.outcome for each in report.migrations], [
        f"{each.rule} {each.message}" for each in violations
    ]


def forget(ring: Ring, left: int) -> None:
    """Let time pass: the oldest packets go."""
    while len(ring._packets) > left:
        ring._keep_bytes = ring.held_bytes - 1
        ring._trim()


@pytest.mark.parametrize("earlier", [0, 1, 2])
async def test_a_ring_that_begins_long_after_the_session_tells_of_its_migration(
    earlier: int, tmp_path: Path
) -> None:
    async with lab(servers=2, record=tmp_path / "vm.pcapng", recording=RecordingOptions(ring_s=600)) as it:
        await use(it, 0)
        await migrations(it, earlier)
        ring = it.proxy.recorder
        assert isinstance(ring, Ring)
        forget(ring, 0)
        ring._keep_bytes = 2**26
        await use(it, earlier % 2)
        await it.migrate(earlier % 2, 1 - earlier % 2)
        await it.events.wait_for("migration_ended", count=earlier + 1)
        path = await ring.dump()
    report = await trio.to_thread.run_sync(read_report, str(path))
    assert said_of(report) == ([Outcome.COMPLETED], [])
    assert len(report.migrations[0].channels) == 4
    assert report.migrations[0].session == "s1"


@pytest.mark.parametrize("earlier", [0, 1])
async def test_a_file_in_a_row_tells_of_the_migration_that_is_in_it(earlier: int, tmp_path: Path) -> None:
    options = RecordingOptions(rotate_s=3600)
    async with lab(servers=2, record=tmp_path / "vm.pcapng", recording=options) as it:
        await use(it, 0)
        await migrations(it, earlier)
        recorder = it.proxy.recorder
        assert isinstance(recorder, Recorder)
        first = recorder.path
        recorder._rotate_soon()
        await it.events.wait_for("recording_file", count=2)
        assert recorder.path != first
        await use(it, earlier % 2)
        await it.migrate(earlier % 2, 1 - earlier % 2)
        await it.events.wait_for("migration_ended", count=earlier + 1)
    report = await trio.to_thread.run_sync(read_report, str(recorder.path))
    assert said_of(report) == ([Outcome.COMPLETED], [])


def cuts(ring: Ring) -> Iterator[int]:
    """How many packets are left: fewer and fewer, and at each handshake but its first packet."""
    packets = list(ring._packets)
    for at, packet in enumerate(packets):
        opens = packet.header[33] & (SYN | ACK) == SYN
        if at % 12 == 0 or opens:
            yield len(packets) - at - opens


async def test_wherever_a_file_begins_nobody_is_accused_of_what_came_before(tmp_path: Path) -> None:
    async with lab(servers=2, record=tmp_path / "vm.pcapng", recording=RecordingOptions(ring_s=600)) as it:
        await migrations(it, 2)
        ring = it.proxy.recorder
        assert isinstance(ring, Ring)
        dumps = []
        for left in cuts(ring):
            forget(ring, left)
            dumps.append((left, await ring.dump()))
    counts = []
    for left, path in dumps:
        outcomes, broken = said_of(await trio.to_thread.run_sync(read_report, str(path)))
        assert broken == [], left
        assert len(outcomes) <= 2, left
        # What is not seen from its beginning can only be the first one.
        assert set(outcomes[1:]) <= {Outcome.COMPLETED}, left
        assert set(outcomes[:1]) <= {Outcome.COMPLETED, Outcome.INCOMPLETE}, left
        counts.append(outcomes.count(Outcome.COMPLETED))
    assert counts[0] == 2
    assert counts == sorted(counts, reverse=True)


async def test_of_a_handshake_that_is_in_a_ring_in_part_nothing_is_written_twice(tmp_path: Path) -> None:
    ring = Ring(tmp_path / "vm.pcapng", RecordingOptions(ring_s=600))
    conversation = ring.conversation(CLIENT, SERVER, comment="main:0 hop 1")
    forget(ring, 2)
    ring._keep_bytes = 2**26
    for side, unit in LINK:
        conversation.data(side, ring._last_ns, unit, ends=(len(unit),))
    conversation.linked()
    path = await ring.dump()
    segments = recorded(path.read_bytes())
    assert [each.flags & (SYN | ACK) for each in segments if each.flags & SYN] == [SYN, SYN | ACK]
    assert segments[0].comment == f"main:0 hop 1\n{REPEATED}"
    for side in Side:
        assert payloads(path)[side] == b"".join(unit for sender, unit in LINK if sender is side)
