"""What Linux says in /proc: whose a TCP connection is, which is the lab's proof that a channel goes through the proxy."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from spiceproxy.address import Address


def connections_of(pid: int | None = None) -> set[tuple[Address, Address]]:
    """Return the established IPv4 TCP connections of a process as (local, remote) pairs.

    Args:
        pid: Which process; None for our own.
    """
    inodes = set(_socket_inodes(pid or os.getpid()))
    return {(local, remote) for inode, local, remote in _established() if inode in inodes}


def process_group_lives(group: int) -> bool:
    """Tell whether a process group has a member that is more than a zombie (in a container, init may never reap them).

    Source: Linux Documentation/filesystems/proc.rst, /proc/PID/stat: behind the name in parentheses come state, parent
    and group.
    """
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            state, _, group_of_it = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
            if int(group_of_it) == group and state not in {"Z", "X"}:
                return True
    return False


def _socket_inodes(pid: int) -> Iterator[int]:
    with suppress(FileNotFoundError, ProcessLookupError):  # the process has ended
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                target = str(entry.readlink())
                if target.startswith("socket:["):
                    yield int(target[8:-1])


def _established() -> Iterator[tuple[int, Address, Address]]:
    """Rows of /proc/net/tcp (source: Linux Documentation/networking/proc_net_tcp) in state 1, ESTABLISHED."""
    for row in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        columns = row.split()
        if columns[3] == "01":
            yield int(columns[9]), _endpoint(columns[1]), _endpoint(columns[2])


def _endpoint(text: str) -> Address:
    """An address as the kernel prints it: a native 32-bit number in hex, a colon, the port in hex."""
    address, port = text.split(":")
    return Address(socket.inet_ntoa(struct.pack("=I", int(address, 16))), int(port, 16))
