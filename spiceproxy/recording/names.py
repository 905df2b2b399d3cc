"""Names of recordings that have more than one file."""

import time
from pathlib import Path


class Names:
    """Names in the order in which files are begun, as `vm-20261125T143000-s1-00002.pcapng`. None comes twice.

    Args:
        path: As the user named the recording.
        part: Tells this recording from others of the same name: a session's name, or nothing.
    """

    def __init__(self, path: Path, part: str = "") -> None:
        self._path, self._part = path, f"-{part}" if part else ""
        self._start = time.strftime("%Y%m%dT%H%M%S")
        self._count = 0

    def next(self) -> Path:
        """Another name; of no file that is there."""
        while True:
            self._count += 1
            name = f"{self._path.stem}-{self._start}{self._part}-{self._count:05}{self._path.suffix}"
            path = self._path.with_name(name)
            if not path.exists():
                return path
