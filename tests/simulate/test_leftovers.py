"""Whatever happens, no task and no socket is left behind."""

import gc
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from spiceproxy.simulate import ServerOptions, SimulatedServer, open_client, open_server
from tests.simulate.peers import S1, S2, Scene, address_of, connect, scene, until, use


def open_sockets() -> int:
    """Sockets of this process, by its table of descriptors."""
    return sum(1 for entry in Path("/proc/self/fd").iterdir() if _is_socket(entry))


def _is_socket(entry: Path) -> bool:
    try:
        return entry.readlink().name.startswith("socket:")
    except OSError:  # the descriptor with which the directory is read
        return False


def tasks() -> int:
    """Tasks that live beside this test."""
    task = trio.lowlevel.current_root_task()
    assert task is not None
    count, waiting = 0, [task]
    while waiting:
        current = waiting.pop()
        count += 1
        for nursery in current.child_nurseries:
            waiting += nursery.child_tasks
    return count


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = open_sockets()
    yield
    gc.collect()
    assert open_sockets() <= before


async def cancelled_after(seconds: float, run: Callable[[], Awaitable[None]]) -> None:
    before = tasks()
    with trio.move_on_after(seconds):
        await run()
    assert tasks() == before


@pytest.mark.parametrize("seconds", [0, 0.003, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.2])
async def test_a_session_that_is_cancelled_anywhere_leaves_nothing(seconds: float) -> None:
    async def run() -> None:
        async with open_server(S1) as s1, open_server(S2) as s2, open_client() as client:
            await connect(client, s1)
            play = Scene(s1, s2, client)
            for _ in range(20):
                await use(client, play.s1)
                await play.migrate()
                play.s1, play.s2 = play.s2, play.s1

    await cancelled_after(seconds, run)


async def test_a_refused_destination_leaves_nothing() -> None:
    async with scene() as play:
        before, sockets = tasks(), open_sockets()
        play.s1.migrate_connect("127.0.0.1", 1)
        await play.s1.wait_client_connected()
        await play.s1.migrate_end(completed=False)
        assert open_sockets() == sockets
        # The source's timer is still there: it is due in 10 s and does nothing then.
        assert tasks() <= before + 1


async def test_closing_the_server_ends_serve() -> None:
    async with trio.open_nursery() as nursery:
        server = SimulatedServer(ServerOptions())
        await nursery.start(server.serve)
        async with open_client() as client:
            await connect(client, server)
            server.close()
            await until(lambda: client.session is None)
            client.forget()
    assert server.session is None


async def test_closing_the_client_leaves_the_server_ready() -> None:
    async with open_server() as server:
        for _ in range(3):
            async with open_client() as client:
                await connect(client, server)
            await server.wait_until(lambda: server.session is None)
        assert address_of(server).port
