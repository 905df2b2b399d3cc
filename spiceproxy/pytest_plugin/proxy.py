"""`spice_proxy`: the proxy of a test."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import trio

from spiceproxy.address import Address
from spiceproxy.errors import UsageError
from spiceproxy.eventlog import EVENT_NAMES, EventLog, jsonl_file
from spiceproxy.faults.errors import unknown
from spiceproxy.filter import compile_filter
from spiceproxy.injection import Faults
from spiceproxy.lab.watch import EventWatch
from spiceproxy.protocol.migration.model import Kind, Migration, Outcome
from spiceproxy.proxy import Proxy, ProxyConfig, SessionView, open_proxy
from spiceproxy.pytest_plugin.background import Background
from spiceproxy.pytest_plugin.faults import ProxyFaults
from spiceproxy.pytest_plugin.settings import Settings
from spiceproxy.reading.style import Look
from spiceproxy.report.text import report_lines
from spiceproxy.report.verdict import Report, Status, judge, sentence
from spiceproxy.simulate import ServerOptions, open_server
from spiceproxy.vvfile import write_vv

# A client opens its channels one after the other; none has been seen to take half of this between two of them.
_QUIET_S: Final = 0.5
_REPORT_S: Final = 10.0
_REPORT_COLUMNS: Final = 100
ENDINGS: Final = (*map(str, Kind), str(Outcome.CANCELLED), str(Outcome.FAILED), str(Outcome.WEDGED))


@contextlib.asynccontextmanager
async def proxy_for_test(
    settings: Settings, server: Address, directory: Path, watch: EventWatch
) -> AsyncIterator[Proxy]:
    """The proxy, and what else faults may need."""
    async with contextlib.AsyncExitStack() as stack:
        variables = dict(settings.faults.variables)
        if settings.other_server:
            other = await stack.enter_async_context(open_server(ServerOptions(name="other")))
            assert other.address is not None  # noqa: S101 - it listens
            variables = {"other_host": other.address.host, "other_port": other.address.port, **variables}
        events = stack.enter_context(jsonl_file(directory / "events.jsonl"))
        faults = Faults(settings.faults.rules, settings.faults.seed, variables, live=True)
        config = ProxyConfig(
            server=server,
            record=directory / "session.pcapng",
            events=EventLog([watch, events]),
            faults=faults,
        )
        yield await stack.enter_async_context(open_proxy(config))


class NotAsExpected(AssertionError):  # noqa: N818 - a failed assertion, not an error
    """The session did not go as a test wants it; the text has the report."""

    has_report = True


class SpiceProxy:
    """The proxy of a test. Clients connect to `address`; nothing that is called here waits without a deadline.

    Attributes:
        address: Where it listens, `host` and `port`.
        uri: The same as clients take it, ``spice://127.0.0.1:40123``.
        recording: The pcapng file of the session; whole when the test is over, and kept if it failed.
        events_file: The event log beside it, as JSON lines.
        faults: What it breaks.
    """

    def __init__(
        self, background: Background, proxy: Proxy, directory: Path, watch: EventWatch, settings: Settings
    ) -> None:
        self._background, self._proxy, self._watch, self._settings = background, proxy, watch, settings
        self._directory = directory
        self._returned: set[tuple[str, int]] = set()
        self.address = proxy.address
        self.uri = f"spice://{proxy.address}"
        self.recording, self.events_file = directory / "session.pcapng", directory / "events.jsonl"
        injector = proxy.injector
        assert injector is not None  # noqa: S101 - it was given faults
        self.faults = ProxyFaults(injector, self._ask)

    @property
    def vv(self) -> Path:
        """A file that makes remote-viewer connect to it."""
        path = self._directory / "proxy.vv"
        if not path.exists():
            write_vv(path, self.address, self._settings.ticket)
        return path

    @property
    def sessions(self) -> tuple[SessionView, ...]:
        """Sessions and their connections, as they are now."""
        found: tuple[SessionView, ...] = self._ask(lambda: self._proxy.sessions)
        return found

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events so far (docs/events.md)."""
        found: list[dict[str, Any]] = self._ask(lambda: [dict(event) for event in self._watch.events])
        return found

    @property
    def report(self) -> Report:
        """On all migrations, as if everything ended now."""
        found: Report = self._ask(lambda: self._proxy.report(file=str(self.recording), conclude=True))
        return found

    @property
    def migrations(self) -> list[Migration]:
        """All migrations, as `report` has them."""
        return list(self.report.migrations)

    def report_text(self) -> str:
        """The report for people."""
        return render(self.report)

    # Waiting --------------------------------------------------------------------------------------

    def wait_for_client(self, timeout: float | None = None) -> list[str]:
        """Wait until a client has linked main, and has opened no more channels for half a second.

        Args:
            timeout: Seconds.

        Returns:
            Its channels, "display:0".

        Raises:
            AssertionError: None came in time.
        """
        __tracebackhide__ = True
        limit = self._limit(timeout)
        channels: list[str] = self._background.run(self._client, limit, timeout_s=limit + _REPORT_S)
        if not channels:
            raise NotAsExpected(
                f"no client has linked its main channel within {limit:g} s\n{self._account()}"
            )
        return channels

    def wait_for_event(self, filter: str, timeout: float | None = None) -> dict[str, Any]:  # noqa: A002 - as users say
        """Wait for an event, of all that there have been since the test began.

        Args:
            filter: Which, in the language of `--events-filter`: ``event == "channel_linked" and channel == "main:0"``.
            timeout: Seconds.

        Raises:
            AssertionError: There was none in time.
            UsageError: It is no filter.
        """
        __tracebackhide__ = True
        limit, wanted = self._limit(timeout), compile_filter(filter, names=EVENT_NAMES)

        async def wait() -> dict[str, Any] | None:
            event = await self._watch.wait(wanted.matches, since=0, timeout_s=limit)
            return None if event is None else dict(event)

        found = self._background.run(wait, timeout_s=limit + _REPORT_S)
        if found is None:
            raise NotAsExpected(f"no event within {limit:g} s that fits {filter}\n{self._account()}")
        return found

    def wait_for_migration(self, timeout: float | None = None) -> Migration:
        """Wait for the end of the next migration that was not returned before.

        One that has not ended in time is judged by where it stands: it is wedged if nothing has moved for 2 s (3 s while
        the client connects), or else incomplete; `waiting` says who waits for what.

        Args:
            timeout: Seconds.

        Returns:
            A copy: it does not change any more.

        Raises:
            AssertionError: None has begun in time.
        """
        __tracebackhide__ = True
        return self._next(timeout)[0]

    def expect(self, ending: str, timeout: float | None = None, *, rules: bool | None = None) -> Migration:
        """Wait for the next migration as `wait_for_migration` does, and check how it ended.

        Args:
            ending: "seamless", "semi-seamless" or "switch-host": completed as that; "cancelled", "failed" or "wedged".
            timeout: Seconds.
            rules: Whether no rule of the protocol may have been broken; without it: unless a fault has fired, whose doing
                that may be.

        Raises:
            AssertionError: It went otherwise; the text is the report.
        """
        __tracebackhide__ = True
        if ending not in ENDINGS:
            raise UsageError(unknown("ending", ending, ENDINGS))
        migration, report = self._next(timeout)
        strict = not report.faults if rules is None else rules
        if ending in set(Kind):
            status = judge(migration, Kind(ending))
            good = status is Status.GOOD or (status is Status.VIOLATIONS and not strict)
        else:
            good = migration.outcome == ending
        if not good:
            said = sentence(migration, report)
            raise NotAsExpected(f"expected {ending}, but {said.name}: {said.text}\n\n{self._account(report)}")
        return migration

    def _next(self, timeout: float | None) -> tuple[Migration, Report]:
        __tracebackhide__ = True
        limit = self._limit(timeout)
        self._background.run(self._ended, limit, timeout_s=limit + _REPORT_S)
        report = self.report
        for migration in report.migrations:
            if (key := (migration.session, migration.number)) not in self._returned:
                self._returned.add(key)
                return migration, report
        raise NotAsExpected(f"no migration has begun within {limit:g} s\n{self._account(report)}")

    # Where the proxy runs -------------------------------------------------------------------------

    async def _ended(self, limit_s: float) -> None:
        """Until the next migration has ended, or the time is over."""

        def ended(_event: object = None) -> bool:
            new = (
                each for each in self._proxy.migrations if (each.session, each.number) not in self._returned
            )
            first = next(new, None)
            return first is not None and first.outcome is not None

        if not ended():
            await self._watch.wait(ended, since=len(self._watch.events), timeout_s=limit_s)

    async def _client(self, limit_s: float) -> list[str]:
        seen: list[str] = []
        quiet_since = trio.current_time()
        with trio.move_on_after(limit_s):
            while not seen or trio.current_time() - quiet_since < _QUIET_S:
                now = [
                    view.channel
                    for session in self._proxy.sessions
                    for view in session.connections
                    if view.state == "open"
                ]
                if now != seen:
                    seen, quiet_since = now if "main:0" in now else [], trio.current_time()
                await trio.sleep(_QUIET_S / 10)
        return sorted(seen)

    def _limit(self, timeout: float | None) -> float:
        return self._settings.timeout_s if timeout is None else timeout

    def _ask(self, function: Callable[[], Any]) -> Any:
        return self._background.call(function, timeout_s=_REPORT_S)

    def _account(self, report: Report | None = None) -> str:
        return render(report or self.report)


def render(report: Report) -> str:
    """The report for people, as it stands under a failing test."""
    look = Look(colour=False, width=_REPORT_COLUMNS)
    return "\n".join(report_lines(report, look, chart=False))
