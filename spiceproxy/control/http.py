"""HTTP/1.1 on one connection: h11 reads and writes it, this moves the bytes and keeps every wait short.

One request a connection: who asks is on the same machine, and there is nothing to get wrong about the next one.
"""

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import h11
import msgspec
import trio

MAX_HEAD_BYTES: Final = 16 * 2**10
MAX_BODY_BYTES: Final = 2**20  # as of a file of faults
HEAD_S: Final = 10.0
BODY_S: Final = 10.0
SEND_S: Final = 10.0  # a client that reads nothing for so long is gone
LINGER_S: Final = 1.0
_MAX_FIELDS: Final = 20
_READ_BYTES: Final = 16 * 2**10


class HttpError(Exception):
    """A request that is not answered as asked.

    Args:
        status: Of the answer.
        message: One line.
        headers: Beside the usual ones.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose body has not been read.

    Attributes:
        method: In capitals.
        segments: Of the path, unquoted.
        query: The last value of each name.
        headers: By lower-case name.
        body: Reads it.
    """

    method: str
    segments: tuple[str, ...]
    query: dict[str, str]
    headers: dict[str, str]
    body: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is known when it begins."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


Send = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Lines:
    """An answer that goes on: JSON lines, as they come. It is cancelled when the client goes."""

    run: Callable[[Send], Awaitable[None]]
    content_type: str = "application/x-ndjson"


Serve = Callable[[Request], Awaitable[Answer | Lines]]


def answer_of(value: Any, status: int = 200) -> Answer:
    """An answer that is JSON."""
    return Answer(msgspec.json.encode(value), status)


class Conversation:
    """One connection of a client.

    Args:
        stream: To be closed by the caller.
        serve: Answers a request. What it raises besides `HttpError` goes on to the caller, after an answer.
    """

    def __init__(self, stream: trio.abc.HalfCloseableStream, serve: Serve) -> None:
        self._stream, self._serve, self._head_only = stream, serve, False
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)

    async def run(self) -> None:
        """Hear the request and answer it; an error of the network ends it silently.

        Raises:
            Exception: An error of ours, from `serve`.
        """
        try:
            await self._run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, OSError):
            return

    async def _run(self) -> None:
        try:
            request = await self._request()
            if request is None:
                return
            answer = await self._serve(request)
        except HttpError as error:
            await self._answer(_refusal(error))
            return
        except Exception:
            await self._answer(_refusal(HttpError(500, "an error of spiceproxy; its log says more")))
            raise
        if isinstance(answer, Answer):
            await self._answer(answer)
        else:
            await self._lines(answer)

    # In -------------------------------------------------------------------------------------------

    async def _request(self) -> Request | None:
        """The head of the request; None if there is none."""
        with trio.move_on_after(HEAD_S) as scope:
            event = await self._next()
        if scope.cancelled_caught:
            raise HttpError(408, f"no request within {HEAD_S:g} s")
        if not isinstance(event, h11.Request):
            return None
        self._head_only = event.method == b"HEAD"
        path, _, query = event.target.decode("ascii").partition("?")
        try:
            fields = parse_qs(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        except ValueError:
            raise HttpError(400, f"more than {_MAX_FIELDS} parameters") from None
        return Request(
            event.method.decode("ascii").upper(),
            tuple(map(unquote, path.strip("/").split("/"))),
            {name: values[-1] for name, values in fields.items()},
            {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers},
            self._body,
        )

    async def _body(self) -> bytes:
        """All of the body.

        Raises:
            HttpError: It is too long, or does not come.
        """
        found = bytearray()
        with trio.move_on_after(BODY_S) as scope:
            while not isinstance(event := await self._next(), h11.EndOfMessage):
                if not isinstance(event, h11.Data):
                    raise HttpError(400, "the body is cut")
                found += event.data
                if len(found) > MAX_BODY_BYTES:
                    raise HttpError(413, f"a body has {MAX_BODY_BYTES} bytes at most")
        if scope.cancelled_caught:
            raise HttpError(408, f"no body within {BODY_S:g} s")
        return bytes(found)

    async def _next(self) -> Any:
        while True:
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise HttpError(error.error_status_hint, f"no HTTP: {error}") from None
            if event is not h11.NEED_DATA:
                return event
            self._http.receive_data(bytes(await self._stream.receive_some(_READ_BYTES)))

    # Out ------------------------------------------------------------------------------------------

    async def _answer(self, answer: Answer) -> None:
        await self._begin(
            answer.status, answer.content_type, {"content-length": str(len(answer.body)), **answer.headers}
        )
        if not self._head_only:
            await self._send(h11.Data(data=answer.body))
        await self._send(h11.EndOfMessage())
        await self._goodbye()

    async def _lines(self, lines: Lines) -> None:
        """Send lines until there are no more, or the client goes."""
        await self._begin(200, lines.content_type, {"cache-control": "no-store"})

        async def send(line: bytes) -> None:
            await self._send(h11.Data(data=line + b"\n"))

        async def until_gone() -> None:
            try:
                while await self._stream.receive_some(_READ_BYTES):
                    pass  # nothing more is to come
            except trio.BrokenResourceError:
                pass
            nursery.cancel_scope.cancel()

        done = False
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(until_gone)
                await lines.run(send)
                done = True
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.TooSlowError):
            done = False  # the client is gone
        if done:
            await self._send(h11.EndOfMessage())
            await self._goodbye()

    async def _begin(self, status: int, content_type: str, headers: dict[str, str]) -> None:
        told = {
            "content-type": content_type,
            "connection": "close",
            "x-content-type-options": "nosniff",
            **headers,
        }
        await self._send(h11.Response(status_code=status, headers=list(told.items())))

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            with trio.fail_after(SEND_S):
                await self._stream.send_all(data)

    async def _goodbye(self) -> None:
        """Closing with unread bytes would reset the connection, and the answer be lost."""
        with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(LINGER_S):
            await self._stream.send_eof()
            while await self._stream.receive_some(_READ_BYTES):
                pass


def _refusal(error: HttpError) -> Answer:
    return Answer(msgspec.json.encode({"error": error.message}), error.status, headers=error.headers)
