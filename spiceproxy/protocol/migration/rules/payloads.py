"""What the source puts into MIGRATE_DATA: R33 to R35, R47, and the surfaces of R46.

Sources: spice-server migration-protocol.h; char-device.cpp, RedCharDevice::restore(); reds.cpp, reds_handle_migrate_data();
spicevmc.cpp, red_vmc_instance; dcc-send.cpp, display_channel_marshall_migrate_data(). Readers check next to nothing: what is wrong
here makes the destination abort, or puts garbage into its guest.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from dissectors.channels import ChannelType
from dissectors.errors import DissectionError
from dissectors.message_ids import Msg
from dissectors.migrate_data import MAX_SURFACES, VERSION
from dissectors.registry import dissect
from dissectors.side import Side
from spiceproxy.protocol.migration.connections import ConnectionState, Step
from spiceproxy.protocol.migration.facts import Said
from spiceproxy.protocol.migration.model import Party, Severity
from spiceproxy.protocol.migration.rules.case import Check

AGENT_TOKENS: Final = 10
"""REDS_AGENT_WINDOW_SIZE of spice-server: what a client may send to the agent ahead."""
NO_LIMIT: Final = 0xFFFFFFFF
"""Tokens of a device without flow control."""

Fields = Mapping[str, Any]


class _Kind(NamedTuple):
    magic: bytes
    least: int  # bytes of body
    device: bool = False  # a char device's part follows the header


_KINDS: Final[dict[int, _Kind]] = {
    ChannelType.MAIN: _Kind(b"MNMD", 65, device=True),
    ChannelType.DISPLAY: _Kind(b"DCMD", 84),
    ChannelType.INPUTS: _Kind(b"ICMD", 10),
    ChannelType.SMARTCARD: _Kind(b"SCMD", 42, device=True),
    ChannelType.USBREDIR: _Kind(b"SVMD", 33, device=True),
    ChannelType.PORT: _Kind(b"SVMD", 33, device=True),
    ChannelType.WEBDAV: _Kind(b"SVMD", 33, device=True),
}


class _Found(NamedTuple):
    rule: str
    text: str
    severity: Severity | None = None


class Payloads(Check):
    """Looks into MIGRATE_DATA of the source."""

    rules = ("R33", "R34", "R35", "R46", "R47")

    def before(self, step: Step, said: Said) -> None:
        """Judge a state."""
        if step.arriving or said.side is not Side.SERVER or said.id != Msg.MIGRATE_DATA:
            return
        kind, body = _KINDS.get(step.connection.channel_type or 0), said.body
        if kind is None or body is None or len(body) != said.size or step.channel is None:
            return
        evidence = step.connection.evidence(said)
        for rule, text, severity in self._look(step.connection, kind, said, body):
            self.case.report(rule, Party.SOURCE, text, evidence, severity=severity)

    def _look(self, connection: ConnectionState, kind: _Kind, said: Said, body: bytes) -> Iterator[_Found]:
        if len(body) < kind.least:
            yield _Found(
                "R34",
                f"MIGRATE_DATA has {len(body)} bytes; {kind.least} is the least of {kind.magic.decode()}",
            )
            return
        if body[:4] != kind.magic:
            magic = body[:4].decode("ascii", "backslashreplace")
            yield _Found("R33", f"MIGRATE_DATA begins with {magic!r}, not {kind.magic.decode()!r}")
            return
        yield from _versions(kind, body)
        try:
            found = dissect(connection.channel_type or 0, Side.SERVER, said.id, body)
        except DissectionError as error:
            yield _Found("R34", f"MIGRATE_DATA cannot be read: {error}")
            return
        if found.trailing or _loose(found.fields):
            text = "blocks of MIGRATE_DATA do not lie one behind the other up to its end"
            yield _Found("R34", text, Severity.WARNING)
        judge = _JUDGES.get(connection.channel_type or 0)
        if judge is not None:
            yield from judge(found.fields)
        if connection.channel_type == ChannelType.DISPLAY:
            yield from self._display(connection, found.fields, said)

    def _display(self, connection: ConnectionState, fields: Fields, said: Said) -> Iterator[_Found]:
        serial = self._serial(connection, said)
        if serial is not None and fields["message_serial"] != serial:
            text = f"message_serial is {fields['message_serial']}, and the message that carries it is number {serial}"
            yield _Found("R35", text)
        ids = [each["id"] for each in fields["surfaces_at_client_ptr"]["surfaces"]]
        twice = sorted({each for each in ids if ids.count(each) > 1})
        if twice:
            yield _Found("R46", f"surface {twice[0]} is named twice: the destination aborts")
        too_high = [each for each in ids if each >= MAX_SURFACES]
        if too_high:
            yield _Found("R46", f"surface {too_high[0]} is beyond the {MAX_SURFACES} that a server has")
        known = self.case.past.surfaces.known(connection)
        unknown = [] if known is None else [each for each in ids if each not in known and each < MAX_SURFACES]
        if unknown:
            yield _Found("R46", f"surface {unknown[0]} is named, which the client does not have")
        left_out = sorted(known.difference(ids)) if known is not None else []
        if left_out:
            text = f"surface {left_out[0]} is not named, which the client has: the destination would make it once more"
            yield _Found("R46", text, Severity.WARNING)

    def _serial(self, connection: ConnectionState, said: Said) -> int | None:
        """The number of a message, as its server counts; None if that is not known."""
        if connection.linked is None or not connection.linked.mini_header:
            return said.serial
        if connection.midway:
            return None
        if connection.hop == 0 or not connection.connection_id:
            return said.serial
        # A server that took a display over goes on with the source's count, which mini headers do not show.
        taken_over = self.case.past.taken_over.get(connection.id)
        return None if taken_over is None else taken_over + said.serial - 1


def _loose(fields: Fields) -> bool:
    """Whether a layout is another than that of the marshaller."""
    return any(
        key == "gaps" or key.endswith("_offset") or (isinstance(value, Mapping) and _loose(value))
        for key, value in fields.items()
    )


def _versions(kind: _Kind, body: bytes) -> Iterator[_Found]:
    places = [("MIGRATE_DATA", 4), *([("its device", 8)] if kind.device else [])]
    for what, at in places:
        version = int.from_bytes(body[at : at + 4], "little")
        if version != VERSION:
            refused = "a destination refuses" if version > VERSION else "a destination takes"
            severity = None if version > VERSION else Severity.WARNING
            yield _Found("R33", f"{what} has version {version}, which {refused}; it is {VERSION}", severity)


def _main(fields: Fields) -> Iterator[_Found]:
    device = fields["char_device"]
    tokens, written = device["num_client_tokens"], device["write_num_client_tokens"]
    if device["connected"] and tokens != NO_LIMIT and tokens + written > AGENT_TOKENS:
        text = f"{tokens} agent tokens of the client and {written} messages not yet written are more than {AGENT_TOKENS}"
        yield _Found("R47", text)
    if fields["chunk_header_size"] > 8:
        yield _Found(
            "R34", f"chunk_header_size is {fields['chunk_header_size']}; a chunk's header has 8 bytes"
        )
    if fields["msg_header_partial_len"] > 19:
        text = (
            f"msg_header_partial_len is {fields['msg_header_partial_len']}; a message's header has 20 bytes"
        )
        yield _Found("R34", text)
    if not fields["msg_header_done"] and fields["chunk_header_size"] < 8 and fields["msg_header_partial_len"]:
        yield _Found(
            "R34",
            "part of a message's header is there, though its chunk's header is not whole",
            Severity.WARNING,
        )
    if not device["connected"] and _remains(fields):
        yield _Found("R34", "there is no agent, and yet something of it is left", Severity.WARNING)
    for name in ("a2c_msg_filter_result", "c2a_msg_filter_result"):
        if fields[name] > 3:
            yield _Found("R34", f"{name} is {int(fields[name])}, which means nothing", Severity.WARNING)


def _remains(fields: Fields) -> bool:
    """Whether anything but magics and versions is there: without an agent all of that is 0."""
    return any(
        _remains(value) if isinstance(value, Mapping) else bool(value)
        for name, value in fields.items()
        if name not in {"magic", "version"}
    )


def _vmc(fields: Fields) -> Iterator[_Found]:
    device = fields["char_device"]
    if not device["connected"]:
        yield _Found("R34", "connected is 0: the destination aborts")
    for name in ("num_client_tokens", "num_send_tokens"):
        if device[name] != NO_LIMIT:
            text = f"{name} is {device[name]}, though such a device has no flow control"
            yield _Found("R34", text, Severity.WARNING)


_JUDGES: Final[dict[int, Callable[[Fields], Iterator[_Found]]]] = {
    ChannelType.MAIN: _main,
    ChannelType.USBREDIR: _vmc,
    ChannelType.PORT: _vmc,
    ChannelType.WEBDAV: _vmc,
}
