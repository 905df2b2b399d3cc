"""Where a migration leads: DstInfo, the core of MIGRATE_BEGIN, MIGRATE_BEGIN_SEAMLESS and MIGRATE_SWITCH_HOST.

Two strings hang on offset pointers that count from the start of the body. spice-server writes them right after the
fixed part, the host first ("canonical" here); the parsers of both ends take them anywhere, overlapping too. Source:
spice-common spice.proto, DstInfo; spice-server main-channel-client.cpp, main_channel_fill_migrate_dst_info.

    0  u16 port                plain port; 0 = none, and QEMU's -1 arrives as 65535
    2  u16 sport               TLS port, likewise
    4  u32 host_size           bytes, its NUL included
    8  u32 host_data           offset
    12 u32 cert_subject_size   bytes, its NUL included; 0 = none
    16 u32 cert_subject_data   offset; 0 = none
    20 u32 src_mig_version     BEGIN_SEAMLESS only
"""

# ruff: noqa: ARG002, SLF001 - construct is extended by overriding _parse and _build and calling those of others

import io
from collections.abc import Mapping
from typing import Any, Final

from construct import Construct, ValidationError

from dissectors.errors import DissectionError
from dissectors.fields import U16, U32, Record, pointed, read, whole, write

_DST_INFO: Final = (
    "port" / U16,
    "sport" / U16,
    "host_size" / U32,
    "host_data" / U32,
    "cert_subject_size" / U32,
    "cert_subject_data" / U32,
)
_NUMBERS: Final = ("host_size", "host_data", "cert_subject_size", "cert_subject_data")


def _text(raw: bytes | None) -> str | None:
    """Read a C string; what is not UTF-8 shows as hexadecimal escapes, so that the text can be printed anywhere."""
    return None if raw is None else raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _c_string(text: str) -> bytes:
    try:
        return text.encode() + b"\0"
    except UnicodeEncodeError as error:
        raise DissectionError(f"{text!r} cannot be written as UTF-8") from error


class Destination(Construct):
    """DstInfo with its strings resolved.

    Parses to the fixed fields, numbers as they are on the wire, and
        host: text up to the NUL; None for a null pointer.
        cert_subject: likewise.
        tail: all bytes after the fixed part, only there if they are not what would be built from the two strings.

    Builds from `host` and `cert_subject`: sizes and offsets that are left out are computed. What is given must fit
    (a size of 10 with a longer host is an error). For a layout of your own, right or wrong on purpose, give
    `tail` and all four numbers, and leave out the strings.

    Args:
        more: Fields that follow the common ones.
        null_host: Whether a null `host_data` is taken. The parser of SWITCH_HOST does; spice-gtk then crashes.
    """

    def __init__(self, *more: Any, null_host: bool) -> None:
        super().__init__()
        self.fixed = Record(*_DST_INFO, *more)
        self.fixed_bytes: int = self.fixed.sizeof()
        self._null_host = null_host

    def strings(self, body: bytes, fields: Mapping[str, Any], path: str) -> tuple[bytes | None, bytes | None]:
        """Return the bytes that the two pointers name."""
        host = pointed(body, fields["host_data"], fields["host_size"], "host_data", path)
        subject = pointed(
            body, fields["cert_subject_data"], fields["cert_subject_size"], "cert_subject_data", path
        )
        return host, subject

    def _layout(self, host: str | None, cert_subject: str | None) -> tuple[dict[str, int], bytes]:
        """Lay the strings out as spice-server does."""
        numbers, tail = dict.fromkeys(_NUMBERS, 0), b""
        for name, value in (("host", host), ("cert_subject", cert_subject)):
            if value is not None:
                raw = _c_string(value)
                numbers[f"{name}_size"], numbers[f"{name}_data"] = len(raw), self.fixed_bytes + len(tail)
                tail += raw
        return numbers, tail

    def _parse(self, stream: io.BytesIO, context: Any, path: str) -> dict[str, Any]:
        fields: dict[str, Any] = self.fixed._parsereport(stream, context, path)
        if not fields["host_data"] and not self._null_host:
            raise ValidationError("host_data is a null pointer", path=path)
        body = whole(stream)
        host, cert_subject = map(_text, self.strings(body, fields, path))
        numbers, tail = self._layout(host, cert_subject)
        end = self.fixed_bytes + len(tail)
        fields |= {"host": host, "cert_subject": cert_subject}
        if body[self.fixed_bytes : end] != tail or any(fields[name] != numbers[name] for name in _NUMBERS):
            fields["tail"], end = body[self.fixed_bytes :], len(body)
        stream.seek(end)
        return fields

    def _build(self, obj: Any, stream: io.BytesIO, context: Any, path: str) -> Any:
        if not isinstance(obj, Mapping):
            raise ValidationError(f"wants a mapping of its fields, not {type(obj).__name__}", path=path)
        fixed = {name: value for name, value in obj.items() if name not in {"host", "cert_subject", "tail"}}
        tail = obj.get("tail")
        if tail is None:
            if obj.get("host") is None and not self._null_host:
                raise ValidationError("wants a value for host", path=path)
            numbers, tail = self._layout(obj.get("host"), obj.get("cert_subject"))
            fixed = numbers | {name: value for name, value in fixed.items() if value is not None}
        body = write(self.fixed, fixed) + bytes(memoryview(tail))
        names = [name for name in ("host", "cert_subject") if name in obj]
        for name in names:
            raw = pointed(body, fixed[f"{name}_data"], fixed[f"{name}_size"], f"{name}_data", path)
            if _text(raw) != obj[name]:
                raise ValidationError(
                    f"{name} is {obj[name]!r}, but size, offset and tail give {_text(raw)!r}; leave out the one or "
                    "the others",
                    path=path,
                )
        stream.write(body)
        return obj


