"""Whoever asks may be a web page, a stranger, or somebody who never reads or never ends."""

import os
import socket
import stat
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spiceproxy.address import Address
from spiceproxy.control import http, runtime
from spiceproxy.control.http import MAX_BODY_BYTES, MAX_HEAD_BYTES, Answer, Conversation, Lines, Request, Send
from spiceproxy.control.options import ControlOptions, parse_control, text_of
from spiceproxy.control.server import MAX_CONNECTIONS
from spiceproxy.errors import UsageError
from spiceproxy.simulate.clock import quick_clock
from tests.control.controlled import LOOPBACK, TOKEN, controlled, reply_on
from tests.raw_peers import raw_proxy


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:80", 200),
        ("LOCALHOST:8080", 200),
        ("[::1]", 200),
        ("[::1]:99", 200),
        ("127.8.9.1", 200),
        ("evil.example", 421),
        ("evil.example:80", 421),
        ("127.0.0.1.evil.example", 421),
        ("localhost.evil.example", 421),
        ("192.168.1.1", 421),
        ("", 421),
    ],
)
async def test_a_name_that_was_made_to_mean_this_machine_is_not_answered(
    host: str, status: int, tmp_path: Path
) -> None:
    async with controlled(tmp_path) as it:
        assert (await it.ask("GET", "/healthz", host=host)).status == status
        assert (await it.ask("GET", "/v1/faults", host=host)).status == status


