"""A TLS socket behaves as a plain one does, over real sockets."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from spiceproxy import sockets
from spiceproxy.tls.authority import Authority
from spiceproxy.tls.stream import MAX_UNSENT_BYTES, RECORD_BYTES, TlsError, TlsSocket, secure
from tests.tls.certificates import server_context, trusting, write_pair

TIME_LIMIT_S = 10


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server and of a client that trusts it."""
    authority = Authority.new()
    server = server_context(*write_pair(tmp_path, "server", authority))
    server.num_tickets = 0  # a client that closes and has not read them resets the connection
    client = trusting(authority)
    return server, client


def plain_pair() -> tuple[socket.socket, socket.socket]:
    """Connected TCP sockets, with small buffers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for each in (near, far):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
        sockets.prepare(each)
    return near, far


@asynccontextmanager
async def pair(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], raw: tuple[socket.socket, socket.socket] | None = None
) -> AsyncIterator[tuple[TlsSocket, TlsSocket]]:
    """A client's socket and a server's, behind the handshake."""
    near, far = raw or plain_pair()
    made: dict[str, TlsSocket] = {}

    async def run(name: str, connection: socket.socket, context: ssl.SSLContext, server: bool) -> None:
        made[name] = await secure(connection, context, server=server)

    with trio.fail_after(TIME_LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "client", near, contexts[1], False)
            nursery.start_soon(run, "server", far, contexts[0], True)
        try:
            yield made["client"], made["server"]
        finally:
            sockets.close(*made.values())


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


def fill(connection: socket.socket, data: memoryview) -> int:
    """Send until nothing more is taken; how much was."""
    sent = 0
    while sent < len(data):
        try:
            sent += connection.send(data[sent:])
        except BlockingIOError:
            break
    return sent


async def test_a_read_gives_all_records_that_are_there(contexts: Contexts) -> None:
    async with pair(contexts) as (client, server):
        for number in range(5):
            assert client.send(bytes([number]) * 100) == 100
        buffer = bytearray(10_000)
        await server.wait_readable()
        got = 0
        while got < 500:
            got += server.recv_into(memoryview(buffer)[got:])
        with pytest.raises(BlockingIOError):
            server.recv_into(buffer)
        assert buffer[:500] == b"".join(bytes([number]) * 100 for number in range(5))


async def test_what_comes_with_the_end_of_the_handshake_is_found(contexts: Contexts) -> None:
    near, far = plain_pair()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = contexts[1].wrap_bio(incoming, outgoing)

    async def speak() -> None:
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        await sockets.send_all(near, outgoing.read())
        incoming.write(await sockets.receive(near, 100_000))
        client.do_handshake()
        client.write(b"at once")
        await sockets.send_all(near, outgoing.read())

    with near, trio.fail_after(TIME_LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            server = await secure(far, contexts[0], server=True)
        assert await sockets.receive(server, 100) == b"at once"
        server.close()


async def test_what_is_decrypted_already_is_not_waited_for(contexts: Contexts) -> None:
    async with pair(contexts) as (client, server):
        await sockets.send_all(client, b"x" * 1000)
        assert await sockets.receive(server, 10) == b"x" * 10
        assert await sockets.receive(server, 5000) == b"x" * 990


@pytest.mark.parametrize("size", [1, RECORD_BYTES, RECORD_BYTES + 1, 3_000_000])
async def test_a_stream_arrives_whole_however_the_peer_reads(contexts: Contexts, size: int) -> None:
    data = bytes(range(251)) * (size // 251 + 1)
    received = bytearray()

    async def read(server: TlsSocket) -> None:
        step = 1
        while more := await sockets.receive(server, step):
            received.extend(more)
            step = min(2 * step + 1, 200_000)

    async with pair(contexts) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(read, server)
        await sockets.send_all(client, data)
        client.shutdown(socket.SHUT_WR)
    assert received == data


async def test_a_peer_that_does_not_read_blocks_the_writer_and_nothing_is_lost(contexts: Contexts) -> None:
    data = bytes(range(256)) * 40_000
    async with pair(contexts) as (client, server):
        view = memoryview(data)
        sent = fill(client, view)
        assert sent < len(data)
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sockets.send_all, client, view[sent:])
            while len(received) < len(data):
                received += await sockets.receive(server, 100_000)
        assert received == data


async def test_no_record_reaches_over_where_it_is_cut(contexts: Contexts) -> None:
    async with pair(contexts) as (client, server):
        sizes = [1, 200_000, 10, RECORD_BYTES, 5]
        data = b"".join(bytes([n]) * size for n, size in enumerate(sizes))
        ends = [sum(sizes[: n + 1]) for n in range(len(sizes) - 1)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_apart, memoryview(data), ends)
            received: list[bytes] = []
            while len(b"".join(received)) < len(data):
                try:
                    received.append(server._tls.read(2 * RECORD_BYTES))
                except ssl.SSLWantReadError:
                    await trio.lowlevel.wait_readable(server)
                    server._take()
        assert b"".join(received) == data
        assert all(len(set(record)) == 1 for record in received)


async def test_what_is_encrypted_when_it_is_cancelled_goes_out_before_what_follows(
    contexts: Contexts,
) -> None:
    async with pair(contexts) as (client, server):
        data = bytes(range(256)) * 20_000
        with trio.move_on_after(0.1) as scope:
            await client.send_apart(memoryview(data), [100, 1000])
        assert scope.cancelled_caught
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_apart, memoryview(b"the end"), [])
            while not received.endswith(b"the end"):
                received += await sockets.receive(server, 100_000)
        assert data.startswith(received.removesuffix(b"the end"))


@pytest.mark.parametrize("polite", [True, False], ids=["with close_notify", "without"])
async def test_the_end_is_an_end_with_close_notify_and_without(contexts: Contexts, polite: bool) -> None:
    async with pair(contexts) as (client, server):
        await sockets.send_all(client, b"last words")
        if polite:
            client.shutdown(socket.SHUT_WR)
        else:
            sockets.close(client)
        assert await sockets.receive(server, 100) == b"last words"
        assert await sockets.receive(server, 100) == b""
        assert await sockets.receive(server, 100) == b""


async def test_who_has_said_goodbye_hears_the_other_out(contexts: Contexts) -> None:
    async with pair(contexts) as (client, server):
        await sockets.send_all(server, b"on its way " * 5000)
        client.shutdown(socket.SHUT_WR)
        assert await sockets.receive(server, 100) == b""
        await sockets.send_all(server, b"and more")
        server.shutdown(socket.SHUT_WR)
        received = b""
        while more := await sockets.receive(client, 100_000):
            received += more
        assert received == b"on its way " * 5000 + b"and more"


async def test_a_goodbye_to_a_peer_that_does_not_read_does_not_wait(contexts: Contexts) -> None:
    async with pair(contexts) as (client, _server):
        fill(client, memoryview(bytes(10_000_000)))
        client.shutdown(socket.SHUT_WR)


async def test_after_a_goodbye_nothing_goes_out(contexts: Contexts) -> None:
    async with pair(contexts) as (client, server):
        server.shutdown(socket.SHUT_WR)
        assert await sockets.receive(client, 10) == b""
        client.shutdown(socket.SHUT_WR)
        with pytest.raises(BrokenPipeError):
            client.send(b"too late")


async def test_a_peer_that_reads_no_answers_is_given_up(contexts: Contexts) -> None:
    """As one that begins a new handshake again and again: OpenSSL says no each time."""
    async with pair(contexts) as (far, near):
        fill(near, memoryview(bytes(2**26)))
        near._outgoing.write(bytes(MAX_UNSENT_BYTES))
        far.send(b"again")
        await near.wait_readable()
        assert near.recv(100) == b"again"
        with pytest.raises(TlsError, match="does not read the answers"):
            near.recv(100)


async def test_bytes_that_are_no_tls_are_an_error_that_stays(contexts: Contexts) -> None:
    raw = plain_pair()
    copy = raw[0].dup()
    async with pair(contexts, raw) as (_client, server):
        with copy:
            copy.send(b"REDQ" * 10)
        await server.wait_readable()
        for _ in range(2):
            with pytest.raises(TlsError, match="TLS: "):
                server.recv(100)


async def test_an_alert_is_told_in_words(contexts: Contexts) -> None:
    stranger = trusting(Authority.new())
    near, far = plain_pair()
    failures: dict[str, TlsError] = {}

    async def run(name: str, connection: socket.socket, context: ssl.SSLContext, server: bool) -> None:
        try:
            await secure(connection, context, server=server)
        except TlsError as error:
            failures[name] = error

    with trio.fail_after(TIME_LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, "client", near, stranger, False)
            nursery.start_soon(run, "server", far, contexts[0], True)
    assert str(failures["client"].strerror).startswith("TLS: the certificate is not accepted: ")
    assert failures["server"].strerror == "TLS: alert unknown ca"
    assert failures["server"].alert


@pytest.mark.parametrize(
    "hello", [b"GET / HTTP/1.0\r\n\r\n", b"REDQ\2\0\0\0\2\0\0\0\x12\0\0\0", b"\x16\x03\x01\0\5junk!"]
)
async def test_a_client_without_tls_is_an_error(contexts: Contexts, hello: bytes) -> None:
    near, far = plain_pair()
    with near, trio.fail_after(TIME_LIMIT_S):
        near.send(hello)
        with pytest.raises(TlsError):
            await secure(far, contexts[0], server=True)
        assert far.fileno() == -1


async def test_a_peer_that_goes_in_the_handshake_is_told(contexts: Contexts) -> None:
    near, far = plain_pair()
    near.close()
    with trio.fail_after(TIME_LIMIT_S), pytest.raises(OSError, match=r"closed during the handshake|reset"):
        await secure(far, contexts[0], server=True)


async def test_closing_wakes_who_waits(contexts: Contexts) -> None:
    async with pair(contexts) as (_client, server), trio.open_nursery() as nursery:

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await sockets.receive(server, 1)

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        sockets.close(server)


async def test_new_keys_in_the_middle_cost_nothing(tmp_path: Path) -> None:
    """A peer may ask for new keys at any time: reading then has to write."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("not installed: openssl")
    context = server_context(*write_pair(tmp_path, "server", Authority.new()))
    with socket.create_server(("127.0.0.1", 0)) as listener, trio.fail_after(TIME_LIMIT_S):
        listener.setblocking(False)
        address = "{}:{}".format(*listener.getsockname())
        command = [openssl, "s_client", "-connect", address, "-tls1_3", "-noservername"]
        async with trio.open_nursery() as nursery:
            run = partial(
                trio.run_process,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
            )
            process: trio.Process = await nursery.start(run, command)
            assert process.stdin
            assert process.stdout
            server = await secure(await sockets.accept(listener), context, server=True)
            await process.stdin.send_all(b"before\n")
            assert await sockets.receive(server, 100) == b"before\n"
            await process.stdin.send_all(b"K\n")
            await trio.sleep(0.2)  # s_client takes a line that came with others for text
            await process.stdin.send_all(b"after\n")
            assert await sockets.receive(server, 100) == b"after\n"
            await sockets.send_all(server, b"heard\n")
            said = b""
            while b"heard\n" not in said:
                said += await process.stdout.receive_some()
            assert process.stderr
            assert b"KEYUPDATE" in await process.stderr.receive_some(4096)
            sockets.close(server)
            process.kill()
