"""Fields full of a mark that nothing else has: what of it is found afterwards has survived."""

from typing import Any

MARK = b"\xa7SeCrEt\xb6"
TEXT_MARK = "SeCrEtS!"
SHORT = 3  # so many bytes of the mark in a row are no accident


def marked(value: Any, *, leave: frozenset[str] = frozenset()) -> Any:
    """The same with the mark in every bytes and text; `leave`: names of fields that stay."""
    if isinstance(value, bytes):
        return (MARK * (len(value) // len(MARK) + 1))[: len(value)]
    if isinstance(value, str):
        size = len(value.encode())
        return (TEXT_MARK * (size // len(TEXT_MARK) + 1))[:size]
    if isinstance(value, list):
        return [marked(each, leave=leave) for each in value]
    if isinstance(value, dict):
        return {name: each if name in leave else marked(each, leave=leave) for name, each in value.items()}
    return value


def survives(data: bytes) -> bool:
    """Whether some of the mark is there."""
    return any(
        mark[at : at + SHORT] in data
        for mark in (MARK * 2, (TEXT_MARK * 2).encode())
        for at in range(len(mark) // 2)
    )
