"""A virtio serial device as a script of the guest drives it: the legacy interface, one buffer in flight per queue.

A guest opens its ports itself, so on the destination of a migration a port opens when the guest's state has arrived, as
with Linux; an ISA serial port is open from the start, and spice-server does not survive that with the agent on it.
Source: virtio 1.2, "Legacy Interface" of 2.7 and 4.1, and 5.3 (console device).
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from spiceproxy.lab.machine import Label, Script

_ENTRIES: Final = 128  # of each queue of QEMU's device, but for
_CONTROL_ENTRIES: Final = 32
_MEMORY: Final = 0x100000  # of the first queue; the guest's own data ends below that
_QUEUE_BYTES: Final = 0x4000
_BUFFER_OFFSET: Final = 0x3000
_BUFFER_BYTES: Final = 0x1000
_USED: Final = 0x1000  # the next page after descriptors and avail ring

# Legacy registers
_GUEST_FEATURES: Final = 4
_QUEUE_ADDRESS: Final = 8
_QUEUE_SELECT: Final = 14
_QUEUE_NOTIFY: Final = 16
_STATUS: Final = 18

_MULTIPORT: Final = 1 << 1
_CONTROL_SEND: Final = 3
_EVERY_PORT: Final = 0xFFFFFFFF
_DEVICE_READY, _PORT_READY, _PORT_OPEN = 0, 3, 6


class Port(NamedTuple):
    """A port and its queues."""

    number: int

    @property
    def receive(self) -> int:
        """The queue from the host."""
        return 2 + 2 * self.number

    @property
    def send(self) -> int:
        """The queue to the host."""
        return 3 + 2 * self.number


class VirtioSerial:
    """The device, as a script drives it."""

    def __init__(self, script: Script, slot: int, ports: Sequence[Port]) -> None:
        """Set the device in a slot of PCI bus 0 up, and open `ports`."""
        self._script, self._io = script, script.pci_base(slot, 0)
        script.enable_bus_master(slot)
        for status in (0, 1, 3):  # reset, seen, driver
            script.op("out8", self._io, _STATUS, status)
        script.op("out32", self._io, _GUEST_FEATURES, _MULTIPORT)
        for queue in (_CONTROL_SEND, *(queue for port in ports for queue in (port.receive, port.send))):
            # Memory outlives a reset.
            script.op("store16", 0, _available(queue), 0)
            script.op("store16", 0, _queue(queue) + _USED + 2, 0)
            script.op("out16", self._io, _QUEUE_SELECT, queue)
            script.op("out32", self._io, _QUEUE_ADDRESS, _queue(queue) >> 12)
        script.op("out8", self._io, _STATUS, 7)  # driver ok
        self._control(_EVERY_PORT, _DEVICE_READY)
        for port in ports:
            self._control(port.number, _PORT_READY)
            self._control(port.number, _PORT_OPEN)
            # one buffer that the device may write
            address = _queue(port.receive)
            for at, value in ((0, address + _BUFFER_OFFSET), (8, _BUFFER_BYTES), (12, 2)):
                script.op("store32", 0, address + at, value)
            self.release(port)

    def send(self, port: Port, data: bytes) -> None:
        """Send `data`, of 4096 bytes or less, once what was sent before is gone."""
        self._send(port.send, data)

    def skip_unless_received(self, port: Port, label: Label) -> None:
        """Jump unless the buffer of the port has been filled."""
        self._script.op("load16", 0, _queue(port.receive) + _USED + 2)
        self._script.op("sub16", 0, _available(port.receive))
        self._script.jump_unless(0, label)

    def load_received(self, port: Port, offset: int) -> None:
        """Load 32 bits of what was received."""
        self._script.op("load32", 0, _queue(port.receive) + _BUFFER_OFFSET + offset)

    def drop_received(self, port: Port) -> None:
        """Give the buffer back if it has been filled, unread."""
        nothing = Label()
        self.skip_unless_received(port, nothing)
        self.release(port)
        self._script.place(nothing)

    def release(self, port: Port) -> None:
        """Give the buffer back to be filled again."""
        self._script.op("add16", 0, _available(port.receive), 1)
        self._script.op("out16", self._io, _QUEUE_NOTIFY, port.receive)

    def _control(self, port: int, event: int) -> None:
        self._send(_CONTROL_SEND, struct.pack("<IHH", port, event, 1))

    def _send(self, queue: int, data: bytes) -> None:
        assert len(data) <= _BUFFER_BYTES  # noqa: S101 - a slip in our own guest
        script, address, again = self._script, _queue(queue), Label()
        script.place(again)
        script.op("load16", 0, address + _USED + 2)
        script.op("sub16", 0, _available(queue))
        script.jump_unless(0, again)
        script.copy_in(0, address + _BUFFER_OFFSET, data)
        for at, value in ((0, address + _BUFFER_OFFSET), (8, len(data)), (12, 0)):
            script.op("store32", 0, address + at, value)
        # The rings are zero, so every entry of them names descriptor 0.
        script.op("add16", 0, _available(queue), 1)
        script.op("out16", self._io, _QUEUE_NOTIFY, queue)


def _queue(queue: int) -> int:
    return _MEMORY + queue * _QUEUE_BYTES


def _available(queue: int) -> int:
    """Where the count of buffers that were handed over is, behind descriptors of 16 bytes and two bytes of flags."""
    return _queue(queue) + 16 * (_CONTROL_ENTRIES if queue == _CONTROL_SEND else _ENTRIES) + 2
