"""QMP, QEMU's monitor protocol: one JSON object per line over a unix socket.

Source: QEMU docs/interop/qmp-spec. The server greets, the client leaves negotiation mode with `qmp_capabilities`, then
commands are answered by `return` or `error` with the command's `id`, and events come in between at any time.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import trio

from spiceproxy.lab.errors import QmpError

# The longest answer we ask for, query-spice with all channels, has 2 KB; query-qmp-schema would have 200 KB.
_MAX_LINE_BYTES: Final = 4 * 2**20
_RETRY_S: Final = 0.02


class QmpEvent(NamedTuple):
    """One asynchronous event of QEMU."""

    name: str
    data: dict[str, Any]


class QmpClient:
    """One monitor connection. Made by `open_qmp`; any number of tasks may execute commands at the same time."""

    def __init__(self, stream: trio.SocketStream, *, name: str, transcript: Path | None = None) -> None:
        self.name = name
        self.events: list[QmpEvent] = []
        self._stream, self._transcript = stream, transcript
        self._buffer = bytearray()
        self._ids = count(1)
        self._answers: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
        self._sending = trio.Lock()
        self._changed = trio.Event()
        self._closed = ""  # why, once the monitor is gone

    async def execute(self, command: str, *, timeout_s: float = 20, **arguments: Any) -> Any:
        """Run one command and return what QEMU returned; an argument name's `_` stands for QMP's `-`.

        Args:
            command: Name as in QEMU's documentation, such as "query-spice".
            timeout_s: Seconds until QEMU must have answered.
            arguments: The command's arguments.

        Raises:
            QmpError: QEMU answered with an error, did not answer in time, or has closed its monitor.
        """
        if self._closed:
            raise QmpError(f"{self.name}: {command}: {self._closed}")
        id_ = next(self._ids)
        request: dict[str, Any] = {"execute": command, "id": id_}
        if arguments:
            request["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        send, receive = trio.open_memory_channel[dict[str, Any]](1)
        self._answers[id_] = send
        try:
            with trio.fail_after(timeout_s), receive:
                line = msgspec.json.encode(request)
                self._note(b"> ", line)
                async with self._sending:
                    await self._stream.send_all(line + b"\n")
                answer = await receive.receive()
        except trio.TooSlowError:
            raise QmpError(f"{self.name}: no answer to {command} within {timeout_s:g} s") from None
        except (trio.EndOfChannel, trio.BrokenResourceError, trio.ClosedResourceError):
            reason = self._closed or "the monitor is closed"
            raise QmpError(f"{self.name}: {command}: {reason}") from None
        finally:
            self._answers.pop(id_, None)
        if "error" in answer:
            raise QmpError(f"{self.name}: {command}: {_error_text(answer['error'])}")
        return answer["return"]

    async def wait_event(self, name: str, timeout_s: float) -> QmpEvent:
        """Return the first event of that name since the monitor was opened, waiting for it if it has not come yet.

        Raises:
            QmpError: It did not come within `timeout_s` seconds, or the monitor went away first.
        """
        with trio.move_on_after(timeout_s):
            while True:
                for event in self.events:
                    if event.name == name:
                        return event
                if self._closed:
                    raise QmpError(f"{self.name}: waiting for event {name}: {self._closed}")
                await self._changed.wait()
        raise QmpError(f"{self.name}: no event {name} within {timeout_s:g} s")

    async def greet(self, timeout_s: float) -> None:
        """Read the greeting and leave negotiation mode; `read_forever` must not run yet.

        Raises:
            QmpError: The peer does not speak QMP, or took longer than `timeout_s` seconds.
        """
        try:
            with trio.fail_after(timeout_s):
                # What happened before we came may be told first, as RESUME when a guest starts.
                while (greeting := await self._read()) is not None and "event" in greeting:
                    self._take(greeting)
                if greeting is None or "QMP" not in greeting:
                    raise QmpError(f"{self.name}: this is not a QMP monitor: {greeting}")
                line = msgspec.json.encode({"execute": "qmp_capabilities"})
                await self._stream.send_all(line + b"\n")
                # A guest that goes on with a saved state says so at any time.
                while (answer := await self._read()) is not None and "event" in answer:
                    self._take(answer)
        except trio.TooSlowError:
            raise QmpError(f"{self.name}: no QMP greeting within {timeout_s:g} s") from None
        except trio.BrokenResourceError:
            raise QmpError(f"{self.name}: the monitor closed before its greeting") from None
        if answer is None or "return" not in answer:
            raise QmpError(f"{self.name}: qmp_capabilities was refused: {answer}")

    async def read_forever(self) -> None:
        """Deal out answers and events until QEMU closes the monitor. Does not raise for what QEMU does."""
        try:
            while (answer := await self._read()) is not None:
                if "event" in answer:
                    self._take(answer)
                elif isinstance(id_ := answer.get("id"), int) and id_ in self._answers:
                    self._answers.pop(id_).send_nowait(answer)
            self._closed = "QEMU closed its monitor"
        except QmpError as error:
            self._closed = str(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._closed = "QEMU's monitor broke off"
        finally:
            self._closed = self._closed or "the monitor is closed"
            for waiting in self._answers.values():
                waiting.close()
            self._wake()

    def _take(self, event: dict[str, Any]) -> None:
        data = event.get("data")
        self.events.append(QmpEvent(str(event["event"]), data if isinstance(data, dict) else {}))
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _read(self) -> dict[str, Any] | None:
        """One line as an object; None at the end of the stream."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MAX_LINE_BYTES:
                raise QmpError(f"{self.name}: a line of over {_MAX_LINE_BYTES} bytes")
            data = await self._stream.receive_some()
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._note(b"< ", line.rstrip())
        try:
            return msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise QmpError(f"{self.name}: not a QMP line: {error}") from None

    def _note(self, mark: bytes, line: bytes) -> None:
        if self._transcript is not None:
            with self._transcript.open("ab") as file:
                file.write(mark + line + b"\n")


def _error_text(error: Any) -> str:
    if isinstance(error, dict):
        return f"{error.get('desc', error)} ({error.get('class', 'no class')})"
    return str(error)


async def _connect(path: Path, name: str, timeout_s: float) -> trio.SocketStream:
    reason = "no answer"
    with trio.move_on_after(timeout_s):
        while True:
            try:
                return await trio.open_unix_socket(str(path))
            except (FileNotFoundError, ConnectionRefusedError) as error:
                reason = error.strerror or str(error)
            except OSError as error:
                raise QmpError(f"{name}: no monitor at {path}: {error.strerror}") from None
            await trio.sleep(_RETRY_S)
    raise QmpError(f"{name}: no monitor at {path} within {timeout_s:g} s: {reason}")


@asynccontextmanager
async def open_qmp(
    path: Path, *, name: str = "qemu", timeout_s: float = 10, transcript: Path | None = None
) -> AsyncIterator[QmpClient]:
    """Connect to the monitor at the unix socket `path` and shake hands; closes it on the way out.

    A QEMU that has just been started makes the socket first and listens on it a little later: both are waited for.

    Args:
        path: The socket of `-qmp unix:PATH,server=on`.
        name: Which QEMU this is, for error texts.
        timeout_s: Seconds for connecting and for the handshake, each.
        transcript: Where to append every line of both directions.

    Raises:
        QmpError: Nobody listens there, or the peer does not speak QMP.
    """
    stream = await _connect(path, name, timeout_s)
    client = QmpClient(stream, name=name, transcript=transcript)
    async with stream:
        await client.greet(timeout_s)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.read_forever)
            yield client
            nursery.cancel_scope.cancel()
