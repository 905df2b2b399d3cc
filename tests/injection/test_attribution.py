"""Who is accused where a fault did it: reports say which fault came before a breach, live and from a recording."""

from pathlib import Path

import pytest
import trio

from spiceproxy.capture.reports import read_report
from spiceproxy.demo.run import DemoOptions, run_demo
from spiceproxy.injection.loading import load_faults
from spiceproxy.reading.style import Look
from spiceproxy.report.jsonform import report_object
from spiceproxy.report.page import render_html
from spiceproxy.report.text import report_lines
from spiceproxy.report.verdict import Report

# Whether the destination speaks before the switch, in the last case, depends on who is quicker.
MAX_PLAYS = 5
CASES = [
    ("dup-flush", "R28", "made", "by fault `dup-flush` in the place of the client"),
    ("flags-zero", "R24", "changed", "by the source, in what fault `flags-zero` had a hand in"),
    ("drop-flush", "R28", "channel", "by the client, after fault `drop-flush` on this channel"),
    ("nack-rewrite", "R18", "session", "by the destination, after fault `nack-rewrite` in this session"),
]


@pytest.mark.parametrize(("scenario", "rule", "share", "words"), CASES)
async def test_a_breach_says_what_a_fault_has_to_do_with_it(
    scenario: str, rule: str, share: str, words: str, tmp_path: Path
) -> None:
    for number in range(MAX_PLAYS):
        path = tmp_path / f"{number}.pcapng"
        options = DemoOptions(faults=load_faults([], [scenario], []), record=path, time_limit_s=2)
        with trio.fail_after(60):
            result = await run_demo(options, lambda _: None)
        assert result.report is not None
        reports = (result.report, read_report(str(path)))
        if all(map(accused, reports)):
            break
    for report in reports:
        found = accused(report)
        assert (rule, scenario, share) in found
        # What else is broken depends on who is quicker, and is put down to the same fault.
        assert {fault for _, fault, _ in found} == {scenario}
        assert words in " ".join(" ".join(report_lines(report, Look(False, 500), chart=False)).split())
        assert words in render_html(report.migrations, report=report)


def accused(report: Report) -> set[tuple[str, str, str]]:
    (migration,) = report_object(report)["migrations"]
    return {(each["rule"], each["fault"]["name"], each["fault"]["share"]) for each in migration["violations"]}
