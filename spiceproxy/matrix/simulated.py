"""The simulated peers as a column: the scenario in a demo, on a clock that jumps, so that nobody waits for a deadline."""

from pathlib import Path
from typing import Final

import msgspec
import trio

from spiceproxy.demo.result import DemoResult, for_scenario
from spiceproxy.demo.run import DemoOptions, run_demo
from spiceproxy.faults.scenarios import Outcome, Scenario
from spiceproxy.injection.loading import load_faults
from spiceproxy.lab.errors import LabError
from spiceproxy.matrix.classify import Judged
from spiceproxy.matrix.results import Verdict
from spiceproxy.report.jsonform import report_object
from spiceproxy.simulate.clock import run_quickly

_LACKING: Final = frozenset({"smartcard", "agent"})
_LIMIT_S: Final = 600.0  # of the clock that jumps


def why_not(scenario: Scenario) -> str | None:
    """Why simulated peers cannot play it, or None."""
    needs = scenario.needs
    lacking = [*(each for each in needs.channels if each in _LACKING), *(["TLS"] if needs.tls else [])]
    if lacking:
        return f"the simulated peers have no {', '.join(lacking)}"
    # Nobody waits here, and a session is over within a second.
    late = min((fault.match.after or 0.0 for fault in scenario.fault), default=0.0)
    return f"a session of simulated peers does not get {late:g} s old" if late > 1 else None


async def play(scenario: Scenario, artefacts: Path) -> Judged:
    """Play a scenario between simulated peers, in a thread with a clock of its own.

    Raises:
        LabError: The demo itself failed.
    """
    result = await trio.to_thread.run_sync(_play, scenario)
    if result.outcome is None or result.report is None or not result.ok:
        raise LabError(f"demo: {'; '.join(result.reasons) or 'no outcome'}")
    made = msgspec.json.format(msgspec.json.encode(report_object(result.report)), indent=1)
    await trio.Path(artefacts / "report.json").write_bytes(made)
    return judged(scenario, result.outcome, fired=bool(result.report.faults), findings=result.findings)


def judged(scenario: Scenario, outcome: Outcome, *, fired: bool, findings: list[str]) -> Judged:
    """What an outcome of the demo says. Simulated servers do not abort where real ones do: they end the session.

    So where they found a rule broken, or an abort or a crash is expected, a session that is lost is as expected.
    """
    expected = set(scenario.simulated or scenario.expect)
    if findings or any(each.endswith(("-aborted", "-crashed")) for each in expected):
        expected.add("session-lost")
    verdict = Verdict.EXPECTED if outcome in expected else Verdict.UNEXPECTED
    if not fired:
        verdict = Verdict.SILENT
    ranks = ("seamless", "semi-seamless", "switch-host")
    tried = scenario.needs.migration
    degraded = tried in ranks and outcome in ranks and ranks.index(outcome) > ranks.index(tried)
    return Judged(verdict, outcome, "; ".join(findings), degraded, guest_lost=False)


def _is_doubtful(scenario: Scenario, result: DemoResult) -> bool:
    if result.outcome is None:
        return True
    as_if = judged(scenario, result.outcome, fired=True, findings=result.findings)
    return as_if.verdict is Verdict.UNEXPECTED


def _play(scenario: Scenario) -> DemoResult:
    faults = load_faults([], [scenario.name], [])
    options = for_scenario(DemoOptions(faults=faults), scenario)

    async def main() -> DemoResult:
        with trio.fail_after(_LIMIT_S):
            return await run_demo(options, lambda _: None)

    try:
        return run_quickly(main, lambda result: _is_doubtful(scenario, result))
    except trio.TooSlowError:
        raise LabError("demo: not done") from None
