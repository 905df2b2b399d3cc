"""Write the catalog's measured column and docs/findings.md: `python -m tests.matrix.publish [DIR ...]`.

DIR is what `spiceproxy lab --scenario ... --artefacts DIR` has kept; what a later one has of a scenario goes before what an
earlier one has, and what none has stays as it is. Without DIR only the document is written anew.
"""

import sys
from pathlib import Path
from typing import Final

import msgspec

from spiceproxy.faults.scenarios import Measured, scenarios
from spiceproxy.matrix.classify import again
from spiceproxy.matrix.findings import read_explanations, render
from spiceproxy.matrix.measured import encode, measured_of
from spiceproxy.matrix.results import read_cells

ROOT: Final = Path(__file__).parents[2]
MEASURED: Final = ROOT / "spiceproxy/faults/catalog/measured.json"
EXPLANATIONS: Final = ROOT / "docs/findings.toml"
DOCUMENT: Final = ROOT / "docs/findings.md"


def document(measured: dict[str, Measured]) -> str:
    """The text of docs/findings.md."""
    explanations = read_explanations(EXPLANATIONS.read_text(encoding="utf-8"), file=EXPLANATIONS.name)
    return render(measured, scenarios(), explanations)


def main() -> None:
    found = msgspec.json.decode(MEASURED.read_bytes(), type=dict[str, Measured])
    for name in sys.argv[1:]:
        found |= measured_of(again(read_cells(Path(name))))
    found = {name: each for name, each in found.items() if name in scenarios()}
    MEASURED.write_bytes(encode(found))
    DOCUMENT.write_text(document(dict(sorted(found.items()))), encoding="utf-8")
    print(f"{len(found)} of {len(scenarios())} scenarios are measured")


if __name__ == "__main__":
    main()
