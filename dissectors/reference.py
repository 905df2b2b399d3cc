"""The reference page of all messages, made from the schemas: `python -m dissectors.reference > docs/messages.md`."""

import re
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Final

from dissectors import (
    capabilities,
    common,
    cursor_channel,
    destination,
    display_channel,
    draw,
    geometry,
    headers,
    image,
    image_headers,
    link,
    main_channel,
    migrate_data,
    port_channel,
    smartcard_channel,
    sound,
    spicevmc,
    stream,
    usbredir,
    vd_agent,
    vscard,
    webdav_mux,
)
from dissectors.fields import Record
from dissectors.message import MessageSpec
from dissectors.reference_tables import Notation, anchor, body_size, escaped, values_line
from dissectors.reference_tables import link as link_to
from dissectors.registry import MODULES
from dissectors.usbredir_names import UsbredirCap
from dissectors.vd_agent_names import AgentCap

# Whose records have names that mean something on the page.
_NAMING: Final = (
    common, destination, main_channel, display_channel, geometry, draw, image, stream, cursor_channel, sound,
    smartcard_channel, spicevmc, port_channel, migrate_data, vd_agent, usbredir, link, headers, image_headers,
)  # fmt: skip

_INTRO: Final = """\
# Every message of the SPICE protocol

Protocol 2.2, as spice-server 0.15.1 and spice-gtk 0.42 speak it. This page is made from the schemas in `dissectors/`, the
ones that `spiceproxy` reads messages with (`make docs`); do not edit it.

## How to read it

* Everything is little-endian and unaligned, nothing is padded, unless a type says otherwise.
* **at** is the offset in bytes from the start of the body, or of the structure; empty where that depends on what comes
  before.
* `u8` to `u64` are unsigned, `i8` to `i64` signed. `u16[n]` are as many as the field `n` says.
* `u32 → T` is a pointer: the offset, counted from the first byte of the body, of a T that lies behind the fixed part. The
  field's value is that T; 0 is no T where the type says so, and an error elsewhere. Targets lie in the order of their
  pointers, and those of pointers inside targets follow; receivers take any other order and place as well. Where a T lies
  elsewhere, dissected fields have a `<field>_offset` beside it, and what lies between targets is kept in `gaps`.
* "one of" is a switch: which of the fields below it is there depends on the field that is named. If none fits, it has no
  bytes. Its value has the name of the case: `"u": {"rects": ...}`.
* Text is UTF-8. Where it is not, or a NUL is missing, its value is the bytes.
* Flags and values that are not listed are kept as numbers. Bytes behind the last field are ignored by all receivers.

Before messages there is the [link phase](#link-phase); each message has a [header](#data-headers). A channel is a connection
of its own. The [common messages](#common-messages) may come on every channel; ids from 101 on mean something else on each,
and in each direction.
"""


# Each once, however many channels have the message.
_STATES: Final[Mapping[str, Record]] = {
    "MIGRATE_DATA of main": migrate_data.MainState,
    "MIGRATE_DATA of display": migrate_data.DisplayState,
    "MIGRATE_DATA of inputs": migrate_data.InputsState,
    "MIGRATE_DATA of usbredir, port and webdav": migrate_data.SpicevmcState,
    "MIGRATE_DATA of smartcard": migrate_data.SmartcardState,
}
# Streams inside messages: what stands before each piece, and what there is by type.
_INSIDE: Final[
    tuple[tuple[str, ModuleType, str, tuple[MessageSpec, ...], Mapping[int, MessageSpec]], ...]
] = (
    (
        "Inside AGENT_DATA",
        vd_agent,
        (
            "Shown as between ends that both announced CLIPBOARD_SELECTION and CLIPBOARD_GRAB_SERIAL: without the first "
            "clipboard messages have no `selection` and no `reserved`, without the second there is no `serial`."
        ),
        (vd_agent.HEADER, vd_agent.CHUNK_HEADER),
        vd_agent.AGENT_MESSAGES,
    ),
    (
        "Inside the usbredir stream",
        usbredir,
        (
            "Shown as between ends that both announced every capability: without them there is no `device_version_bcd`, "
            "`max_packet_size`, `max_streams` or `length_high`."
        ),
        (usbredir.HEADER_32, usbredir.HEADER_64),
        usbredir.USBREDIR_PACKETS,
    ),
    ("Inside the webdav stream", webdav_mux, "", (webdav_mux.HEADER, webdav_mux.FRAME), {}),
    ("Inside SMARTCARD_DATA", vscard, "", (), vscard.VSC_MESSAGES),
)
_CAPABILITIES: Final = (
    capabilities.CommonCap, capabilities.MainCap, capabilities.DisplayCap, capabilities.InputsCap,
    capabilities.PlaybackCap, capabilities.RecordCap, capabilities.SpicevmcCap, AgentCap, UsbredirCap,
)  # fmt: skip
_LINK: Final = ("LinkHeader", "LinkMess", "LinkReply", "AuthMechanism", "Ticket", "LinkResult")
_HEADERS: Final = ("DataHeader", "MiniDataHeader", "SubMessageList")
_IMAGES: Final = ("QuicHeader", "LzHeader", "GlzHeader", "Lz4Header", "Lz4Block", "JpegSegment", "JpegFrame")


