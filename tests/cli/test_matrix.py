"""`spiceproxy lab --scenario`: what it prints, writes and returns. Peers are simulated, so nothing has to be installed."""

import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from click.testing import CliRunner, Result

from spiceproxy.cli.lab import lab_command
from spiceproxy.cli.matrix import status
from spiceproxy.errors import UsageError
from spiceproxy.matrix.results import FILE, Column, Verdict
from tests.matrix.cells import cell

SIMULATED = ["--client", "simulated"]


def lab(*words: str) -> Result:
    return CliRunner().invoke(lab_command, [*SIMULATED, *words])


def test_one_scenario_is_ok_if_it_ends_as_it_should_and_not_as_a_plain_migration() -> None:
    done = lab("--scenario", "refuse-dst")
    assert done.exit_code == 0, done.output
    assert "ok: refuse-dst (simulated) as expected switch-host" in done.output


def test_one_scenario_with_json_has_the_verdict_and_what_was_seen(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = lab("--scenario", "nack-synth", "--json", "--report", str(report))
    assert done.exit_code == 0, done.output
    made = msgspec.json.decode(done.stdout)
    assert (made["ok"], made["wanted"], made["verdicts"]) == (True, 1, {"as expected": 1})
    assert made["cells"][0]["outcome"] == "semi-seamless"
    assert msgspec.json.decode(report.read_bytes())["faults"][0]["fault"] == "nack-synth"


def test_a_scenario_that_the_lab_cannot_play_is_not_ok() -> None:
    done = lab("--scenario", "subject-mismatch")
    assert done.exit_code == 3
    assert "not run: subject-mismatch (simulated) not run: the simulated peers have no TLS" in done.output


def test_several_scenarios_are_counted_and_make_a_page_and_junit(tmp_path: Path) -> None:
    page, junit, kept = tmp_path / "m.html", tmp_path / "m.xml", tmp_path / "kept"
    done = lab(
        *("--scenario", "nack-*", "--scenario", "refuse-dst", "--jobs", "2", "--repeat", "2"),
        *("--html", str(page), "--junit", str(junit), "--artefacts", str(kept)),
    )
    cells = [msgspec.json.decode(line) for line in (kept / FILE).read_bytes().splitlines()]
    assert f"{len(cells)} of {len(cells)} cells" in done.output
    assert len(ET.parse(junit).getroot().findall(".//testcase")) == len(cells)
    assert 'href="kept/refuse-dst/simulated-2/report.json"' in page.read_text()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--scenario", "nack-synth", "--course", "cancel"], "--course does not go with --scenario"),
        (["--scenario", "nack-synth", "--seed", "3"], "--seed does not go with --scenario"),
        (["--scenario", "nack-synth", "--resume"], "--resume takes --artefacts"),
        (["--scenario", "nack-*", "--record", "x.pcapng"], "--record is for one scenario"),
    ],
)
def test_options_that_do_not_go_together_are_errors(words: list[str], reason: str) -> None:
    done = lab(*words)
    assert done.exit_code == 2
    assert reason in done.output


def test_a_name_that_is_none_is_an_error_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="did you mean `nack-synth`"):
        CliRunner().invoke(lab_command, [*SIMULATED, "--scenario", "nack-synt"], catch_exceptions=False)


def test_the_exit_status_is_0_only_if_all_was_played_and_went_as_expected() -> None:
    good = cell()
    assert status([good], 1) == 0
    assert status([good], 2) == 1  # interrupted
    for verdict in (Verdict.UNEXPECTED, Verdict.SILENT, Verdict.BROKEN):
        assert status([good, cell(run=2, verdict=verdict)], 2) == 1
    assert status([good, cell(run=2, verdict=Verdict.NOT_RUN)], 2) == 3


def test_what_simulated_peers_do_not_have_is_no_lack_of_the_machine_unless_nothing_else_was_played() -> None:
    good = cell(column=Column.SPICY)
    lacking = cell(column=Column.SIMULATED, verdict=Verdict.NOT_RUN)
    assert status([good, lacking], 2) == 0
    assert status([lacking], 1) == 3
    assert status([good, lacking, cell(column=Column.SPICY, run=2, verdict=Verdict.NOT_RUN)], 3) == 3
    assert status([cell(verdict=Verdict.UNEXPECTED), lacking], 2) == 1


def test_a_campaign_that_is_interrupted_says_so_and_goes_on_with_resume(tmp_path: Path) -> None:
    words = ["lab", *SIMULATED, "--scenario", "drop-*", "--artefacts", str(tmp_path)]
    running = subprocess.Popen(
        [sys.executable, "-m", "spiceproxy", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    assert "1 of" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGINT
    assert "lab interrupted by SIGINT" in said
    before = (tmp_path / FILE).read_bytes().splitlines()
    done = lab("--scenario", "drop-*", "--artefacts", str(tmp_path), "--resume", "--json")
    made = msgspec.json.decode(done.stdout)
    assert len(made["cells"]) == made["wanted"] > len(before)
    after = (tmp_path / FILE).read_bytes().splitlines()
    assert after[: len(before)] == before
