"""A headless Chromium that can be asked about the page it shows (Chrome DevTools Protocol, over pipes)."""

import functools
import http.server
import itertools
import json
import os
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio

from spiceproxy.lab.process import start_child


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def web_server(directory: Path, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve the files of a directory on loopback; the URL that they are under."""
    handler = functools.partial(_Quiet, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            # Not when it accepts: Chromium opens connections in advance and says nothing on them for a while.
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http{'' if tls is None else 's'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Page:
    """What a browser shows."""

    def __init__(self, commands: trio.lowlevel.FdStream, answers: trio.lowlevel.FdStream) -> None:
        self._commands, self._answers = commands, answers
        self._numbers, self._rest = itertools.count(1), b""
        self._session: str | None = None

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol."""
        number = next(self._numbers)
        words = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            words["sessionId"] = self._session
        await self._commands.send_all(json.dumps(words).encode() + b"\0")
        with trio.fail_after(30):
            while True:
                while b"\0" not in self._rest:
                    more = await self._answers.receive_some()
                    assert more, "Chromium has ended"
                    self._rest += more
                line, _, self._rest = self._rest.partition(b"\0")
                answer = json.loads(line)
                if answer.get("id") == number:
                    assert "error" not in answer, answer
                    result: dict[str, Any] = answer["result"]
                    return result

    async def open(self, url: str) -> None:
        """Show a page."""
        target = await self.call("Target.createTarget", url=url)
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]

    async def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")


@asynccontextmanager
async def chromium(directory: Path, *options: str) -> AsyncIterator[Page]:
    """Run Chromium for as long as the block runs."""
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        *options,
    ]
    command += [f"--user-data-dir={directory / 'profile'}", "--remote-debugging-pipe", "about:blank"]
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    shell = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", *command]
    async with trio.open_nursery() as nursery:
        try:
            await start_child(
                nursery, "chromium", shell, log=directory / "chromium.log", pass_fds=(theirs_in, theirs_out)
            )
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        async with trio.lowlevel.FdStream(ours_out) as commands, trio.lowlevel.FdStream(ours_in) as answers:
            yield Page(commands, answers)
            nursery.cancel_scope.cancel()
