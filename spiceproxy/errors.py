"""Errors that spiceproxy raises on purpose. Each class has its own consequence."""

from dissectors.side import Side


class SpiceProxyError(Exception):
    """Base of every error this package raises on purpose; its text is one line that names the fix if there is one."""


class UsageError(SpiceProxyError):
    """What the user asked for cannot be done (port in use, unreadable capture). Ends the program.

    Attributes:
        status: Its exit status.
    """

    status = 1


class OptionError(UsageError):
    """An option has a value that is none, or names a file of settings that is wrong. As click has it, exit status 2."""

    status = 2


class CaptureError(UsageError):
    """The file is no capture, or is damaged from some place on. What stood before that place has been read."""

    def __init__(self, reason: str, *, offset: int) -> None:
        """Keep where it was (`offset`, in bytes of the file; of its unpacked contents if it is compressed)."""
        super().__init__(f"{reason} (at byte {offset})")
        self.reason, self.offset = reason, offset


class RecordingError(SpiceProxyError):
    """The recording cannot be written any further (disk full). The sessions go on without it."""


class ProtocolError(SpiceProxyError):
    """A peer left its stream unreadable. Ends that one connection."""

    def __init__(self, reason: str, *, side: Side, offset: int) -> None:
        """Keep whose fault it was (`side`) and where (`offset`, in bytes of that side's stream)."""
        super().__init__(f"{side.value}: {reason} (at byte {offset} of its stream)")
        self.reason, self.side, self.offset = reason, side, offset


def first_of(group: BaseExceptionGroup[Exception]) -> Exception:
    """The first of what a nursery's tasks have raised, where one says what all mean."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, Exception)  # noqa: S101  it is a group of them
    return error
