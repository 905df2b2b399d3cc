"""What pytest loads: options, markers, fixtures. Nothing else is imported until a test asks for a fixture."""

import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from spiceproxy.pytest_plugin.bench import Bench
    from spiceproxy.pytest_plugin.client import SpiceClient
    from spiceproxy.pytest_plugin.proxy import SpiceProxy
    from spiceproxy.pytest_plugin.servers import SpiceServers

_OPTIONS: Final = {
    "spice_server": "SPICE server: `simulated` (the default), `qemu`, or the HOST:PORT of one that is there",
    "spice_client_command": "SPICE client: a command with {uri}, {host}, {port} or {vv}, or else the simulated client",
    "spice_migrate_command": "command that migrates a server that is there; may have {server}",
    "spice_timeout": "seconds that whatever waits may take, if it is given no other time (30)",
    "spice_artifacts": "directory where recordings and event logs of failed tests are kept",
}
_MARKERS: Final = (
    "spice_scenario(*names, seed=0, variables={}): break the session as these scenarios of spiceproxy's catalog do",
    "spice_faults(*faults, seed=0, variables={}): break it as these faults say: TOML, or the path of a file of it",
    "spice_servers(server, kind, ticket): which servers, how clients follow in a migration, the password they ask for",
    "spice_client(command, connect=True): a client program, and whether it connects before the test begins",
)
_NAMES: Final = tuple(marker.partition("(")[0] for marker in _MARKERS)
_BENCH: Final = "_spice_bench"
_SECTION: Final = "spiceproxy"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options, each also for the ini file."""
    group = parser.getgroup("spice", "SPICE sessions (spiceproxy)")
    for name, text in _OPTIONS.items():
        group.addoption(f"--{name.replace('_', '-')}", metavar=name.upper()[6:], help=f"{text}.")
        parser.addini(name, f"{text}.")


def pytest_configure(config: pytest.Config) -> None:
    """Markers, for --strict-markers."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is wrong with a marker is said before any test runs."""
    marked = [item for item in session.items if any(map(item.get_closest_marker, _NAMES))]
    if not marked or hasattr(session.config, "workerinput"):
        return  # a worker of pytest-xdist: its tests say so when they are set up
    from spiceproxy.errors import UsageError
    from spiceproxy.pytest_plugin.settings import check_markers

    for item in marked:
        try:
            check_markers(item)
        except UsageError as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed has the report on its migrations, and where the recording is."""
    report = yield
    bench: Bench | None = item.stash.get(_KEY, None)
    if bench is not None and report.failed:
        bench.failed = True
        account = None
        try:
            told = call.excinfo is not None and getattr(call.excinfo.value, "has_report", False)
            account = bench.account(report=not told)
        except Exception as error:  # noqa: BLE001 - whatever broke: the test's own failure is what counts
            account = f"there is no report: {error!r}"
        if account:
            report.sections.append((_SECTION, account))
    return report


_KEY: Final = pytest.StashKey[Any]()


@pytest.fixture
def _spice_bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Bench]":
    """What the three others share; of one test alone."""
    from spiceproxy.errors import UsageError
    from spiceproxy.pytest_plugin.bench import Bench
    from spiceproxy.pytest_plugin.settings import settings_of

    reason = ""
    try:
        settings = settings_of(request.node)
    except UsageError as error:
        reason = str(error)
    if reason:
        pytest.fail(reason, pytrace=False)
    bench = request.node.stash[_KEY] = Bench(settings, _directory(request, tmp_path_factory))
    try:
        yield bench
    finally:
        bench.close()


@pytest.fixture
def spice_servers(_spice_bench: "Bench") -> "Iterator[SpiceServers]":
    """SPICE servers with a guest that can move: simulated ones, QEMUs, or those that are given."""
    with ExitStack() as stack:
        yield _started(_spice_bench.servers, stack)


@pytest.fixture
def spice_proxy(_spice_bench: "Bench", spice_servers: "SpiceServers") -> "Iterator[SpiceProxy]":
    """A spiceproxy in front of `spice_servers`, which follows, records and breaks sessions."""
    with ExitStack() as stack:
        yield _started(_spice_bench.proxy, stack, spice_servers)


@pytest.fixture
def spice_client(
    _spice_bench: "Bench", spice_proxy: "SpiceProxy", spice_servers: "SpiceServers"
) -> "Iterator[SpiceClient]":
    """A client that is connected to `spice_proxy`: the simulated one, or a program."""
    with ExitStack() as stack:
        yield _started(_spice_bench.client, stack, spice_proxy, spice_servers)


def _started(start: Any, *args: Any) -> Any:
    """What the user can mend is said in one line."""
    from spiceproxy.errors import SpiceProxyError

    try:
        return start(*args)
    except (SpiceProxyError, AssertionError) as error:
        reason = str(error)
    pytest.fail(reason, pytrace=False)


def _directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the files of one test."""
    artifacts = request.config.getoption("spice_artifacts") or request.config.getini("spice_artifacts")
    if not artifacts:
        return tmp_path_factory.mktemp(f"spice-{_file_name(request.node.name)[:30]}")
    name = _file_name(request.node.nodeid)
    directory: Path = (request.config.rootpath / artifacts / name[-150:]).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-")
