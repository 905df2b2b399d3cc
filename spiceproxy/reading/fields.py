"""One field's value as text: names for enums and flags, bytes in hex, text in quotes."""

from enum import IntEnum, IntFlag
from functools import lru_cache
from typing import Any, Final

from spiceproxy.reading.style import printable

SHORT_BYTES: Final = 16


@lru_cache(maxsize=1024, typed=True)  # MouseMode.SERVER == SurfaceFlags.PRIMARY, both being 1
def flag_names(value: IntFlag) -> str:
    """The names of the bits, "0" for none."""
    return "|".join(flag.name or str(int(flag)) for flag in value) if value else "0"


def short(value: Any) -> str:
    """For a line: no more than a few words."""
    if type(value) is int:
        return str(value)
    if isinstance(value, IntFlag):
        return flag_names(value)
    if isinstance(value, IntEnum):
        return str(value.name)
    if isinstance(value, str):
        return quoted(value if len(value) <= 60 else value[:59] + "…")
    if isinstance(value, bytes):
        return value.hex() if 0 < len(value) <= SHORT_BYTES else f"{len(value)} bytes"
    if isinstance(value, dict):
        return " ".join(f"{key} {short(item)}" for key, item in value.items())
    if isinstance(value, list):
        if len(value) <= 4 and all(isinstance(item, int) for item in value):
            return ",".join(map(short, value)) or "none"
        return f"{len(value)} of them"
    return str(value)


def full(value: Any) -> str:
    """For the field tree: the number beside the name."""
    if isinstance(value, IntFlag):
        return f"{flag_names(value)} (0x{int(value):x})" if value else "0"
    if isinstance(value, IntEnum):
        return f"{value.name} ({int(value)})"
    if isinstance(value, str):
        return quoted(value)
    return "none" if value is None else str(value)


def quoted(text: str) -> str:
    """In quotes, on one line, without what a terminal would obey."""
    return '"' + printable(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'
