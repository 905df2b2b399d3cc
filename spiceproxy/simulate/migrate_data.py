"""MIGRATE_DATA payloads: what a source writes and a destination reads, checked to the byte.

Layouts: spice-server migration-protocol.h. A pointer is an offset from the first byte of the payload; blocks follow the
fixed part in the order of their pointers, and the pointer of an empty block is 0. spice-server's readers trust all of
it; these do not. Errors name the rule: R33 (magic, version), R34 (length, pointers, values), R47 (tokens).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from dissectors import migrate_data as states
from dissectors.errors import DissectionError
from dissectors.fields import Record, read, write
from dissectors.migrate_data import MAX_SURFACES, VERSION
from dissectors.vd_agent import CHUNK_HEADER, CHUNK_HEADER_SIZE, HEADER_SIZE
from dissectors.vd_agent_names import ChunkPort

AGENT_TOKENS: Final = 10  # REDS_AGENT_WINDOW_SIZE
NO_FLOW_CONTROL: Final = 0xFFFFFFFF

Rule = Literal["R33", "R34", "R47"]
_HEADER_BYTES: Final = 8  # magic, version
_MAX_FILTER_RESULT: Final = max(states.AgentFilterResult)


class PayloadError(ValueError):
    """A payload that no honest source writes; `rule` names what it breaks."""

    def __init__(self, rule: Rule, detail: str) -> None:
        super().__init__(detail)
        self.rule, self.detail = rule, detail


@dataclass(frozen=True, slots=True)
class DeviceData:
    """A character device: the guest's agent on main, or a spicevmc port.

    Attributes:
        connected: Whether the device was attached on the source.
        client_tokens: Messages the client may still send; 0xFFFFFFFF without flow control.
        unread: Bytes that the device has not taken yet.
        unread_tokens: Client messages contained in them.
    """

    connected: bool = True
    client_tokens: int = NO_FLOW_CONTROL
    unread: bytes = b""
    unread_tokens: int = 0


@dataclass(frozen=True, slots=True)
class MainData:
    """MNMD: the agent's state. Without an agent everything is zero."""

    agent: DeviceData = field(default_factory=lambda: DeviceData(connected=False, client_tokens=0))
    agent_started: bool = False


@dataclass(frozen=True, slots=True)
class DisplayData:
    """DCMD: caches and surfaces of one display channel."""

    message_serial: int
    surfaces: tuple[int, ...]
    low_bandwidth: bool = False
    pixmap_cache_id: int = 1
    pixmap_cache_pixels: int = 20971520
    freezer: bool = True
    cache_clients: tuple[int, int, int, int] = (0, 0, 0, 0)
    glz_id: int = 1
    glz_pixels: int = 6290432
    glz_encoders: int = 4
    last_image_id: int = 0


@dataclass(frozen=True, slots=True)
class InputsData:
    """ICMD: motions not yet acknowledged."""

    motion_count: int


def build_main(data: MainData) -> bytes:
    """Write MNMD."""
    return write(
        states.MainState,
        {
            "magic": b"MNMD",
            "version": VERSION,
            "char_device": _device_fields(data.agent),
            "client_agent_started": int(data.agent.connected and data.agent_started),
            "chunk_header_size": 0,
            "chunk_header": {"port": 0, "size": 0},
            "msg_header_done": 0,
            "a2c_msg_remaining": 0,
            "a2c_msg_filter_result": states.AgentFilterResult.OK,
            "c2a_msg_remaining": 0,
            "c2a_msg_filter_result": states.AgentFilterResult.OK,
        },
    )


def parse_main(body: bytes) -> MainData:
    """Read MNMD strictly.

    Raises:
        PayloadError: What is wrong with it.
    """
    fields = _fields(states.MainState, body, b"MNMD")
    agent = _device(fields["char_device"])
    header_bytes, partial_bytes = fields["chunk_header_size"], fields["msg_header_partial_len"]
    if header_bytes > CHUNK_HEADER_SIZE or partial_bytes >= HEADER_SIZE:
        raise PayloadError(
            "R34", f"{header_bytes} bytes of a chunk header, {partial_bytes} of an agent header"
        )
    if partial_bytes and not fields["msg_header_done"] and header_bytes < CHUNK_HEADER_SIZE:
        raise PayloadError("R34", "part of an agent header before its chunk header is complete")
    to_client, to_agent = fields["a2c_msg_filter_result"], fields["c2a_msg_filter_result"]
    if max(to_client, to_agent) > _MAX_FILTER_RESULT:
        raise PayloadError("R34", f"filter results {to_client:d} and {to_agent:d}, 3 being the largest")
    if not agent.connected and any(body[_HEADER_BYTES + 5 :]):
        raise PayloadError("R34", "state of an agent that is not there")
    _check_block(fields, "msg_header_ptr", partial_bytes)
    if agent.connected and agent.client_tokens + agent.unread_tokens > AGENT_TOKENS:
        raise PayloadError(
            "R47", f"{agent.client_tokens} tokens with the client and {agent.unread_tokens} unread"
        )
    return MainData(agent, bool(fields["client_agent_started"]))


def build_display(data: DisplayData) -> bytes:
    """Write DCMD with its surface block, lossless form."""
    return write(
        states.DisplayState,
        {
            "magic": b"DCMD",
            "version": VERSION,
            "message_serial": data.message_serial,
            "low_bandwidth_setting": int(data.low_bandwidth),
            "pixmap_cache_id": data.pixmap_cache_id,
            "pixmap_cache_size": data.pixmap_cache_pixels,
            "pixmap_cache_freezer": int(data.freezer),
            "pixmap_cache_clients": list(data.cache_clients),
            "glz_dict_id": data.glz_id,
            "glz_dict": {
                "size": data.glz_pixels,
                "max_encoders": data.glz_encoders,
                "last_image_id": data.last_image_id,
            },
            "surfaces_at_client_ptr": {"surfaces": [{"id": surface} for surface in data.surfaces]},
        },
    )


