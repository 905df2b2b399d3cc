"""MIGRATE_DATA payloads: what a source writes and a destination reads, checked to the byte.

Layouts: spice-server migration-protocol.h. A pointer is an offset from the first byte of the payload; blocks follow the
fixed part in the order of their pointers, and the pointer of an empty block is 0. spice-server's readers trust all of
it; these do not. Errors name the rule: R33 (magic, version), R34 (length, pointers, values), R47 (tokens).
"""

import struct
from dataclasses import dataclass, field
from typing import Final, Literal

VERSION: Final = 1
MAX_SURFACES: Final = 1024  # slots that spice-server has for surfaces at a client
AGENT_TOKENS: Final = 10  # REDS_AGENT_WINDOW_SIZE
NO_FLOW_CONTROL: Final = 0xFFFFFFFF

Rule = Literal["R33", "R34", "R47"]
_HEADER: Final = struct.Struct("<4sI")  # magic, version
_DEVICE: Final = struct.Struct(
    "<IBIIIII"
)  # version, connected, client and send tokens, write size, its tokens, pointer
_MAIN: Final = struct.Struct("<BIIIBIIIBIB")
_DISPLAY: Final = struct.Struct("<QBBqB4QBIIQI")
_INPUTS: Final = struct.Struct("<H")
_CHUNK: Final = struct.Struct("<II")  # VDIChunkHeader: port, size

