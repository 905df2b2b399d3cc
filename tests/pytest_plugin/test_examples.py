"""The examples of docs/pytest.md, and the plugin with a real QEMU."""

import re
from pathlib import Path

import pytest

from tests.programs import require_programs
from tests.pytest_plugin.suites import run

pytest_plugins = ["pytester"]

PAGE = (Path(__file__).parents[2] / "docs/pytest.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
REAL = [text for text in EXAMPLES if "mark.lab" in text]


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """As the page has it."""
    pytester.makeini(
        "[pytest]\ntrio_mode = true\nfilterwarnings = error\nmarkers = lab\naddopts = --strict-markers"
    )
    return pytester


@pytest.mark.parametrize("text", [text for text in EXAMPLES if text not in REAL])
def test_an_example_of_the_page_passes(suite: pytest.Pytester, text: str) -> None:
    run(suite, text, passed=len(re.findall(r"^(?:async )?def test_", text, re.MULTILINE)))


@pytest.mark.lab
def test_the_example_with_a_real_qemu_passes(suite: pytest.Pytester) -> None:
    require_programs("qemu-system-x86_64")
    (text,) = REAL
    run(suite, text, passed=1)


def test_every_option_and_marker_is_on_the_page(suite: pytest.Pytester) -> None:
    help_text = suite.runpytest_inprocess("--help").stdout.str()
    options = set(re.findall(r"^  (--spice-[a-z-]+)", help_text, re.MULTILINE))
    assert len(options) == 5
    assert options == set(re.findall(r"`(--spice-[a-z-]+)`", PAGE))
    markers = set(
        re.findall(r"@pytest\.mark\.(spice_\w+)", suite.runpytest_inprocess("--markers").stdout.str())
    )
    assert markers == set(re.findall(r"pytest\.mark\.(spice_\w+)", PAGE))
