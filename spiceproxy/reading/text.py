"""Lines for people: one a message, or the message with all of its fields, or these with its bytes."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dissectors.plain import Length
from dissectors.side import Side
from spiceproxy.capture.messages import Connection, Happening
from spiceproxy.protocol.payload import Inner
from spiceproxy.reading.decode import MessageView
from spiceproxy.reading.fields import full, short
from spiceproxy.reading.style import (
    BLUE,
    BOLD,
    BOLD_MAGENTA,
    BOLD_RED,
    CYAN,
    DIM,
    GREEN,
    RED,
    YELLOW,
    Look,
    fit,
    printable,
)
from spiceproxy.reading.summary import inner_summary, summary
from spiceproxy.reading.tree import INDENT, hexdump, tree

# What has to be seen: bytes that are not there or cannot be read.
TROUBLE: Final = frozenset(
    {
        "connection_opaque", "framing_lost", "gap", "link_failed", "link_missing", "link_refused", "stream_cut",
        "stream_unread",
    }
)  # fmt: skip
# Every connection that is opened is linked, fails or is refused a moment later, and that line has the addresses too.
_SHOWN_IN_DETAIL_ONLY: Final = frozenset({"connection_opened"})

_ARROWS: Final = {Side.SERVER: "s→c", Side.CLIENT: "c→s"}
_STYLES: Final = {Side.SERVER: GREEN, Side.CLIENT: CYAN}


class TextLines:
    """Makes the lines.

    Args:
        look: Colours and width.
        detail: 0 for one line a message, 1 for the field tree below it, 2 for the bytes below that.
        absolute: Times of day instead of seconds since the first packet.
        bulk: Leave nothing out of trees and bytes.
    """

    def __init__(self, look: Look, *, detail: int = 0, absolute: bool = False, bulk: bool = False) -> None:
        self._look, self._detail, self._absolute, self._bulk = look, detail, absolute, bulk
        self.start_ns = 0  # what relative times count from
        self._time_columns = 10 if look.narrow else 11
        self._name_columns = 0 if detail else 16 if look.narrow else 26
        self._names: dict[tuple[str, str | None], str] = {}

    def message(self, view: MessageView) -> Iterator[str]:
        """The lines of one message."""
        captured, look = view.captured, self._look
        message, connection = captured.message, captured.connection
        dissection, error = view.dissection()
        style = BOLD_MAGENTA if "MIGRATE" in view.name else _STYLES[message.side]
        if self._detail:
            what = f"{view.name}  {message.size} bytes"
            if captured.packet:
                what += f", packet {captured.packet}"
            if len(message.header) > 6:
                what += f", serial {message.serial}"
            name = what
        else:
            name = self._pad(self._short_name(view.name, connection.channel), self._name_columns)
            if not look.narrow:
                name += f" {message.size:>7}"
        said = ""
        if not self._detail and dissection is not None:
            inside = " + ".join(map(_inside_line, view.inside or ()))
            own = "" if inside and dissection.fields.keys() <= {"data", "data_size"} else summary(dissection)
            said = " + ".join(filter(None, (own, inside)))
        if error is not None:
            said = f"error: {printable(error.removeprefix(f'{view.name}: '))}"
        yield self._line(
            captured.time_ns,
            connection,
            (_ARROWS[message.side], style),
            (name, style),
            said,
            RED if error else "",
        )
        if self._detail:
            if dissection is not None:
                yield from tree(view.shown_fields(), bulk=self._bulk)
                for image_type, header in view.image_headers():
                    yield f"{INDENT * 3}image data begins with, as {full(image_type)}"
                    yield from tree(header, bulk=self._bulk, indent=INDENT * 4)
                if dissection.trailing:
                    yield from tree({"trailing": dissection.trailing}, bulk=self._bulk)
            for entry in view.inside or ():
                yield from self._inside_tree(entry)
        if self._detail > 1:
            yield from hexdump(message.body, bulk=self._bulk)

    def happening(self, happening: Happening) -> Iterator[str]:
        """The lines of something that is no message."""
        if not self._detail and happening.event in _SHOWN_IN_DETAIL_ONLY:
            return
        fields, connection = happening.fields, happening.connection
        trouble = happening.event in TROUBLE
        style = YELLOW if trouble else BOLD if happening.event == "channel_linked" else DIM
        name = self._pad(happening.event, self._name_columns)
        said = "" if self._detail else _told(happening.event, fields)
        yield self._line(happening.time_ns, connection, (" * ", style), (name, style), said, style)
        if self._detail:
            yield from tree(
                {key: value for key, value in fields.items() if value is not None}, bulk=self._bulk
            )

    def moment(self, time_ns: int) -> str:
        """A time as it is shown."""
        if self._absolute:
            seconds, rest = divmod(time_ns, 10**9)
            return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(seconds))}.{rest // 1000:06d}"
        return f"{(time_ns - self.start_ns) / 1e9:>{self._time_columns}.6f}"

    def _line(
        self,
        time_ns: int,
        connection: Connection,
        arrow: tuple[str, str],
        name: tuple[str, str],
        said: str,
        style: str,
    ) -> str:
        look = self._look
        moment = self.moment(time_ns)
        where = f"{connection.session or '-'}/{connection.id}"
        leg, channel = connection.leg or "-", connection.channel or "unknown"
        if connection.hop and connection.hop > 1:
            leg = f"hop {connection.hop}"
        leg = f"{leg:<11}" if look.wide else f"{_SHORT_LEGS.get(leg, leg):<5}"
        channel = f"{channel:<10}" if look.narrow else f"{channel:<11}"
        head = f"{moment} {where:<7} {leg} {channel} {arrow[0]} {name[0]}"
        if look.width is not None:
            said = fit(said, look.width - len(head) - 2) if look.width > len(head) + 8 else ""
        if not look.colour:
            return f"{head}  {said}".rstrip()
        paint = look.paint
        leg_style = BLUE if connection.hop else ""
        return (
            f"{paint(moment, DIM)} {where:<7} {paint(leg, leg_style)} {channel} "
            f"{paint(arrow[0], arrow[1])} {paint(name[0], name[1])}  {paint(said, style)}"
        )

    def _pad(self, text: str, columns: int) -> str:
        return f"{text:<{columns}}"

    def _short_name(self, name: str, channel: str | None) -> str:
        """Without what stands elsewhere on the line: SPICE_MSG_ and the channel."""
        key = name, channel
        found = self._names.get(key)
        if found is None:
            found = name.removeprefix("SPICE_MSGC_").removeprefix("SPICE_MSG_")
            if channel is not None:
                found = found.removeprefix(f"{channel.partition(':')[0].upper()}_")
            if len(self._names) < 4096:
                self._names[key] = found
        return found

    def _inside_tree(self, entry: Inner) -> Iterator[str]:
        look = self._look
        error = f"  error: {printable(entry.error)}" if entry.error else ""
        head = f"{INDENT * 3}inside: {entry.name} ({entry.protocol}, {entry.size} bytes)"
        yield head + look.paint(error, BOLD_RED)
        shown = entry.fields
        if not self._bulk:
            shown = {name: _brief(value) if name in entry.bulk else value for name, value in shown.items()}
        yield from tree(shown, bulk=self._bulk, indent=INDENT * 4)


_SHORT_LEGS: Final = {"source": "src", "destination": "dst"}


def _brief(contents: Any) -> Any:
    return Length(len(contents)) if isinstance(contents, bytes) else contents


def _inside_line(entry: Inner) -> str:
    name = entry.name.removeprefix("SPICE_MSG_")
    if entry.error is not None:
        return f"{name} error: {printable(entry.error)}"
    said = inner_summary(entry.fields)
    return f"{name} ({said})" if said else name


def _told(event: str, fields: Mapping[str, Any]) -> str:
    """What happened, in words."""
    match event:
        case "channel_linked":
            text = f"{fields['client']} > {fields['server']}, {fields['header']} header"
            if fields.get("connection_id"):
                text += f", connection id {fields['connection_id']}"
            return f"{text}; {fields['note']}" if "note" in fields else text
        case "connection_closed":
            counts = ", ".join(f"{fields[f'messages_from_{side.value}']} from {side.value}" for side in Side)
            by = f" by {fields['by']}" if fields["by"] != "capture" else ""
            return f"{fields['reason']}{by} after {fields['duration_s']:.3f} s, messages: {counts}"
        case "connection_opened":
            return f"{fields['client']} > {fields['server']}"
        case "link_refused":
            return f"{fields['error']} from {fields['server']}"
    reason = fields.get("reason")
    who = fields.get("from") or fields.get("by")
    text = (
        reason
        if isinstance(reason, str)
        else " ".join(f"{key} {short(value)}" for key, value in fields.items())
    )
    return f"{who}: {text}" if who and who != "capture" else text
