"""Breaches in what a source announces: R1 to R5."""

import struct
from functools import partial

from dissectors.message_ids import Main
from spiceproxy.protocol.migration.model import Severity
from tests.protocol.migration.playbook import (
    SERVER,
    Play,
    cancelled,
    destination,
    seamless,
    semi_seamless,
    switch_host,
)
from tests.protocol.migration.rules.breaches import S1, S2, Breach, plain, said

BEGIN, BEGIN_SEAMLESS = Main.MIGRATE_BEGIN, Main.MIGRATE_BEGIN_SEAMLESS
SWITCH_HOST = Main.MIGRATE_SWITCH_HOST
ACK, M = "MIGRATE_DST_SEAMLESS_ACK", "MAIN_"
WARNING, ERROR = Severity.WARNING, Severity.ERROR
_NAMES = {
    BEGIN: "MIGRATE_BEGIN",
    BEGIN_SEAMLESS: "MIGRATE_BEGIN_SEAMLESS",
    SWITCH_HOST: "MIGRATE_SWITCH_HOST",
}


def announced(kind: int, body: bytes) -> Play:
    """A migration with this body in BEGIN, BEGIN_SEAMLESS or SWITCH_HOST."""
    play = {BEGIN: semi_seamless, BEGIN_SEAMLESS: seamless, SWITCH_HOST: switch_host}[Main(kind)]()
    return play.changed(_NAMES[Main(kind)], hop=0, body=body)


def dst_info(
    kind: int,
    host: tuple[int, int],
    subject: tuple[int, int] = (0, 0),
    rest: bytes = b"",
    *,
    port: int = 5901,
) -> bytes:
    """A body with sizes and offsets as they are given."""
    fixed = struct.pack("<HHIIII", port, 0, *host, *subject)
    return fixed + (struct.pack("<I", 1) if kind == BEGIN_SEAMLESS else b"") + rest


BREACHES = [
    Breach("R1", "BEGIN before MAIN_INIT", lambda: seamless().without("INIT", hop=0), S1, "main:0", [f"{M}MIGRATE_BEGIN_SEAMLESS"]),
    Breach(
        "R1", "SWITCH_HOST before MAIN_INIT", lambda: switch_host().without("INIT", hop=0), S1, "main:0",
        [f"{M}MIGRATE_SWITCH_HOST"],
    ),
    Breach(
        "R1", "END of a destination that nobody has moved to",
        lambda: cancelled().inserted(ACK, hop=1, said=said(SERVER, Main.MIGRATE_END)),
        S2, "main:0", [f"{M}MIGRATE_END"], also=["R21"],
    ),
    Breach(
        "R1", "END as the first message of a session",
        lambda: plain().inserted("INIT", hop=0, before=True, said=said(SERVER, Main.MIGRATE_END, hop=0)),
        S1, "main:0", [f"{M}MIGRATE_END"], also=["R21"], alone=True,
    ),
    Breach(
        "R2", "BEGIN_SEAMLESS", lambda: seamless(client_caps=0b1110), S1, "main:0", [f"{M}MIGRATE_BEGIN_SEAMLESS"],
    ),
    Breach("R2", "BEGIN", lambda: semi_seamless(client_caps=0), S1, "main:0", [f"{M}MIGRATE_BEGIN"]),
    Breach("R3", "no tokens", lambda: seamless(client_caps=0b1011), S1, "main:0", [f"{M}MIGRATE_BEGIN_SEAMLESS"]),
    Breach("R3", "no seamless", lambda: seamless(client_caps=0b0111), S1, "main:0", [f"{M}MIGRATE_BEGIN_SEAMLESS"]),
    *(
        Breach(
            "R4", clause, partial(announced, kind, body), S1, "main:0", [f"{M}{_NAMES[kind]}"],
            severity=severity,
        )
        for clause, kind, body, severity in (
            ("host behind a gap", BEGIN_SEAMLESS, dst_info(BEGIN_SEAMLESS, (3, 25), rest=b"\0ab\0"), WARNING),
            ("host without NUL", BEGIN, dst_info(BEGIN, (2, 20), rest=b"ab"), WARNING),
            ("host that is empty", BEGIN, dst_info(BEGIN, (1, 20), rest=b"\0"), WARNING),
            ("subject that is not behind the host", BEGIN, dst_info(BEGIN, (3, 20), (3, 20), b"ab\0"), WARNING),
            ("subject without NUL", SWITCH_HOST, dst_info(SWITCH_HOST, (3, 20), (1, 23), b"ab\0c"), WARNING),
            ("subject without a place", BEGIN, dst_info(BEGIN, (3, 20), (1, 0), b"ab\0"), WARNING),
            ("subject without a size", BEGIN, dst_info(BEGIN, (3, 20), (0, 23), b"ab\0"), WARNING),
            ("bytes behind the last string", BEGIN, dst_info(BEGIN, (3, 20), rest=b"ab\0x"), WARNING),
            ("a short body", BEGIN_SEAMLESS, bytes(20), ERROR),
            ("host_data 0", SWITCH_HOST, dst_info(SWITCH_HOST, (3, 0), rest=b"ab\0"), ERROR),
            ("host_size 0", SWITCH_HOST, dst_info(SWITCH_HOST, (0, 20), rest=b"ab\0"), ERROR),
            ("host behind the end", BEGIN, dst_info(BEGIN, (9, 20), rest=b"ab\0"), ERROR),
            ("subject behind the end", BEGIN, dst_info(BEGIN, (3, 20), (9, 23), b"ab\0"), ERROR),
        )
    ),
    *(
        Breach(
            "R5", f"ports {port} and {sport}",
            partial(announced, kind, destination(kind, port=port, sport=sport)),
            S1, "main:0", [f"{M}{_NAMES[kind]}"], severity=severity,
        )
        for kind, port, sport, severity in (
            (BEGIN_SEAMLESS, 0, 0, ERROR),
            (BEGIN, 0xFFFF, 0xFFFF, ERROR),
            (SWITCH_HOST, 0, 0xFFFF, ERROR),
            (BEGIN_SEAMLESS, 0xFFFF, 5902, WARNING),
        )
    ),
]  # fmt: skip
