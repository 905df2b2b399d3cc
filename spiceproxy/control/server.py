"""The control API of one proxy: its socket, who may ask, and one task for each who does."""

import contextlib
import ipaddress
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from spiceproxy import sockets
from spiceproxy.address import Address
from spiceproxy.control import runtime
from spiceproxy.control.http import Answer, Conversation, HttpError, Lines, Request
from spiceproxy.control.options import ControlOptions, text_of
from spiceproxy.control.routes import Routes
from spiceproxy.control.routing import find
from spiceproxy.control.waiting import History
from spiceproxy.errors import UsageError
from spiceproxy.proxy import Proxy
from spiceproxy.relay.fairness import metered
from spiceproxy.shared import ProxyConfig

MAX_CONNECTIONS: Final = 64
_ACCEPT_RETRY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Door:
    """What is there before the proxy is.

    Attributes:
        listener: Listens.
        token: That has to be shown.
        history: Of the events from now on.
        told: For the event `control_started`: where it listens, and where the token is.
    """

    listener: socket.socket
    token: str
    history: History
    told: dict[str, str]


@contextlib.contextmanager
def opened(options: ControlOptions, config: ProxyConfig, address: Address) -> Iterator[Door]:
    """Listen, and have it found by `spiceproxy ctl`, for as long as the block runs.

    Args:
        options: Where.
        config: Of the proxy.
        address: Where the proxy's clients connect.

    Raises:
        UsageError: The address or the token cannot be used.
    """
    token = runtime.read_token(options.token_file) if options.token_file else secrets.token_urlsafe(32)
    history = History()
    with contextlib.ExitStack() as stack:
        if isinstance(options.address, Path):
            listener = stack.enter_context(_unix_listener(options.address))
            where = text_of(options.address)
        else:
            listener = stack.enter_context(sockets.listen(options.address.host, (options.address.port,)))
            where = str(sockets.local_address(listener))
        file = options.token_file.absolute() if options.token_file else None
        card = runtime.Card(
            os.getpid(),
            where,
            None if file else token,
            str(file) if file else None,
            str(address),
            str(config.first_server),
        )
        path = None
        try:
            path = stack.enter_context(runtime.announced(card))
        except UsageError:
            if file is None:
                raise
            # Who has the token can be told the address: a service may have no place to write to.
        stack.enter_context(config.events.listened_to(history))
        yield Door(listener, token, history, {"listen": where, "token_file": str(file or path)})


class Control:
    """The API.

    Args:
        proxy: That is controlled.
        door: To be closed by the caller.
    """

    def __init__(self, proxy: Proxy, door: Door) -> None:
        self._listener, self._token, self._told = door.listener, door.token, door.told
        self._on_tcp = door.listener.family != socket.AF_UNIX
        server = f"http://{door.told['listen']}" if self._on_tcp else None
        self.routes = Routes(proxy, door.history, server)
        self._log, self._gate = proxy.config.events, proxy.gate
        self._connections = 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer whoever asks, until it is cancelled."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._listener))
        async with trio.open_nursery() as nursery:
            self._log.info("control_started", **self._told)
            task_status.started()
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:  # no descriptor or memory
                    self._log.error(
                        "accept_failed", listen=self._told["listen"], reason=error.strerror or str(error)
                    )
                    await trio.sleep(_ACCEPT_RETRY_S)
                    continue
                if (
                    len(nursery.child_tasks) > 2 * MAX_CONNECTIONS
                ):  # those who are too many are not even told so
                    await trio.aclose_forcefully(stream)
                    continue
                nursery.start_soon(self._converse, stream)
                await self._gate.pause()

    async def _converse(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        try:
            await metered(Conversation(stream, self._serve).run(), self._gate.newcomers)
        except Exception as error:  # noqa: BLE001  an error of ours costs this answer, and nothing else
            self._log.error("control_failed", reason=repr(error), exc_info=error)
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(stream)

    async def _serve(self, request: Request) -> Answer | Lines:
        if self._connections > MAX_CONNECTIONS:
            raise HttpError(503, f"{MAX_CONNECTIONS} connections are open already")
        if self._on_tcp:
            _check_host(request.headers.get("host", ""))
        if "origin" in request.headers:  # browsers send it; nothing here is for a web page
            raise HttpError(403, "web pages may not ask")
        try:
            route, places = find(self.routes.table, request)
        except HttpError:
            self._check_token(request)  # whoever may not ask is not told either what there is
            raise
        if route.secured:
            self._check_token(request)
        return await route.handler(request, places)

    def _check_token(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        shown = token.strip().encode("utf-8", "replace")
        if scheme.lower() != "bearer" or not secrets.compare_digest(shown, self._token.encode()):
            raise HttpError(401, "the token is missing or wrong", {"www-authenticate": "Bearer"})


def _check_host(header: str) -> None:
    """A web page whose name was made to mean this machine (DNS rebinding) sends its own name here."""
    host = header.rpartition(":")[0] if not header.endswith("]") and ":" in header else header
    host = host.removeprefix("[").removesuffix("]")
    if host.lower() != "localhost":
        try:
            if ipaddress.ip_address(host).is_loopback:
                return
        except ValueError:
            pass
        raise HttpError(421, "`Host` has to be a loopback address or localhost")


@contextlib.contextmanager
def _unix_listener(path: Path) -> Iterator[socket.socket]:
    """A socket in the file system that nobody else can connect to.

    Raises:
        UsageError: It cannot be made.
    """
    _remove_dead(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    with made:
        try:
            made.bind(str(path))
            path.chmod(0o600)  # before anybody can connect: it does not listen yet
            made.listen(MAX_CONNECTIONS)
        except OSError as error:
            raise UsageError(
                f"cannot listen on unix:{path}: {(error.strerror or str(error)).lower()}"
            ) from None
        inode = path.stat().st_ino
        try:
            yield made
        finally:
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:  # and not one that somebody has put there
                    path.unlink()


def _remove_dead(path: Path) -> None:
    """Remove a socket that a proxy has left behind which was killed; nothing else."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(str(path))
    except ConnectionRefusedError:
        with contextlib.suppress(OSError):
            path.unlink()
    except OSError:
        pass
