"""The QMP client against a scripted monitor on a real unix socket."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from spiceproxy.lab.errors import QmpError, single_error
from spiceproxy.lab.qmp import QmpClient, open_qmp

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}}, "capabilities": ["oob"]}}

Answer = Callable[["Monitor", dict[str, Any]], Awaitable[None]]


class Monitor:
    """The server's side of one connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.commands: list[dict[str, Any]] = []

    async def send(self, *objects: Any) -> None:
        await self.stream.send_all(b"".join(msgspec.json.encode(item) + b"\r\n" for item in objects))


@asynccontextmanager
async def monitor(
    path: Path,
    answer: Answer,
    *,
    greeting: Any = GREETING,
    early: Sequence[Any] = (),
    first: Sequence[Any] = (),
) -> AsyncIterator[list[dict[str, Any]]]:
    """Serve one client: greet, accept qmp_capabilities, then do what `answer` does with each command."""
    commands: list[dict[str, Any]] = []

    async def serve() -> None:
        connection, _ = await listener.accept()
        async with trio.SocketStream(connection) as stream:
            server = Monitor(stream)
            await server.send(*first, greeting)
            buffer = bytearray()
            async for data in stream:
                buffer += data
                while (end := buffer.find(b"\n")) >= 0:
                    command = msgspec.json.decode(bytes(buffer[:end]))
                    del buffer[: end + 1]
                    if command["execute"] == "qmp_capabilities":
                        await server.send(*early, {"return": {}})
                    else:
                        commands.append(command)
                        await answer(server, command)

    with trio.socket.socket(trio.socket.AF_UNIX) as listener, single_error():
        await listener.bind(str(path))
        listener.listen(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield commands
            nursery.cancel_scope.cancel()


async def ok(server: Monitor, command: dict[str, Any]) -> None:
    await server.send({"return": {"did": command["execute"]}, "id": command["id"]})


async def silence(server: Monitor, command: dict[str, Any]) -> None:
    """No answer."""


async def test_a_command_returns_what_qemu_returns_and_arguments_get_dashes(tmp_path: Path) -> None:
    async with monitor(tmp_path / "q", ok) as commands, open_qmp(tmp_path / "q") as qmp:
        assert await qmp.execute("query-status") == {"did": "query-status"}
        await qmp.execute("client_migrate_info", tls_port=5901, hostname="h")
    assert "arguments" not in commands[0]
    assert commands[1]["arguments"] == {"tls-port": 5901, "hostname": "h"}


async def test_answers_in_another_order_reach_the_tasks_that_asked(tmp_path: Path) -> None:
    held: list[dict[str, Any]] = []

    async def last_first(server: Monitor, command: dict[str, Any]) -> None:
        held.append(command)
        if len(held) == 3:
            for late in reversed(held):
                await ok(server, late)

    answers = {}

    async def ask(qmp: QmpClient, command: str) -> None:
        answers[command] = await qmp.execute(command)

    async with (
        monitor(tmp_path / "q", last_first),
        open_qmp(tmp_path / "q") as qmp,
        trio.open_nursery() as nursery,
    ):
        for command in ("a", "b", "c"):
            nursery.start_soon(ask, qmp, command)
    assert answers == {name: {"did": name} for name in ("a", "b", "c")}


async def test_an_error_carries_the_text_of_qemu(tmp_path: Path) -> None:
    async def refuse(server: Monitor, command: dict[str, Any]) -> None:
        error = {"class": "GenericError", "desc": "There's a migration process in progress"}
        await server.send({"error": error, "id": command["id"]})

    text = r"^s1: migrate: There's a migration process in progress \(GenericError\)$"
    async with monitor(tmp_path / "q", refuse), open_qmp(tmp_path / "q", name="s1") as qmp:
        with pytest.raises(QmpError, match=text):
            await qmp.execute("migrate", uri="tcp:127.0.0.1:1")


async def test_events_between_answers_are_kept_for_whoever_waits_later(tmp_path: Path) -> None:
    async def with_event(server: Monitor, command: dict[str, Any]) -> None:
        await server.send(
            {"event": "STOP", "data": {"n": 1}, "timestamp": {}}, {"event": "SPICE_MIGRATE_COMPLETED"}
        )
        await ok(server, command)

    async with monitor(tmp_path / "q", with_event), open_qmp(tmp_path / "q") as qmp:
        assert await qmp.execute("migrate") == {"did": "migrate"}
        assert (await qmp.wait_event("SPICE_MIGRATE_COMPLETED", 1)).data == {}
        assert (await qmp.wait_event("STOP", 1)).data == {"n": 1}


async def test_an_event_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    async def event_soon(server: Monitor, command: dict[str, Any]) -> None:
        await ok(server, command)
        await trio.sleep(0.05)
        await server.send({"event": "RESUME"})

    async with monitor(tmp_path / "q", event_soon), open_qmp(tmp_path / "q") as qmp:
        await qmp.execute("cont")
        assert (await qmp.wait_event("RESUME", 5)).name == "RESUME"


@pytest.mark.parametrize("call", ["execute", "wait_event"])
async def test_a_silent_monitor_costs_the_deadline_and_no_more(tmp_path: Path, call: str) -> None:
    async with monitor(tmp_path / "q", silence), open_qmp(tmp_path / "q", name="s2") as qmp:
        waiting = qmp.execute("stop", timeout_s=0.05) if call == "execute" else qmp.wait_event("STOP", 0.05)
        with pytest.raises(QmpError, match=r"s2: no (answer to stop|event STOP) within 0.05 s"):
            await waiting


async def test_an_answer_after_its_deadline_is_not_taken_for_the_next_one(tmp_path: Path) -> None:
    async def slow_at_first(server: Monitor, command: dict[str, Any]) -> None:
        if command["execute"] == "slow":
            await trio.sleep(0.1)
        await ok(server, command)

    async with monitor(tmp_path / "q", slow_at_first), open_qmp(tmp_path / "q") as qmp:
        with pytest.raises(QmpError):
            await qmp.execute("slow", timeout_s=0.02)
        assert await qmp.execute("fast") == {"did": "fast"}


@pytest.mark.parametrize("call", ["execute", "wait_event"])
async def test_when_the_monitor_closes_whoever_waits_is_told(tmp_path: Path, call: str) -> None:
    async def close(server: Monitor, command: dict[str, Any]) -> None:
        await server.stream.send_eof()

    async with monitor(tmp_path / "q", close), open_qmp(tmp_path / "q") as qmp:
        with pytest.raises(QmpError, match="QEMU closed its monitor"):
            await qmp.execute("quit")
        with pytest.raises(QmpError, match="QEMU closed its monitor"):
            await (qmp.execute("query-status") if call == "execute" else qmp.wait_event("SHUTDOWN", 5))


@pytest.mark.parametrize("line", [b"not json\n", b"[1, 2]\n"])
async def test_a_line_that_is_no_object_ends_the_monitor_with_a_clear_error(
    tmp_path: Path, line: bytes
) -> None:
    async def garbage(server: Monitor, command: dict[str, Any]) -> None:
        await server.stream.send_all(line)

    async with monitor(tmp_path / "q", garbage), open_qmp(tmp_path / "q") as qmp:
        with pytest.raises(QmpError, match="not a QMP line"):
            await qmp.execute("query-status")


async def test_a_line_without_end_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def endless(server: Monitor, command: dict[str, Any]) -> None:
        await server.stream.send_all(b"x" * 4096)

    monkeypatch.setattr("spiceproxy.lab.qmp._MAX_LINE_BYTES", 1024)
    async with monitor(tmp_path / "q", endless), open_qmp(tmp_path / "q") as qmp:
        with pytest.raises(QmpError, match="a line of over 1024 bytes"):
            await qmp.execute("query-status")


async def test_an_event_before_the_handshake_is_over_is_kept_and_does_no_harm(tmp_path: Path) -> None:
    async with monitor(tmp_path / "q", ok, early=[{"event": "RESUME"}]), open_qmp(tmp_path / "q") as qmp:
        assert (await qmp.wait_event("RESUME", 1)).name == "RESUME"
        assert await qmp.execute("stop") == {"did": "stop"}


async def test_an_event_before_the_greeting_is_kept_as_well(tmp_path: Path) -> None:
    async with monitor(tmp_path / "q", ok, first=[{"event": "RESUME"}]), open_qmp(tmp_path / "q") as qmp:
        assert (await qmp.wait_event("RESUME", 1)).name == "RESUME"
        assert await qmp.execute("stop") == {"did": "stop"}


async def test_something_that_is_not_qemu_is_recognised_by_its_greeting(tmp_path: Path) -> None:
    with pytest.raises(QmpError, match="not a QMP monitor"):
        async with monitor(tmp_path / "q", ok, greeting={"hello": 1}), open_qmp(tmp_path / "q"):
            pass


async def test_a_socket_without_a_listener_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(QmpError, match=f"no monitor at {tmp_path / 'q'} within 0.05 s: No such file"):
        async with open_qmp(tmp_path / "q", timeout_s=0.05):
            pass


async def test_a_monitor_that_comes_up_late_is_waited_for(tmp_path: Path) -> None:
    with trio.socket.socket(trio.socket.AF_UNIX) as listener:
        await listener.bind(str(tmp_path / "q"))  # as QEMU does for a moment: there, and refusing

        async def listen_late() -> None:
            await trio.sleep(0.1)
            listener.listen(1)
            connection, _ = await listener.accept()
            async with trio.SocketStream(connection) as stream:
                server = Monitor(stream)
                await server.send(GREETING, {"return": {}}, {"event": "RESUME"})
                await stream.receive_some()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen_late)
            async with open_qmp(tmp_path / "q", timeout_s=5) as qmp:
                assert (await qmp.wait_event("RESUME", 5)).name == "RESUME"


async def test_the_transcript_has_both_directions(tmp_path: Path) -> None:
    transcript = tmp_path / "log"
    async with monitor(tmp_path / "q", ok), open_qmp(tmp_path / "q", transcript=transcript) as qmp:
        await qmp.execute("query-kvm")
    lines = transcript.read_text().splitlines()
    assert '> {"execute":"query-kvm","id":1}' in lines
    assert '< {"return":{"did":"query-kvm"},"id":1}' in lines
