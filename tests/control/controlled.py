"""A proxy that is controlled over real sockets, between peers that a test plays."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h11
import trio

from spiceproxy.address import Address
from spiceproxy.control.client import Client
from spiceproxy.control.options import ControlOptions, parse_control
from tests.raw_peers import RawProxy, raw_proxy

TOKEN = "a-token-for-tests-0123456789"
LOOPBACK = Address("127.0.0.1", 0)


@dataclass
class Reply:
    """An answer of the API."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


@dataclass
class Controlled:
    """The proxy, and where it is controlled."""

    raw: RawProxy
    address: Address | Path
    token: str

    @property
    def client(self) -> Client:
        return Client(self.address, self.token)

    async def stream(self) -> trio.SocketStream:
        """A connection to the API."""
        if isinstance(self.address, Path):
            return await self.raw.streams.enter_async_context(await trio.open_unix_socket(str(self.address)))
        return await self.raw.connect(self.address)

    async def ask(
        self, method: str, target: str, body: Any = None, *, token: str | None = "", **headers: str
    ) -> Reply:
        """Ask, with the token unless another is given. A body that is no bytes is JSON."""
        async with await self.stream() as stream:
            await stream.send_all(self.request(method, target, body, token=token, **headers))
            return await reply_on(stream)

    def request(
        self, method: str, target: str, body: Any = None, *, token: str | None = "", **headers: str
    ) -> bytes:
        """A request as bytes."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        told = {"host": "127.0.0.1", "content-length": str(len(data)), "content-type": "application/json"}
        if token is not None:
            told["authorization"] = f"Bearer {token or self.token}"
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        http = h11.Connection(h11.CLIENT)
        head = http.send(h11.Request(method=method, target=target, headers=list(told.items())))
        assert head is not None
        return head + data


async def reply_on(stream: trio.SocketStream, *, method: str = "GET", timeout_s: float = 20) -> Reply:
    """The answer that comes on a stream."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    http.send(h11.EndOfMessage())
    status, headers, body = 0, dict[str, str](), b""
    with trio.fail_after(timeout_s):
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(bytes(await stream.receive_some()))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return Reply(status, headers, body)


@asynccontextmanager
async def controlled(
    tmp_path: Path, address: Address | Path = LOOPBACK, **options: Any
) -> AsyncIterator[Controlled]:
    """A proxy with a control API; `XDG_RUNTIME_DIR` has to be a directory of the test."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    async with raw_proxy(control=ControlOptions(address, file), **options) as raw:
        started = await raw.events.wait_for("control_started")
        yield Controlled(raw, parse_control(started["listen"]), TOKEN)


def in_thread(call: Any, *arguments: Any, **named: Any) -> Any:
    """What a blocking call gives, while the proxy goes on."""
    return trio.to_thread.run_sync(partial(call, *arguments, **named))
