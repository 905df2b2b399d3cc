"""Simulated servers and clients, each in a process of its own that can be killed, told from here what to do.

A process is told over a pipe: the name of a method, and its arguments. Connections that somebody else has accepted are given to
it as descriptors, so that its death is the death of these connections.
"""

import multiprocessing
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from inspect import isawaitable
from multiprocessing import reduction
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Generic, TypeVar

import trio

from spiceproxy.simulate import (
    ClientOptions,
    Guest,
    Handover,
    ServerOptions,
    SimulatedClient,
    SimulatedServer,
)

TAKE: Final = "take"  # a connection, whose descriptor comes next
Options = TypeVar("Options", ServerOptions, ClientOptions)


class GoneError(Exception):
    """The process is not there any more."""


class RefusedError(Exception):
    """It could not do what it was told, and says why."""


class PeerProcess(Generic[Options]):
    """One of them, as seen from here. One thing at a time, apart from `serve_stream`."""

    def __init__(self, options: Options, pipe: Connection, process: SpawnProcess) -> None:
        self.options: Options = options
        self.process, self._pipe = process, pipe

    async def do(self, method: str, *arguments: object) -> Any:
        """Have it do something, and wait for what comes of it.

        Raises:
            GoneError: It was killed, before or meanwhile.
            RefusedError: It could not.
        """
        try:
            self._pipe.send((method, arguments))
            good, result = await trio.to_thread.run_sync(self._pipe.recv, abandon_on_cancel=True)
        except (EOFError, OSError) as error:
            raise GoneError(self.options.name) from error
        if not good:
            raise RefusedError(f"{self.options.name}: {method}: {result}")
        return result

    async def serve_stream(self, stream: trio.SocketStream) -> None:
        """Give it a connection; returns at once."""
        assert self.process.pid
        self._pipe.send((TAKE, ()))
        reduction.send_handle(self._pipe, stream.socket.fileno(), self.process.pid)
        await trio.lowlevel.checkpoint()

    async def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        self.process.kill()
        await trio.to_thread.run_sync(self.process.join)


@asynccontextmanager
async def peer_process(options: Options) -> AsyncIterator[PeerProcess[Options]]:
    """Run one; it is killed at the end, whatever it does."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_main, args=(theirs, options), daemon=True)
    await trio.to_thread.run_sync(process.start)
    theirs.close()
    peer = PeerProcess(options, ours, process)
    try:
        with trio.fail_after(60):
            await peer.do("ready")
        yield peer
    finally:
        with trio.CancelScope(shield=True):
            await peer.kill()
            ours.close()


class _Server:
    """What a server can be told to do, beside its own methods."""

    def __init__(self, server: SimulatedServer) -> None:
        self.peer = server

    def ready(self) -> None:
        """Nothing: it is there."""

    def address(self) -> tuple[str, int]:
        """Where it listens."""
        assert self.peer.address is not None
        return self.peer.address.host, self.peer.address.port

    def give_guest(self) -> Guest:
        """Let the guest go; returns its state."""
        suitcase = _Suitcase()
        self.peer.hand_over_to(suitcase)  # type: ignore[arg-type]
        assert suitcase.guest is not None
        return suitcase.guest

    async def migrate_end(self) -> str:
        """End the migration; returns what the client was told."""
        return (await self.peer.migrate_end()).name

    async def cancel(self) -> str:
        """The same where nothing has come of it."""
        return (await self.peer.migrate_end(completed=False)).name


class _Suitcase:
    """In the place of a destination: takes the guest, to be carried to another process."""

    guest: Guest | None = None

    def guest_arrives(self, guest: Guest, _handover: Handover | None = None) -> None:
        """Take it."""
        self.guest = guest


class _Client:
    """What a client can be told to do, beside its own methods."""

    def __init__(self, client: SimulatedClient) -> None:
        self.peer = client

    def ready(self) -> None:
        """Nothing: it is there."""

    def seen(self) -> int:
        """How many drawing messages it has got."""
        return self.peer.drawn


def _main(pipe: Connection, options: ServerOptions | ClientOptions) -> None:
    trio.run(_live, pipe, options)


async def _live(pipe: Connection, options: ServerOptions | ClientOptions) -> None:
    """Do as told until there is nobody any more who tells."""
    async with trio.open_nursery() as nursery:
        if isinstance(options, ServerOptions):
            server = SimulatedServer(options)
            await nursery.start(server.serve)
            told: _Server | _Client = _Server(server)
        else:
            client = SimulatedClient(options)
            await nursery.start(client.run)
            told = _Client(client)
        while True:
            try:
                method, arguments, descriptor = await trio.to_thread.run_sync(partial(_hear, pipe))
            except EOFError:
                os._exit(0)
            if descriptor is None:
                nursery.start_soon(_do, pipe, told, method, arguments)
            else:
                stream = trio.SocketStream(trio.socket.from_stdlib_socket(socket.socket(fileno=descriptor)))
                assert isinstance(told, _Server)
                nursery.start_soon(told.peer.serve_stream, stream)


def _hear(pipe: Connection) -> tuple[str, tuple[object, ...], int | None]:
    method, arguments = pipe.recv()
    return method, arguments, reduction.recv_handle(pipe) if method == TAKE else None


async def _do(pipe: Connection, told: _Server | _Client, method: str, arguments: tuple[object, ...]) -> None:
    act = getattr(told, method, None) or getattr(told.peer, method)
    try:
        result = act(*arguments)
        if isawaitable(result):
            result = await result
    except Exception as error:  # noqa: BLE001  it is told to who asked
        pipe.send((False, repr(error)))
    else:
        pipe.send((True, result if _can_travel(result) else None))


def _can_travel(result: object) -> bool:
    return result is None or isinstance(result, int | str | tuple | Guest)
