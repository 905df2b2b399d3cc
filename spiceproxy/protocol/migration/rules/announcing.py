"""What a source may announce, and to whom: R1 to R6.

Sources: spice.proto, MigrateDstInfo; spice-server main-channel-client.cpp; spice-gtk channel-main.c,
main_handle_migrate_begin() and main_handle_migrate_switch_host(), for what a client makes of a destination.
"""

import struct
from typing import Final, NamedTuple

from dissectors.capabilities import MainCap
from dissectors.message_ids import Main
from dissectors.side import Side
from spiceproxy.protocol.interest import DESTINATION_MESSAGES
from spiceproxy.protocol.migration.connections import Step
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import Party, Severity
from spiceproxy.protocol.migration.rules.case import Check
from spiceproxy.protocol.migration.wording import plain_name

WORDS: Final = frozenset({*map(int, DESTINATION_MESSAGES), int(Main.MIGRATE_CANCEL), int(Main.MIGRATE_END)})
VERSION: Final = 1
_FIXED: Final = struct.Struct("<HHIIII")  # port, sport; size and offset of host and of subject
_NO_PORT: Final = frozenset({0, 0xFFFF})


class Announcing(Check):
    """Looks at what the source says on main about a destination."""

    rules = ("R1", "R2", "R3", "R4", "R5", "R6")

    def before(self, step: Step, said: Said) -> None:
        """Judge a message by itself, and by what the client's link message announced."""
        connection = step.connection
        if step.arriving or not connection.is_main or said.side is not Side.SERVER or said.id not in WORDS:
            return
        evidence = connection.evidence(said)
        name = plain_name(evidence.name)
        if not self.case.past.settled(connection):
            text = f"{name} before MAIN_INIT, on a main channel that has not arrived in a migration"
            self.case.report("R1", Party.SOURCE, text, evidence)
        if said.id not in DESTINATION_MESSAGES:
            return
        caps = connection.client_caps
        if said.id != Main.MIGRATE_SWITCH_HOST and not caps.has_main(MainCap.SEMI_SEAMLESS_MIGRATE):
            text = f"{name} to a client without SEMI_SEAMLESS_MIGRATE"
            self.case.report("R2", Party.SOURCE, text, evidence)
        if said.id == Main.MIGRATE_BEGIN_SEAMLESS:
            needed = (MainCap.AGENT_CONNECTED_TOKENS, MainCap.SEAMLESS_MIGRATE)
            if lacking := [bit.name for bit in needed if not caps.has_main(bit)]:
                text = f"{name} to a client without {' and '.join(lacking)}"
                self.case.report("R3", Party.SOURCE, text, evidence)
        if said.body is None:
            return
        layout = look_at(said.id, bytes(said.body))
        if layout.wrong or layout.odd:
            text = f"{name}: {'; '.join((*layout.wrong, *layout.odd))}"
            severity = Severity.ERROR if layout.wrong else None
            self.case.report("R4", Party.SOURCE, text, evidence, severity=severity)
        if layout.ports is not None:
            port, sport = layout.ports
            if port in _NO_PORT and sport in _NO_PORT:
                text = f"{name} names neither a plain port ({port}) nor a TLS port ({sport})"
                self.case.report("R5", Party.SOURCE, text, evidence)
            elif port == 0xFFFF:
                text = f"{name} has port 65535 beside TLS port {sport}: a client dials 65535 in clear first; 0 means none"
                self.case.report("R5", Party.SOURCE, text, evidence, severity=Severity.WARNING)
        if layout.version not in {None, VERSION}:
            text = f"{name} has src_mig_version {layout.version}"
            self.case.report("R6", Party.SOURCE, text, evidence)


class Layout(NamedTuple):
    """What is to be said of the body of a message that names a destination."""

    wrong: tuple[str, ...]  # what a client cannot read
    odd: tuple[str, ...]  # what a marshaller would not write
    ports: tuple[int, int] | None  # plain and TLS
    version: int | None  # of BEGIN_SEAMLESS


def look_at(message_id: int, body: bytes) -> Layout:
    """Hold a body against the layout that spice-server's marshaller gives it."""
    seamless = message_id == Main.MIGRATE_BEGIN_SEAMLESS
    start = _FIXED.size + (4 if seamless else 0)
    if len(body) < start:
        return Layout(
            (f"a body of {len(body)} bytes is shorter than its {start} fixed ones",), (), None, None
        )
    port, sport, *strings = _FIXED.unpack_from(body)
    host, subject = (strings[0], strings[1]), (strings[2], strings[3])
    wrong, odd, end = list[str](), list[str](), start
    if not host[1]:
        wrong.append("host_data is 0")
    elif not host[0]:
        wrong.append("host_size is 0")
    elif sum(host) > len(body):
        wrong.append(f"host of {host[0]} bytes at {host[1]} ends behind the body of {len(body)}")
    else:
        odd += _string("host", host, start, body)
        if host[0] == 1:
            odd.append("host is empty")
        end = max(end, sum(host))
    if bool(subject[0]) != bool(subject[1]):
        odd.append(f"subject of {subject[0]} bytes at {subject[1]}")
    if subject[0] and subject[1]:
        if sum(subject) > len(body):
            wrong.append(f"subject of {subject[0]} bytes at {subject[1]} ends behind the body of {len(body)}")
        else:
            odd += _string("subject", subject, sum(host), body)
            end = max(end, sum(subject))
    if not wrong and end != len(body):
        odd.append(f"{len(body) - end} bytes behind the last string")
    version = int.from_bytes(body[_FIXED.size : start], "little") if seamless else None
    return Layout(tuple(wrong), tuple(odd), (port, sport), version)


def _string(name: str, where: tuple[int, int], expected: int, body: bytes) -> list[str]:
    """What is odd about a string, its size and its offset, that lies in the body."""
    size, at = where
    found = []
    if at != expected:
        found.append(f"{name} at {at}, not at {expected}")
    if body[at + size - 1]:
        found.append(f"{name} without a final NUL")
    return found
