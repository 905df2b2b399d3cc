"""A new file that takes its name when it is whole: copies of captures, readable by their owner alone."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from spiceproxy.errors import UsageError


class NewFile:
    """A file in the making."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        """Open for writing."""
        self.kept = False

    def keep(self) -> None:
        """It is whole: it takes its name at the end of the context. Otherwise it goes away."""
        self.kept = True


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[NewFile]:
    """Make a file of mode 0600 beside `path`, in whose place it is put at the end.

    Raises:
        UsageError: It cannot be made, or `path` names something that is not a regular file; or it
            is "-", by which somebody means standard output.
        OSError: It cannot be written. What was at `path` before is still there.
    """
    if str(path) == "-":
        raise UsageError("a copy is not written to standard output: give the name of a file")
    if path.is_symlink():
        # Following would write where somebody else chose; replacing the link would surprise who made it.
        raise UsageError(f"cannot write {path}: it is a symbolic link; give the name of the file itself")
    if path.exists() and not path.is_file():
        raise UsageError(f"cannot write {path}: it exists and is not a regular file")
    part = path.with_name(f".spiceproxy-{secrets.token_hex(8)}.part")
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    try:
        with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor
            os.fchmod(fd, 0o600)  # an odd umask may have taken bits away
            new = NewFile(file)
            yield new
            file.flush()
            os.fsync(fd)
        if new.kept:
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