def reference() -> str:
    """Write the page."""
    return _Page().text()


class _Page:
    """Collects sections, and the structures and values that they mention."""

    def __init__(self) -> None:
        self._notation = Notation(_names())
        self._index: list[str] = []
        self._parts: list[str] = []
        self._headings: set[str] = set()

    def text(self) -> str:
        """Write all of it."""
        self._records("Link phase", link, _LINK)
        self._chapter("Capabilities", capabilities.__doc__)
        for caps in _CAPABILITIES:
            self._parts += [f"### {caps.__name__}", values_line(caps)]
        self._records("Data headers", headers, _HEADERS)
        self._channel("Common messages", common)
        for channel_type, module in MODULES.items():
            self._channel(f"{channel_type.name.capitalize()} channel", module)
        self._chapter("State in a migration", migrate_data.__doc__)
        for title, state in _STATES.items():
            self._section(title, state)
        for title, module, shown, heads, specs in _INSIDE:
            self._chapter(title, f"{module.__doc__}\n\n{shown}")
            for head in heads:
                self._section(head.name, head.schema, head.meaning)
            self._messages({"By type": specs})
        self._records("Inside image data", image_headers, _IMAGES)
        self._structures()
        self._values()
        return "\n\n".join([_INTRO.rstrip(), "## Contents", "\n".join(self._index), *self._parts]) + "\n"

    def _chapter(self, title: str, text: str | None) -> None:
        self._index.append(f"* {link_to(title)}")
        self._parts.append(f"## {title}")
        self._parts += [
            escaped(" ".join(each.split())) for each in (text or "").split("\n\n") if each.strip()
        ]

    def _section(self, heading: str, schema: Record, text: str = "") -> None:
        """Write down a record, unless it is there already: some messages are the same on several channels."""
        if heading not in self._headings:
            self._headings.add(heading)
            self._parts += [f"### {heading}", *filter(None, [escaped(text)]), self._notation.table(schema)]

    def _records(self, title: str, module: ModuleType, names: Iterable[str]) -> None:
        self._chapter(title, module.__doc__)
        for name in names:
            self._section(name, getattr(module, name))

    def _channel(self, title: str, module: ModuleType) -> None:
        self._chapter(title, module.__doc__)
        tables = {"From the server": module.SERVER_MESSAGES, "From the client": module.CLIENT_MESSAGES}
        self._messages(tables)
        for direction, specs in tables.items():
            own = [spec.name for spec in specs.values() if spec.id > 100 or module is common]
            if own:
                links = ", ".join(
                    f"[{_short(spec.name, own)}](#{anchor(_heading(spec) or title)})"
                    for spec in specs.values()
                )
                self._index.append(f"  * {direction.lower()}: {links}")

    def _messages(self, tables: Mapping[str, Mapping[int, MessageSpec]]) -> None:
        """Write down tables of messages, then each message that has fields."""
        for title, specs in tables.items():
            if specs:
                rows = [
                    "| id | name | bytes | meaning |",
                    "|--:|---|---|---|",
                    *map(self._row, specs.values()),
                ]
                self._parts += [f"**{title}**", "\n".join(rows)]
        for specs in tables.values():
            for spec in specs.values():
                if (heading := _heading(spec)) and heading not in _STATES:
                    self._section(heading, spec.schema, spec.meaning)

    def _row(self, spec: MessageSpec) -> str:
        meaning = escaped(spec.meaning) + " *Obsolete.*" * spec.obsolete
        return f"| {spec.id} | {self._linked(spec)} | {body_size(spec.schema)} | {meaning} |"

    def _linked(self, spec: MessageSpec) -> str:
        heading = _heading(spec)
        return f"[{spec.name}](#{anchor(heading)})" if heading else spec.name

    def _structures(self) -> None:
        tables: dict[str, str] = {}
        while left := self._notation.structures.keys() - tables.keys() - self._headings:
            tables |= {name: self._notation.table(self._notation.structures[name]) for name in left}
        self._chapter("Structures", "What messages consist of, by name.")
        for name in sorted(tables):
            self._parts += [f"### {name}", tables[name]]

    def _values(self) -> None:
        self._chapter("Values and flags", "Their C names have the prefix that stands at the start.")
        for name, names in sorted(self._notation.values.items()):
            self._parts += [f"### {name}", values_line(names)]


def _heading(spec: MessageSpec) -> str | None:
    """Where the fields of a message stand, if it has any."""
    for title, state in _STATES.items():
        if spec.schema is state:
            return title
    return spec.name if spec.schema.members else None


def _short(name: str, names: list[str]) -> str:
    """A message's name without what all names of its table begin with."""
    first, last = min(names), max(names)
    alike = next((at for at in range(len(first)) if first[at] != last[at]), len(first))
    return re.sub(rf"^{first[:alike].rpartition('_')[0]}_|^SPICE_MSGC?_", "", name)


def _names() -> dict[int, str]:
    """Find the names of records, which are those of the constants that hold them."""
    return {
        id(value): name.removeprefix("_")
        for module in _NAMING
        for name, value in reversed(vars(module).items())  # the first of two names wins
        if isinstance(value, Record)
    }


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201 - the one output of this module
