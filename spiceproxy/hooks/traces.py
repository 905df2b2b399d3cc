"""What is said of an exception in a script."""

import traceback


def trace(error: BaseException) -> str:
    """Where an exception came from and of which type it is.

    Without locals and without its text: that may quote what a message carried, as `int("...")` does.
    """
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), capture_locals=False)
    return "".join(frames.format()) + type(error).__qualname__


def place(error: BaseException) -> str:
    """The same in one line: where it was raised."""
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
    where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else "somewhere"
    return f"{type(error).__qualname__} at {where}"