def parse_display(body: bytes) -> DisplayData:
    """Read DCMD strictly; surfaces may be in the lossless (4 bytes) or the lossy (20 bytes) form.

    Raises:
        PayloadError: What is wrong with it.
    """
    fields = _fields(states.DisplayState, body, b"DCMD")
    least = states.DisplayState.sizeof()
    if fields["surfaces_at_client_ptr"] is None or fields.get("surfaces_at_client_ptr_offset", least) < least:
        raise PayloadError("R34", "the surface block does not lie behind the fixed part")
    surfaces = tuple(surface["id"] for surface in fields["surfaces_at_client_ptr"]["surfaces"])
    if len(set(surfaces)) != len(surfaces) or any(surface >= MAX_SURFACES for surface in surfaces):
        raise PayloadError("R34", f"surface ids twice or out of range: {surfaces[:8]}")
    clients = fields["pixmap_cache_clients"]
    return DisplayData(
        fields["message_serial"],
        surfaces,
        bool(fields["low_bandwidth_setting"]),
        fields["pixmap_cache_id"],
        fields["pixmap_cache_size"],
        bool(fields["pixmap_cache_freezer"]),
        (clients[0], clients[1], clients[2], clients[3]),
        fields["glz_dict_id"],
        fields["glz_dict"]["size"],
        fields["glz_dict"]["max_encoders"],
        fields["glz_dict"]["last_image_id"],
    )


def build_inputs(data: InputsData) -> bytes:
    """Write ICMD."""
    return write(
        states.InputsState, {"magic": b"ICMD", "version": VERSION, "motion_count": data.motion_count}
    )


def parse_inputs(body: bytes) -> InputsData:
    """Read ICMD strictly.

    Raises:
        PayloadError: What is wrong with it.
    """
    return InputsData(_fields(states.InputsState, body, b"ICMD", ends=False)["motion_count"])


def build_device(data: DeviceData) -> bytes:
    """Write SVMD: usbredir, port and webdav."""
    return write(
        states.SpicevmcState, {"magic": b"SVMD", "version": VERSION, "char_device": _device_fields(data)}
    )


def parse_device(body: bytes) -> DeviceData:
    """Read SVMD strictly.

    Raises:
        PayloadError: What is wrong with it.
    """
    device = _device(_fields(states.SpicevmcState, body, b"SVMD")["char_device"])
    if not device.connected:
        raise PayloadError("R34", "a device that is not connected has no data to migrate")
    if device.client_tokens != NO_FLOW_CONTROL:
        raise PayloadError("R34", f"{device.client_tokens} tokens on a channel without flow control")
    return device


def agent_chunk(data: bytes) -> bytes:
    """Agent bytes as they wait for the guest: behind a VDIChunkHeader of the client's port."""
    return CHUNK_HEADER.build({"port": ChunkPort.CLIENT, "size": len(data)}) + data


def _device_fields(device: DeviceData) -> dict[str, Any]:
    """CharDevice; without a device everything but the version is zero."""
    if not device.connected:
        device = DeviceData(connected=False, client_tokens=0)
    return {
        "version": VERSION,
        "connected": int(device.connected),
        "num_client_tokens": device.client_tokens,
        "num_send_tokens": NO_FLOW_CONTROL if device.connected else 0,
        "write_num_client_tokens": device.unread_tokens,
        "write_data_ptr": device.unread or None,
    }


def _device(fields: Mapping[str, Any]) -> DeviceData:
    if fields["version"] > VERSION:
        raise PayloadError("R33", f"character device version {fields['version']}")
    if fields["connected"] > 1:
        raise PayloadError("R34", f"connected is {fields['connected']}")
    _check_block(fields, "write_data_ptr", fields["write_size"])
    return DeviceData(
        bool(fields["connected"]),
        fields["num_client_tokens"],
        fields["write_data_ptr"] or b"",
        fields["write_num_client_tokens"],
    )


def _fields(state: Record, body: bytes, magic: bytes, *, ends: bool = True) -> dict[str, Any]:
    """Take a payload apart; its blocks are looked at later.

    Args:
        state: Its layout.
        body: All of it.
        magic: Four letters it begins with.
        ends: Whether nothing may follow the last block.
    """
    if len(body) < _HEADER_BYTES:
        raise PayloadError("R34", f"{len(body)} bytes are too short for any payload")
    version = int.from_bytes(body[4:_HEADER_BYTES], "little")
    if body[:4] != magic:
        raise PayloadError("R33", f"magic {body[:4]!r} where {magic!r} belongs")
    if version > VERSION:
        raise PayloadError("R33", f"version {version}")
    try:
        fields, end = read(state, body)
    except DissectionError as error:
        raise PayloadError("R34", str(error)) from error
    if ends and end != len(body):
        raise PayloadError("R34", f"{len(body)} bytes, but the last block ends at {end}")
    return dict(fields)


def _check_block(fields: Mapping[str, Any], pointer: str, size: int) -> None:
    """A block lies where the one before it ends; one without bytes has no pointer."""
    if (fields[pointer] is None) != (size == 0) or f"{pointer}_offset" in fields:
        place = fields.get(f"{pointer}_offset", "its place")
        raise PayloadError("R34", f"{pointer}: a block of {size} bytes at {place}")
