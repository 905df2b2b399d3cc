"""The guest agent of the lab: it announces what it can do, offers a text, and asks for the client's.

Layouts: spice-protocol vd_agent.h, VDIChunkHeader and VDAgentMessage.
"""

import struct
from typing import Final

from spiceproxy.lab.machine import Label, Script
from spiceproxy.lab.virtio_serial import Port, VirtioSerial

# Both are made up; the tests look for them.
GUEST_TEXT: Final = "made-up text from the guest"
CLIENT_TEXT: Final = "made-up text from the client"

_CLIPBOARD, _ANNOUNCE_CAPABILITIES, _GRAB, _REQUEST, _RELEASE = 4, 6, 7, 8, 9
_UTF8_TEXT: Final = 1
_SELECTION: Final = bytes(4)  # the clipboard proper, and three bytes of padding
_TYPE_OFFSET: Final = (
    12  # of VDAgentMessage.type in what comes from the host: 8 bytes of VDIChunkHeader are before it
)
# mouse state, monitors config, reply, clipboard by demand, clipboard selection
_CAPABILITIES: Final = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 5 | 1 << 6


def message(type_: int, body: bytes) -> bytes:
    """Return a message as it goes from the guest to the client: chunk header, message header, body."""
    whole = struct.pack("<IIQI", 1, type_, 0, len(body)) + body
    return struct.pack("<II", 1, len(whole)) + whole


class Agent:
    """The agent, as a part of a script."""

    def __init__(self, script: Script, device: VirtioSerial, port: Port) -> None:
        self._script, self._device, self._port = script, device, port

    def answer(self) -> None:
        """Take one message of the client if there is one, and answer it; to be placed where the guest comes by often."""
        nothing = Label()
        self._device.skip_unless_received(self._port, nothing)
        grab = message(_GRAB, _SELECTION + struct.pack("<I", _UTF8_TEXT))
        self._on(
            _ANNOUNCE_CAPABILITIES,
            message(_ANNOUNCE_CAPABILITIES, struct.pack("<II", 0, _CAPABILITIES)),
            grab,
        )
        text = message(_CLIPBOARD, _SELECTION + struct.pack("<I", _UTF8_TEXT) + GUEST_TEXT.encode())
        self._on(_REQUEST, text)
        self._on(_RELEASE, grab)
        self._on(_GRAB, message(_REQUEST, _SELECTION + struct.pack("<I", _UTF8_TEXT)))
        self._device.release(self._port)
        self._script.place(nothing)

    def _on(self, type_: int, *answers: bytes) -> None:
        other = Label()
        self._device.load_received(self._port, _TYPE_OFFSET)
        self._script.jump_unless(type_, other)
        for answer in answers:
            self._device.send(self._port, answer)
        self._script.place(other)
