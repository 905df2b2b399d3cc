"""Where a migration leads: DstInfo, the core of MIGRATE_BEGIN, MIGRATE_BEGIN_SEAMLESS and MIGRATE_SWITCH_HOST.

Two strings hang on offset pointers that count from the start of the body. spice-server writes them right after the
fixed part, the host first; the parsers of both ends take them anywhere, overlapping too. Source: spice-common
spice.proto, DstInfo; spice-server main-channel-client.cpp, main_channel_fill_migrate_dst_info.
"""

from collections.abc import Mapping
from typing import Any, Final

from construct import Renamed

from dissectors.errors import DissectionError
from dissectors.fields import U16, U32, Count, CountedText, Pointer, Record, read, write


def _members(*, null_host: bool) -> tuple[Renamed, ...]:
    return (
        "port" / U16 * "plain TCP port; 0 = none, and QEMU's -1 arrives as 65535",
        "sport" / U16 * "TLS port; 0 and 65535 = none",
        "host_size" / Count(U32, "host_data") * "bytes, the NUL included",
        "host_data" / Pointer(CountedText("host_size"), null=null_host) * "name or address",
        "cert_subject_size" / Count(U32, "cert_subject_data") * "bytes, the NUL included",
        "cert_subject_data"
        / Pointer(CountedText("cert_subject_size"))
        * "subject that the certificate has to have, as KEY=value,KEY=value; none: the host's name",
    )


DstInfo: Final = Record(*_members(null_host=False))
MigrateBegin: Final = Record("dst_info" / DstInfo)
MigrateBeginSeamless: Final = Record(
    "dst_info" / DstInfo, "src_mig_version" / U32 * "of what MIGRATE_DATA holds: 1"
)
# The parser of SWITCH_HOST takes a null pointer as its host; spice-gtk then crashes.
SwitchHost: Final = Record(*_members(null_host=True))

DESTINATIONS: Final[dict[int, Record]] = {101: MigrateBegin, 111: SwitchHost, 116: MigrateBeginSeamless}
"""The messages from the server, by id, that name a destination."""

# The fixed part of all three, offsets as the numbers they are; src_mig_version may follow.
_Numbers: Final = Record(
    "port" / U16,
    "sport" / U16,
    "host_size" / U32,
    "host_data" / U32,
    "cert_subject_size" / U32,
    "cert_subject_data" / U32,
)
_NUMBERS_BYTES: Final[int] = _Numbers.sizeof()


def host_name(host_data: str | bytes | None) -> str | None:
    """Read `host_data` as a client does: up to the NUL.

    Args:
        host_data: The field as it was dissected. It is bytes where a NUL is missing or there are others, or where it is
            not UTF-8: that shows as hexadecimal escapes, so that the name can be printed anywhere.
    """
    if isinstance(host_data, bytes):
        return host_data.partition(b"\0")[0].decode("utf-8", "backslashreplace")
    return host_data


def is_usual_layout(dst_info: Mapping[str, Any]) -> bool:
    """Tell whether the strings lie as spice-server writes them: each ends in its one NUL, and nothing is between.

    Args:
        dst_info: DstInfo, or SWITCH_HOST, as it was dissected.
    """
    return not any(
        f"{name}_offset" in dst_info
        or isinstance(dst_info[name], bytes)
        or (dst_info[name] is None and dst_info[size])
        for name, size in (("host_data", "host_size"), ("cert_subject_data", "cert_subject_size"))
    )


def rewrite_destination(
    message_id: int,
    body: bytes,
    *,
    host: str,
    port: int | None,
    sport: int | None,
    cert_subject: str | None = None,
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
        cert_subject: Subject, without a NUL; None leaves what is there. It is appended, and what was there stays unused.
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
    read(schema, body)  # every string has to lie inside the body
    numbers: dict[str, Any] = read(_Numbers, body)[0]
    if not numbers["host_data"]:
        raise DissectionError("host_data is a null pointer")
    fixed_bytes: int = schema.sizeof()
    rest = body[fixed_bytes:]
    raw_host = _c_string(host)
    host_end = numbers["host_data"] + numbers["host_size"]
    subject_at = numbers["cert_subject_data"]
    if allow_shift and numbers["host_data"] == fixed_bytes and subject_at in {0, host_end}:
        rest = raw_host + body[host_end:]
        if subject_at:
            numbers["cert_subject_data"] += len(raw_host) - numbers["host_size"]
    else:
        if 0 < subject_at < fixed_bytes:
            # It lies on numbers that change now: keep a copy of what it was.
            rest += body[subject_at : subject_at + numbers["cert_subject_size"]]
            numbers["cert_subject_data"] = len(body)
        numbers["host_data"] = fixed_bytes + len(rest)
        rest += raw_host
    numbers["host_size"] = len(raw_host)
    if cert_subject is not None:
        numbers["cert_subject_data"] = fixed_bytes + len(rest)
        rest += (raw_subject := _c_string(cert_subject))
        numbers["cert_subject_size"] = len(raw_subject)
    numbers |= {name: value for name, value in (("port", port), ("sport", sport)) if value is not None}
    return write(_Numbers, numbers) + body[_NUMBERS_BYTES:fixed_bytes] + rest


def _c_string(text: str) -> bytes:
    try:
        return text.encode() + b"\0"
    except UnicodeEncodeError as error:
        raise DissectionError(f"{text!r} cannot be written as UTF-8") from error
