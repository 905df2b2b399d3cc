"""The guest that makes the kinds of traffic a run is to have."""

import struct
from collections.abc import Callable, Collection
from typing import Final

from spiceproxy.lab import scenes
from spiceproxy.lab.agent import Agent
from spiceproxy.lab.guest import floppy_image
from spiceproxy.lab.machine import Label, Script, disk_image
from spiceproxy.lab.qxl import Adapter, Heap, Rect
from spiceproxy.lab.result import Traffic
from spiceproxy.lab.sound import SoundCard
from spiceproxy.lab.virtio_serial import Port, VirtioSerial

# Where devices sit on PCI bus 0, and ports on the virtio serial device: the guest looks nowhere else.
ADAPTER_SLOTS: Final = (2, 3, 4, 5)
SERIAL_SLOT: Final = 6
SOUND_SLOT: Final = 7
AGENT_PORT, WEBDAV_PORT, TEXT_PORT = 1, 2, 3
TEXT_PORT_NAME: Final = "org.test.port.0"

# Needs a guest with drivers. The others are between the client and QEMU, whatever the guest does.
_NEEDS_DRIVERS: Final = frozenset(Traffic) - {Traffic.INPUT, Traffic.USB}
_SCENES: Final[dict[Traffic, Callable[[Heap], scenes.Steps]]] = {
    Traffic.DRAWING: scenes.drawing,
    Traffic.VIDEO: scenes.video,
}
_PORTS: Final = {
    Traffic.CLIPBOARD: AGENT_PORT,
    Traffic.WEBDAV: WEBDAV_PORT,
    Traffic.PORT: TEXT_PORT,
}
_HTTP_REQUEST: Final = b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def guest_disk(traffic: Collection[Traffic], heads: int = 1, *, one_adapter: bool = False) -> bytes:
    """Return the disk of the guest for a run: the small one that only draws bands if that is enough.

    Args:
        traffic: What it is to do.
        heads: How many screens it has.
        one_adapter: All screens are on one adapter; otherwise each has its own.
    """
    if heads == 1 and not _NEEDS_DRIVERS & set(traffic):
        return floppy_image()
    script = Script()
    parts = [_screens(script, traffic, heads, one_adapter=one_adapter)]
    if Traffic.SOUND in traffic:
        card = SoundCard(script, SOUND_SLOT)
        parts.append(lambda phase: card.go_on(half=phase * 2 // scenes.PHASES))
    if not _PORTS.keys().isdisjoint(traffic):
        parts.append(_ports(script, traffic))
    again = Label()
    script.place(again)
    for phase in range(scenes.PHASES):
        script.op("sleep", value=1)
        for part in parts:
            part(phase)
    script.op("jump", value=again)
    return disk_image(script)


def _screens(
    script: Script, traffic: Collection[Traffic], heads: int, *, one_adapter: bool
) -> Callable[[int], None]:
    """Set the adapters up; return what draws one phase on all of them."""
    heap = Heap()
    width, height = scenes.WIDTH, scenes.HEIGHT
    of_one = heads if one_adapter else 1
    steps = [scenes.bands(heap, width * of_one)]  # on every head: one window may cover another
    steps += [scene(heap) for kind, scene in _SCENES.items() if kind in traffic]
    monitors = heap.monitors([Rect(width * at, 0, width * (at + 1), height) for at in range(of_one)])
    adapters = [Adapter(script, slot) for slot in ADAPTER_SLOTS[: 1 if one_adapter else heads]]
    for adapter in adapters:
        adapter.fill_heap(heap)
        adapter.create_primary(width * of_one, height)
        adapter.set_monitors(monitors)

    def draw(phase: int) -> None:
        for adapter in adapters:
            for step in steps:
                for command in step[phase]:
                    adapter.draw(command)

    return draw


def _ports(script: Script, traffic: Collection[Traffic]) -> Callable[[int], None]:
    """Open the ports that are used; return what happens on them in one phase."""
    used = {kind: Port(number) for kind, number in _PORTS.items() if kind in traffic}
    device = VirtioSerial(script, SERIAL_SLOT, list(used.values()))
    agent = Agent(script, device, used[Traffic.CLIPBOARD]) if Traffic.CLIPBOARD in used else None

    def talk(phase: int) -> None:
        if agent is not None:
            agent.answer()
        if (port := used.get(Traffic.PORT)) is not None:
            device.drop_received(port)
            if phase % 8 == 0:
                device.send(port, b"a line of the guest\n")
        if (port := used.get(Traffic.WEBDAV)) is not None:
            device.drop_received(port)
            if phase == 0:
                device.send(port, struct.pack("<qH", 1, len(_HTTP_REQUEST)) + _HTTP_REQUEST)

    return talk