DstInfo: Final = Destination(null_host=False)
DstInfoSeamless: Final = Destination("src_mig_version" / U32, null_host=False)
SwitchHost: Final = Destination(null_host=True)

DESTINATIONS: Final[dict[int, Destination]] = {101: DstInfo, 111: SwitchHost, 116: DstInfoSeamless}
"""The messages from the server, by id, that name a destination."""


def rewrite_destination(
    message_id: int,
    body: bytes,
    *,
    host: str,
    port: int | None,
    sport: int | None,
    allow_shift: bool = True,
) -> bytes:
    """Put another host and other ports into a message that names a destination; nothing else changes its meaning.

    In the layout that spice-server writes, the new host takes the old one's place, and what follows moves. In any
    other layout, or without `allow_shift`, the new host is appended and nothing moves.

    Args:
        message_id: MIGRATE_BEGIN (101), MIGRATE_SWITCH_HOST (111) or MIGRATE_BEGIN_SEAMLESS (116).
        body: The message without its header.
        host: Name or address, without a NUL.
        port: Plain port, 0 for none; None leaves what is there.
        sport: TLS port, 0 for none; None leaves what is there.
        allow_shift: Whether bytes after the old host may move.

    Raises:
        DissectionError: Not such a message, its host cannot be resolved, or the new values do not fit.
    """
    schema = DESTINATIONS.get(message_id)
    if schema is None:
        raise DissectionError(f"message {message_id} names no destination")
    if not host or "\0" in host:
        raise DissectionError(f"{host!r} cannot be a host")
    body = bytes(body)
    fields, _ = read(schema, body)
    if fields["host"] is None:
        raise DissectionError("host_data is a null pointer")
    fixed = {subcon.name: fields[subcon.name] for subcon in schema.fixed.subcons}
    rest = body[schema.fixed_bytes :]
    raw_host = _c_string(host)
    host_end = fixed["host_data"] + fixed["host_size"]
    subject_at = fixed["cert_subject_data"]
    if allow_shift and fixed["host_data"] == schema.fixed_bytes and subject_at in {0, host_end}:
        rest = raw_host + body[host_end:]
        if subject_at:
            fixed["cert_subject_data"] += len(raw_host) - fixed["host_size"]
    else:
        if 0 < subject_at < schema.fixed_bytes:
            # It lies on numbers that change now: keep a copy of what it was.
            rest += body[subject_at : subject_at + fixed["cert_subject_size"]]
            fixed["cert_subject_data"] = len(body)
        fixed["host_data"] = schema.fixed_bytes + len(rest)
        rest += raw_host
    fixed["host_size"] = len(raw_host)
    fixed |= {name: value for name, value in (("port", port), ("sport", sport)) if value is not None}
    return write(schema.fixed, fixed) + rest
