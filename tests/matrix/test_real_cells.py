"""The real thing: a scenario of each kind with QEMU and spicy, as CI plays them."""

from pathlib import Path
from typing import Final

import msgspec
import pytest

from spiceproxy.capture.reports import read_report
from spiceproxy.lab.programs import QEMU
from spiceproxy.lab.result import ClientKind
from spiceproxy.lab.viewer import needed_programs
from spiceproxy.matrix.campaign import Options, run_campaign
from spiceproxy.matrix.results import Cell, Column, Verdict, read_cells
from tests.programs import require_programs

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

# Outcome, and what is said of it.
SCENARIOS: Final = {
    "nack-synth": ("semi-seamless", "NACK"),
    "nack-rewrite": ("destination-aborted", "semi_seamless_migrate_complete: unexpected"),
    "bad-magic": ("destination-aborted", "migration_protocol_validate_header: bad magic"),
    "refuse-dst": ("switch-host", "refused by a fault"),
    "drop-data-inputs": ("wedged", "the destination waits for MIGRATE_DATA from the client on inputs:0"),
    "fake-end": ("unchanged", ""),
    "tls-downgrade": ("seamless", "acknowledged"),
}


async def test_seven_scenarios_come_to_what_they_should_and_leave_what_shows_it(tmp_path: Path) -> None:
    require_programs(QEMU, *needed_programs(ClientKind.SPICY))
    cells: list[Cell] = []
    await run_campaign(
        Options(list(SCENARIOS), [Column.SPICY], jobs=2, artefacts=tmp_path), lambda *_: None, cells
    )
    found = {each.scenario: each for each in cells}
    for name, (outcome, words) in SCENARIOS.items():
        each = found[name]
        assert (each.verdict, each.outcome) == (Verdict.EXPECTED, outcome), each
        assert words in each.detail
        assert {"recording.pcapng", "report.json", "events.jsonl", "client.log", "s1.log"} <= set(
            each.artefacts
        )
        report = msgspec.json.decode((tmp_path / each.artefacts["report.json"]).read_bytes())
        assert {fault["fault"] for fault in report["faults"]} == {name}
        recorded = read_report(str(tmp_path / each.artefacts["recording.pcapng"]))
        assert len(recorded.migrations) == len(report["migrations"])
    lost = found["nack-rewrite"]
    assert lost.guest_lost
    assert lost.seen is not None
    assert next((each.name, each.signal) for each in lost.seen.endings) == ("s2", "SIGTRAP")
    assert not found["nack-synth"].guest_lost
    assert sorted(each.key for each in read_cells(tmp_path)) == sorted(each.key for each in cells)