async def test_a_web_page_is_not_answered_even_with_the_token(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        assert (await it.ask("GET", "/v1/faults", origin="http://127.0.0.1:1")).status == 403
        assert (await it.ask("GET", "/healthz", origin="null")).status == 403
        assert (await it.ask("OPTIONS", "/v1/faults", token=None)).status == 401
        reply = await it.ask("GET", "/v1/faults")
        assert not any(name.startswith("access-control") for name in reply.headers)


async def test_bodies_and_heads_are_bounded(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        assert (await it.ask("POST", "/v1/faults", bytes(MAX_BODY_BYTES + 1))).status == 413
        assert (await it.ask("GET", "/v1/faults", x=3 * MAX_HEAD_BYTES * "x")).status == 431
        stream = await it.stream()
        head = f"POST /v1/faults HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n"
        head += "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        await stream.send_all(head.encode())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_chunks, stream)
            assert (await reply_on(stream)).status == 413
            nursery.cancel_scope.cancel()


async def _chunks(stream: trio.SocketStream) -> None:
    try:
        while True:
            await stream.send_all(b"4000\r\n" + bytes(0x4000) + b"\r\n")
    except trio.BrokenResourceError:
        pass


async def test_a_stranger_is_turned_away_before_a_body_is_read(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        stream = await it.stream()
        await stream.send_all(
            it.request("POST", "/v1/faults", bytes(100), token="wrong-wrong-wrong-wrong")[:-50]
        )
        assert (await reply_on(stream)).status == 401


async def test_a_client_that_waits_for_a_word_before_it_sends_its_body_gets_one(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        stream = await it.stream()
        body = b'{"condition": "id == 1", "timeout_s": 0}'
        request = it.request("POST", "/v1/wait", body, expect="100-continue")
        await stream.send_all(request[: -len(body)])
        with trio.fail_after(5):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
        await stream.send_all(body)
        assert (await reply_on(stream)).status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 100 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://evil/ HTTP/1.1\r\nhost: 127.0.0.1\r\nhost: evil\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /v1/faults HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/faults HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET /%ff%00/../../etc/passwd HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n",
        b"REDQ" + bytes(60) + b"\r\n\r\n",
    ],
)
async def test_what_is_no_proper_request_is_refused_and_the_next_one_answered(
    data: bytes, tmp_path: Path
) -> None:
    async with controlled(tmp_path) as it:
        stream = await it.stream()
        await stream.send_all(data)
        await stream.send_eof()
        with trio.fail_after(10):
            answer = b""
            while more := await stream.receive_some():
                answer += more
        assert answer.startswith(b"HTTP/1.1 4")
        assert (await it.ask("GET", "/healthz")).status == 200
        assert not it.raw.events.named("control_failed")


async def test_connections_are_bounded(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        for _ in range(MAX_CONNECTIONS):
            await (await it.stream()).send_all(b"GET")
        with trio.fail_after(10):
            while (await it.ask("GET", "/healthz")).status != 503:
                pass


async def serve(request: Request) -> Answer | Lines:
    """Answers what hypothesis sends."""
    return Answer(await request.body())


@given(st.binary(max_size=300), st.lists(st.integers(1, 300), max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_end_in_an_answer_or_a_silent_end(data: bytes, cuts: list[int]) -> None:
    async def play() -> None:
        client, server = trio.testing.memory_stream_pair()

        async def converse() -> None:
            async with server:
                await Conversation(server, serve).run()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse)
            for cut in sorted(cuts):
                await client.send_all(data[:cut])
            await client.send_all(data)
            await client.send_eof()
            answer = b"".join([part async for part in client])
            assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
            await client.aclose()

    trio.run(play, clock=quick_clock())


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n123"]
)
async def test_whoever_does_not_go_on_is_told_so_after_a_while(
    sent: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Conversation(server, serve).run)
        if sent:
            await client.send_all(sent)
        answer = b""
        while more := await client.receive_some():
            answer += more
    assert answer.startswith(b"HTTP/1.1 408")
    assert trio.current_time() <= http.HEAD_S + http.LINGER_S + 1


async def test_whoever_does_not_read_is_left(autojump_clock: trio.testing.MockClock) -> None:
    ended = False

    async def lines(_request: Request) -> Answer | Lines:
        async def run(send: Send) -> None:
            nonlocal ended
            try:
                while True:
                    await send(b"x" * 1000)
            finally:
                ended = True

        return Lines(run)

    client, server = trio.testing.lockstep_stream_pair()
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Conversation(server, lines).run)
            await client.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await client.receive_some()
            await client.receive_some()
    assert ended
    assert trio.current_time() >= http.SEND_S


async def test_a_proxy_ends_at_once_though_somebody_follows_and_does_not_read(tmp_path: Path) -> None:
    with trio.fail_after(20):
        async with controlled(tmp_path) as it:
            stream = await it.stream()
            await stream.send_all(it.request("GET", "/v1/events?since=0"))
            for _ in range(3000):
                it.raw.proxy.config.events.info("fault_log", fault="f", message="x" * 5000)
            await trio.sleep(0.2)
            begun = trio.current_time()
        assert trio.current_time() - begun < http.SEND_S


async def test_a_follower_that_is_too_slow_is_told_how_many_events_are_missing(tmp_path: Path) -> None:
    async with controlled(tmp_path) as it:
        stream = await it.stream()
        await stream.send_all(it.request("GET", "/v1/events"))
        seen = await stream.receive_some()
        while b"fault_log" not in seen:  # it follows
            it.raw.proxy.config.events.info("fault_log", fault="f", message="x")
            with trio.move_on_after(0.05):
                seen += await stream.receive_some()
        for _ in range(3000):  # without a break: nobody can read
            it.raw.proxy.config.events.info("fault_log", fault="f", message="x")
        with trio.fail_after(10):
            while seen.count(b"fault_log") < 1000:
                seen += await stream.receive_some()
            it.raw.proxy.config.events.info("fault_log", fault="f", message="the last")
            while b"the last" not in seen:
                seen += await stream.receive_some()
        assert b"events_dropped" in seen


# The socket and the token -------------------------------------------------------------------------


async def test_a_unix_socket_is_the_users_alone_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    async with controlled(tmp_path, path) as it:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await it.ask("GET", "/v1/faults", host="anything")).status == 200
        assert (await it.ask("GET", "/v1/faults", token=None)).status == 401
    assert not path.exists()


async def test_a_dead_socket_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "c.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with controlled(tmp_path, path) as it:
        assert (await it.ask("GET", "/healthz")).status == 200
        with pytest.raises(UsageError, match=r"cannot listen on unix:.*in use"):
            async with raw_proxy(control=ControlOptions(path)):
                raise AssertionError
        assert (await it.ask("GET", "/healthz")).status == 200
    path.write_text("mine")
    with pytest.raises(UsageError, match="in use"):
        async with raw_proxy(control=ControlOptions(path)):
            raise AssertionError
    assert path.read_text() == "mine"


async def test_a_proxy_says_that_it_runs_to_its_user_only_and_takes_it_back(runtime_directory: Path) -> None:
    async with raw_proxy(control=ControlOptions(LOOPBACK)) as raw:
        (card,) = runtime.running()
        assert card.pid == os.getpid()
        assert card.listen == str(raw.proxy.address)
        assert card.token is not None
        assert len(card.token) >= 40
        assert modes(runtime_directory) == (0o700, [0o600])
        assert not any(card.token in str(event) for event in raw.events)
    assert modes(runtime_directory) == (0o700, [])


def modes(directory: Path) -> tuple[int, list[int]]:
    """Of a directory and its files."""
    return stat.S_IMODE(directory.stat().st_mode), [
        stat.S_IMODE(each.stat().st_mode) for each in directory.iterdir()
    ]


def test_a_runtime_directory_that_others_can_read_is_not_used(runtime_directory: Path) -> None:
    runtime_directory.mkdir()
    runtime_directory.chmod(0o755)
    card = runtime.Card(1, "", None, None, "", "")
    with pytest.raises(UsageError, match="not a directory of yours alone"), runtime.announced(card):
        raise AssertionError


def test_files_of_proxies_that_have_gone_and_of_others_are_passed_over(runtime_directory: Path) -> None:
    runtime_directory.mkdir(mode=0o700)
    (runtime_directory / "1.json").write_text("{")
    (runtime_directory / "2.json").write_text('{"pid": 1e99}')
    gone = '{"pid": 4194305, "address": "127.0.0.1:1", "token": "x", "token_file": null, "listen": "", "server": ""}'
    (runtime_directory / "3.json").write_text(gone)
    (runtime_directory / "4.json").mkdir()
    os.mkfifo(runtime_directory / "5.json")
    (runtime_directory / "6.json").symlink_to(runtime_directory / "3.json")
    card = runtime.Card(os.getpid(), "127.0.0.1:1", "x", None, "", "")
    with runtime.announced(card) as path:
        assert runtime.running() == [card]
        left = path.read_bytes()
    assert runtime.running() == []
    path.write_bytes(left)  # as a proxy leaves it that was killed, while its number is somebody's again
    assert runtime.running() == []


async def test_where_nothing_can_be_written_a_token_of_the_users_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/dev/null")
    async with controlled(tmp_path) as it:
        assert (await it.ask("GET", "/v1/faults")).status == 200
        assert runtime.running() == []
    with pytest.raises(UsageError, match="cannot make"):
        async with raw_proxy(control=ControlOptions(LOOPBACK)):
            raise AssertionError


async def test_an_error_of_ours_costs_one_answer_and_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with controlled(tmp_path) as it:
        monkeypatch.setattr(type(it.raw.proxy), "sessions", property(lambda self: 1 / 0))
        reply = await it.ask("GET", "/v1/sessions")
        assert (reply.status, reply.json) == (500, {"error": "an error of spiceproxy; its log says more"})
        failed = await it.raw.events.wait_for("control_failed")
        assert "ZeroDivisionError" in failed["reason"]
        assert (await it.ask("GET", "/v1/faults")).status == 200


@pytest.mark.parametrize("text", ["", "short", "white space in it so it is none", "ü" * 20, "x" * 5000])
def test_what_is_no_token_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="holds no token"):
        runtime.read_token(path)


def test_a_token_that_others_can_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(TOKEN)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        runtime.read_token(path)
    path.chmod(0o600)
    assert runtime.read_token(path) == TOKEN
    with pytest.raises(UsageError, match="cannot read"):
        runtime.read_token(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("localhost:81", Address("127.0.0.1", 81)),
        ("[::1]:81", Address("::1", 81)),
        ("81", Address("127.0.0.1", 81)),
        ("unix:/a/b", Path("/a/b")),
    ],
)
def test_addresses_are_on_loopback_or_paths(text: str, address: Address | Path) -> None:
    assert parse_control(text) == address
    assert parse_control(text_of(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0:1",
        "[::]:1",
        "192.168.1.1:1",
        "example.com:1",
        "127.0.0.1.example:1",
        "unix:a/b",
        "unix:",
        "unix:/" + 200 * "a",
        "x",
    ],
)
def test_any_other_address_is_an_error_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as found:
        parse_control(text)
    assert "\n" not in str(found.value)
