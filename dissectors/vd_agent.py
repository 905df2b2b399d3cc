"""What client and guest agent tell each other inside AGENT_DATA: VDAgentMessage and its sixteen types.

A message is a header of 20 bytes and `size` bytes of data, cut over AGENT_DATA messages without regard to them; putting
it together is the business of whoever reads the stream. Clipboard messages come in three layouts, and only what both
ends announced tells which. Little-endian, packed. Source: spice-protocol spice/vd_agent.h; spice-vdagent and spice-gtk
channel-main.c for who sends what.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from dissectors.errors import DissectionError
from dissectors.fields import (
    I32,
    U8,
    U16,
    U32,
    U64,
    BulkRest,
    Case,
    Choice,
    Count,
    CountedBytes,
    CountedText,
    Data,
    FixedBytes,
    Flags,
    Items,
    ItemsToEnd,
    Record,
    Rest,
    Switch,
)
from dissectors.message import Dissection, MessageSpec, table
from dissectors.vd_agent_names import (
    AgentMessage,
    ChunkPort,
    ClipboardSelection,
    ClipboardType,
    DisplayConfigFlags,
    FileXferErrorType,
    FileXferStatus,
    MonitorsConfigFlags,
    MouseButtons,
    ReplyError,
)

PROTOCOL: Final = 1  # VD_AGENT_PROTOCOL: what `protocol` of every header says
HEADER_SIZE: Final = 20
CHUNK_HEADER_SIZE: Final = 8
MAX_CHUNK: Final = (
    2048  # VD_AGENT_MAX_DATA_SIZE: the server closes a main channel that brings more in one AGENT_DATA
)

MAX_MONITORS: Final = (
    256  # reds.cpp, REDS_MAX_CLIENT_MONITORS_CONFIG and agent-msg-filter.c: more are refused
)
MAX_TYPES: Final = 1024  # of a clipboard: enums name seven
MAX_CAP_WORDS: Final = 64  # eighteen bits have a name

# Not messages of their own, yet kept as specs: they have a name, a meaning and a layout that people look up.
CHUNK_HEADER: Final = MessageSpec(
    0,
    "VDIChunkHeader",
    "Stands before each piece of a message on the guest's port; seen only inside MIGRATE_DATA of the main channel.",
    Record("port" / Choice(U32, ChunkPort), "size" / U32 * "bytes of the piece that follows"),
)
HEADER: Final = MessageSpec(
    0,
    "VDAgentMessage",
    "Stands before each message, on the link and on the guest's port.",
    Record(
        "protocol" / U32 * "1",
        "type" / Choice(U32, AgentMessage),
        "opaque" / U64 * "0; left to the receiver of old",
        "size" / U32 * "bytes of data that follow, over all pieces",
    ),
)

_SELECTION: Final = (
    "selection" / Choice(U8, ClipboardSelection),
    "reserved" / FixedBytes(3) * "zero",
)
_GRAB_SERIAL: Final = (
    "serial" / U32 * "grabs of this selection so far, from 0; a grab with another number is ignored",
)
_MonConfig: Final = Record(
    "height" / U32 * "pixels; before the width, other than everywhere else",
    "width" / U32 * "pixels",
    "depth" / U32 * "bits a pixel",
    "x" / I32 * "pixels",
    "y" / I32 * "pixels",
)
_MonitorMM: Final = Record("height" / U16 * "millimetres", "width" / U16 * "millimetres")
_DeviceDisplayInfo: Final = Record(
    "channel_id" / U32 * "of the display channel",
    "monitor_id" / U32 * "within that channel",
    "device_display_id" / U32 * "output of the graphics device",
    "device_address_len" / Count(U32, "device_address") * "bytes, with the NUL",
    "device_address" / CountedText("device_address_len") * "such as pci/0000/02.0",
)


def _clipboard(*, selection: bool, grab_serial: bool) -> tuple[MessageSpec, ...]:
    chosen = _SELECTION if selection else ()
    return (
        MessageSpec(
            4,
            "VD_AGENT_CLIPBOARD",
            "What the clipboard holds, in answer to CLIPBOARD_REQUEST.",
            Record(*chosen, "type" / Choice(U32, ClipboardType), "data" / BulkRest),
        ),
        MessageSpec(
            7,
            "VD_AGENT_CLIPBOARD_GRAB",
            "The sender has new clipboard contents, and can give them as any of these types.",
            Record(
                *chosen,
                *(_GRAB_SERIAL if grab_serial else ()),
                "types" / ItemsToEnd(Choice(U32, ClipboardType), limit=MAX_TYPES),
            ),
        ),
        MessageSpec(
            8,
            "VD_AGENT_CLIPBOARD_REQUEST",
            "Asks the owner of the clipboard for its contents as this type.",
            Record(*chosen, "type" / Choice(U32, ClipboardType)),
        ),
        MessageSpec(
            9, "VD_AGENT_CLIPBOARD_RELEASE", "The sender has no clipboard contents any more.", Record(*chosen)
        ),
    )


_ALIKE: Final = (
    MessageSpec(
        1,
        "VD_AGENT_MOUSE_STATE",
        "Server to agent, never on the SPICE link: where the client's pointer is.",
        Record(
            "x" / U32 * "pixels",
            "y" / U32 * "pixels",
            "buttons" / Flags(U32, MouseButtons),
            "display_id" / U8,
        ),
    ),
    MessageSpec(
        2,
        "VD_AGENT_MONITORS_CONFIG",
        "Client to agent or server: arrange the guest's monitors like this.",
        Record(
            "num_of_monitors" / Count(U32, "monitors"),
            "flags" / Flags(U32, MonitorsConfigFlags),
            "monitors" / Items("num_of_monitors", _MonConfig, limit=MAX_MONITORS),
            "physical_sizes"
            / Switch(
                "flags",
                Case(
                    "sizes",
                    Items("num_of_monitors", _MonitorMM, limit=MAX_MONITORS),
                    bit=MonitorsConfigFlags.PHYSICAL_SIZE,
                ),
            )
            * "one for each monitor, in their order",
        ),
    ),
    MessageSpec(
        3,
        "VD_AGENT_REPLY",
        "Agent to client: how a MONITORS_CONFIG or DISPLAY_CONFIG went.",
        Record(
            "type" / Choice(U32, AgentMessage) * "message that is answered",
            "error" / Choice(U32, ReplyError),
        ),
    ),
    MessageSpec(
        5,
        "VD_AGENT_DISPLAY_CONFIG",
        "Client to agent: leave out what costs bandwidth.",
        Record(
            "flags" / Flags(U32, DisplayConfigFlags), "depth" / U32 * "bits a pixel, with SET_COLOR_DEPTH"
        ),
    ),
    MessageSpec(
        6,
        "VD_AGENT_ANNOUNCE_CAPABILITIES",
        "What the sender can do; decides the layout of the clipboard messages.",
        Record(
            "request" / U32 * "not 0: the receiver is to announce its own",
            "caps" / ItemsToEnd(U32, limit=MAX_CAP_WORDS) * "words of AgentCap bits",
        ),
    ),
    MessageSpec(
        10,
        "VD_AGENT_FILE_XFER_START",
        "Client to agent: a file is to come.",
        Record(
            "id" / U32 * "of this transfer, chosen by the client",
            "data"
            / Rest
            * "GKeyFile text, group vdagent-file-xfer, keys name and size (bytes); NUL at its end",
        ),
    ),
    MessageSpec(
        12,
        "VD_AGENT_FILE_XFER_DATA",
        "Client to agent: the next piece of the file.",
        Record(
            "id" / U32 * "of the transfer",
            "size" / Count(U64, "data") * "bytes of this piece",
            "data" / CountedBytes("size", bulk=True),
        ),
    ),
    MessageSpec(
        13,
        "VD_AGENT_CLIENT_DISCONNECTED",
        "Server to agent, never on the SPICE link: the client is gone.",
    ),
    MessageSpec(
        14,
        "VD_AGENT_MAX_CLIPBOARD",
        "Client to agent: send no clipboard contents larger than this.",
        Record("max" / I32 * "bytes; -1 = any size"),
    ),
    MessageSpec(
        15,
        "VD_AGENT_AUDIO_VOLUME_SYNC",
        "Client to agent: set the guest's volume to the client's.",
        Record(
            "is_playback" / U8 * "0 = recording",
            "mute" / U8 * "0 = not",
            "nchannels" / Count(U8, "volume"),
            "volume" / Items("nchannels", U16, limit=255) * "0 to 65535 for each channel",
        ),
    ),
    MessageSpec(
        16,
        "VD_AGENT_GRAPHICS_DEVICE_INFO",
        "Server to agent, never on the SPICE link: which graphics device stands behind each monitor.",
        Record(
            "count" / Count(U32, "display_info"),
            "display_info" / Items("count", _DeviceDisplayInfo, limit=MAX_MONITORS, least=16),
        ),
    ),
)

_STATUS_NAME: Final = "VD_AGENT_FILE_XFER_STATUS"
_STATUS_MEANING: Final = "How the transfer goes: the agent lets it begin, either side ends it."
# Without FILE_XFER_DETAILED_ERRORS on the receiver's side a status ends here; its length says so.
_PLAIN_STATUS_SIZE: Final = 8
_PLAIN_STATUS: Final = MessageSpec(
    11, _STATUS_NAME, _STATUS_MEANING, Record("id" / U32, "result" / Choice(U32, FileXferStatus))
)
_DETAILED_STATUS: Final = MessageSpec(
    11,
    _STATUS_NAME,
    _STATUS_MEANING,
    Record(
        "id" / U32 * "of the transfer",
        "result" / Choice(U32, FileXferStatus),
        "data"
        / Switch(
            "result",
            Case("disk_free_space", U64 * "bytes", equal=FileXferStatus.NOT_ENOUGH_SPACE),
            Case(
                "error",
                Record("error_type" / Choice(U8, FileXferErrorType), "error_code" / U32 * "GIOErrorEnum"),
                equal=FileXferStatus.ERROR,
            ),
        )
        * "only if the receiver announced FILE_XFER_DETAILED_ERRORS",
    ),
)


def _messages(*, selection: bool, grab_serial: bool) -> dict[int, MessageSpec]:
    specs = (*_ALIKE, _DETAILED_STATUS, *_clipboard(selection=selection, grab_serial=grab_serial))
    return table(*sorted(specs, key=lambda spec: spec.id))


# As ends of today send them: both announced CLIPBOARD_SELECTION and CLIPBOARD_GRAB_SERIAL.
AGENT_MESSAGES: Final = _messages(selection=True, grab_serial=True)
# By (selection, grab_serial). Without the selection the four clipboard messages have no selection and no reserved.
AGENT_VARIANTS: Final = {
    (True, True): AGENT_MESSAGES,
    (True, False): _messages(selection=True, grab_serial=False),
    (False, True): _messages(selection=False, grab_serial=True),
    (False, False): _messages(selection=False, grab_serial=False),
}
# Whose layout the capabilities decide.
CLIPBOARD_MESSAGES: Final = frozenset(
    {
        AgentMessage.CLIPBOARD,
        AgentMessage.CLIPBOARD_GRAB,
        AgentMessage.CLIPBOARD_REQUEST,
        AgentMessage.CLIPBOARD_RELEASE,
    }
)


def capability_bits(words: Iterable[int]) -> int:
    """Join the words of ANNOUNCE_CAPABILITIES to one number, in which bit n is capability n."""
    return sum(word << 32 * index for index, word in enumerate(words))


def agent_layout(type_: int, size: int, *, selection: bool, grab_serial: bool) -> MessageSpec | None:
    """Return the layout of an agent message's data; None for a type that is not known.

    Args:
        type_: `type` of its header.
        size: `size` of its header, in bytes: a status of 8 has no details.
        selection: Both ends announced CLIPBOARD_SELECTION.
        grab_serial: Both ends announced CLIPBOARD_GRAB_SERIAL.
    """
    spec = AGENT_VARIANTS[selection, grab_serial].get(type_)
    return _PLAIN_STATUS if spec is _DETAILED_STATUS and size <= _PLAIN_STATUS_SIZE else spec


def dissect_agent(type_: int, body: Data, *, selection: bool, grab_serial: bool) -> Dissection:
    """Name an agent message and take its data apart.

    Args:
        type_: `type` of its header.
        body: All of its data, without the header.
        selection: Both ends announced CLIPBOARD_SELECTION.
        grab_serial: Both ends announced CLIPBOARD_GRAB_SERIAL.

    Returns:
        "unknown_99" with {"raw": data} for a type that is not known.

    Raises:
        DissectionError: The data does not fit the type.
    """
    spec = agent_layout(type_, len(body), selection=selection, grab_serial=grab_serial)
    return Dissection(f"unknown_{type_}", {"raw": bytes(body)}) if spec is None else spec.dissect(body)


def build_agent(
    type_: int, fields: Mapping[str, Any], *, selection: bool, grab_serial: bool, trailing: bytes = b""
) -> bytes:
    """Put the data of an agent message together: the reverse of `dissect_agent`, without the header.

    A FILE_XFER_STATUS without the field `data` is built without details.

    Raises:
        DissectionError: The fields do not fit the type.
    """
    spec = AGENT_VARIANTS[selection, grab_serial].get(type_)
    if spec is None:
        if set(fields) != {"raw"} or not isinstance(fields["raw"], bytes | bytearray | memoryview):
            raise DissectionError(f"unknown_{type_}: wants the field 'raw' with its data, and nothing else")
        return bytes(fields["raw"]) + trailing
    if spec is _DETAILED_STATUS and "data" not in fields:
        spec = _PLAIN_STATUS
    body = spec.build(fields, trailing)
    if type_ == AgentMessage.MONITORS_CONFIG and fields.get("physical_sizes"):
        monitors, sizes = len(fields["monitors"]), len(fields["physical_sizes"]["sizes"])
        if monitors != sizes:  # one count for two lists: the schema holds it against the first alone
            raise DissectionError(f"{spec.name}: physical_sizes has {sizes} sizes for {monitors} monitors")
    return body
