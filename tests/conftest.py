"""What takes long is left to `make nightly`; something shorter that shows the same is always run."""

import pytest
import trio.testing

from spiceproxy.simulate.clock import quick_clock


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --nightly."""
    parser.addoption("--nightly", action="store_true", help="run tests marked nightly as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked nightly, unless it is asked for."""
    if config.getoption("--nightly"):
        return
    left_out = [item for item in items if item.get_closest_marker("nightly")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    """Instead of pytest-trio's, which jumps before the kernel has delivered what peers have sent each other."""
    return quick_clock()
