"""TCP sockets as the relay needs them: plain, non-blocking, waited for through trio.

trio's own streams cost the relay half of its throughput (docs/performance.md): a read that would not block goes
through the scheduler all the same, and receive_some() allocates. Here the kernel is asked first, and trio only
when it says "not now".
"""

import contextlib
import errno
import fcntl
import os
import socket
import stat
import sys
import termios
from collections.abc import Iterable
from typing import Final

import trio

from spiceproxy.address import UNIX, Address
from spiceproxy.errors import UsageError
from spiceproxy.tls.stream import TlsSocket
from spiceproxy.ways import foreign

BACKLOG: Final = 512
# Keep-alive probes while nothing passes. Whether a peer is given up is decided by its time-out (`give_up_after`).
KEEPIDLE_S: Final = 60
KEEPINTVL_S: Final = 15


def listen(host: str, ports: Iterable[int]) -> socket.socket:
    """Listen on the first free of `ports`; port 0 lets the kernel choose.

    Raises:
        UsageError: None of them can be had; the text is one line and says why.
    """
    error: OSError | None = None
    port = 0
    for port in ports:
        try:
            return _listen(host, port)
        except OSError as raised:
            error = raised
            if raised.errno != errno.EADDRINUSE:
                break
    where = Address(host, port)
    if error is not None and error.errno == errno.EADDRINUSE:
        raise UsageError(
            f"cannot listen on {where}: the port is in use; choose another, or 0 for any free one"
        )
    raise UsageError(f"cannot listen on {where}: {error.strerror if error else 'no port given'}") from error


def _listen(host: str, port: int) -> socket.socket:
    if (path := Address(host, port).unix_path) is not None:
        return _listen_unix(path)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except UnicodeError:
        raise _no_host_name() from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


def _listen_unix(path: str) -> socket.socket:
    """For its owner only. What a process left behind that is gone by now is removed first."""
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_left_behind(path):
                raise
            os.unlink(path)  # noqa: PTH108  as bind() and connect() name it
            listener.bind(path)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _is_left_behind(path: str) -> bool:
    """Whether it is a socket on which nobody listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        return stat.S_ISSOCK(os.lstat(path).st_mode) and probe.connect_ex(path) == errno.ECONNREFUSED


def remove_unix(listen: Address) -> None:
    """Remove the file of a unix socket that listened; nothing for any other address."""
    if listen.unix_path is not None:
        with contextlib.suppress(OSError):
            os.unlink(listen.unix_path)  # noqa: PTH108  as above


async def accept(listener: socket.socket) -> socket.socket:
    """The next connection, set up for relaying.

    Raises:
        OSError: As accept(2), but not the errors of a connection that is gone already.
    """
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue
        try:
            prepare(accepted)
        except BaseException:
            accepted.close()
            raise
        return accepted


async def connect(
    address: Address, timeout_s: float, *, source: str | None = None, mark: int | None = None
) -> socket.socket:
    """Connect to a peer, trying all its addresses.

    Args:
        address: The peer.
        timeout_s: For all of it.
        source: Somebody else's address to come from (TPROXY); then `address` has to be one of the same family.
        mark: Of its packets, for the kernel's rules; then `address` has to be one and no name.

    Raises:
        OSError: It cannot be reached; a timeout is a TimeoutError.
    """
    try:
        with trio.fail_after(timeout_s):
            if source is not None or mark is not None:
                connected = await _connect_from(source, address, mark)
            elif (path := address.unix_path) is not None:
                connected = _detached(await trio.open_unix_socket(path))
            else:
                connected = _detached(await trio.open_tcp_stream(address.host, address.port))
    except trio.TooSlowError:
        raise TimeoutError(errno.ETIMEDOUT, f"no answer within {timeout_s:g} s") from None
    except UnicodeError:
        raise _no_host_name() from None
    except OSError as error:
        raise _first_cause(error) from error
    prepare(connected)
    return connected


def _detached(stream: trio.SocketStream) -> socket.socket:
    return socket.socket(fileno=stream.socket.detach())


async def _connect_from(source: str | None, address: Address, mark: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in (source or address.host) else socket.AF_INET
    connecting = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        if mark is not None:
            foreign.mark(connecting, mark)
        if source is not None:
            await foreign.bind_to(connecting, source)
        await connecting.connect((address.host, address.port))
    except BaseException:
        connecting.close()
        raise
    return socket.socket(fileno=connecting.detach())


def _no_host_name() -> OSError:
    """Python encodes names as IDNA before it asks the resolver, and has an error of its own for what cannot be."""
    return OSError(errno.EINVAL, "not a host name")


def _first_cause(error: OSError) -> OSError:
    """What the kernel said, where trio says only that every attempt failed."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if not isinstance(cause, OSError):
        return error
    # trio's text repeats the address; the name resolver's errors have negative numbers and a text of their own.
    number = cause.errno or 0
    return OSError(number, os.strerror(number)) if number > 0 else cause


