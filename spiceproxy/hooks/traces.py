"""What is said of an exception in a script."""

import traceback


def trace(error: BaseException) -> str:
    """Where an exception came from and of which type it is.

    Without locals and without its text: that may quote what a message carried, as `int("...")` does.
    """
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), capture_locals=False)
    return "".join(frames.format()) + type(error).__qualname__
