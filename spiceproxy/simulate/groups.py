"""Errors out of nurseries."""

from typing import TypeVar

Failure = TypeVar("Failure", bound=BaseException)


def leaves(group: BaseExceptionGroup[Failure]) -> list[Failure]:
    """The errors in a group, however nested, in order."""
    found: list[Failure] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
