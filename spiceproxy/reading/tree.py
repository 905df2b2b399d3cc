"""All fields of a message, one a line, with the names of enums and flags."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dissectors.plain import Length
from spiceproxy.reading.fields import full

# A group of numbers that fits in here stands on one line: a rectangle, a point.
INLINE_COLUMNS: Final = 88
MAX_ITEMS: Final = 64  # of a list, unless all is asked for
MAX_BYTES: Final = 32  # of a byte string, likewise
INDENT: Final = "  "


def tree(fields: Mapping[str, Any], *, bulk: bool = False, indent: str = INDENT * 3) -> Iterator[str]:
    """The lines of a message's fields.

    Args:
        fields: As a dissection has them.
        bulk: All items of lists and all bytes.
        indent: In front of every line.
    """
    for key, value in fields.items():
        yield from _field(key, value, indent, bulk=bulk)


def _field(key: str, value: Any, indent: str, *, bulk: bool) -> Iterator[str]:
    if isinstance(value, dict):
        inline = _inline(value)
        if inline is not None:
            yield f"{indent}{key}: {inline}"
            return
        yield f"{indent}{key}"
        for name, item in value.items():
            yield from _field(name, item, indent + INDENT, bulk=bulk)
    elif isinstance(value, Length):
        yield f"{indent}{key}: {_count(value.size)}"
    elif isinstance(value, list):
        yield from _list(key, value, indent, bulk=bulk)
    elif isinstance(value, bytes | bytearray | memoryview):
        yield from _bytes(key, bytes(value), indent, bulk=bulk)
    else:
        yield f"{indent}{key}: {full(value)}"


def _list(key: str, items: list[Any], indent: str, *, bulk: bool) -> Iterator[str]:
    shown = items if bulk else items[:MAX_ITEMS]
    if all(isinstance(item, int) for item in items):
        text = ", ".join(map(full, shown)) or "none"
        more = f", … {len(items) - len(shown)} more" if len(items) > len(shown) else ""
        yield f"{indent}{key}: {text}{more}"
        return
    yield f"{indent}{key}: {len(items)}"
    for number, item in enumerate(shown):
        yield from _field(f"[{number}]", item, indent + INDENT, bulk=bulk)
    if len(items) > len(shown):
        yield f"{indent}{INDENT}… {len(items) - len(shown)} more"


def _bytes(key: str, data: bytes, indent: str, *, bulk: bool) -> Iterator[str]:
    if not data:
        yield f"{indent}{key}: {_count(0)}"
        return
    shown = data if bulk else data[:MAX_BYTES]
    more = " …" if len(data) > len(shown) else ""
    text = f' "{shown.decode()}"' if not more and shown.isascii() and shown.decode().isprintable() else ""
    yield f"{indent}{key}: {_count(len(data))}: {shown.hex(' ', -4)}{more}{text}"


def _count(size: int) -> str:
    return "1 byte" if size == 1 else f"{size} bytes"


def _inline(value: Mapping[str, Any]) -> str | None:
    """A small group of numbers on one line."""
    if not value:
        return "nothing"
    if len(value) == 1 or not all(item is None or isinstance(item, int) for item in value.values()):
        return None
    text = ", ".join(f"{key} {full(item)}" for key, item in value.items())
    return text if len(text) <= INLINE_COLUMNS else None


def hexdump(data: bytes, *, bulk: bool = False, indent: str = INDENT * 3, limit: int = 512) -> Iterator[str]:
    """Offset, bytes and letters, 16 bytes a line.

    Args:
        data: What to show.
        bulk: All of it, not the first `limit` bytes.
        indent: In front of every line.
        limit: In bytes.
    """
    shown = data if bulk else data[:limit]
    for at in range(0, len(shown), 16):
        row = shown[at : at + 16]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        left, right = row[:8].hex(" "), row[8:].hex(" ")
        yield f"{indent}{at:04x}  {left:<23}  {right:<23}  {letters}"
    if len(data) > len(shown):
        yield f"{indent}…     {len(data) - len(shown)} bytes more"
