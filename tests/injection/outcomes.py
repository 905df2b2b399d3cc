"""Write outcomes.txt anew: `python -m tests.injection.outcomes [RUNS]`. What differs from run to run is all there."""

import sys

from spiceproxy.faults.scenarios import scenarios
from tests.injection.trials import OUTCOMES, outcomes, play

HEAD = """\
# How each scenario ends in the demo, between simulated peers, and whether it fires there (they have no smartcard, no TLS and
# no agent). Written by tests/injection/outcomes.py.
"""


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    lines, known = [], outcomes()
    for name in scenarios():
        ends, _ = known.get(name, (set(), True))
        results = [play(name, ends) for _ in range(runs)]
        fires = any(result.report is not None and result.report.faults for result in results)
        ended = "|".join(sorted({str(result.outcome) for result in results}))
        lines.append(f"{name} {ended}{'' if fires else ' never'}\n")
    OUTCOMES.write_text(HEAD + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
