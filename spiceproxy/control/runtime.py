"""Files in the user's runtime directory, by which `spiceproxy ctl` finds the proxies that are running.

One for each, `PID.json`, mode 0600, in a directory of mode 0700: address, token, and what the proxy is. The proxy keeps it
locked, so that one of a proxy that was killed is known as such, whoever has its process number now.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from spiceproxy.errors import UsageError

MAX_TOKEN_BYTES: Final = 4096
_MAX_CARD_BYTES: Final = 64 * 2**10


class Card(msgspec.Struct, frozen=True):
    """One running proxy.

    Attributes:
        pid: Its process.
        address: Of its control API, as `--control` takes it.
        token: To be shown there; None if it is in `token_file`.
        token_file: That the user gave.
        listen: Where its SPICE clients connect.
        server: The first server.
    """

    pid: int
    address: str
    token: str | None
    token_file: str | None
    listen: str
    server: str


def directory() -> Path:
    """Where the files are: below XDG_RUNTIME_DIR, or in /tmp where there is none."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    return Path(base) / "spiceproxy" if Path(base).is_absolute() else Path(f"/tmp/spiceproxy-{os.getuid()}")  # noqa: S108  made 0700, and checked


@contextlib.contextmanager
def announced(card: Card) -> Iterator[Path]:
    """Have a proxy found, for as long as the block runs; gives the file.

    Raises:
        UsageError: The file cannot be written, or others could read it.
    """
    path = _own_directory() / f"{card.pid}.json"
    try:
        path.unlink(missing_ok=True)  # of a process that had this number before
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(msgspec.json.encode(card))
            yield path
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def running() -> list[Card]:
    """All proxies of this user that can be controlled."""
    found = []
    for path in sorted(directory().glob("*.json")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                if os.fstat(descriptor).st_uid == os.getuid() and _is_locked(descriptor):
                    found.append(msgspec.json.decode(file.read(_MAX_CARD_BYTES), type=Card))
        except (OSError, msgspec.MsgspecError):
            continue  # gone, or none of ours
    return found


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def read_token(path: Path) -> str:
    """The token in a file.

    Raises:
        UsageError: It cannot be read, has none, or others may read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(MAX_TOKEN_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    if stat.S_ISREG(mode) and mode & 0o077:
        raise UsageError(f"{path} can be read by others: chmod 600 {path}")
    text = data.decode("ascii", "replace").strip()
    # RFC 6750, 2.1: what may stand behind "Bearer".
    if not 16 <= len(text) <= MAX_TOKEN_BYTES or not all(c.isalnum() or c in "-._~+/=" for c in text):
        raise UsageError(f"{path} holds no token: 16 or more letters, digits and -._~+/=")
    return text


def _own_directory() -> Path:
    path = directory()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise UsageError(f"cannot make {path}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise UsageError(f"{path} is not a directory of yours alone: remove it, or set XDG_RUNTIME_DIR")
    return path
