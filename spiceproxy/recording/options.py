"""How a recording is kept, beside where."""

from dataclasses import dataclass
from typing import Literal

OnFull = Literal["go-on", "end-sessions"]


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """What there is to choose. With any of rotation, ring or a file a session, names get a time and a number.

    Attributes:
        rotate_bytes: Begin another file after so many.
        rotate_s: Begin another file after so many seconds.
        keep: Of a recording's files, or of those that a ring was written to, keep so many; older ones are deleted.
        limit_bytes: End the recording when a file (with rotation: all files of it so far) has so many bytes.
        ring_s: Keep only so many seconds, in memory, and write them when asked.
        ring_bytes: What these may take.
        per_session: Each session has files of its own.
        on_full: What becomes of sessions that cannot be recorded any more.
    """

    rotate_bytes: int | None = None
    rotate_s: float | None = None
    keep: int | None = None
    limit_bytes: int | None = None
    ring_s: float | None = None
    ring_bytes: int = 64 * 2**20
    per_session: bool = False
    on_full: OnFull = "go-on"

    @property
    def rotates(self) -> bool:
        """Whether there is more than one file in a row."""
        return self.rotate_bytes is not None or self.rotate_s is not None