def prepare(connection: socket.socket) -> None:
    """Set the options every relayed connection has."""
    connection.setblocking(False)
    if connection.family == socket.AF_UNIX:
        return  # none of them is for it
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ):
        connection.setsockopt(level, option, value)


def give_up_after(connection: socket.socket, timeout_s: float) -> None:
    """Break the connection when its peer has acknowledged nothing, or has not read, for so long.

    One clock of the kernel's for all of it (tcp(7), TCP_USER_TIMEOUT): bytes under way that nobody acknowledges, a
    window that stays shut, and keep-alive probes without an answer. Whoever waits for the socket sees ETIMEDOUT.
    """
    if connection.family == socket.AF_UNIX:
        return  # nobody vanishes from this machine without a word
    idle_s = max(1, min(KEEPIDLE_S, int(timeout_s / 2)))
    for option, value in (
        (socket.TCP_USER_TIMEOUT, int(timeout_s * 1000)),
        (socket.TCP_KEEPIDLE, idle_s),
        (socket.TCP_KEEPINTVL, max(1, min(KEEPINTVL_S, int(timeout_s / 8)))),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


async def wait_readable(connection: socket.socket) -> None:
    """Wait until there may be something to read, which TLS may have decrypted already."""
    if isinstance(connection, TlsSocket):
        await connection.wait_readable()
    else:
        await trio.lowlevel.wait_readable(connection)


async def receive(connection: socket.socket, max_bytes: int) -> bytes:
    """Up to `max_bytes`, b"" at the end of the stream. Cancelled only while nothing has been taken.

    Raises:
        OSError: The connection broke.
    """
    while True:
        await wait_readable(connection)
        try:
            return connection.recv(max_bytes)
        except BlockingIOError:
            continue


async def send_all(connection: socket.socket, data: bytes | memoryview) -> None:
    """Send all of `data`, waiting only when the kernel takes no more.

    Raises:
        OSError: The connection broke.
    """
    view = memoryview(data)
    while view:
        try:
            sent = connection.send(view)
        except BlockingIOError:
            await trio.lowlevel.wait_writable(connection)
        else:
            view = view[sent:]


def unsent_bytes(connection: socket.socket) -> int:
    """What was sent and the peer's kernel has not acknowledged yet (tcp(7), SIOCOUTQ)."""
    answer: bytes = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def close(*connections: socket.socket) -> None:
    """Close, waking whoever waits for one of them."""
    for connection in connections:
        if connection.fileno() != -1:
            trio.lowlevel.notify_closing(connection)
            connection.close()


def local_address(connection: socket.socket) -> Address:
    """This end, as `_address` reads it."""
    return _address(connection.getsockname())


def peer_address(connection: socket.socket) -> Address:
    """The other end, as `_address` reads it.

    Raises:
        OSError: The peer is gone already.
    """
    return _address(connection.getpeername())


def _address(name: tuple[str, int] | tuple[str, int, int, int] | str | bytes) -> Address:
    """Without an IPv6 scope, and IPv4 as IPv4; a unix socket without a name as `unix:`.

    A dual-stack socket calls it ::ffff:A.B.C.D, and a client that was sent there would have to speak IPv6.
    """
    if isinstance(name, str | bytes):  # bytes: Linux's abstract names
        return Address(UNIX + os.fsdecode(name).replace("\0", "@"), 0)
    host = name[0].partition("%")[0]
    return Address(host.removeprefix("::ffff:") if "." in host else host, name[1])
