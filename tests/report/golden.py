"""The texts of the examples as they are to be. `python -m tests.report.golden` writes them anew: look at the difference."""

from collections.abc import Iterator
from pathlib import Path

from spiceproxy.protocol.migration.model import Kind
from spiceproxy.protocol.migration.rules import CHECKED
from spiceproxy.reading.style import Look
from spiceproxy.report.text import report_lines
from spiceproxy.report.verdict import Report
from tests.report.examples import CAPTURE_NS, EXAMPLES, seamless

FOLDER = Path(__file__).parent / "golden"
WIDE = "seamless-wide"
CHAIN = "chain"


def report_of(name: str, **options: object) -> Report:
    """A report on one example."""
    return Report([EXAMPLES[name]()], start_ns=CAPTURE_NS, **options)  # type: ignore[arg-type]


def text_of(report: Report, width: int = 80, *, colour: bool = False, chart: bool = True) -> str:
    """As it is printed, but for the number of rules, which grows."""
    text = "".join(f"{line}\n" for line in report_lines(report, Look(colour, width), chart=chart))
    return text.replace(f"  {len(CHECKED)} checked", "  50 checked")


def goldens() -> Iterator[tuple[str, str]]:
    """Name and text of each."""
    for name in EXAMPLES:
        yield name, text_of(report_of(name))
    yield WIDE, text_of(report_of("seamless"), 140)
    chain = Report(
        [seamless(), seamless(number=2)],
        expected=Kind.SWITCH_HOST,
        start_ns=CAPTURE_NS,
        problems=["packet 7: cut"],
    )
    yield CHAIN, text_of(chain, chart=False)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for golden, made in goldens():
        (FOLDER / f"{golden}.txt").write_text(made, encoding="utf-8")
