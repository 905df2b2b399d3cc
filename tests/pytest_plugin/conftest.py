"""Test suites for the plugin to run in."""

import pytest


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A strict test suite: warnings are errors, unknown markers too."""
    pytester.makeini(
        "[pytest]\nfilterwarnings = error\naddopts = --strict-markers --strict-config -p no:cacheprovider"
    )
    return pytester
