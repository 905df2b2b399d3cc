"""pytest run by pytest, with what has to be left over: nothing."""

import importlib
import threading

import psutil
import pytest

# pytester forgets what a run inside of another one has imported; so it is imported once, here.
for module in ("bench", "qemu"):
    importlib.import_module(f"spiceproxy.pytest_plugin.{module}")


def run(suite: pytest.Pytester, text: str, *args: str, **outcomes: int) -> pytest.RunResult:
    """These tests end so, and nothing is left of them."""
    suite.makepyfile(text)
    process, threads = psutil.Process(), set(threading.enumerate())
    sockets, children = process.net_connections(), process.children()
    result = suite.runpytest_inprocess(*args)
    result.assert_outcomes(**outcomes)
    # trio keeps idle worker threads for ten seconds, whoever used them.
    left = {each.name for each in set(threading.enumerate()) - threads if not each.name.startswith("Trio ")}
    assert left == set()
    assert [each for each in process.net_connections() if each not in sockets] == []
    assert [each for each in process.children() if each not in children] == []
    return result
