"""Whose connection is that?"""

import os
import subprocess
import sys

import trio

from spiceproxy.address import Address
from spiceproxy.lab.procfs import connections_of, process_group_lives


async def test_both_ends_of_a_connection_of_ours_are_ours() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    where = listener.socket.getsockname()
    async with listener, await trio.open_tcp_stream(*where) as near, await listener.accept() as far:
        here, there = Address(*near.socket.getsockname()), Address(*far.socket.getsockname())
        assert {(here, there), (there, here)} <= connections_of() == connections_of(os.getpid())


def python(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program])


async def test_a_connection_of_another_process_is_not_ours() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    there = Address(*listener.socket.getsockname())
    program = f"import socket, sys; s = socket.create_connection({tuple(there)!r}); s.recv(1)"
    async with listener:
        with python(program) as process:
            async with await listener.accept() as far:
                here = Address(*far.socket.getpeername())
                assert (here, there) in connections_of(process.pid)
                assert (here, there) not in connections_of()
                assert (there, here) in connections_of()


def test_a_process_that_is_gone_has_no_connections() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    assert connections_of(process.pid) == set()


def test_a_process_group_lives_as_long_as_one_of_it_runs() -> None:
    with subprocess.Popen(
        ["sh", "-c", "read line"], stdin=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process_group_lives(process.pid)
        process.communicate(b"\n", timeout=5)
    assert not process_group_lives(process.pid)


def test_a_zombie_does_not_count_as_running() -> None:
    with subprocess.Popen(["true"], start_new_session=True) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is not reaped
        assert not process_group_lives(process.pid)
