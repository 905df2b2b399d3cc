"""All that one test has of spiceproxy: the thread, the parts in it, the files, and the account of them."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from spiceproxy.lab.watch import EventWatch
from spiceproxy.pytest_plugin.background import Background, Part
from spiceproxy.pytest_plugin.client import SpiceClient
from spiceproxy.pytest_plugin.proxy import SpiceProxy, proxy_for_test, render
from spiceproxy.pytest_plugin.servers import SpiceServers, servers_for_test
from spiceproxy.pytest_plugin.settings import Settings

_END_S: Final = 10.0
_START_S: Final = 60.0
_MAX_FINDINGS: Final = 20


class Bench:
    """What a test is played on."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings, self.directory = settings, directory
        self.failed = False
        self._watch = EventWatch()
        self._background = Background()
        self._proxy: SpiceProxy | None = None
        self._servers: SpiceServers | None = None
        self._client: SpiceClient | None = None

    def servers(self, stack: ExitStack) -> SpiceServers:
        """Start the servers; the stack ends them."""
        manager = servers_for_test(self.settings, self.directory, self._watch)
        part = self._background.enter(manager, timeout_s=_START_S)
        stack.callback(self._leave, part)
        self._servers = SpiceServers(self._background, part.value, self.settings)
        return self._servers

    def proxy(self, stack: ExitStack, servers: SpiceServers) -> SpiceProxy:
        """Start the proxy."""
        manager = proxy_for_test(self.settings, servers.address, self.directory, self._watch)
        part = self._background.enter(manager, timeout_s=_START_S)
        stack.callback(self._leave, part)
        self._proxy = SpiceProxy(self._background, part.value, self.directory, self._watch, self.settings)
        stack.callback(self._forget_proxy)
        return self._proxy

    def client(self, stack: ExitStack, proxy: SpiceProxy, servers: SpiceServers) -> SpiceClient:
        """Connect the client. With faults it may well not get there: then it says why, and the test goes on."""
        __tracebackhide__ = True
        client = self._client = SpiceClient(self._background, proxy, servers, self.directory, self.settings)
        stack.callback(client.stop)
        if self.settings.connect:
            try:
                client.connect()
            except AssertionError:
                if not self.settings.faults.rules:
                    raise
        return client

    def account(self, *, report: bool = True) -> str | None:
        """What a failing test is told: the report, what peers say of each other, and where the files are.

        None when there is no proxy, or no more.

        Args:
            report: With the report.
        """
        proxy = self._proxy
        if proxy is None:
            return None
        lines = [render(proxy.report)] if report else []
        for part in (self._servers, self._client):
            if part is not None and (findings := part.findings):
                who = "servers say" if part is self._servers else "client says"
                lines += ["", f"The {who}:", *(f"  {each}" for each in findings[:_MAX_FINDINGS])]
        if self._client is not None and self._client.error is not None:
            lines += ["", f"The client has no session: {self._client.error}"]
        lines += ["", f"recording: {proxy.recording}", f"events:    {proxy.events_file}"]
        return "\n".join(lines).strip("\n")

    def close(self) -> None:
        """End the thread, and with it whatever is left."""
        self._background.close()
        if not self.failed:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _forget_proxy(self) -> None:
        self._proxy = None

    def _leave(self, part: Part[Any]) -> None:
        self._background.leave(part, timeout_s=_END_S)
