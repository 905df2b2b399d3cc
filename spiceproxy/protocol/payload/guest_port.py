"""What can be recognised in the guest-port bytes that MIGRATE_DATA of the main channel carries.

They are what the server had written to the agent's port and the guest had not taken: chunks, each a VDIChunkHeader and a
piece of an agent message. The first one is cut where the guest stopped reading. Source: spice-server reds.cpp,
reds_marshall_migrate_data(), and char-device.cpp, red_char_device_migrate_data_marshall().
"""

from typing import Final, NamedTuple

from dissectors.vd_agent import CHUNK_HEADER, CHUNK_HEADER_SIZE, MAX_CHUNK
from dissectors.vd_agent_names import ChunkPort
from spiceproxy.protocol.payload.agent import AgentCapabilities, AgentStream, begins_message
from spiceproxy.protocol.payload.inner import Found, Inner, note

_PROTOCOL: Final = "vdi_port"
_SIZE_FIELD: Final = 4  # bytes: the last four of a chunk's header
_PORTS: Final = frozenset(ChunkPort)
# The client has 10 tokens for 2048 bytes each, the server's own messages are few: 20 KB and some.
MAX_SEARCHED: Final = 256 * 1024


class Chunk(NamedTuple):
    """A piece of an agent message on the guest's port."""

    port: int | None  # None: the guest has taken that part of the header
    size: int
    start: int  # of its data
    end: int


def guest_port_messages(data: bytes, *, both_capabilities: int | None = None) -> list[Inner]:
    """List the chunks in `data`, and the agent messages that are whole in them.

    Args:
        data: write_data of the main channel's migration data.
        both_capabilities: Bits that client and agent both announced; None if not known, then clipboard messages keep
            their bytes.

    Returns:
        In order: a note on a piece at the beginning that belongs to a chunk the guest has begun to read, then for each
        chunk a "VDIChunkHeader" and the agent messages that end in it. An agent message that is cut says so.
    """
    found = Found(_PROTOCOL)
    if not data:
        return found.all()
    if len(data) > MAX_SEARCHED:
        found.add(note(_PROTOCOL, f"{len(data)} bytes are not searched; the limit is {MAX_SEARCHED}"))
        return found.all()
    chunks = chunks_in(data)
    if not chunks:
        found.add(note(_PROTOCOL, f"no chunk begins in these {len(data)} bytes"))
        return found.all()
    head = chunks[0].start - CHUNK_HEADER_SIZE
    if head > 0:
        found.add(note(_PROTOCOL, f"{head} bytes are the end of a chunk that the guest has begun to read"))
    capabilities = AgentCapabilities(both_capabilities)
    streams: dict[int | None, AgentStream] = {}
    for chunk in chunks:
        if found.has_room():
            found.add(_describe(chunk))
            stream = streams.setdefault(chunk.port, AgentStream(capabilities, None))
            stream.feed(data[chunk.start : chunk.end], found)
    for stream in streams.values():
        stream.restart("the end of the data", found)
    return found.all()


def _describe(chunk: Chunk) -> Inner:
    if chunk.port is None:
        why = "the guest has read a part of it"
        return Inner(_PROTOCOL, CHUNK_HEADER.name, {"size": chunk.size}, why, chunk.size)
    head = chunk.port.to_bytes(4, "little") + chunk.size.to_bytes(4, "little")
    return Inner(_PROTOCOL, CHUNK_HEADER.name, CHUNK_HEADER.dissect(head).fields, None, chunk.size)


def chunks_in(data: bytes) -> list[Chunk]:
    """Find where chunks begin: the first place from which they follow one another exactly to the end."""
    farthest = min(len(data), MAX_CHUNK)
    dead_ends: set[int] = set()
    for start in (0, *range(-1, -_SIZE_FIELD - 1, -1), *range(1, farthest)):
        chunks = _follow(data, start, dead_ends)
        if chunks:
            return chunks
    return []


def _follow(data: bytes, start: int, dead_ends: set[int]) -> list[Chunk]:
    chunks: list[Chunk] = []
    at = start
    while at < len(data) and at not in dead_ends:
        dead_ends.add(at)  # if this way does get through, nobody asks again
        chunk = _cut_chunk(data, at) if at < 0 else _chunk(data, at)
        if chunk is None:
            return []
        chunks.append(chunk)
        at = chunk.end
    return chunks if at == len(data) else []


def _chunk(data: bytes, at: int) -> Chunk | None:
    start = at + CHUNK_HEADER_SIZE
    port = int.from_bytes(data[at : at + 4], "little")
    size = int.from_bytes(data[at + 4 : start], "little")
    if start > len(data) or port not in _PORTS or not 0 < size <= MAX_CHUNK:
        return None
    return Chunk(port, size, start, start + size)


def _cut_chunk(data: bytes, at: int) -> Chunk | None:
    """Read a chunk whose header begins before the data: of its port only zeros are left, its size is there.

    The end of an agent message's header, zeros and a size, looks the same; so a message has to begin behind it.
    """
    start = at + CHUNK_HEADER_SIZE
    size = int.from_bytes(data[start - _SIZE_FIELD : start], "little")
    if start > len(data) or any(data[: start - _SIZE_FIELD]) or not 0 < size <= MAX_CHUNK:
        return None
    if not begins_message(data[start : start + size]):
        return None
    return Chunk(None, size, start, start + size)