MAIN_BYTES: Final = _HEADER.size + _DEVICE.size + _MAIN.size  # 65
DISPLAY_BYTES: Final = _HEADER.size + _DISPLAY.size  # 80, the surface block follows
INPUTS_BYTES: Final = _HEADER.size + _INPUTS.size  # 10
DEVICE_BYTES: Final = _HEADER.size + _DEVICE.size  # 33


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
    agent = data.agent
    if not agent.connected:
        return _HEADER.pack(b"MNMD", VERSION) + _DEVICE.pack(VERSION, 0, 0, 0, 0, 0, 0) + bytes(_MAIN.size)
    device = _pack_device(agent, MAIN_BYTES)
    rest = _MAIN.pack(data.agent_started, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    return _HEADER.pack(b"MNMD", VERSION) + device + rest + agent.unread


def parse_main(body: bytes) -> MainData:
    """Read MNMD strictly.

    Raises:
        PayloadError: What is wrong with it.
    """
    _check_header(body, b"MNMD", MAIN_BYTES)
    agent, blocks = _unpack_device(body)
    (
        started, chunk_header_bytes, _port, _chunk_bytes, header_done, partial_bytes, partial_ptr, _left, to_client, _to_agent_left, to_agent,
    ) = _MAIN.unpack_from(body, _HEADER.size + _DEVICE.size)  # fmt: skip
    if chunk_header_bytes > _CHUNK.size or partial_bytes > 19:
        raise PayloadError(
            "R34", f"{chunk_header_bytes} bytes of a chunk header, {partial_bytes} of an agent header"
        )
    if partial_bytes and not header_done and chunk_header_bytes < _CHUNK.size:
        raise PayloadError("R34", "part of an agent header before its chunk header is complete")
    if to_client > 3 or to_agent > 3:
        raise PayloadError("R34", f"filter results {to_client} and {to_agent}, 3 being the largest")
    if not agent.connected and any(body[_HEADER.size + 5 :]):
        raise PayloadError("R34", "state of an agent that is not there")
    _check_blocks(body, MAIN_BYTES, [*blocks, (partial_ptr, partial_bytes)])
    if agent.connected and agent.client_tokens + agent.unread_tokens > AGENT_TOKENS:
        raise PayloadError(
            "R47", f"{agent.client_tokens} tokens with the client and {agent.unread_tokens} unread"
        )
    return MainData(agent, bool(started))


def build_display(data: DisplayData) -> bytes:
    """Write DCMD with its surface block, lossless form."""
    fixed = _DISPLAY.pack(
        data.message_serial, data.low_bandwidth, data.pixmap_cache_id, data.pixmap_cache_pixels, data.freezer,
        *data.cache_clients, data.glz_id, data.glz_pixels, data.glz_encoders, data.last_image_id, DISPLAY_BYTES,
    )  # fmt: skip
    surfaces = struct.pack(f"<{len(data.surfaces) + 1}I", len(data.surfaces), *data.surfaces)
    return _HEADER.pack(b"DCMD", VERSION) + fixed + surfaces


def parse_display(body: bytes) -> DisplayData:
    """Read DCMD strictly; surfaces may be in the lossless (4 bytes) or the lossy (20 bytes) form.

    Raises:
        PayloadError: What is wrong with it.
    """
    _check_header(body, b"DCMD", DISPLAY_BYTES + 4)
    serial, low, cache_id, cache_px, freezer, c0, c1, c2, c3, glz_id, glz_px, encoders, image_id, ptr = (
        _DISPLAY.unpack_from(body, _HEADER.size)
    )
    if ptr < DISPLAY_BYTES or ptr + 4 > len(body):
        raise PayloadError("R34", f"surface block at {ptr} in a payload of {len(body)} bytes")
    (count,) = struct.unpack_from("<I", body, ptr)
    left = len(body) - ptr - 4
    if count > MAX_SURFACES or left not in {4 * count, 20 * count}:
        raise PayloadError("R34", f"{count} surfaces in {left} bytes")
    step = 20 if count and left == 20 * count else 4
    surfaces = tuple(struct.unpack_from("<I", body, ptr + 4 + i * step)[0] for i in range(count))
    if len(set(surfaces)) != count or any(surface >= MAX_SURFACES for surface in surfaces):
        raise PayloadError("R34", f"surface ids twice or out of range: {surfaces[:8]}")
    return DisplayData(
        serial,
        surfaces,
        bool(low),
        cache_id,
        cache_px,
        bool(freezer),
        (c0, c1, c2, c3),
        glz_id,
        glz_px,
        encoders,
        image_id,
    )


def build_inputs(data: InputsData) -> bytes:
    """Write ICMD."""
    return _HEADER.pack(b"ICMD", VERSION) + _INPUTS.pack(data.motion_count)


def parse_inputs(body: bytes) -> InputsData:
    """Read ICMD strictly.

    Raises:
        PayloadError: What is wrong with it.
    """
    _check_header(body, b"ICMD", INPUTS_BYTES)
    return InputsData(*_INPUTS.unpack_from(body, _HEADER.size))


def build_device(data: DeviceData) -> bytes:
    """Write SVMD: usbredir, port and webdav."""
    return _HEADER.pack(b"SVMD", VERSION) + _pack_device(data, DEVICE_BYTES) + data.unread


def parse_device(body: bytes) -> DeviceData:
    """Read SVMD strictly.

    Raises:
        PayloadError: What is wrong with it.
    """
    _check_header(body, b"SVMD", DEVICE_BYTES)
    device, blocks = _unpack_device(body)
    _check_blocks(body, DEVICE_BYTES, blocks)
    if not device.connected:
        raise PayloadError("R34", "a device that is not connected has no data to migrate")
    if device.client_tokens != NO_FLOW_CONTROL:
        raise PayloadError("R34", f"{device.client_tokens} tokens on a channel without flow control")
    return device


def agent_chunk(data: bytes) -> bytes:
    """Agent bytes as they wait for the guest: behind a VDIChunkHeader of the client's port."""
    return _CHUNK.pack(1, len(data)) + data


def _pack_device(device: DeviceData, fixed_bytes: int) -> bytes:
    return _DEVICE.pack(
        VERSION, device.connected, device.client_tokens, NO_FLOW_CONTROL, len(device.unread), device.unread_tokens,
        fixed_bytes if device.unread else 0,
    )  # fmt: skip


def _unpack_device(body: bytes) -> tuple[DeviceData, list[tuple[int, int]]]:
    version, connected, tokens, _send_tokens, size, unread_tokens, ptr = _DEVICE.unpack_from(
        body, _HEADER.size
    )
    if version > VERSION:
        raise PayloadError("R33", f"character device version {version}")
    if connected > 1:
        raise PayloadError("R34", f"connected is {connected}")
    if ptr + size > len(body):
        raise PayloadError("R34", f"{size} unread bytes at {ptr} in a payload of {len(body)} bytes")
    return DeviceData(bool(connected), tokens, body[ptr : ptr + size] if size else b"", unread_tokens), [
        (ptr, size)
    ]


def _check_header(body: bytes, magic: bytes, least_bytes: int) -> None:
    if len(body) < _HEADER.size:
        raise PayloadError("R34", f"{len(body)} bytes are too short for any payload")
    found, version = _HEADER.unpack_from(body)
    if found != magic:
        raise PayloadError("R33", f"magic {found!r} where {magic!r} belongs")
    if version > VERSION:
        raise PayloadError("R33", f"version {version}")
    if len(body) < least_bytes:
        raise PayloadError("R34", f"{len(body)} bytes, {least_bytes} being the least")


def _check_blocks(body: bytes, fixed_bytes: int, blocks: list[tuple[int, int]]) -> None:
    """Blocks are contiguous from the fixed part on, and the payload ends with the last one."""
    end = fixed_bytes
    for ptr, size in blocks:
        if ptr != (end if size else 0):
            raise PayloadError("R34", f"a block of {size} bytes at {ptr}, expected at {end if size else 0}")
        end += size
    if end != len(body):
        raise PayloadError("R34", f"{len(body)} bytes, but the last block ends at {end}")
