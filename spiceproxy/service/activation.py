"""Sockets that the service manager has opened for us. Source: sd_listen_fds(3)."""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from spiceproxy.errors import UsageError

FIRST_DESCRIPTOR: Final = 3


def inherited_socket(environment: MutableMapping[str, str] = os.environ) -> socket.socket | None:
    """The socket that clients connect to, if the service manager listens on one for us; ours from now on.

    The variables are removed, so that no child takes them for its own.

    Raises:
        UsageError: There are several, or what is there is no listening stream socket.
    """
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal() or count == "0":
        return None
    if count != "1":
        raise UsageError(f"the service manager passes {count} sockets; give one: the port for clients")
    try:
        made = socket.socket(fileno=FIRST_DESCRIPTOR)
        made.set_inheritable(False)
        made.setblocking(False)
        listens = made.type == socket.SOCK_STREAM and made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise UsageError(
            f"the service manager passes something that is no socket: {error.strerror}"
        ) from error
    if not listens:
        raise UsageError("the service manager passes a socket that does not listen for streams")
    return made
