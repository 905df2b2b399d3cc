"""What can go wrong in the lab, each with its own consequence."""

from collections.abc import Iterator
from contextlib import contextmanager

from spiceproxy.errors import SpiceProxyError


class LabError(SpiceProxyError):
    """The lab could not be set up or played to its end (a program died, a deadline passed). Ends the run."""


class QmpError(LabError):
    """QEMU refused a command or its monitor went away; the text is QEMU's own."""


@contextmanager
def single_error() -> Iterator[None]:
    """Turn the group that a nursery raises into the one error that explains it.

    When a QEMU dies, its monitor breaks off, and whoever waits for an answer fails as well: QmpErrors come last.
    Anything that is no LabError comes first: it is a bug, or the user's.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        raise min(
            _leaves(group), key=lambda error: (isinstance(error, LabError), isinstance(error, QmpError))
        ) from None


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
